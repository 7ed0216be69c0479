// The IPv6 parsers and emitters by value, what they refuse, and random mutation of good packets.
#include <catch2/catch.hpp>

#include "base/random.hpp"
#include "tests/fuzz/parse_all.hpp"
#include "tests/protocols/frames6.hpp"

using namespace test;

namespace {

// The chain of a packet whose headers behind the IPv6 header are `kinds`.
wire::ChainResult walk(const std::vector<std::uint8_t>& kinds, const std::vector<Bytes>& headers,
    wire::Ipv6Chain& chain, const char* destination = "fd00::1")
{
    Ip6Fields f;
    f.destination = ip6(destination);
    f.kinds = kinds;
    f.extensions = headers;
    Bytes frame = ip6_frame(f, Bytes(8, 1));
    Bytes packet(frame.begin() + 14, frame.end());
    auto size = static_cast<std::uint32_t>(packet.size());
    wire::Ipv6Fault fault{};
    auto h = wire::parse_ipv6(packet.data(), size, size, fault);
    REQUIRE(h.has_value());
    return wire::walk_ipv6_chain(packet.data(), size, *h, chain);
}

const Bytes pads{0, 0, 1, 4, 0, 0, 0, 0}; // PadN

Bytes fragment_header(std::uint16_t offset, bool more, std::uint32_t id)
{
    Bytes b(8);
    wire::emit_ipv6_fragment(b.data(), {0, offset, more, id});
    return b;
}

} // namespace

TEST_CASE("an IPv6 header is emitted as RFC 8200 3 draws it and parses back")
{
    wire::Ipv6Header h;
    h.traffic_class = 0xb8;
    h.flow_label = 0x12345;
    h.payload_bytes = 20;
    h.next_header = 6;
    h.hop_limit = 64;
    h.source = ip6("2001:db8::1");
    h.destination = ip6("fe80::2");
    Bytes b(40);
    wire::emit_ipv6(b.data(), h);
    CHECK(slice(b, 0, 8) == Bytes{0x6b, 0x81, 0x23, 0x45, 0x00, 0x14, 0x06, 0x40});
    CHECK(slice(b, 8, 4) == Bytes{0x20, 0x01, 0x0d, 0xb8});
    wire::Ipv6Fault fault{};
    auto back = wire::parse_ipv6(b.data(), 40, 60, fault);
    REQUIRE(back.has_value());
    CHECK((back->traffic_class == 0xb8 && back->flow_label == 0x12345 && back->source == h.source));
    CHECK(!wire::parse_ipv6(b.data(), 40, 59, fault));
    CHECK(fault == wire::Ipv6Fault::length);
    CHECK(!wire::parse_ipv6(b.data(), 39, 60, fault));
    CHECK(fault == wire::Ipv6Fault::truncated);
    b[0] = 0x45;
    CHECK(!wire::parse_ipv6(b.data(), 40, 60, fault));
    CHECK(fault == wire::Ipv6Fault::version);
}

TEST_CASE("RFC 8200 4: extension headers are walked in any order, hop-by-hop options first only")
{
    using wire::ChainFault;
    wire::Ipv6Chain c;
    CHECK(walk({}, {}, c).fault == ChainFault::none);
    CHECK((c.protocol == 17 && c.bytes == 40 && c.next_at == 6));
    CHECK(walk({0, 60, 43}, {pads, pads, Bytes{0, 0, 4, 0, 0, 0, 0, 0}}, c).fault == ChainFault::none);
    CHECK((c.protocol == 17 && c.bytes == 64 && c.next_at == 56));
    auto r = walk({60, 0}, {pads, pads}, c);
    CHECK((r.fault == ChainFault::problem && r.code == wire::parameter_unknown_header && r.pointer == 40));
    CHECK(walk(std::vector<std::uint8_t>(8, 60), std::vector<Bytes>(8, pads), c).fault == ChainFault::none);
    CHECK(walk(std::vector<std::uint8_t>(9, 60), std::vector<Bytes>(9, pads), c).fault == ChainFault::discard);
    Bytes alert(8);
    wire::emit_router_alert(alert.data(), 0);
    CHECK(walk({0}, {alert}, c).fault == ChainFault::none);
    CHECK(c.router_alert);
}

TEST_CASE("RFC 8200 4.2: an unknown option does what its high bits say")
{
    using wire::ChainFault;
    wire::Ipv6Chain c;
    auto with = [&](unsigned type, const char* to) {
        return walk({60}, {Bytes{0, 0, static_cast<unsigned char>(type), 4, 0, 0, 0, 0}}, c, to);
    };
    CHECK(with(0x1e, "fd00::1").fault == ChainFault::none);
    CHECK(with(0x5e, "fd00::1").fault == ChainFault::discard);
    for (unsigned type : {0x9eU, 0xdeU}) {
        auto r = with(type, "fd00::1");
        CHECK((r.fault == ChainFault::problem && r.code == wire::parameter_unknown_option && r.pointer == 42));
    }
    CHECK(with(0x9e, "ff02::1").fault == ChainFault::problem);
    CHECK(with(0xde, "ff02::1").fault == ChainFault::discard);
    CHECK(with(0xc2, "fd00::1").fault == ChainFault::problem); // a jumbo payload
    CHECK(walk({60}, {Bytes{0, 0, 1, 9, 0, 0, 0, 0}}, c).fault == ChainFault::problem);
}

