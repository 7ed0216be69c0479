// ARP, IPv4, reassembly and ICMP of one host against hand-made frames, and of two hosts against each other, in virtual
// time.
#include "protocols/icmp.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/neighbor.hpp"
#include "protocols/reassembly.hpp"
#include "tests/protocols/frames.hpp"
#include "tests/protocols/host.hpp"

using namespace test;
using base::Error;
using protocols::StackCounters;
using sockbuf::SlotKind;

namespace {

// One host, 10.0.0.1, which knows 10.0.0.2; frames go in and out by hand.
struct Alone {
    explicit Alone(unsigned cpus = 1) : h(world.add(slot, {.cpus = cpus}))
    {
        h.link->inject(
            arp_frame(base::MacAddr::broadcast(), {wire::arp_request, mac(2), 0x0a000002, {}, 0x0a000001}), 0);
        world.settle();
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

std::uint8_t icmp_type(const Bytes& frame)
{
    return frame.at(14 + 20);
}

} // namespace

TEST_CASE("ARP: a request for us is answered, one for another is not, malformed ones are counted")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {});
    wire::Arp request{wire::arp_request, mac(2), 0x0a000002, {}, 0x0a000001};
    h.link->inject(arp_frame(base::MacAddr::broadcast(), request), 0);
    request.target_v4 = 0x0a000009;
    h.link->inject(arp_frame(base::MacAddr::broadcast(), request), 0);
    Bytes broken = arp_frame(base::MacAddr::broadcast(), request);
    broken[14 + 4] = 8;
    h.link->inject(broken, 0);
    wire::Arp stranger{wire::arp_request, mac(7), 0xc0000201, {}, 0x0a000001}; // 192.0.2.1 is not on this link
    h.link->inject(arp_frame(base::MacAddr::broadcast(), stranger), 0);
    wire::Arp thief{wire::arp_reply, mac(7), 0x0a000001, mac(7), 0x0a000001};
    h.link->inject(arp_frame(base::MacAddr::broadcast(), thief), 0);
    world.settle();
    for (std::uint32_t nobody : {0x0a0000ffU, 0xe0000001U, 0x7f000001U}) { // no host has such an address
        stranger.sender_v4 = nobody;
        h.link->inject(arp_frame(base::MacAddr::broadcast(), stranger), 0);
    }
    world.settle();
    REQUIRE(h.link->sent.size() == 2);
    auto reply = wire::parse_arp(h.link->sent[0].data() + 14, 28);
    REQUIRE(reply.has_value());
    CHECK((reply->operation == wire::arp_reply && reply->sender_mac == mac(1) && reply->target_v4 == 0x0a000002));
    reply = wire::parse_arp(h.link->sent[1].data() + 14, 28); // answered, and not learned of
    REQUIRE(reply.has_value());
    CHECK((reply->operation == wire::arp_reply && reply->target_mac == mac(7) && reply->target_v4 == 0xc0000201));
    CHECK(h.counted(&StackCounters::arp_malformed) == 1);
    CHECK(h.counted(&StackCounters::arp_off_link) == 4);
    CHECK(h.counted(&StackCounters::arp_conflicts) == 1);
    CHECK(h.counted(&StackCounters::neighbor_learned) == 1);
}

TEST_CASE("ARP: unanswered, three requests a second apart, packets wait, then they fail")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {});
    TestSocket s(world, h, SlotKind::datagram);
    REQUIRE(s.connect(at("10.0.0.2", 7)) == Error::none);
    for (int i = 0; i < 140; ++i) {
        s.send(Bytes(10));
    }
    CHECK(h.link->sent.size() == 1);
    CHECK(h.counted(&StackCounters::neighbor_queue_dropped) == 12);
    CHECK(h.packets_in_use() == 128);
    world.advance(base::millis(1900));
    CHECK(h.link->sent.size() == 2);
    world.advance(base::millis(1200));
    CHECK(h.counted(&StackCounters::arp_out_requests) == 3);
    CHECK(h.counted(&StackCounters::neighbor_failed) == 1);
    CHECK(h.counted(&StackCounters::udp_errors_in) == 128);
    CHECK(h.packets_in_use() == 0);
    CHECK(h.link->sent.size() == 3);
}

