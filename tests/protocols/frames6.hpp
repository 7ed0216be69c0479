// IPv6 frames for tests: extension headers and the messages that only routers send are built here by hand, the rest
// with the stack's own emitters (which test_wire6.cpp checks by value).
#pragma once

#include "protocols/wire/icmp6.hpp"
#include "protocols/wire/ipv6.hpp"
#include "protocols/wire/mld.hpp"
#include "protocols/wire/nd.hpp"
#include "tests/protocols/frames.hpp"

namespace test {

inline base::IpAddr ip6(const char* text)
{
    return base::parse_ip(text).value();
}

struct Ip6Fields {
    base::IpAddr source = ip6("fd00::2");
    base::IpAddr destination = ip6("fd00::1");
    std::uint8_t next = wire::protocol_udp;
    std::uint8_t hop_limit = 64;
    base::MacAddr to = mac(1);
    base::MacAddr from = mac(2);
    std::vector<Bytes> extensions{};   // whole headers; the next header octets are filled in
    std::vector<std::uint8_t> kinds{}; // ... and what each of them is
};

inline Bytes ip6_frame(const Ip6Fields& f, const Bytes& payload)
{
    Bytes chain;
    for (std::size_t i = 0; i < f.extensions.size(); ++i) {
        Bytes h = f.extensions[i];
        h[0] = i + 1 < f.kinds.size() ? f.kinds[i + 1] : f.next;
        chain.insert(chain.end(), h.begin(), h.end());
    }
    wire::Ipv6Header h;
    h.payload_bytes = static_cast<std::uint16_t>(chain.size() + payload.size());
    h.next_header = f.kinds.empty() ? f.next : f.kinds.front();
    h.hop_limit = f.hop_limit;
    h.source = f.source.on_wire();
    h.destination = f.destination.on_wire();
    Bytes b(wire::ipv6_header_bytes);
    wire::emit_ipv6(b.data(), h);
    b.insert(b.end(), chain.begin(), chain.end());
    b.insert(b.end(), payload.begin(), payload.end());
    return ethernet(f.to, f.from, wire::ethertype_ipv6, b);
}

// With the checksum over the pseudo-header at `at`.
inline Bytes with_checksum6(const Ip6Fields& f, std::uint8_t protocol, Bytes b, std::size_t at)
{
    auto sum = wire::pseudo_header(f.source, f.destination, protocol, static_cast<std::uint32_t>(b.size()));
    sum.add(b.data(), b.size());
    base::store_be16(b.data() + at, sum.finish());
    return b;
}

inline Bytes udp6_datagram(const Ip6Fields& f, std::uint16_t from, std::uint16_t to, const Bytes& payload)
{
    Bytes b(8);
    wire::emit_udp(b.data(), {from, to, static_cast<std::uint16_t>(8 + payload.size()), 0});
    b.insert(b.end(), payload.begin(), payload.end());
    return with_checksum6(f, wire::protocol_udp, b, 6);
}

inline Bytes icmp6_message(
    const Ip6Fields& f, std::uint8_t type, std::uint8_t code, std::uint32_t rest, const Bytes& payload)
{
    Bytes b(8);
    wire::emit_icmp(b.data(), {type, code, 0, rest});
    b.insert(b.end(), payload.begin(), payload.end());
    return with_checksum6(f, wire::protocol_icmp6, b, 2);
}

inline Bytes icmp6_frame(Ip6Fields f, std::uint8_t type, std::uint8_t code, std::uint32_t rest, const Bytes& payload)
{
    f.next = wire::protocol_icmp6;
    return ip6_frame(f, icmp6_message(f, type, code, rest, payload));
}

// A solicitation or neighbour advertisement from f.source.
inline Bytes nd_frame(Ip6Fields f, const wire::NdMessage& m, std::uint8_t hop_limit = 255)
{
    f.next = wire::protocol_icmp6;
    f.hop_limit = hop_limit;
    Bytes b(wire::nd_emit_max);
    b.resize(wire::emit_nd(b.data(), m));
    return ip6_frame(f, with_checksum6(f, wire::protocol_icmp6, b, 2));
}

struct RouterSays {
    std::uint8_t hop_limit = 64;
    std::uint16_t life_s = 1800;
    std::uint32_t reachable_ms = 0;
    std::uint32_t retransmit_ms = 0;
    std::uint32_t mtu = 0;
    const char* prefix = nullptr;
    std::uint8_t length = 64;
    bool on_link = true;
    bool autonomous = true;
    std::uint32_t valid_s = 86400;
    std::uint32_t preferred_s = 14400;
};

inline Ip6Fields from_router()
{
    return {.source = ip6("fe80::99"),
        .destination = wire::all_nodes(),
        .next = wire::protocol_icmp6,
        .hop_limit = 255,
        .to = wire::multicast_mac_v6(wire::all_nodes()),
        .from = mac(0x99)};
}

inline Bytes router_advertisement(const RouterSays& r, const Ip6Fields& f = from_router())
{
    Bytes b(16);
    b[0] = wire::nd_router_advertisement;
    b[4] = r.hop_limit;
    base::store_be16(b.data() + 6, r.life_s);
    base::store_be32(b.data() + 8, r.reachable_ms);
    base::store_be32(b.data() + 12, r.retransmit_ms);
    Bytes source{1, 1, 2, 0, 0, 0, 0, 0x99};
    b.insert(b.end(), source.begin(), source.end());
    if (r.mtu != 0) {
        Bytes o{5, 1, 0, 0, 0, 0, 0, 0};
        base::store_be32(o.data() + 4, r.mtu);
        b.insert(b.end(), o.begin(), o.end());
    }
    if (r.prefix != nullptr) {
        Bytes o(32);
        o[0] = 3;
        o[1] = 4;
        o[2] = r.length;
        o[3] = static_cast<unsigned char>((r.on_link ? 0x80 : 0) | (r.autonomous ? 0x40 : 0));
        base::store_be32(o.data() + 4, r.valid_s);
        base::store_be32(o.data() + 8, r.preferred_s);
        std::memcpy(o.data() + 16, ip6(r.prefix).bytes(), 16);
        b.insert(b.end(), o.begin(), o.end());
    }
    return ip6_frame(f, with_checksum6(f, wire::protocol_icmp6, b, 2));
}

} // namespace test