TEST_CASE("RFC 8504 5.3: of a packet with more than eight options in a header, or headers in a chain, nothing is taken")
{
    wire::Ipv6Chain c;
    auto options = [&](std::size_t n) { // each with padding, which does not count
        Bytes h{0, static_cast<unsigned char>(n * 2)};
        for (std::size_t i = 0; i < n; ++i) {
            const Bytes o{0x1e, 6, 0, 0, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0};
            h.insert(h.end(), o.begin(), o.end());
        }
        const Bytes end{1, 4, 0, 0, 0, 0};
        h.insert(h.end(), end.begin(), end.end());
        return walk({60}, {h}, c).fault;
    };
    CHECK(options(wire::ipv6_options_max) == wire::ChainFault::none);
    CHECK(options(wire::ipv6_options_max + 1) == wire::ChainFault::discard);
    auto headers = [&](std::size_t n) {
        return walk(std::vector<std::uint8_t>(n, 60), std::vector<Bytes>(n, pads), c).fault;
    };
    CHECK(headers(wire::ipv6_extensions_max) == wire::ChainFault::none);
    CHECK(headers(wire::ipv6_extensions_max + 1) == wire::ChainFault::discard);
    Bytes long_one(1024); // one header, all padding
    long_one[1] = 127;
    for (std::size_t at = 2; at < 1024; at += 255) {
        long_one[at] = 1;
        long_one[at + 1] = static_cast<unsigned char>(std::min<std::size_t>(253, 1024 - at - 2));
    }
    CHECK(walk({60}, {long_one}, c).fault == wire::ChainFault::discard);
}

TEST_CASE("RFC 5095: a routing header that is not used up is refused, type 0 like any other")
{
    using wire::ChainFault;
    wire::Ipv6Chain c;
    for (unsigned type : {0U, 4U}) {
        CHECK(walk({43}, {Bytes{0, 0, static_cast<unsigned char>(type), 0, 0, 0, 0, 0}}, c).fault == ChainFault::none);
        auto r = walk({43}, {Bytes{0, 0, static_cast<unsigned char>(type), 1, 0, 0, 0, 0}}, c);
        CHECK((r.fault == ChainFault::problem && r.code == wire::parameter_bad_field && r.pointer == 42));
    }
}

TEST_CASE("a fragment header ends the chain unless it is atomic (RFC 6946)")
{
    using wire::ChainFault;
    wire::Ipv6Chain c;
    CHECK(walk({60, 44}, {pads, fragment_header(16, true, 0xabcdef01)}, c).fault == ChainFault::none);
    CHECK((c.fragment && c.part.offset == 16 && c.part.more && c.part.id == 0xabcdef01 && c.bytes == 56));
    CHECK((c.protocol == 17 && c.next_at == 40));
    CHECK(walk({44, 60}, {fragment_header(0, false, 7), pads}, c).fault == ChainFault::none);
    CHECK((!c.fragment && c.protocol == 17 && c.bytes == 56 && c.next_at == 48));
    CHECK(walk({44, 60}, {fragment_header(0, true, 7), pads}, c).fault == ChainFault::none);
    CHECK((c.fragment && c.protocol == 60 && c.bytes == 48));
}

TEST_CASE("RFC 4861: messages are emitted by value and parse back; options of length 0 are refused")
{
    wire::NdMessage m;
    m.type = wire::nd_neighbor_solicitation;
    m.target = ip6("fd00::7");
    m.mac = mac(9);
    Bytes b(wire::nd_emit_max);
    b.resize(wire::emit_nd(b.data(), m));
    CHECK(b.size() == 32);
    CHECK(slice(b, 24, 8) == Bytes{1, 1, 2, 0, 0, 0, 0, 9});
    auto back = wire::parse_nd(b.data(), 32);
    REQUIRE(back.has_value());
    CHECK((back->target == m.target && back->mac == m.mac));
    b[25] = 0;
    CHECK(!wire::parse_nd(b.data(), 32));
    b[25] = 2;
    CHECK(!wire::parse_nd(b.data(), 32)); // runs out of the message
    b[25] = 1;
    b[1] = 1;
    CHECK(!wire::parse_nd(b.data(), 32)); // a code
    CHECK(!wire::parse_nd(b.data(), 23));
    m.type = wire::nd_neighbor_advertisement;
    m.solicited = true;
    m.override_known = true;
    wire::emit_nd(b.data(), m);
    CHECK(b[4] == 0x60);
    CHECK(b[24] == 2);
    m.target = wire::all_nodes();
    wire::emit_nd(b.data(), m);
    CHECK(!wire::parse_nd(b.data(), 32)); // RFC 4861 7.1: the target is no group
}

