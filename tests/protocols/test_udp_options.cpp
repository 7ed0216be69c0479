// What a datagram may say beside its bytes: source and class of its own, segments, and the error queue that hears what
// became of it. Both families.
#include <atomic>
#include <ctime> // for the next one
#include <thread>

#include <linux/errqueue.h>

#include "protocols/wire/icmp.hpp"
#include "protocols/wire/udp.hpp"
#include "tests/protocols/host.hpp"

using namespace test;
using base::Error;
using protocols::StackCounters;
using sockbuf::SlotKind;

namespace {

Bytes numbered(std::size_t size)
{
    Bytes b(size);
    for (std::size_t i = 0; i < size; ++i) {
        b[i] = static_cast<unsigned char>(i * 5 + i / 253);
    }
    return b;
}

sockbuf::DatagramHeader header_to(const base::Endpoint& to, std::size_t size)
{
    sockbuf::DatagramHeader h{};
    h.size = static_cast<std::uint16_t>(size);
    h.port = to.port;
    std::memcpy(h.addr, to.addr.bytes(), 16);
    return h;
}

// A record whose header says what source it wants.
void send_from(TestSocket& s, const base::IpAddr& source, const base::Endpoint& to, Bytes payload)
{
    sockbuf::DatagramHeader h = header_to(to, payload.size());
    if (source.is_v4()) {
        h.local_v4 = source.v4();
    } else {
        h.flags = sockbuf::datagram_has_source;
        payload.insert(payload.end(), source.bytes(), source.bytes() + 16);
    }
    s.send_raw(h, payload);
    s.look();
}

// Class octet of an Ethernet frame's IP header.
unsigned class_of(const Bytes& frame)
{
    return frame[12] == 0x08 ? frame[15] : ((frame[14] & 0xfU) << 4 | frame[15] >> 4U);
}

struct Two : Pair {
    explicit Two(unsigned cpus_a = 1)
        : Pair(cpus_a, 2), server(world, b, SlotKind::datagram), client(world, a, SlotKind::datagram)
    {
        REQUIRE(server.bind(at("0.0.0.0", 7)) == Error::none);
        REQUIRE(client.bind(at("0.0.0.0", 0)) == Error::none);
    }
    TestSocket server;
    TestSocket client;
};

// `segments` datagrams of 8 octets to port 7 of host b, put together by its device.
void merged_arrival(protocols::Domain& d, std::uint32_t segments)
{
    netmsg::Packet* p = d.stack.pool().allocate();
    REQUIRE(p != nullptr);
    std::uint32_t bytes = protocols::wire::udp_header_bytes + segments * 8;
    protocols::wire::emit_udp(p->put(bytes), {9, 7, static_cast<std::uint16_t>(bytes), 1});
    p->csum = netmsg::Csum::valid;
    p->gso = netmsg::Gso::udp;
    p->gso_size = 8;
    protocols::IpIn ip;
    ip.source = at("10.0.0.1", 0).addr;
    ip.destination = at("10.0.0.2", 0).addr;
    ip.interface = d.stack.interfaces().front().get();
    protocols::udp_input(d, ip, *p);
}

void want_errors(TestSocket& s)
{
    REQUIRE(s.set(IPPROTO_IP, IP_RECVERR, 1) == Error::none);
    if (over_v6()) {
        REQUIRE(s.set(IPPROTO_IPV6, IPV6_RECVERR, 1) == Error::none);
    }
}

} // namespace

TEST_CASE("UDP_SEGMENT: one send becomes datagrams of the size asked for, and a last one of what is left")
{
    Two t;
    Bytes payload = numbered(3500);
    sockbuf::DatagramHeader h = header_to(at("10.0.0.2", 7), payload.size());
    h.segment = 1000;
    t.client.send_raw(h, payload);
    t.client.look();
    Bytes got;
    std::size_t at = 0;
    for (std::size_t size : {1000U, 1000U, 1000U, 500U}) {
        REQUIRE(t.server.receive(got));
        CHECK(got == Bytes(payload.begin() + static_cast<std::ptrdiff_t>(at),
                         payload.begin() + static_cast<std::ptrdiff_t>(at + size)));
        at += size;
    }
    CHECK(!t.server.receive(got));
    CHECK(t.a.counted(&StackCounters::frag_out_datagrams) == 0);
    h.segment = 3500; // it is one datagram
    t.client.send_raw(h, payload);
    t.client.look();
    REQUIRE(t.server.receive(got));
    CHECK(got == payload);
    CHECK(t.a.packets_in_use() + t.b.packets_in_use() == 0);
}

