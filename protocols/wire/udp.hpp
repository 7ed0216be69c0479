// The UDP header (RFC 768). Pure parse and emit; any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "base/endian.hpp"

namespace protocols::wire {

inline constexpr std::uint32_t udp_header_bytes = 8;

// Ports in host order; `length` covers header and payload and is at most what the packet holds.
struct UdpHeader {
    std::uint16_t source_port = 0;
    std::uint16_t destination_port = 0;
    std::uint16_t length = 0;
    std::uint16_t checksum = 0; // 0 = the sender computed none
};

// `size`: contiguous bytes; `available`: bytes of the datagram in all.
inline std::optional<UdpHeader> parse_udp(const void* bytes, std::uint32_t size, std::uint32_t available)
{
    if (size < udp_header_bytes) {
        return std::nullopt;
    }
    const auto* b = static_cast<const unsigned char*>(bytes);
    UdpHeader h{base::load_be16(b), base::load_be16(b + 2), base::load_be16(b + 4), base::load_be16(b + 6)};
    if (h.length < udp_header_bytes || h.length > available || h.destination_port == 0) {
        return std::nullopt;
    }
    return h;
}

inline void emit_udp(void* to, const UdpHeader& h)
{
    auto* b = static_cast<unsigned char*>(to);
    base::store_be16(b, h.source_port);
    base::store_be16(b + 2, h.destination_port);
    base::store_be16(b + 4, h.length);
    base::store_be16(b + 6, h.checksum);
}

} // namespace protocols::wire