TEST_CASE("a router advertisement parses with its options")
{
    Bytes frame = router_advertisement({.hop_limit = 55, .mtu = 1400, .prefix = "2001:db8:1::ffff", .length = 64});
    auto m = wire::parse_nd(frame.data() + 54, static_cast<std::uint32_t>(frame.size() - 54));
    REQUIRE(m.has_value());
    CHECK((m->hop_limit == 55 && m->router_life_s == 1800 && m->mtu == 1400 && m->mac == mac(0x99)));
    REQUIRE(m->prefix_count == 1);
    CHECK(m->prefixes[0].addr == ip6("2001:db8:1::"));
    CHECK((m->prefixes[0].on_link && m->prefixes[0].autonomous && m->prefixes[0].valid_s == 86400));
}

TEST_CASE("solicited-node groups and their Ethernet addresses (RFC 4291 2.7.1, RFC 2464 7)")
{
    CHECK(wire::solicited_node(ip6("4037::01:800:200e:8c6c")) == ip6("ff02::1:ff0e:8c6c"));
    CHECK(base::to_string(wire::multicast_mac_v6(ip6("ff02::1:ff0e:8c6c"))) == "33:33:ff:0e:8c:6c");
}

TEST_CASE("RFC 3810 5.1: queries of both versions, with their response delays")
{
    Bytes q(28);
    q[0] = wire::mld_query;
    base::store_be16(q.data() + 4, 1000);
    CHECK(wire::parse_mld_query(q.data(), 24).value().response_ms == 1000);
    base::store_be16(q.data() + 4, 0x8001);
    CHECK(wire::parse_mld_query(q.data(), 28).value().response_ms == 0x1001U << 3);
    CHECK(wire::parse_mld_query(q.data(), 24).value().response_ms == 0x8001);
    CHECK(!wire::parse_mld_query(q.data(), 26));
    q[8] = 0x20;
    CHECK(!wire::parse_mld_query(q.data(), 28)); // neither "::" nor a group
}

TEST_CASE("a quote names the flow through extension headers; later fragments and other protocols name none")
{
    Ip6Fields f;
    f.kinds = {60};
    f.extensions = {pads};
    Bytes quoted = ip6_frame(f, udp6_datagram(f, 1000, 53, Bytes(4)));
    wire::IcmpHeader h{wire::icmp6_too_big, 0, 0, 1400};
    auto q = wire::parse_icmp6_quote(h, quoted.data() + 14, static_cast<std::uint32_t>(quoted.size() - 14));
    REQUIRE(q.has_value());
    CHECK((q->source_port == 1000 && q->destination_port == 53 && q->mtu == 1400 && q->source == f.source));
    f.kinds = {44};
    f.extensions = {fragment_header(8, true, 1)};
    quoted = ip6_frame(f, Bytes(16));
    CHECK(!wire::parse_icmp6_quote(h, quoted.data() + 14, static_cast<std::uint32_t>(quoted.size() - 14)));
}

TEST_CASE("zones: in the address above the wire, in text, never in sums or on the wire")
{
    auto a = ip6("fe80::1%3");
    CHECK(a.zone() == 3);
    CHECK(a.on_wire() == ip6("fe80::1"));
    CHECK(base::to_string(a) == "fe80::1%3");
    CHECK(!base::parse_ip("fd00::1%3"));
    CHECK(!base::parse_ip("fe80::1%"));
    CHECK(!base::parse_ip("10.0.0.1%1"));
    CHECK(wire::pseudo_header(a, a, 58, 8).folded() == wire::pseudo_header(a.on_wire(), a.on_wire(), 58, 8).folded());
}

TEST_CASE("IPv6 parsers survive random mutation of good packets")
{
    base::Random random(6);
    Ip6Fields f;
    Ip6Fields chained;
    chained.kinds = {0, 60, 44};
    chained.extensions = {pads, pads, fragment_header(0, false, 9)};
    Bytes plain = ip6_frame(f, udp6_datagram(f, 1, 2, Bytes(30, 1)));
    wire::NdMessage m;
    m.type = wire::nd_neighbor_advertisement;
    m.mac = mac(3);
    std::vector<Bytes> seeds = {plain, ip6_frame(chained, udp6_datagram(chained, 1, 2, Bytes(30, 1))),
        icmp6_frame(f, wire::icmp6_unreachable, 4, 0, slice(plain, 14, plain.size() - 14)),
        router_advertisement({.mtu = 1400, .prefix = "2001:db8::"}), nd_frame(f, m)};
    for (int i = 0; i < 20000; ++i) {
        Bytes b = seeds[random.below(static_cast<std::uint32_t>(seeds.size()))];
        for (std::uint32_t n = random.below(6); n != 0; --n) {
            b[random.below(static_cast<std::uint32_t>(b.size()))] = static_cast<unsigned char>(random.next());
        }
        b.resize(random.below(8) == 0 ? random.below(static_cast<std::uint32_t>(b.size())) : b.size());
        Bytes exact(b.begin(), b.end()); // its own allocation, so that ASan sees one byte too far
        REQUIRE(fuzz::parse_all(exact.data(), exact.size()));
    }
}