TEST_CASE("what waits for one neighbour is bounded in octets, what waits for all of them in packets")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.mtu = 9000});
    TestSocket s(world, h, SlotKind::datagram);
    REQUIRE(s.bind(at("10.0.0.1", 6)) == Error::none);
    for (int i = 0; i < 4; ++i) {
        s.send(Bytes(65000), at("10.0.0.2", 7)); // 8 fragments
    }
    CHECK(h.packets_in_use() == 26); // three datagrams, and what remains of the first
    CHECK(h.counted(&StackCounters::neighbor_queue_dropped) == 6);
    for (unsigned i = 0; i < 20; ++i) {
        base::Endpoint to{test::ip(("10.0.0." + std::to_string(10 + i)).c_str()), 7};
        for (int n = 0; n < 140; ++n) {
            s.send(Bytes(10), to);
        }
    }
    CHECK(h.packets_in_use() > protocols::neighbors_waiting_max);
    CHECK(h.packets_in_use() <= protocols::neighbors_waiting_max + 21 * protocols::neighbor_queue_least);
    world.advance(base::seconds(10));
    CHECK(h.packets_in_use() == 0);
}

TEST_CASE("ARP: what one CPU learns all use, and a silent neighbour is asked again by unicast and dropped")
{
    Alone t(3);
    TestSocket s(t.world, t.h, SlotKind::datagram, 2);
    REQUIRE(s.connect(at("10.0.0.2", 7)) == Error::none);
    s.send(Bytes(10));
    REQUIRE(t.h.link->sent.size() == 1); // the datagram, without a request
    CHECK(t.h.counted(&StackCounters::neighbor_updates_in) == 2);
    t.h.link->sent.clear();
    t.world.advance(base::seconds(60)); // stale
    s.send(Bytes(10));
    REQUIRE(t.h.link->sent.size() == 2); // a probe, and the datagram to the old address
    CHECK(std::equal(t.h.link->sent[0].begin(), t.h.link->sent[0].begin() + 6, mac(2).bytes.begin()));
    t.world.advance(base::seconds(5));
    CHECK(t.h.counted(&StackCounters::neighbor_failed) == 1);
}

TEST_CASE("ARP: who was asked though no route leads there is believed, at any CPU")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 3});
    TestSocket s(world, h, SlotKind::datagram, 0, 18, AF_INET);
    REQUIRE(s.bind({base::IpAddr::v4(0x0a000001), 7}) == Error::none);
    sockbuf::DatagramHeader to{};
    to.size = 10;
    to.port = 7;
    to.interface = 1; // IP_PKTINFO: on this link, whatever routes say
    std::memcpy(to.addr, base::IpAddr::v4(0xc0000201).bytes(), 16);
    s.send_raw(to, Bytes(10));
    s.look();
    REQUIRE(h.link->sent.size() == 1);
    h.link->inject(arp_frame(mac(1), {wire::arp_reply, mac(7), 0xc0000201, mac(1), 0x0a000001}), 2);
    world.settle();
    REQUIRE(h.link->sent.size() == 2);
    CHECK(std::equal(h.link->sent[1].begin(), h.link->sent[1].begin() + 6, mac(7).bytes.begin()));
}

