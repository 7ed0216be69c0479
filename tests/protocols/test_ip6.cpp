// IPv6, ICMPv6 and UDP over it: one host against hand-made frames, two hosts against each other, in virtual time.
#include "protocols/ipv6.hpp"
#include "protocols/reassembly.hpp"
#include "tests/protocols/frames6.hpp"
#include "tests/protocols/host.hpp"

using namespace test;
using base::Error;
using protocols::StackCounters;
using sockbuf::SlotKind;

namespace {

// One host, fd00::1, which knows fd00::2; frames go in and out by hand.
struct Alone {
    explicit Alone(unsigned cpus = 1) : h(world.add(slot, {.cpus = cpus, .address6 = "fd00::1"}))
    {
        world.advance(base::seconds(3)); // the reports that join its groups
        meet();
    }
    void meet()
    {
        wire::NdMessage m;
        m.type = wire::nd_neighbor_solicitation;
        m.target = ip6("fd00::1");
        m.mac = mac(2);
        Ip6Fields f;
        f.destination = wire::solicited_node(m.target);
        f.to = wire::multicast_mac_v6(f.destination);
        in(nd_frame(f, m));
        h.link->sent.clear();
    }
    void in(const Bytes& frame, base::CpuId cpu = 0)
    {
        h.link->inject(frame, cpu);
        world.settle();
    }
    World world;
    std::unique_ptr<Host> slot;
    Host& h;
};

// Type and code of an ICMPv6 message without extension headers, 0xffff for something else.
unsigned icmp6_of(const Bytes& frame)
{
    return frame.at(14 + 6) == wire::protocol_icmp6 ? base::load_be16(frame.data() + 54) : 0xffffU;
}
std::uint32_t icmp6_rest(const Bytes& frame)
{
    return base::load_be32(frame.data() + 58);
}
bool sums_right(const Bytes& frame)
{
    wire::Ipv6Fault fault{};
    auto size = static_cast<std::uint32_t>(frame.size() - 14);
    auto h = wire::parse_ipv6(frame.data() + 14, size, size, fault);
    REQUIRE(h.has_value());
    auto sum = wire::pseudo_header(h->source, h->destination, h->next_header, h->payload_bytes);
    sum.add(frame.data() + 54, h->payload_bytes);
    return sum.correct();
}

constexpr unsigned problem(unsigned code)
{
    return wire::icmp6_parameter_problem << 8 | code;
}

Bytes fragment_of(const Bytes& payload, std::uint16_t offset, std::size_t bytes, bool more, std::uint32_t id = 7,
    std::uint8_t next = wire::protocol_udp)
{
    Ip6Fields f;
    Bytes header(8);
    wire::emit_ipv6_fragment(header.data(), {next, offset, more, id});
    f.kinds = {wire::next_fragment};
    f.extensions = {header};
    f.next = next;
    return ip6_frame(f, slice(payload, offset, bytes));
}

} // namespace

TEST_CASE("RFC 4443 4.2: an echo request comes back with its data, from the address that it was sent to")
{
    Alone t;
    t.in(icmp6_frame({}, wire::icmp6_echo, 0, 0x12340001, Bytes(100, 5)));
    REQUIRE(t.h.link->sent.size() == 1);
    const Bytes& reply = t.h.link->sent[0];
    CHECK(icmp6_of(reply) == wire::icmp6_echo_reply << 8);
    CHECK(icmp6_rest(reply) == 0x12340001);
    CHECK(slice(reply, 62, 100) == Bytes(100, 5));
    CHECK(slice(reply, 22, 16) == slice(ip6_frame({}, {}), 38, 16));
    CHECK(sums_right(reply));
    Bytes broken = icmp6_frame({}, wire::icmp6_echo, 0, 1, Bytes(10));
    broken.back() ^= 1;
    t.in(broken);
    CHECK(t.h.counted(&StackCounters::icmp_in_bad_checksum) == 1);
    CHECK(t.h.link->sent.size() == 1);
}