TEST_CASE("UDP_GRO: the segments of one packet are there all at once, however closely their reader looks")
{
    Two t;
    constexpr std::uint32_t segments = 100;
    constexpr std::uint64_t stride = segments * std::uint64_t{sockbuf::datagram_stride(8)};
    std::atomic<bool> end = false;
    std::uint64_t in_parts = 0;
    std::thread reader([&] {
        while (!end.load(std::memory_order_relaxed)) {
            in_parts += t.server.lanes[0].produced.load(std::memory_order_acquire) % stride != 0;
        }
    });
    unsigned received = 0;
    for (unsigned n = 0; n < 2000; ++n) {
        t.b.on(0, [&](protocols::Domain& d) { merged_arrival(d, segments); });
        for (Bytes got; t.server.receive(got);) {
            ++received;
        }
    }
    end = true;
    reader.join();
    CHECK(received == 2000 * segments);
    CHECK(in_parts == 0);
}

TEST_CASE("UDP_SEGMENT: a segment must fit the path, and there is a most of them")
{
    Two t;
    Bytes payload = numbered(4000);
    sockbuf::DatagramHeader h = header_to(at("10.0.0.2", 7), payload.size());
    h.segment = over_v6() ? 1453 : 1473;
    t.client.send_raw(h, payload);
    t.client.look();
    CHECK(t.client.take_error() == EMSGSIZE);
    --h.segment;
    t.client.send_raw(h, payload);
    t.client.look();
    CHECK(t.client.take_error() == 0);
    CHECK(t.a.counted(&StackCounters::udp_out) == 3);
    h.size = sockbuf::datagram_segments_max + 1;
    h.segment = 1; // the client has refused this: whoever writes it is no honest one
    t.client.send_raw(h, numbered(h.size));
    t.client.look();
    CHECK(t.client.slot.owner.snd_broken.load() == 1);
}

TEST_CASE("IP_PKTINFO: a datagram chooses its source, which must be an address of this host")
{
    Two t;
    TestSocket here(t.world, t.a, SlotKind::datagram);
    REQUIRE(here.bind(at("127.0.0.1", 9)) == Error::none);
    send_from(t.client, ip("10.0.0.1"), at("127.0.0.1", 9), numbered(3));
    Bytes got;
    base::Endpoint from;
    REQUIRE(here.receive(got, &from));
    CHECK(from.addr == ip("10.0.0.1")); // and not the loopback address that the route has
    CHECK(got == numbered(3));
    send_from(t.client, ip("10.0.0.77"), at("10.0.0.2", 7), numbered(3));
    CHECK(t.client.take_error() == EINVAL);
    CHECK(!t.server.receive(got));
    sockbuf::DatagramHeader h = header_to(at("10.0.0.2", 7), 3);
    h.interface = 99;
    t.client.send_raw(h, numbered(3));
    t.client.look();
    CHECK(t.client.take_error() == ENODEV);
    h.interface = static_cast<std::uint16_t>(t.a.eth->index);
    t.client.send_raw(h, numbered(3));
    t.client.look();
    CHECK(t.server.receive(got));
}