TEST_CASE("ARP: a table full of resolutions refuses, and known neighbours stay")
{
    Alone t;
    t.h.on(0, [&](protocols::Domain& d) {
        for (std::uint32_t i = 0; i < 1000; ++i) {
            netmsg::Packet* p = d.stack.pool().allocate();
            p->put(40);
            protocols::neighbor_resolve(d, *t.h.eth, base::IpAddr::v4(0x0a010000 + i), *p);
        }
        CHECK(protocols::neighbor_lookup(d, *t.h.eth, base::IpAddr::v4(0x0a000002)) != nullptr);
    });
    CHECK(t.h.counted(&StackCounters::neighbor_table_full) == 1000 - protocols::neighbors_resolving_max);
    CHECK(t.h.counted(&StackCounters::neighbor_rate_limited) > 0);
    t.world.advance(base::seconds(30));
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("echo is answered with its data, large ones in fragments, broadcast ones never")
{
    Alone t;
    Bytes data(56, 0xab);
    t.in(ip_frame({.protocol = wire::protocol_icmp}, icmp_message(wire::icmp_echo, 0, 0x12340001, data)));
    REQUIRE(t.h.link->sent.size() == 1);
    const Bytes& reply = t.h.link->sent[0];
    CHECK(icmp_type(reply) == wire::icmp_echo_reply);
    CHECK(slice(reply, 14 + 20 + 4, 60) == slice(icmp_message(8, 0, 0x12340001, data), 4, 60));
    CHECK(wire::checksum(reply.data() + 34, reply.size() - 34) == 0);
    Bytes broken = ip_frame({.protocol = wire::protocol_icmp}, icmp_message(wire::icmp_echo, 0, 1, data));
    broken.back() ^= 1;
    t.in(broken);
    IpFields everybody{.destination = 0x0a0000ff, .protocol = wire::protocol_icmp, .to = base::MacAddr::broadcast()};
    t.in(ip_frame(everybody, icmp_message(wire::icmp_echo, 0, 1, data)));
    CHECK(t.h.link->sent.size() == 1);
    CHECK(t.h.counted(&StackCounters::icmp_in_bad_checksum) == 1);
    CHECK(t.h.counted(&StackCounters::icmp_in_broadcast) == 1);
    Bytes large = icmp_message(wire::icmp_echo, 0, 1, Bytes(5000, 0x5a));
    for (std::size_t at = 0; at < large.size(); at += 1480) {
        std::size_t n = std::min<std::size_t>(1480, large.size() - at);
        t.in(ip_frame({.protocol = 1, .offset = static_cast<std::uint16_t>(at), .more = at + n < large.size()},
            slice(large, at, n)));
    }
    CHECK(t.h.link->sent.size() == 1 + 4);
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("what is not for us, or cannot be, is dropped under its own name")
{
    Alone t;
    Bytes payload = udp_datagram({}, 5, 6, Bytes(4));
    auto dropped = [&](IpFields f, std::atomic<std::uint64_t> StackCounters::*reason) {
        std::uint64_t before = t.h.counted(reason);
        t.in(ip_frame(f, payload));
        CHECK(t.h.counted(reason) == before + 1);
    };
    dropped({.destination = 0x0a000009}, &StackCounters::ip_in_not_ours);
    dropped({.to = mac(9)}, &StackCounters::eth_not_ours);
    dropped({.to = base::MacAddr::broadcast()}, &StackCounters::ip_in_link_mismatch);
    for (std::uint32_t source : {0x00000000U, 0x7f000001U, 0xe0000001U, 0xffffffffU, 0x0a000001U}) {
        dropped({.source = source}, &StackCounters::ip_in_martian);
    }
    dropped({.destination = 0x7f000001}, &StackCounters::ip_in_martian);
    dropped({.source = 0, .destination = 0x0a0000ff, .to = base::MacAddr::broadcast()}, &StackCounters::ip_in_martian);
    IpFields begins{.source = 0, .destination = 0xffffffff, .to = base::MacAddr::broadcast()}; // a host without address
    t.in(ip_frame(begins, udp_datagram(begins, 5, 6, Bytes(4))));
    CHECK(t.h.counted(&StackCounters::udp_in_no_port) == 1);
    Bytes routed = ip_frame({}, payload);
    routed[14] = 0x46; // four of the payload's bytes become options: a source route
    routed[14 + 20] = 131;
    routed[14 + 21] = 4;
    base::store_be16(&routed[14 + 10], 0);
    base::store_be16(&routed[14 + 10], wire::checksum(&routed[14], 24));
    t.in(routed);
    CHECK(t.h.counted(&StackCounters::ip_in_source_route) == 1);
    CHECK(t.h.link->sent.empty());
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("Ethernet padding is trimmed, and a checksum of zero is no checksum")
{
    Alone t;
    TestSocket s(t.world, t.h, SlotKind::datagram);
    REQUIRE(s.bind(at("10.0.0.1", 6)) == Error::none);
    Bytes datagram = udp_datagram({}, 5, 6, Bytes(3, 9));
    Bytes frame = ip_frame({}, datagram);
    frame.resize(60, 0xee);
    t.in(frame);
    Bytes got;
    REQUIRE(s.receive(got));
    CHECK(got == Bytes(3, 9));
    datagram[6] = datagram[7] = 0;
    t.in(ip_frame({}, datagram));
    CHECK(s.receive(got));
    datagram[7] = 1;
    t.in(ip_frame({}, datagram));
    CHECK(!s.receive(got));
    CHECK(t.h.counted(&StackCounters::udp_in_bad_checksum) == 1);
}

TEST_CASE("ICMP errors: sent for closed ports and unknown protocols, limited, never about errors or broadcasts")
{
    Alone t;
    t.in(ip_frame({.protocol = 99}, Bytes(40, 1)));
    t.in(ip_frame({}, udp_datagram({}, 5, 6, Bytes(40, 7))));
    REQUIRE(t.h.link->sent.size() == 2);
    CHECK((icmp_type(t.h.link->sent[0]) == 3 && t.h.link->sent[0].at(35) == wire::unreachable_protocol));
    const Bytes& error = t.h.link->sent[1];
    CHECK((icmp_type(error) == 3 && error.at(35) == wire::unreachable_port));
    CHECK(slice(error, 42, 68) == slice(ip_frame({}, udp_datagram({}, 5, 6, Bytes(40, 7))), 14, 68)); // the quote
    CHECK(wire::checksum(error.data() + 34, error.size() - 34) == 0);
    IpFields everybody{.destination = 0x0a0000ff, .to = base::MacAddr::broadcast()};
    t.in(ip_frame(everybody, udp_datagram(everybody, 5, 6, Bytes(4))));
    CHECK(t.h.link->sent.size() == 2);
    for (int i = 0; i < 30; ++i) {
        t.in(ip_frame({}, udp_datagram({}, 5, 6, Bytes(4))));
    }
    CHECK(t.h.link->sent.size() == 6); // a burst of six per peer
    CHECK(t.h.counted(&StackCounters::icmp_out_limited) == 26);
    t.world.advance(base::seconds(2));
    t.in(ip_frame({}, udp_datagram({}, 5, 6, Bytes(4))));
    CHECK(t.h.link->sent.size() == 7);
}

TEST_CASE("ICMP errors in: only about what we could have sent, on the CPU of the flow, at any CPU of arrival")
{
    Alone t(4);
    TestSocket s(t.world, t.h, SlotKind::datagram, 3);
    REQUIRE(s.connect(at("10.0.0.2", 7)) == Error::none);
    IpFields ours{.source = 0x0a000001, .destination = 0x0a000002};
    Bytes quoted = slice(ip_frame(ours, udp_datagram(ours, s.so.flow.local.port, 7, Bytes(20))), 14, 28);
    for (base::CpuId cpu = 0; cpu < 4; ++cpu) {
        t.in(ip_frame({.protocol = 1}, icmp_message(3, 3, 0, quoted)), cpu);
        CHECK(s.take_error() == ECONNREFUSED);
    }
    t.in(ip_frame({.protocol = 1}, icmp_message(3, 1, 0, quoted))); // host unreachable passes
    CHECK(s.take_error() == 0);
    t.in(ip_frame({.protocol = 1}, icmp_message(3, 3, 0, slice(quoted, 0, 24))));
    Bytes foreign = quoted;
    foreign[15] = 77;
    t.in(ip_frame({.protocol = 1}, icmp_message(3, 3, 0, foreign)));
    CHECK(t.h.counted(&StackCounters::icmp_in_bad_quote) == 2);
    CHECK(s.take_error() == 0);
    t.in(ip_frame({.protocol = 1}, icmp_message(3, wire::unreachable_needfrag, 1000, quoted)));
    CHECK(s.get(IPPROTO_IP, IP_MTU) == 1000);
    t.world.advance(base::seconds(601));
    CHECK(s.get(IPPROTO_IP, IP_MTU) == 1500);
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 1122 3.2.2.5: a parameter problem is told to a connected datagram socket")
{
    Alone t;
    TestSocket s(t.world, t.h, SlotKind::datagram);
    REQUIRE(s.connect(at("10.0.0.2", 7)) == Error::none);
    IpFields ours{.source = 0x0a000001, .destination = 0x0a000002};
    Bytes quoted = slice(ip_frame(ours, udp_datagram(ours, s.so.flow.local.port, 7, Bytes(20))), 14, 28);
    t.in(ip_frame({.protocol = 1}, icmp_message(wire::icmp_parameter_problem, 0, 0, quoted)));
    CHECK(s.take_error() == EPROTO);
}

namespace {

struct Fragments {
    Fragments() : s(t.world, t.h, SlotKind::datagram) { REQUIRE(s.bind(at("10.0.0.1", 6)) == Error::none); }
    void fragment(std::size_t at, std::size_t size, bool more, std::uint16_t id = 77)
    {
        t.in(ip_frame({.id = id, .offset = static_cast<std::uint16_t>(at), .more = more}, slice(datagram, at, size)));
    }
    bool received()
    {
        Bytes got;
        return s.receive(got) && got == Bytes(92, 4);
    }
    Alone t;
    TestSocket s;
    Bytes datagram = udp_datagram({}, 5, 6, Bytes(92, 4)); // 100 bytes
};

} // namespace

TEST_CASE("fragments come in any order, with duplicates, and make one datagram")
{
    Fragments f;
    f.fragment(64, 36, false);
    f.fragment(0, 32, true);
    f.fragment(0, 32, true);
    f.fragment(32, 32, true);
    CHECK(f.received());
    CHECK(f.t.h.counted(&StackCounters::frag_duplicate) == 1);
    CHECK(f.t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 1122 3.3.1.1: what is on the link goes there, the rest to the gateway")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.gateway = "10.0.0.254"});
    TestSocket s(world, h, SlotKind::datagram);
    REQUIRE(s.bind(at("10.0.0.1", 6)) == Error::none);
    s.send(Bytes(3), at("10.0.0.9", 7));
    s.send(Bytes(3), at("192.0.2.9", 7));
    std::vector<std::uint32_t> asked;
    for (const Bytes& f : h.link->sent) {
        if (auto a = wire::parse_arp(f.data() + 14, 28); a && a->operation == wire::arp_request) {
            asked.push_back(a->target_v4);
        }
    }
    CHECK(asked == std::vector<std::uint32_t>{0x0a000009, 0x0a0000fe});
}

TEST_CASE(
    "RFC 1122 3.3.6, RFC 1112 6.2: a broadcast or a group's datagram is one on the link, whatever the default route")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.gateway = "10.0.0.254"});
    TestSocket s(world, h, SlotKind::datagram, 0, 18, AF_INET);
    REQUIRE(s.bind({base::IpAddr::any_v4(), 6}) == Error::none);
    REQUIRE(s.set(SOL_SOCKET, SO_BROADCAST, 1) == Error::none);
    h.link->sent.clear();
    s.send(Bytes(3), {base::IpAddr::v4(0xffffffff), 7});
    s.send(Bytes(3), {base::IpAddr::v4(0xef010203), 7});
    REQUIRE(h.link->sent.size() == 2);
    CHECK(h.link->sent[0][0] == 0xff);
    CHECK(h.link->sent[1][0] == 0x01); // 01:00:5e
    CHECK(base::load_be32(&h.link->sent[0][26]) == 0x0a000001);
}

TEST_CASE("what would be cut into segments that are longer than the path is dropped under its own name")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.address6 = "fd00::1", .tso_max_bytes = 65535});
    bool v6 = GENERATE(false, true);
    auto send = [&](std::uint32_t segment) {
        Error error = Error::none;
        h.on(0, [&](protocols::Domain& d) {
            protocols::IpOut out;
            out.source = base::parse_ip(v6 ? "fd00::1" : "10.0.0.1").value();
            out.destination = base::parse_ip(v6 ? "fd00::2" : "10.0.0.2").value();
            out.protocol = wire::protocol_tcp;
            protocols::Route route;
            REQUIRE(protocols::route_lookup(d, out.destination, route));
            netmsg::Packet* p = d.stack.pool().allocate();
            std::memset(p->put(32 + 1000), 0, 32 + 1000);
            p->data[12] = std::byte{0x80}; // a TCP header of 32 bytes
            p->csum = netmsg::Csum::partial;
            p->csum_offset = 16;
            p->gso = v6 ? netmsg::Gso::tcp6 : netmsg::Gso::tcp4;
            p->gso_size = static_cast<std::uint16_t>(segment);
            error = protocols::ip_output(d, route, out, *p);
        });
        return error;
    };
    std::uint32_t most = 1500 - (v6 ? 40 : 20) - 32;
    CHECK(send(most) == Error::none);
    CHECK(send(most + 1) == Error::message_size);
    CHECK(h.counted(&StackCounters::ip_out_segment_too_long) == 1);
}