TEST_CASE("a large echo request is answered in fragments, each within the MTU")
{
    Alone t;
    Bytes message = icmp6_message({}, wire::icmp6_echo, 0, 1, Bytes(3000, 9));
    t.in(fragment_of(message, 0, 1200, true, 3, wire::protocol_icmp6));
    t.in(fragment_of(message, 1200, 1200, true, 3, wire::protocol_icmp6));
    t.in(fragment_of(message, 2400, message.size() - 2400, false, 3, wire::protocol_icmp6));
    REQUIRE(t.h.link->sent.size() == 3);
    std::size_t payload = 0;
    for (const Bytes& f : t.h.link->sent) {
        CHECK(f.size() <= 1514);
        CHECK(f.at(20) == wire::next_fragment);
        CHECK(wire::read_ipv6_fragment(f.data() + 54).offset == payload);
        payload += f.size() - 62;
    }
    CHECK(payload == message.size());
}

TEST_CASE("RFC 8200 4: an unknown header or protocol is a parameter problem, code 1, at the octet that names it")
{
    Alone t;
    Ip6Fields f;
    f.next = 253;
    t.in(ip6_frame(f, Bytes(8)));
    f.kinds = {60};
    f.extensions = {Bytes{0, 0, 1, 4, 0, 0, 0, 0}};
    t.in(ip6_frame(f, Bytes(8)));
    REQUIRE(t.h.link->sent.size() == 2);
    CHECK(icmp6_of(t.h.link->sent[0]) == problem(1));
    CHECK(icmp6_rest(t.h.link->sent[0]) == 6);
    CHECK(icmp6_rest(t.h.link->sent[1]) == 40);
    CHECK(t.h.counted(&StackCounters::ip_in_unknown_protocol) == 2);
    f.next = wire::next_none; // RFC 8200 4.7: silence
    t.in(ip6_frame(f, Bytes(8)));
    CHECK(t.h.link->sent.size() == 2);
}

TEST_CASE("RFC 8200 4.2, RFC 5095: options and routing headers that we do not know are told of, or not, as they ask")
{
    Alone t;
    auto sent_for = [&](std::uint8_t kind, const Bytes& header) {
        t.world.advance(base::seconds(1)); // the rate limit per peer
        t.meet();
        t.h.link->sent.clear();
        Ip6Fields f;
        f.kinds = {kind};
        f.extensions = {header};
        t.in(ip6_frame(f, udp6_datagram(f, 1, 2, Bytes(4))));
        return t.h.link->sent.empty() ? 0U : icmp6_of(t.h.link->sent[0]);
    };
    unsigned nobody = wire::icmp6_unreachable << 8 | wire::unreachable6_port;
    CHECK(sent_for(60, Bytes{0, 0, 0x1e, 4, 0, 0, 0, 0}) == nobody);
    CHECK(sent_for(60, Bytes{0, 0, 0x5e, 4, 0, 0, 0, 0}) == 0);
    CHECK(sent_for(60, Bytes{0, 0, 0x9e, 4, 0, 0, 0, 0}) == problem(2));
    CHECK(sent_for(0, Bytes{0, 0, 0xc2, 4, 0, 1, 0, 0}) == problem(2)); // a jumbo payload
    CHECK(sent_for(43, Bytes{0, 0, 0, 1, 0, 0, 0, 0}) == problem(0));
    CHECK(sent_for(43, Bytes{0, 0, 0, 0, 0, 0, 0, 0}) == nobody);
}

