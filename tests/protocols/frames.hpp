// Frames for tests, built with the stack's own emitters (which test_wire.cpp checks by value).
#pragma once

#include "protocols/wire/arp.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/ethernet.hpp"
#include "protocols/wire/icmp.hpp"
#include "protocols/wire/ipv4.hpp"
#include "protocols/wire/udp.hpp"
#include "tests/protocols/frame_netif.hpp"

namespace test {

namespace wire = protocols::wire;

inline base::MacAddr mac(unsigned char last)
{
    return base::MacAddr{{2, 0, 0, 0, 0, last}};
}

inline Bytes ethernet(const base::MacAddr& to, const base::MacAddr& from, std::uint16_t type, const Bytes& payload)
{
    Bytes f(wire::ethernet_header_bytes);
    wire::emit_ethernet(f.data(), {to, from, type});
    f.insert(f.end(), payload.begin(), payload.end());
    return f;
}

struct IpFields {
    std::uint32_t source = 0x0a000002;      // 10.0.0.2
    std::uint32_t destination = 0x0a000001; // 10.0.0.1
    std::uint8_t protocol = wire::protocol_udp;
    std::uint16_t id = 77;
    std::uint16_t offset = 0;
    bool more = false;
    std::uint8_t tos = 0;
    base::MacAddr to = mac(1);
};

inline Bytes ip_frame(const IpFields& f, const Bytes& payload)
{
    wire::Ipv4Header h;
    h.total_bytes = static_cast<std::uint16_t>(20 + payload.size());
    h.id = f.id;
    h.fragment_offset = f.offset;
    h.more_fragments = f.more;
    h.tos = f.tos;
    h.ttl = 64;
    h.protocol = f.protocol;
    h.source = f.source;
    h.destination = f.destination;
    Bytes b(20);
    wire::emit_ipv4(b.data(), h);
    b.insert(b.end(), payload.begin(), payload.end());
    return ethernet(f.to, mac(2), wire::ethertype_ipv4, b);
}

// A datagram with a correct checksum.
inline Bytes udp_datagram(const IpFields& f, std::uint16_t from, std::uint16_t to, const Bytes& payload)
{
    Bytes b(8);
    auto length = static_cast<std::uint16_t>(8 + payload.size());
    wire::emit_udp(b.data(), {from, to, length, 0});
    b.insert(b.end(), payload.begin(), payload.end());
    auto sum =
        wire::pseudo_header(base::IpAddr::v4(f.source), base::IpAddr::v4(f.destination), wire::protocol_udp, length);
    sum.add(b.data(), b.size());
    base::store_be16(b.data() + 6, sum.finish());
    return b;
}

inline Bytes icmp_message(std::uint8_t type, std::uint8_t code, std::uint32_t rest, const Bytes& payload)
{
    Bytes b(8);
    wire::emit_icmp(b.data(), {type, code, 0, rest});
    b.insert(b.end(), payload.begin(), payload.end());
    base::store_be16(b.data() + 2, wire::checksum(b.data(), b.size()));
    return b;
}

inline Bytes arp_frame(const base::MacAddr& to, const wire::Arp& a)
{
    Bytes b(wire::arp_bytes);
    wire::emit_arp(b.data(), a);
    return ethernet(to, a.sender_mac, wire::ethertype_arp, b);
}

inline Bytes slice(const Bytes& b, std::size_t from, std::size_t size)
{
    return Bytes(b.begin() + static_cast<std::ptrdiff_t>(from), b.begin() + static_cast<std::ptrdiff_t>(from + size));
}

} // namespace test
