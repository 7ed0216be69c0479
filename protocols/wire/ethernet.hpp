// Ethernet II framing: 14 bytes of header, no tags. Pure parse and emit; any thread.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>

#include "base/endian.hpp"
#include "base/net_addr.hpp"

namespace protocols::wire {

inline constexpr std::uint32_t ethernet_header_bytes = 14;
inline constexpr std::uint16_t ethertype_ipv4 = 0x0800;
inline constexpr std::uint16_t ethertype_arp = 0x0806;
inline constexpr std::uint16_t ethertype_ipv6 = 0x86dd;
inline constexpr std::uint16_t ethertype_vlan = 0x8100;

struct EthernetHeader {
    base::MacAddr destination;
    base::MacAddr source;
    std::uint16_t type = 0;
};

// Nothing when there are fewer than 14 bytes, or the type field is an IEEE 802.3 length (RFC 1122 2.3.3 asks for
// Ethernet II only).
inline std::optional<EthernetHeader> parse_ethernet(const void* bytes, std::uint32_t size)
{
    if (size < ethernet_header_bytes) {
        return std::nullopt;
    }
    const auto* b = static_cast<const unsigned char*>(bytes);
    EthernetHeader h;
    std::memcpy(h.destination.bytes.data(), b, 6);
    std::memcpy(h.source.bytes.data(), b + 6, 6);
    h.type = base::load_be16(b + 12);
    if (h.type < 0x0600 || h.source.is_multicast()) {
        return std::nullopt;
    }
    return h;
}

inline void emit_ethernet(void* to, const EthernetHeader& h)
{
    auto* b = static_cast<unsigned char*>(to);
    std::memcpy(b, h.destination.bytes.data(), 6);
    std::memcpy(b + 6, h.source.bytes.data(), 6);
    base::store_be16(b + 12, h.type);
}

// RFC 1112 6.4: the low 23 bits of an IPv4 group.
inline base::MacAddr multicast_mac(std::uint32_t group_v4)
{
    return base::MacAddr{{0x01, 0x00, 0x5e, static_cast<unsigned char>((group_v4 >> 16) & 0x7f),
        static_cast<unsigned char>(group_v4 >> 8), static_cast<unsigned char>(group_v4)}};
}

} // namespace protocols::wire