TEST_CASE("RFC 4443 2.4 e: no error about an error, a group's packet or a source that is no single host")
{
    Alone t;
    Ip6Fields f;
    Bytes quoted = ip6_frame(f, udp6_datagram(f, 1, 2, Bytes(4)));
    f.next = wire::protocol_icmp6; // e.1, e.2: behind headers that would be told of
    Bytes error = icmp6_message(f, wire::icmp6_unreachable, 3, 0, slice(quoted, 14, quoted.size() - 14));
    Bytes redirect = icmp6_message(f, wire::nd_redirect, 0, 0, Bytes(32));
    auto behind = [&](const std::vector<std::uint8_t>& kinds, const std::vector<Bytes>& headers, const Bytes& message) {
        f.kinds = kinds;
        f.extensions = headers;
        t.in(ip6_frame(f, message));
    };
    const Bytes unknown{0, 0, 0x9e, 4, 0, 0, 0, 0};
    Bytes first(8);
    wire::emit_ipv6_fragment(first.data(), {wire::protocol_icmp6, 0, true, 3});
    behind({60}, {unknown}, error);
    behind({60}, {unknown}, redirect);
    behind({43}, {Bytes{0, 0, 0, 1, 0, 0, 0, 0}}, error);
    behind({43, 60}, {Bytes{0, 0, 0, 1, 0, 0, 0, 0}, Bytes{0, 0, 1, 4, 0, 0, 0, 0}}, error);
    behind({44}, {first}, slice(error, 0, 12)); // no multiple of 8
    CHECK(t.h.link->sent.empty());
    CHECK(t.h.counted(&StackCounters::icmp_out_suppressed) == 5);
    behind({60}, {unknown}, icmp6_message(f, wire::icmp6_echo, 0, 0, Bytes(8)));
    REQUIRE(t.h.link->sent.size() == 1);
    CHECK(icmp6_of(t.h.link->sent[0]) == problem(2));
    CHECK(slice(t.h.link->sent[0], 62, 64) ==
          slice(ip6_frame(f, icmp6_message(f, wire::icmp6_echo, 0, 0, Bytes(8))), 14, 64));
    t.h.link->sent.clear();
    f = {};
    f.next = 253;
    f.source = ip6("::");
    t.in(ip6_frame(f, Bytes(8)));
    f = {};
    f.next = 253;
    f.destination = ip6("ff02::1");
    f.to = wire::multicast_mac_v6(f.destination);
    t.in(ip6_frame(f, Bytes(8)));
    CHECK(t.h.counted(&StackCounters::icmp_out_suppressed) == 7);
    f.kinds = {60}; // e.3: this one is told of although it came to a group
    f.extensions = {Bytes{0, 0, 0x9e, 4, 0, 0, 0, 0}};
    t.in(ip6_frame(f, Bytes(8)));
    CHECK(t.h.link->sent.size() == 1);
}

TEST_CASE("RFC 4007 6: who sent an error is told with its zone")
{
    Alone t;
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.set(IPPROTO_IPV6, IPV6_RECVERR, 1) == Error::none);
    REQUIRE(s.connect(at("fd00::2", 7)) == Error::none);
    Ip6Fields ours;
    ours.source = ip6("fd00::1");
    ours.destination = ip6("fd00::2");
    Bytes quoted = ip6_frame(ours, udp6_datagram(ours, s.so.flow.local.port, 7, Bytes(4)));
    Ip6Fields router;
    router.source = ip6("fe80::99");
    t.in(icmp6_frame(router, wire::icmp6_unreachable, wire::unreachable6_no_route, 0, slice(quoted, 14, 52)));
    sockbuf::DatagramError e;
    base::Endpoint to;
    Bytes payload;
    REQUIRE(s.receive_error(e, to, payload));
    CHECK(base::IpAddr::v6(e.offender) == ip6("fe80::99%1"));
}

TEST_CASE("RFC 4443 2.4 f: errors are limited per peer")
{
    Alone t;
    Ip6Fields f;
    f.next = 253;
    for (int i = 0; i < 100; ++i) {
        t.in(ip6_frame(f, Bytes(8)));
    }
    CHECK(t.h.link->sent.size() == 6);
    CHECK(t.h.counted(&StackCounters::icmp_out_limited) == 94);
}

TEST_CASE("martians, foreign destinations and mismatched frames are dropped")
{
    Alone t;
    for (const char* source : {"ff02::1", "::1", "fd00::1", "::ffff:10.0.0.2"}) {
        Ip6Fields f;
        f.source = ip6(source);
        t.in(ip6_frame(f, udp6_datagram(f, 1, 2, Bytes(4))));
    }
    CHECK(t.h.counted(&StackCounters::ip_in_martian) == 4);
    for (const char* group : {"ff01::1", "ff31::1", "ff00::1"}) { // RFC 4291 2.7 and its erratum 3480
        Ip6Fields f;
        f.destination = ip6(group);
        f.to = wire::multicast_mac_v6(f.destination);
        t.in(ip6_frame(f, udp6_datagram(f, 1, 2, Bytes(4))));
    }
    CHECK(t.h.counted(&StackCounters::ip_in_martian) == 7);
    Ip6Fields f;
    f.destination = ip6("fd00::77");
    t.in(ip6_frame(f, udp6_datagram(f, 1, 2, Bytes(4))));
    CHECK(t.h.counted(&StackCounters::ip_in_not_ours) == 1);
    f = {};
    f.to = base::MacAddr{{0x33, 0x33, 0, 0, 0, 1}};
    t.in(ip6_frame(f, udp6_datagram(f, 1, 2, Bytes(4))));
    CHECK(t.h.counted(&StackCounters::ip_in_link_mismatch) == 1);
    CHECK(t.h.link->sent.empty());
}