TEST_CASE("RFC 1122 3.2.1.3 (g), RFC 4291 2.5.3: nothing with a loopback address as its source leaves this host")
{
    Two t;
    Bytes got;
    send_from(t.client, ip("127.0.0.1"), at("10.0.0.2", 7), numbered(3));
    CHECK(t.client.take_error() == EINVAL);
    TestSocket inside(t.world, t.a, SlotKind::datagram);
    REQUIRE(inside.bind(at("127.0.0.1", 9)) == Error::none);
    inside.send(numbered(3), at("10.0.0.2", 7));
    CHECK(inside.take_error() == EINVAL);
    CHECK(inside.connect(at("10.0.0.2", 7)) == Error::invalid);
    CHECK(!t.server.receive(got));
    CHECK(t.a.link->sent.empty());
    TestSocket here(t.world, t.a, SlotKind::datagram);
    REQUIRE(here.bind(at("10.0.0.1", 9)) == Error::none);
    REQUIRE(inside.connect(at("10.0.0.1", 9)) == Error::none);
    inside.send(numbered(3));
    CHECK(here.receive(got));
}

TEST_CASE("IPV6_PKTINFO of the socket is for what names no source and no interface itself")
{
    if (!over_v6()) {
        return;
    }
    Two t;
    TestSocket here(t.world, t.a, SlotKind::datagram);
    REQUIRE(here.bind(at("127.0.0.1", 9)) == Error::none);
    in6_pktinfo info{};
    auto stick = [&](const base::IpAddr& source, unsigned interface) {
        std::memcpy(&info.ipi6_addr, source.bytes(), 16);
        info.ipi6_ifindex = interface;
        REQUIRE(t.client.set(IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info) == Error::none);
    };
    auto source_seen = [&] {
        Bytes got;
        base::Endpoint from;
        REQUIRE(here.receive(got, &from));
        return from.addr;
    };
    stick(ip("10.0.0.1"), 0);
    t.client.send(numbered(3), at("127.0.0.1", 9));
    CHECK(source_seen() == ip("10.0.0.1"));
    send_from(t.client, ip("127.0.0.1"), at("127.0.0.1", 9), numbered(3));
    CHECK(source_seen() == ip("127.0.0.1"));
    stick({}, 0);
    t.client.send(numbered(3), at("127.0.0.1", 9));
    CHECK(source_seen() == ip("127.0.0.1"));

    stick(ip("10.0.0.77"), 0);
    t.client.send(numbered(3), at("10.0.0.2", 7));
    CHECK(t.client.take_error() == EINVAL);
    stick({}, 99);
    t.client.send(numbered(3), at("10.0.0.2", 7));
    CHECK(t.client.take_error() == ENETUNREACH);
    sockbuf::DatagramHeader h = header_to(at("10.0.0.2", 7), 3);
    h.interface = static_cast<std::uint16_t>(t.a.eth->index);
    t.client.send_raw(h, numbered(3));
    t.client.look();
    Bytes got;
    CHECK(t.server.receive(got));
    CHECK(t.client.set(IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info - 1) == Error::invalid);
}

TEST_CASE("the class of one datagram goes before the socket's, zero too")
{
    Two t;
    REQUIRE(t.client.set(IPPROTO_IP, IP_TOS, 0x20) == Error::none);
    if (over_v6()) {
        REQUIRE(t.client.set(IPPROTO_IPV6, IPV6_TCLASS, 0x20) == Error::none);
    }
    t.client.send(numbered(1), at("10.0.0.2", 7));
    CHECK(class_of(t.a.link->sent.back()) == 0x20);
    for (std::uint8_t tos : {std::uint8_t{0x58}, std::uint8_t{0}}) {
        sockbuf::DatagramHeader h = header_to(at("10.0.0.2", 7), 1);
        h.flags = sockbuf::datagram_has_tos;
        h.tos = tos;
        t.client.send_raw(h, numbered(1));
        t.client.look();
        CHECK(class_of(t.a.link->sent.back()) == tos);
    }
}

TEST_CASE("an option is for what is sent after it: a datagram that was published before goes as it was meant")
{
    Two t;
    t.client.send_raw(header_to(at("10.0.0.2", 7), 1), numbered(1)); // published, its mark not looked at yet
    int tos = 0x20;
    REQUIRE(t.client.set(over_v6() ? IPPROTO_IPV6 : IPPROTO_IP, over_v6() ? IPV6_TCLASS : IP_TOS, tos) == Error::none);
    t.client.send_raw(header_to(at("10.0.0.2", 7), 1), numbered(1));
    t.client.look();
    Bytes got;
    REQUIRE(t.server.receive(got));
    CHECK(t.server.header.tos == 0);
    REQUIRE(t.server.receive(got));
    CHECK(t.server.header.tos == tos);
}