TEST_CASE("RFC 3168 5.3: a mark on any fragment marks the datagram, where the sender knows of marks")
{
    struct Marks {
        std::uint8_t first, second, last;
        int whole; // -1: contradictory (as Linux), and no datagram
    };
    auto c = GENERATE(Marks{2, 3, 2, 3}, Marks{3, 1, 1, 3}, Marks{2, 1, 3, 3}, Marks{3, 3, 3, 3}, Marks{0, 0, 0, 0},
        Marks{0, 2, 2, 0}, Marks{2, 0, 2, 2}, Marks{0, 3, 0, -1}, Marks{3, 3, 0, -1}, Marks{0, 2, 3, -1},
        Marks{3, 0, 1, -1});
    Fragments f;
    auto in = [&](std::uint16_t at, std::size_t size, bool more, std::uint8_t tos) {
        f.t.in(ip_frame({.offset = at, .more = more, .tos = tos}, slice(f.datagram, at, size)));
    };
    in(0, 32, true, c.first);
    in(32, 32, true, c.second);
    in(64, 36, false, c.last);
    CHECK(f.received() == (c.whole >= 0));
    CHECK(f.t.h.counted(&StackCounters::frag_marks) == (c.whole >= 0 ? 0 : 1));
    CHECK(f.t.h.packets_in_use() == 0);
    CHECK((c.whole < 0 || f.s.header.tos == c.whole));
}