TEST_CASE("RFC 8200 4.5: fragments in any order make the datagram; RFC 6946: atomic ones are whole already")
{
    Alone t(3);
    TestSocket s(t.world, t.h, SlotKind::datagram, 1, 18, AF_INET6);
    REQUIRE(s.bind(at("::", 53)) == Error::none);
    Bytes datagram = udp6_datagram({}, 9, 53, Bytes(3000, 4));
    t.in(fragment_of(datagram, 2400, datagram.size() - 2400, false), 2);
    t.in(fragment_of(datagram, 0, 1200, true), 0);
    t.in(fragment_of(datagram, 1200, 1200, true), 1);
    Bytes got;
    base::Endpoint from;
    REQUIRE(s.receive(got, &from));
    CHECK(got == Bytes(3000, 4));
    CHECK(from == at("fd00::2", 9));
    datagram = udp6_datagram({}, 9, 53, Bytes(20, 6));
    t.in(fragment_of(datagram, 0, datagram.size(), false));
    REQUIRE(s.receive(got));
    CHECK(got == Bytes(20, 6));
    CHECK(t.h.counted(&StackCounters::frag_in) == 3);
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 3168 5.3: congestion that a later fragment met is the datagram's, over IPv6")
{
    Alone t;
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.bind(at("::", 53)) == Error::none);
    Bytes datagram = udp6_datagram({}, 9, 53, Bytes(100, 4));
    Bytes first = fragment_of(datagram, 0, 64, true);
    Bytes second = fragment_of(datagram, 64, datagram.size() - 64, false);
    first[15] |= 0x20;  // able
    second[15] |= 0x30; // met
    t.in(first);
    t.in(second);
    Bytes got;
    REQUIRE(s.receive(got));
    CHECK(s.header.tos == 3);
}

TEST_CASE("RFC 8200 4.5: reassembly ends after 60 seconds, and the sender of a first fragment hears of it")
{
    Alone t;
    Bytes datagram = udp6_datagram({}, 9, 53, Bytes(100, 4));
    t.in(fragment_of(datagram, 0, 64, true, 1));
    t.in(fragment_of(datagram, 64, 40, true, 2)); // not a first one
    auto told = [&] {
        auto exceeded = [](const Bytes& f) {
            return icmp6_of(f) == (wire::icmp6_time_exceeded << 8 | wire::exceeded_reassembly);
        };
        return std::count_if(t.h.link->sent.begin(), t.h.link->sent.end(), exceeded);
    };
    t.world.advance(base::seconds(59));
    CHECK(told() == 0);
    t.meet(); // it is still there
    t.world.advance(base::seconds(2));
    CHECK(told() == 1);
    CHECK(t.h.counted(&StackCounters::frag_timeout) == 2);
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 4443 2.4 c: an error quotes what fits into the least MTU")
{
    Alone t;
    t.in(ip6_frame({}, udp6_datagram({}, 9, 99, Bytes(1400, 4))));
    REQUIRE(t.h.link->sent.size() == 1);
    const Bytes& error = t.h.link->sent[0];
    CHECK(icmp6_of(error) == (wire::icmp6_unreachable << 8 | wire::unreachable6_port));
    CHECK(error.size() == 14 + 1280);
    CHECK(sums_right(error));
}

TEST_CASE("RFC 5722, RFC 8200 4.5: overlapping fragments condemn their datagram, exact duplicates do not")
{
    Alone t;
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.bind(at("::", 53)) == Error::none);
    Bytes datagram = udp6_datagram({}, 9, 53, Bytes(100, 4));
    t.in(fragment_of(datagram, 0, 64, true, 1));
    t.in(fragment_of(datagram, 0, 64, true, 1));
    t.in(fragment_of(datagram, 64, datagram.size() - 64, false, 1));
    Bytes got;
    CHECK(s.receive(got));
    t.in(fragment_of(datagram, 0, 64, true, 2));
    t.in(fragment_of(datagram, 56, 16, true, 2));
    t.in(fragment_of(datagram, 64, datagram.size() - 64, false, 2));
    CHECK(!s.receive(got));
    CHECK(t.h.counted(&StackCounters::frag_overlap) == 1);
    t.world.advance(base::seconds(61));
    CHECK(t.h.packets_in_use() == 0);
    CHECK(t.h.counted(&StackCounters::icmp_out_errors) == 0); // nothing of it is left to quote
}