TEST_CASE("IP_RECVERR: the error queue says which datagram met what, and who said so; connected or not")
{
    Two t(2);
    want_errors(t.client);
    t.client.send(numbered(20), at("10.0.0.2", 99));
    t.world.advance(base::millis(10));
    CHECK(t.client.take_error() == ECONNREFUSED); // not connected: without the option nobody would be told
    sockbuf::DatagramError e;
    base::Endpoint to;
    Bytes quoted;
    REQUIRE(t.client.receive_error(e, to, quoted));
    CHECK(to == at("10.0.0.2", 99));
    CHECK(quoted == numbered(20));
    CHECK(e.error == ECONNREFUSED);
    CHECK(e.origin == (over_v6() ? SO_EE_ORIGIN_ICMP6 : SO_EE_ORIGIN_ICMP));
    CHECK(e.type == (over_v6() ? 1 : 3));
    CHECK(e.code == (over_v6() ? 4 : 3));
    CHECK(base::IpAddr::v6(e.offender) == ip("10.0.0.2"));
    CHECK(!t.client.receive_error(e, to, quoted));
    REQUIRE(t.client.close() == Error::none);
    CHECK(t.client.lanes_made == 0);
}

TEST_CASE("IP_RECVERR: an error queue that nobody reads is full some time, and datagrams go on")
{
    Two t;
    want_errors(t.client);
    for (int i = 0; i < 20; ++i) { // within the peer's limits of errors
        t.client.send(numbered(1000), at("10.0.0.2", 99));
        t.world.advance(base::seconds(1));
    }
    sockbuf::DatagramError e;
    base::Endpoint to;
    Bytes quoted;
    std::uint64_t held = 0;
    while (t.client.receive_error(e, to, quoted)) {
        ++held;
    }
    std::uint64_t lost = t.a.counted(&StackCounters::udp_errors_dropped);
    CHECK(held > 0);
    CHECK(held + lost == t.a.counted(&StackCounters::udp_errors_in));
    t.client.send(numbered(1), at("10.0.0.2", 7));
    Bytes got;
    CHECK(t.server.receive(got));
}

TEST_CASE("a datagram that may not be cut and is too long tells the error queue the path's MTU")
{
    Two t;
    want_errors(t.client);
    REQUIRE(t.client.set(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO) == Error::none);
    t.client.send(numbered(1600), at("10.0.0.2", 7));
    CHECK(t.client.take_error() == EMSGSIZE);
    sockbuf::DatagramError e;
    base::Endpoint to;
    Bytes quoted;
    REQUIRE(t.client.receive_error(e, to, quoted));
    CHECK(e.origin == SO_EE_ORIGIN_LOCAL);
    CHECK(e.info == 1500);
    CHECK(to == at("10.0.0.2", 7));
    CHECK(quoted.empty());
}

TEST_CASE("IP_PMTUDISC_PROBE, INTERFACE and OMIT: what the path is said to take bounds nothing")
{
    Two t;
    base::IpAddr peer = ip("10.0.0.2");
    std::uint32_t learned = over_v6() ? 1300 : 1000;
    t.a.on(0, [&](protocols::Domain& d) { REQUIRE(protocols::pmtu_learn(d, peer, learned) == learned); });
    auto sent_as = [&](int mode, std::size_t size) {
        REQUIRE(t.client.set(IPPROTO_IP, IP_MTU_DISCOVER, mode) == Error::none);
        t.a.link->sent.clear();
        t.client.send(numbered(size), at("10.0.0.2", 7));
        return t.client.take_error();
    };
    auto df = [&] { return over_v6() || (t.a.link->sent.back()[20] & 0x40) != 0; };
    Bytes got;
    t.client.send(numbered(1), at("10.0.0.2", 7)); // the neighbours meet
    REQUIRE(t.server.receive(got));
    CHECK(sent_as(IP_PMTUDISC_DO, 1400) == EMSGSIZE);
    for (int mode : {IP_PMTUDISC_PROBE, IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT}) {
        CHECK(sent_as(mode, 1400) == 0);
        REQUIRE(t.a.link->sent.size() == 1);
        CHECK((over_v6() || df() == (mode == IP_PMTUDISC_PROBE)));
        REQUIRE(t.server.receive(got));
        CHECK(got == numbered(1400));
    }
    CHECK(sent_as(IP_PMTUDISC_PROBE, 1600) == EMSGSIZE);
    CHECK(sent_as(IP_PMTUDISC_INTERFACE, 1600) == EMSGSIZE);
    CHECK(sent_as(IP_PMTUDISC_OMIT, 1600) == 0);
    CHECK(t.a.link->sent.size() == 2);
}