TEST_CASE("RFC 5722: fragments that overlap condemn their datagram, late ones included")
{
    Fragments f;
    struct Hostile {
        std::size_t at, size;
        bool more;
    };
    auto h = GENERATE(Hostile{24, 16, true}, Hostile{0, 40, true}, Hostile{16, 8, true}, Hostile{8, 16, false});
    f.fragment(0, 32, true);
    f.fragment(h.at, h.size, h.more);
    f.fragment(32, 32, true);
    f.fragment(64, 36, false);
    CHECK(!f.received());
    CHECK(f.t.h.counted(&StackCounters::frag_overlap) == 1);
    CHECK(f.t.h.packets_in_use() == 0);
    f.t.world.advance(base::seconds(31)); // forgotten: the id may be used again
    f.fragment(0, 64, true);
    f.fragment(64, 36, false);
    CHECK(f.received());
}

TEST_CASE("a fragment beyond the end, a second end, a tiny first one: all refused")
{
    Fragments f;
    f.fragment(40, 60, false, 1);
    f.fragment(80, 20, false, 1); // inside: an overlap
    f.fragment(64, 36, true, 2);  // not a multiple of eight
    f.fragment(0, 0, true, 3);
    CHECK(f.t.h.counted(&StackCounters::frag_overlap) == 1);
    CHECK(f.t.h.counted(&StackCounters::frag_malformed) == 2);
    f.t.in(ip_frame({.protocol = wire::protocol_tcp, .id = 4, .more = true}, Bytes(16)));
    f.t.in(ip_frame({.protocol = wire::protocol_tcp, .id = 5, .offset = 8, .more = true}, Bytes(16)));
    CHECK(f.t.h.counted(&StackCounters::frag_tiny) == 2);
    f.t.in(ip_frame({.offset = 65528, .more = false}, Bytes(64)));
    CHECK(f.t.h.counted(&StackCounters::ip_in_bad_fragment) == 1);
    CHECK(!f.received());
}