TEST_CASE("RFC 8200 4.5, RFC 7112: malformed fragments are told of")
{
    Alone t;
    Bytes datagram = udp6_datagram({}, 9, 53, Bytes(100, 4));
    t.in(fragment_of(datagram, 0, 60, true, 1)); // not a multiple of 8
    Bytes far = fragment_of(datagram, 0, 64, false, 2);
    base::store_be16(far.data() + 56, 0xfff8); // its end lies behind 65535
    t.in(far);
    t.in(fragment_of(Bytes(8), 0, 8, true, 3, wire::protocol_tcp)); // the TCP header is not there
    REQUIRE(t.h.link->sent.size() == 3);
    CHECK(icmp6_of(t.h.link->sent[0]) == problem(0));
    CHECK(icmp6_rest(t.h.link->sent[0]) == 4);
    CHECK(icmp6_of(t.h.link->sent[1]) == problem(0));
    CHECK(icmp6_rest(t.h.link->sent[1]) == 42);
    CHECK(icmp6_of(t.h.link->sent[2]) == problem(3));
    t.in(fragment_of(datagram, 0, 64, true, 4)); // the rest does not come
    t.world.advance(base::seconds(59));
    CHECK(t.h.counted(&StackCounters::icmp_out_errors) == 3);
    t.meet(); // the neighbour was silent all the while
    t.world.advance(base::seconds(2));
    REQUIRE(t.h.link->sent.size() >= 1);
    CHECK(icmp6_of(t.h.link->sent[0]) == (wire::icmp6_time_exceeded << 8 | 1));
}

TEST_CASE("RFC 8200 8.1: a datagram over IPv6 without a checksum is dropped")
{
    Alone t;
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.bind(at("::", 53)) == Error::none);
    Bytes datagram = udp6_datagram({}, 9, 53, Bytes(10));
    datagram[6] = datagram[7] = 0;
    t.in(ip6_frame({}, datagram));
    Bytes got;
    CHECK(!s.receive(got));
    CHECK(t.h.counted(&StackCounters::udp_in_bad_checksum) == 1);
}

TEST_CASE("RFC 8201 4: packet too big lowers the path MTU, below 1280 it is not believed")
{
    Alone t;
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.bind(at("fd00::1", 1000)) == Error::none);
    auto too_big = [&](std::uint32_t mtu) {
        Ip6Fields mine;
        mine.source = ip6("fd00::1");
        mine.destination = ip6("fd00::2");
        Bytes quoted = ip6_frame(mine, udp6_datagram(mine, 1000, 53, Bytes(1400)));
        t.in(icmp6_frame({}, wire::icmp6_too_big, 0, mtu, slice(quoted, 14, 1232)));
    };
    too_big(1000);
    CHECK(t.h.counted(&StackCounters::pmtu_learned) == 0);
    s.send(Bytes(1400), at("fd00::2", 53));
    CHECK(t.h.link->sent.size() == 1);
    too_big(1300);
    CHECK(t.h.counted(&StackCounters::pmtu_learned) == 1);
    t.h.link->sent.clear();
    s.send(Bytes(1400), at("fd00::2", 53));
    REQUIRE(t.h.link->sent.size() == 2);
    CHECK(t.h.link->sent[0].size() <= 1300 + 14);
}