namespace {

// What a router says of the client's datagram.
protocols::IcmpError too_long(const Two& t)
{
    protocols::IcmpError e;
    e.flow = {{ip("10.0.0.1"), t.client.so.flow.local.port}, at("10.0.0.2", 7)};
    e.protocol = protocols::wire::protocol_udp;
    e.type = protocols::wire::icmp_unreachable;
    e.code = protocols::wire::unreachable_needfrag;
    return e;
}

} // namespace

TEST_CASE("an ICMP error that names no less than the link takes teaches nothing of the path")
{
    Two t;
    protocols::IcmpError e = too_long(t);
    auto learned = [&](std::uint32_t mtu) {
        e.mtu = mtu;
        std::uint32_t known = t.a.domain().route_generation;
        std::uint64_t before = t.a.counted(&protocols::StackCounters::pmtu_learned);
        t.a.on(0, [&](protocols::Domain& d) { protocols::udp_icmp_error(d, e); });
        bool anew = t.a.domain().route_generation != known;
        bool counted = t.a.counted(&protocols::StackCounters::pmtu_learned) != before;
        CHECK(anew == counted);
        return anew;
    };
    CHECK_FALSE(learned(65535));
    CHECK_FALSE(learned(1500));
    CHECK(learned(1499));
    CHECK_FALSE(learned(1499));
    CHECK(learned(0));
}

TEST_CASE("IP_PMTUDISC_INTERFACE, OMIT: an ICMP error about the socket's datagram teaches nobody a path's MTU")
{
    Two t;
    protocols::IcmpError e = too_long(t);
    e.mtu = 1300;
    std::uint32_t mtu = 0;
    for (int mode : {IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT, IP_PMTUDISC_PROBE}) {
        REQUIRE(t.client.set(IPPROTO_IP, IP_MTU_DISCOVER, mode) == Error::none);
        t.a.on(0, [&](protocols::Domain& d) {
            protocols::udp_icmp_error(d, e);
            mtu = protocols::pmtu_lookup(d, e.flow.peer.addr, 1500);
        });
        CHECK(mtu == (mode == IP_PMTUDISC_PROBE ? 1300 : 1500));
    }
}

TEST_CASE("IP_RECVERR: that a neighbour does not answer this host says itself, with what was sent")
{
    Two t;
    want_errors(t.client);
    t.client.send(numbered(20), at("10.0.0.77", 99));
    t.world.advance(base::seconds(4));
    CHECK(t.client.take_error() == EHOSTUNREACH);
    sockbuf::DatagramError e;
    base::Endpoint to;
    Bytes quoted;
    REQUIRE(t.client.receive_error(e, to, quoted));
    CHECK(to == at("10.0.0.77", 99));
    CHECK(quoted == numbered(20));
    CHECK(e.error == EHOSTUNREACH);
    CHECK(e.origin == (over_v6() ? SO_EE_ORIGIN_ICMP6 : SO_EE_ORIGIN_ICMP));
    CHECK(e.type == (over_v6() ? 1 : 3));
    CHECK(e.code == (over_v6() ? 3 : 1));
    CHECK(base::IpAddr::v6(e.offender) == ip("10.0.0.1"));
    CHECK(t.a.packets_in_use() == 0);
}