TEST_CASE("reassembly ends after thirty seconds, not before, and tells the sender of the first fragment")
{
    Fragments f;
    f.fragment(0, 32, true, 1);
    f.fragment(32, 32, true, 2); // without a first
    f.t.world.advance(base::millis(29900));
    CHECK(f.t.h.packets_in_use() == 2);
    f.t.world.advance(base::millis(200));
    CHECK(f.t.h.packets_in_use() == 0);
    CHECK(f.t.h.counted(&StackCounters::frag_timeout) == 2);
    auto exceeded = std::count_if(f.t.h.link->sent.begin(), f.t.h.link->sent.end(),
        [](const Bytes& sent) { return sent.size() > 42 && icmp_type(sent) == wire::icmp_time_exceeded; });
    CHECK(exceeded == 1);
}

TEST_CASE("a flood of fragments stays within the limits and leaves nothing behind")
{
    Fragments f;
    for (std::uint16_t id = 1; id <= 500; ++id) {
        f.fragment(0, 32, true, id);
        CHECK(f.t.h.packets_in_use() <= protocols::reassembly_datagrams_max);
    }
    CHECK(f.t.h.counted(&StackCounters::frag_limit) == 500 - protocols::reassembly_datagrams_max);
    f.t.world.advance(base::seconds(40));
    CHECK(f.t.h.packets_in_use() == 0);
}