TEST_CASE("UDP between two hosts over IPv6: ports, refusals, what nobody wants, flow labels")
{
    Pair p(2, 3);
    p.world.advance(base::seconds(3));
    TestSocket client(p.world, p.a, SlotKind::datagram, 1, 18, AF_INET6);
    TestSocket server(p.world, p.b, SlotKind::datagram, 2, 18, AF_INET6);
    REQUIRE(server.bind(at("::", 53)) == Error::none);
    REQUIRE(client.connect(at("fd00::2", 53)) == Error::none);
    CHECK(client.so.flow.local.addr == ip6("fd00::1"));
    client.send(Bytes(10, 7));
    Bytes got;
    base::Endpoint from;
    REQUIRE(server.receive(got, &from));
    CHECK(from == client.so.flow.local);
    CHECK(base::load_be32(p.a.link->sent.back().data() + 14) << 12 != 0);
    server.send(Bytes(4000, 8), from); // in fragments
    REQUIRE(client.receive(got));
    CHECK(got == Bytes(4000, 8));
    TestSocket lost(p.world, p.a, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(lost.connect(at("fd00::2", 54)) == Error::none);
    lost.send(Bytes(1));
    CHECK(lost.take_error() == ECONNREFUSED);
}

TEST_CASE("this host over IPv6: its addresses and ::1 loop back")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.address6 = "fd00::1"});
    std::string own;
    for (const auto& a : h.domain().ipv6->addresses) {
        own = a.addr.is_link_local_v6() ? base::to_string(a.addr) : own;
    }
    for (const char* a : {"::1", "fd00::1", own.c_str()}) {
        TestSocket server(world, h, SlotKind::datagram, 0, 18, AF_INET6);
        TestSocket client(world, h, SlotKind::datagram, 0, 18, AF_INET6);
        REQUIRE(server.bind(at(a, 53)) == Error::none);
        client.bind(at("::", 0));
        in6_pktinfo said{}; // the same address, as it is on the wire
        std::memcpy(&said.ipi6_addr, ip6(a).on_wire().bytes(), 16);
        REQUIRE(client.set(IPPROTO_IPV6, IPV6_PKTINFO, &said, sizeof said) == Error::none);
        client.send(Bytes(3, 1), at(a, 53));
        Bytes got;
        base::Endpoint from;
        REQUIRE(server.receive(got, &from));
        CHECK(from.addr == ip6(a));
        server.send(Bytes(65490, 2), from); // in fragments
        REQUIRE(client.receive(got, &from));
        CHECK((got == Bytes(65490, 2) && from == at(a, 53)));
        TestSocket refused(world, h, SlotKind::datagram, 0, 18, AF_INET6);
        REQUIRE(refused.connect(at(a, 54)) == Error::none);
        refused.send(Bytes(1));
        CHECK(refused.take_error() == ECONNREFUSED);
        TestSocket stream(world, h, SlotKind::stream, 0, 18, AF_INET6);
        REQUIRE(stream.connect(at(a, 54)) == Error::in_progress);
        CHECK(stream.take_error() == ECONNREFUSED);
        server.close();
        client.close();
        refused.close();
        stream.close();
    }
    CHECK(h.counted(&StackCounters::ip_in_not_ours) == 0);
    CHECK(h.packets_in_use() == 0);
}

TEST_CASE("bind between the families follows Linux")
{
    struct Case {
        int first_family;
        const char* first;
        bool first_only;
        int second_family;
        const char* second;
        bool second_only;
        Error expected;
    };
    constexpr int v4 = AF_INET;
    constexpr int v6 = AF_INET6;
    auto c = GENERATE(Case{v6, "::", false, v4, "0.0.0.0", false, Error::address_in_use},
        Case{v4, "0.0.0.0", false, v6, "::", false, Error::address_in_use},
        Case{v6, "::", true, v4, "0.0.0.0", false, Error::none},
        Case{v4, "10.0.0.1", false, v6, "::", true, Error::none},
        Case{v6, "::", false, v4, "10.0.0.1", false, Error::address_in_use},
        Case{v6, "fd00::1", false, v4, "0.0.0.0", false, Error::none},
        Case{v6, "fd00::1", false, v6, "::", true, Error::address_in_use},
        Case{v6, "::ffff:10.0.0.1", false, v4, "10.0.0.1", false, Error::address_in_use},
        Case{v4, "0.0.0.0", false, v6, "::ffff:10.0.0.1", true, Error::invalid},
        Case{v4, "0.0.0.0", false, v6, "fd00::9", false, Error::address_not_available},
        Case{v4, "0.0.0.0", false, v6, "fe80::1", false, Error::invalid});
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 2, .address6 = "fd00::1"});
    auto kind = GENERATE(SlotKind::stream, SlotKind::datagram);
    TestSocket one(world, h, kind, 0, 18, c.first_family);
    TestSocket two(world, h, kind, 1, 18, c.second_family);
    if (c.first_only) {
        REQUIRE(one.set(IPPROTO_IPV6, IPV6_V6ONLY, 1) == Error::none);
    }
    if (c.second_only) {
        REQUIRE(two.set(IPPROTO_IPV6, IPV6_V6ONLY, 1) == Error::none);
    }
    REQUIRE(one.bind(at(c.first, 80)) == Error::none);
    CHECK(two.bind(at(c.second, 80)) == c.expected);
    CHECK(one.set(IPPROTO_IPV6, IPV6_V6ONLY, 1) != Error::none); // bound already, or of the other family
}