TEST_CASE("datagrams for a CPU that cannot keep up leave room for its connections")
{
    Alone a(2);
    Host& h = a.h;
    auto frame_for = [&](std::uint8_t protocol, base::CpuId owner, std::uint8_t flags) {
        for (std::uint16_t port = 1024;; ++port) {
            base::FourTuple flow{at("10.0.0.1", 9), at("10.0.0.2", port)};
            if (h.stack.steering().cpu_of(flow) == owner) {
                Bytes b(20, 0);
                base::store_be16(b.data(), port);
                base::store_be16(b.data() + 2, 9);
                base::store_be16(b.data() + 4, 20); // of UDP: the length
                b[12] = 5 << 4;
                b[13] = flags;
                return ip_frame({.protocol = protocol}, b);
            }
        }
    };
    // CPU 0 receives and forwards, CPU 1 does not run.
    auto forwarded = [&](const Bytes& frame, int count) {
        std::uint64_t before = h.counted(&protocols::StackCounters::steer_forwarded);
        for (int i = 0; i < count; ++i) {
            h.link->inject(frame, 0);
        }
        while (h.set.step_one(0)) {
        }
        return h.counted(&protocols::StackCounters::steer_forwarded) - before;
    };
    std::uint64_t most = lwkt::CpuSetOptions{}.packets_queued_max;
    CHECK(forwarded(frame_for(wire::protocol_udp, 1, 0), 5000) == most / 2);
    CHECK(forwarded(frame_for(wire::protocol_udp, 1, 0), 10) == 0);
    CHECK(forwarded(frame_for(wire::protocol_tcp, 1, 0x02), 5000) == most / 4); // SYN
    CHECK(forwarded(frame_for(wire::protocol_tcp, 1, 0x10), 10) == 10);
    a.world.settle();
    CHECK(h.packets_in_use() == 0);
}

TEST_CASE("random fragments never crash, never deliver a changed datagram, and never leak")
{
    Fragments f;
    base::Random random(9);
    for (int i = 0; i < 3000; ++i) {
        std::size_t at = random.below(12) * 8;
        std::size_t size = std::min<std::size_t>(random.below(5) * 8, 100 - at);
        bool last = at + size == 100;
        f.fragment(at, size, random.below(20) == 0 ? last : !last, static_cast<std::uint16_t>(random.below(8)));
        Bytes got;
        while (f.s.receive(got)) {
            REQUIRE(got == Bytes(92, 4));
        }
        if (i % 100 == 0) {
            f.t.world.advance(base::seconds(31));
        }
    }
    f.t.world.advance(base::seconds(40));
    CHECK(f.t.h.packets_in_use() == 0);
}

TEST_CASE("random frames on random CPUs: nothing leaks and the host still answers")
{
    Alone t(3);
    base::Random random(4);
    std::vector<Bytes> seeds = {ip_frame({}, udp_datagram({}, 1, 2, Bytes(30))),
        ip_frame({.protocol = 1}, icmp_message(8, 0, 1, Bytes(20))), ip_frame({.protocol = 6}, Bytes(40, 3)),
        ip_frame({.more = true}, Bytes(64)), arp_frame(mac(1), {2, mac(2), 0x0a000002, mac(1), 0x0a000001}),
        ip_frame({.protocol = 1}, icmp_message(3, 3, 0, slice(ip_frame({}, Bytes(30)), 14, 40)))};
    for (int i = 0; i < 5000; ++i) {
        Bytes b = seeds[random.below(6)];
        for (std::uint32_t n = random.below(4); n != 0; --n) {
            b[random.below(static_cast<std::uint32_t>(b.size()))] = static_cast<unsigned char>(random.next());
        }
        if (b[14] >> 4 == 4) { // a checksum that gets past the first gate
            base::store_be16(&b[24], 0);
            std::size_t header = std::min<std::size_t>((b[14] & 0xf) * 4U, b.size() - 14);
            base::store_be16(&b[24], wire::checksum(&b[14], header));
        }
        t.in(b, static_cast<base::CpuId>(random.below(3)));
    }
    t.world.advance(base::seconds(60));
    CHECK(t.h.packets_in_use() == 0);
    t.h.link->sent.clear();
    t.in(ip_frame({.protocol = 1}, icmp_message(8, 0, 1, Bytes(20))));
    CHECK(!t.h.link->sent.empty());
}