TEST_CASE("a dual-stack socket takes both families, the peer's address IPv4-mapped; with IPV6_V6ONLY one")
{
    Alone t;
    TestSocket dual(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    TestSocket only(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(only.set(IPPROTO_IPV6, IPV6_V6ONLY, 1) == Error::none);
    REQUIRE(dual.bind(at("::", 53)) == Error::none);
    REQUIRE(only.bind(at("::", 54)) == Error::none);
    Bytes got;
    base::Endpoint from;
    t.in(ip_frame({}, udp_datagram({}, 9, 53, Bytes(5, 1))));
    REQUIRE(dual.receive(got, &from));
    CHECK(from == at("::ffff:10.0.0.2", 9));
    t.in(ip6_frame({}, udp6_datagram({}, 9, 53, Bytes(6, 1))));
    REQUIRE(dual.receive(got, &from));
    CHECK(from == at("fd00::2", 9));
    t.in(ip_frame({}, udp_datagram({}, 9, 54, Bytes(5, 1))));
    CHECK(!only.receive(got));
    t.in(ip6_frame({}, udp6_datagram({}, 9, 54, Bytes(6, 1))));
    CHECK(only.receive(got));
    CHECK(only.connect(at("10.0.0.2", 9)) == Error::network_unreachable);
    CHECK(dual.connect(at("fe80::2", 9)) == Error::invalid); // no zone
    CHECK(dual.connect(at("::", 9)) == Error::none);
    CHECK(dual.so.flow.peer.addr == ip6("::1"));
}

TEST_CASE(
    "RFC 1122 3.2.1.7: what has a hop limit of 0 stays on the host; IPv4 peers have a TTL of their own, as on Linux")
{
    Pair p;
    p.world.advance(base::seconds(3));
    TestSocket s(p.world, p.a, SlotKind::datagram, 0, 18, AF_INET6);
    TestSocket here(p.world, p.a, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.bind(at("::", 6)) == Error::none);
    REQUIRE(here.bind(at("::", 53)) == Error::none);
    auto sent_to = [&](const char* address) {
        p.a.link->sent.clear();
        s.send(Bytes(1), at(address, 53));
        return p.a.link->sent.size();
    };
    (void)sent_to("10.0.0.2"); // both neighbours are known
    (void)sent_to("fd00::2");
    REQUIRE(s.set(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 0) == Error::none);
    CHECK(sent_to("fd00::2") == 0);
    CHECK(p.a.counted(&StackCounters::ip_out_host_only) == 1);
    Bytes got;
    CHECK(sent_to("fd00::1") == 0);
    CHECK(here.receive(got));
    REQUIRE(sent_to("10.0.0.2") == 1);
    CHECK(p.a.link->sent[0][22] == 64);
    REQUIRE(s.set(IPPROTO_IP, IP_TTL, 9) == Error::none);
    CHECK(s.get(IPPROTO_IPV6, IPV6_UNICAST_HOPS) == 0);
    REQUIRE(sent_to("10.0.0.2") == 1);
    CHECK(p.a.link->sent[0][22] == 9);
    CHECK(p.a.packets_in_use() == 0);
}

TEST_CASE("a connection's segments have the hop limit over IPv6 and the TTL over IPv4, which the socket says each")
{
    Pair p;
    p.world.advance(base::seconds(3));
    for (const char* peer : {"10.0.0.2", "fd00::2"}) {
        TestSocket s(p.world, p.a, SlotKind::stream, 0, 18, AF_INET6);
        REQUIRE(s.set(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 7) == Error::none);
        REQUIRE(s.set(IPPROTO_IP, IP_TTL, 9) == Error::none);
        REQUIRE(s.connect(at(peer, 80)) == Error::in_progress);
        const Bytes& syn = p.a.link->sent.back();
        CHECK((syn[12] == 0x08 ? syn[22] == 9 : syn[21] == 7));
        REQUIRE(s.close() == Error::none); // nobody listens there
        CHECK(s.detached == 1);
    }
}
