// IPv4 addresses and routes that come and go while the stack runs, and gateways that die and come back (RFC 1122
// 3.3.1.2, 3.3.1.4; RFC 4861 6.3.6): one host against hand-made frames in virtual time.
#include "protocols/dead_gateways.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/neighbor.hpp"
#include "tests/protocols/frames6.hpp"
#include "tests/protocols/host.hpp"

using namespace test;
using base::Error;
using protocols::Ipv4Change;
using protocols::StackCounters;
using sockbuf::SlotKind;
using Kind = protocols::Ipv4Change::Kind;

namespace {

struct Link {
    explicit Link(const HostOptions& o = {.cpus = 3}) : h(world.add(slot, o)) {}

    void change(const Ipv4Change& c, base::CpuId cpu = 0)
    {
        h.on(cpu, [&](protocols::Domain& d) { REQUIRE(protocols::ipv4_change(d, c)); });
        world.settle();
    }
    void in(const Bytes& frame, base::CpuId cpu = 0)
    {
        h.link->inject(frame, cpu);
        world.settle();
    }
    // How many CPUs say yes.
    unsigned cpus_that(const std::function<bool(protocols::Domain&)>& f)
    {
        unsigned n = 0;
        for (base::CpuId cpu = 0; cpu < h.stack.cpus(); ++cpu) {
            h.on(cpu, [&](protocols::Domain& d) { n += f(d) ? 1 : 0; });
        }
        return n;
    }
    std::size_t arp_replies()
    {
        std::size_t n = 0;
        for (const Bytes& f : h.link->sent) {
            auto a = f.size() >= 42 ? wire::parse_arp(f.data() + 14, 28) : std::nullopt;
            n += a && f[12] == 8 && f[13] == 6 && a->operation == wire::arp_reply ? 1 : 0;
        }
        return n;
    }
    World world;
    std::unique_ptr<Host> slot;
    Host& h;
};

Ipv4Change address(const Link& t, Kind kind, std::uint32_t addr, std::uint8_t length)
{
    return {kind, protocols::ipv4_address(*t.h.eth, addr, length), {}};
}

constexpr std::uint32_t second = 0x0a010005; // 10.1.0.5

bool routed_from(protocols::Domain& d, std::uint32_t to, std::uint32_t source)
{
    protocols::Route r;
    return protocols::route_lookup(d, base::IpAddr::v4(to), r) && r.source == base::IpAddr::v4(source);
}

} // namespace

TEST_CASE("an address that comes while the stack runs is known on every CPU: host, network, broadcast, ARP; and goes")
{
    Link t;
    auto is_there = [](protocols::Domain& d) {
        return protocols::ipv4_is_local(d, second) && protocols::ipv4_is_broadcast(d, 0x0a01ffff) &&
               routed_from(d, 0x0a010203, second);
    };
    auto is_gone = [](protocols::Domain& d) {
        protocols::Route r;
        return !protocols::ipv4_is_local(d, second) && !protocols::ipv4_is_broadcast(d, 0x0a01ffff) &&
               !protocols::route_lookup(d, base::IpAddr::v4(0x0a010203), r);
    };
    CHECK(t.cpus_that(is_gone) == 3);
    t.change(address(t, Kind::set_address, second, 16), 1);
    CHECK(t.cpus_that(is_there) == 3);
    t.change(address(t, Kind::set_address, second, 16), 1); // said again
    CHECK(t.h.domain(2).ipv4->routes.size() == 2);
    Bytes who_has = arp_frame(base::MacAddr::broadcast(), {wire::arp_request, mac(2), 0x0a010009, {}, second});
    t.in(who_has, 2);
    CHECK(t.arp_replies() == 1);
    CHECK(t.cpus_that([](protocols::Domain& d) { return routed_from(d, 0x0a000002, 0x0a000001); }) == 3);
    t.change(address(t, Kind::remove_address, second, 16));
    CHECK(t.cpus_that(is_gone) == 3);
    t.in(who_has, 2);
    CHECK(t.arp_replies() == 1);
}

TEST_CASE("a network stays while another address is in it; another prefix length is another network")
{
    Link t;
    t.change(address(t, Kind::set_address, second, 16));
    t.change(address(t, Kind::set_address, second + 1, 16));
    t.change(address(t, Kind::remove_address, second, 16));
    CHECK(t.cpus_that([](protocols::Domain& d) { return routed_from(d, 0x0a010203, second + 1); }) == 3);
    t.change(address(t, Kind::set_address, second + 1, 24));
    CHECK(t.cpus_that([](protocols::Domain& d) { return routed_from(d, 0x0a010003, second + 1); }) == 3);
    CHECK(t.cpus_that([](protocols::Domain& d) { return routed_from(d, 0x0a010203, second + 1); }) == 0);
}

TEST_CASE("routes come and go while the stack runs; a smaller MTU of an address is its routes'")
{
    Link t;
    protocols::RouteEntry r{{base::IpAddr::any_v4(), 0}, ip("10.0.0.254"), t.h.eth};
    auto through = [](protocols::Domain& d) {
        protocols::Route way;
        return protocols::route_lookup(d, base::IpAddr::v4(0xc0000201), way) &&
               way.next_hop == base::IpAddr::v4(0x0a0000fe);
    };
    t.change({Kind::add_route, {}, r});
    CHECK(t.cpus_that(through) == 3);
    auto narrow = address(t, Kind::set_address, 0x0a000001, 24);
    narrow.address.mtu = 1280;
    t.change(narrow);
    CHECK(t.cpus_that([](protocols::Domain& d) {
        protocols::Route way;
        return protocols::route_lookup(d, base::IpAddr::v4(0xc0000201), way) && way.mtu == 1280;
    }) == 3);
    t.change({Kind::remove_route, {}, r});
    CHECK(t.cpus_that(through) == 0);
}

TEST_CASE("a change that a CPU could not be told is reported, and told by being said again")
{
    Link t;
    std::vector<netmsg::Packet*> all;
    t.h.on(0, [&](protocols::Domain& d) {
        while (netmsg::Packet* p = d.stack.pool().allocate()) {
            all.push_back(p);
        }
        CHECK(!protocols::ipv4_change(d, address(t, Kind::set_address, second, 16)));
        for (netmsg::Packet* p : all) {
            p->free();
        }
    });
    t.world.settle();
    CHECK(t.cpus_that([](protocols::Domain& d) { return protocols::ipv4_is_local(d, second); }) == 1);
    t.change(address(t, Kind::set_address, second, 16));
    CHECK(t.cpus_that([](protocols::Domain& d) { return protocols::ipv4_is_local(d, second); }) == 3);
}

TEST_CASE("RFC 1122 3.2.1.3: a socket bound to an address that went sends nothing; one bound to none goes on")
{
    Link t;
    t.change(address(t, Kind::set_address, second, 16));
    TestSocket bound(t.world, t.h, SlotKind::datagram);
    TestSocket any(t.world, t.h, SlotKind::datagram, 1);
    REQUIRE(bound.bind({base::IpAddr::v4(second), 6}) == Error::none);
    REQUIRE(any.bind({base::IpAddr::any_v4(), 7}) == Error::none);
    t.in(arp_frame(base::MacAddr::broadcast(), {wire::arp_request, mac(2), 0x0a000002, {}, 0x0a000001}));
    base::Endpoint to{base::IpAddr::v4(0x0a000002), 9};
    t.h.link->sent.clear();
    bound.send(Bytes(3), to);
    CHECK(t.h.link->sent.size() == 1);
    t.change(address(t, Kind::remove_address, second, 16));
    bound.send(Bytes(3), to);
    CHECK(t.h.link->sent.size() == 1);
    CHECK(bound.take_error() == EINVAL); // as Linux
    any.send(Bytes(3), to);
    CHECK(t.h.link->sent.size() == 2);
    t.in(ip_frame({.destination = 0x0a000001}, udp_datagram({}, 9, 7, Bytes(4))));
    Bytes got;
    CHECK(any.receive(got));
    TestSocket late(t.world, t.h, SlotKind::datagram);
    CHECK(late.bind({base::IpAddr::v4(second), 8}) == Error::address_not_available);
    t.change(address(t, Kind::set_address, second, 16)); // it is back
    bound.send(Bytes(3), to);
    CHECK(t.h.link->sent.size() == 3);
}

TEST_CASE("RFC 1122 3.2.1.3, RFC 4862 5.5.4: what waits for its neighbour does not leave once its source went")
{
    Link t({.cpus = 1, .address6 = "fd00::1"});
    base::Endpoint to{base::IpAddr::v4(0x0a000002), 9};
    base::Endpoint to6{ip6("fd00::2"), 9};
    t.change(address(t, Kind::set_address, second, 16));
    TestSocket bound(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET);
    TestSocket any(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET);
    TestSocket bound6(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(bound.bind({base::IpAddr::v4(second), 6}) == Error::none);
    REQUIRE(any.bind({base::IpAddr::any_v4(), 7}) == Error::none);
    REQUIRE(bound6.bind({ip6("fd00::1"), 8}) == Error::none);
    bound.send(Bytes(3), to);
    any.send(Bytes(3), to);
    bound6.send(Bytes(3), to6);
    t.change(address(t, Kind::remove_address, second, 16));
    t.h.on(0, [&](protocols::Domain& d) {
        for (protocols::Ipv6Address& a : d.ipv6->addresses) {
            a.valid_until = a.addr == ip6("fd00::1") ? d.now() : a.valid_until;
        }
    });
    t.h.link->sent.clear();
    t.in(arp_frame(mac(1), {wire::arp_reply, mac(2), 0x0a000002, mac(1), 0x0a000001}));
    t.h.on(0, [&](protocols::Domain& d) {
        protocols::neighbor_take(d, {.interface = t.h.eth->index, .address = to6.addr, .mac = mac(2)});
    });
    REQUIRE(t.h.link->sent.size() == 1); // of who has an address still
    CHECK(t.h.link->sent[0][14 + 15] == 1);
    CHECK(t.h.counted(&StackCounters::ip_out_no_route) == 2);
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 1122 3.2.1.3: what was forwarded to a CPU where the address is gone by then is nobody's")
{
    Link t({.cpus = 2, .address6 = "fd00::1"});
    bool v6 = GENERATE(false, true);
    t.h.on(1, [&](protocols::Domain& d) { // the other CPU has not heard of it yet
        protocols::ipv4_change_here(d, address(t, Kind::remove_address, 0x0a000001, 24));
        for (protocols::Ipv6Address& a : d.ipv6->addresses) {
            a.valid_until = a.addr == ip6("fd00::1") ? d.now() : a.valid_until;
        }
    });
    for (std::uint16_t port = 1000; port < 1032; ++port) {
        t.in(v6 ? ip6_frame({}, udp6_datagram({}, port, 9, Bytes(3)))
                : ip_frame({}, udp_datagram({}, port, 9, Bytes(3))));
    }
    std::uint64_t forwarded = t.h.counted(&StackCounters::steer_forwarded);
    CHECK(forwarded > 0);
    CHECK(forwarded < 32);
    CHECK(t.h.counted(&StackCounters::ip_in_not_ours) == forwarded);
    CHECK(t.h.counted(&StackCounters::steer_local) == 32 - forwarded);
}

TEST_CASE("an address that is probed for is nobody's yet: not answered for, not routed from")
{
    Link t;
    auto tentative = address(t, Kind::set_address, second, 16);
    tentative.address.tentative = true;
    t.change(tentative);
    CHECK(t.cpus_that([](protocols::Domain& d) { return protocols::ipv4_is_local(d, second); }) == 0);
    CHECK(t.cpus_that([](protocols::Domain& d) { return routed_from(d, 0x0a010203, second); }) == 0);
    TestSocket s(t.world, t.h, SlotKind::stream);
    CHECK(s.bind({base::IpAddr::v4(second), 80}) == Error::address_not_available);
    tentative.address.tentative = false;
    t.change(tentative);
    CHECK(t.cpus_that([](protocols::Domain& d) { return routed_from(d, 0x0a010203, second); }) == 3);
    CHECK(s.bind({base::IpAddr::v4(second), 80}) == Error::none);
    REQUIRE(s.call(netmsg::SocketOp::listen, {}, 4) == Error::none);
    t.change(address(t, Kind::remove_address, second, 16)); // the listener stays and hears nothing
    CHECK(s.close() == Error::none);
}

namespace {

// Two default gateways, of which the test answers for some.
struct Gateways : Link {
    Gateways() : Link({.gateway = "10.0.0.254"})
    {
        std::string error;
        REQUIRE(h.stack.add_route({base::IpAddr::any_v4(), 0}, base::parse_ip("10.0.0.253").value(), error));
        REQUIRE(s.bind({base::IpAddr::any_v4(), 6}) == Error::none);
    }
    // Answers ARP requests for what is alive until the host is quiet.
    void answer()
    {
        while (seen < h.link->sent.size()) {
            Bytes f = h.link->sent[seen++];
            auto a = f[12] == 8 && f[13] == 6 ? wire::parse_arp(f.data() + 14, 28) : std::nullopt;
            if (a && a->operation == wire::arp_request && (a->target_v4 & 0xff) == alive) {
                auto last = static_cast<unsigned char>(a->target_v4);
                in(arp_frame(mac(1), {wire::arp_reply, mac(last), a->target_v4, mac(1), 0x0a000001}));
            }
        }
    }
    void run(base::Micros time)
    {
        for (base::Instant end = world.clock.now() + time; world.clock.now() < end;) {
            world.advance(base::millis(100));
            answer();
        }
    }
    // The gateway that a datagram leaves by, by its last octet; 0 = none does.
    unsigned sends_by()
    {
        std::size_t before = h.link->sent.size();
        s.send(Bytes(3), {base::IpAddr::v4(0xc0000209), 7});
        answer();
        for (std::size_t i = before; i < h.link->sent.size(); ++i) {
            if (h.link->sent[i][12] == 8 && h.link->sent[i][13] == 0) {
                return h.link->sent[i][5];
            }
        }
        return 0;
    }
    unsigned alive = 0xfe;
    std::size_t seen = 0;
    TestSocket s{world, h, SlotKind::datagram};
};

} // namespace

TEST_CASE("RFC 1122 3.3.1.2: of several default gateways the first is taken, and the next while it does not answer")
{
    Gateways t;
    CHECK(t.sends_by() == 0xfe);
    t.alive = 0xfd;
    t.run(base::seconds(60)); // what was known is stale
    t.h.link->sent.clear();
    t.seen = 0;
    CHECK(t.sends_by() == 0xfe); // still, while it is asked
    t.run(base::seconds(5));
    CHECK(t.h.counted(&StackCounters::gateways_died) == 1);
    CHECK(t.sends_by() == 0xfd);
    t.alive = 0;
    t.run(base::seconds(70));
    t.sends_by();
    t.run(base::seconds(5));
    CHECK(t.h.counted(&StackCounters::gateways_died) == 2); // both: the first is tried with every packet
    t.alive = 0xfe;
    CHECK(t.sends_by() == 0xfe);
}

TEST_CASE("RFC 1122 3.3.1.4: a dead gateway is asked again with growing distance, and taken back when it answers")
{
    Gateways t;
    t.alive = 0xfd;
    CHECK(t.sends_by() == 0);
    t.run(base::seconds(4)); // what waited goes by the second
    REQUIRE(t.h.counted(&StackCounters::gateways_died) == 1);
    CHECK(t.s.take_error() == 0);
    auto datagrams = std::count_if(t.h.link->sent.begin(), t.h.link->sent.end(),
        [](const Bytes& f) { return f[12] == 8 && f[13] == 0 && f[5] == 0xfd; });
    CHECK(datagrams == 1);
    std::uint64_t asked = t.h.counted(&StackCounters::arp_out_requests);
    t.run(base::seconds(600));
    asked = t.h.counted(&StackCounters::arp_out_requests) - asked;
    CHECK(asked >= 3 * 5);
    CHECK(asked <= 3 * 12); // after 10, 20, 40, 80, 80, ... seconds, three times each
    t.alive = 0xfe;
    t.run(base::seconds(81));
    CHECK(t.h.counted(&StackCounters::gateways_returned) == 1);
    CHECK(t.sends_by() == 0xfe);
}

TEST_CASE("RFC 1122 3.3.1.4: retransmissions make a silent gateway suspect, and the connection goes by the next one")
{
    Gateways t;
    CHECK(t.sends_by() == 0xfe); // known and fresh
    t.alive = 0xfd;
    TestSocket c(t.world, t.h, SlotKind::stream);
    Error e = c.connect({base::IpAddr::v4(0xc0000209), 80});
    CHECK(e == Error::in_progress);
    t.h.link->sent.clear();
    t.seen = 0;
    t.run(base::seconds(6)); // SYNs after 1 and 3 s
    CHECK(t.h.counted(&StackCounters::neighbor_doubted) == 0);
    t.run(base::seconds(10)); // and after 7 s: it is asked, 3 s later it is dead, and after 15 s the SYN goes elsewhere
    CHECK(t.h.counted(&StackCounters::neighbor_doubted) == 1);
    CHECK(t.h.counted(&StackCounters::gateways_died) == 1);
    std::vector<unsigned> by;
    for (const Bytes& f : t.h.link->sent) {
        if (f[12] == 8 && f[13] == 0) {
            by.push_back(f[5]);
        }
    }
    CHECK(by == std::vector<unsigned>{0xfe, 0xfe, 0xfe, 0xfd});
    CHECK(c.take_error() == 0);
    CHECK(c.close() == Error::none);
}

TEST_CASE("RFC 4861 6.3.6: of configured IPv6 gateways a dead one is passed over until it answers")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.address6 = "fd00::1"});
    std::string error;
    REQUIRE(h.stack.add_route({ip6("::"), 0}, ip6("fd00::fe"), error));
    REQUIRE(h.stack.add_route({ip6("::"), 0}, ip6("fd00::fd"), error));
    TestSocket s(world, h, SlotKind::datagram, 0, 18, AF_INET6);
    auto next_hop = [&] {
        protocols::Route r;
        h.on(0, [&](protocols::Domain& d) { REQUIRE(protocols::route_lookup(d, ip6("2001:db8::1"), r)); });
        return r.next_hop;
    };
    CHECK(next_hop() == ip6("fd00::fe"));
    REQUIRE(s.bind({ip6("::"), 6}) == Error::none);
    s.send(Bytes(3), {ip6("2001:db8::1"), 7});
    world.advance(base::seconds(4));
    CHECK(next_hop() == ip6("fd00::fd"));
    wire::NdMessage m;
    m.type = wire::nd_neighbor_solicitation;
    m.target = ip6("fd00::1");
    m.mac = mac(0xfe);
    Ip6Fields f;
    f.source = ip6("fd00::fe");
    f.destination = wire::solicited_node(m.target);
    f.to = wire::multicast_mac_v6(f.destination);
    h.link->inject(nd_frame(f, m, 255), 0);
    world.settle();
    CHECK(next_hop() == ip6("fd00::fe"));
}

TEST_CASE("ARP: who asks for an address of another interface of ours is answered, as by Linux (arp_ignore 0)")
{
    Link t;
    constexpr std::uint32_t service = 0x0a000032; // 10.0.0.50
    t.change({Kind::set_address, protocols::ipv4_address(*t.h.stack.loopback(), service, 32), {}});
    auto asks = [&](std::uint32_t target) {
        std::size_t before = t.arp_replies();
        t.in(arp_frame(base::MacAddr::broadcast(), {wire::arp_request, mac(2), 0x0a000002, {}, target}));
        return t.arp_replies() - before;
    };
    CHECK(asks(service) == 1);
    CHECK(asks(0x7f000001) == 0);
    CHECK(asks(0x0a000033) == 0);
    std::size_t before = t.arp_replies();
    std::uint64_t learned = t.h.counted(&StackCounters::neighbor_learned);
    t.in(arp_frame(base::MacAddr::broadcast(), {wire::arp_request, mac(7), service, {}, service})); // announces it
    t.in(arp_frame(base::MacAddr::broadcast(), {wire::arp_request, mac(7), service, {}, 0x0a000001}));
    t.in(arp_frame(base::MacAddr::broadcast(), {wire::arp_reply, mac(7), service, mac(7), service}));
    CHECK(t.arp_replies() == before);
    CHECK(t.h.counted(&StackCounters::neighbor_learned) == learned);
    CHECK(t.h.counted(&StackCounters::arp_conflicts) == 0); // on that link nobody has it
    t.change({Kind::remove_address, protocols::ipv4_address(*t.h.stack.loopback(), service, 32), {}});
    CHECK(asks(service) == 0);
}

TEST_CASE("an answer that finds no way to whom it is for is counted as that")
{
    Link t;
    IpFields from_afar{.source = 0xc0000201};
    t.in(ip_frame(from_afar, udp_datagram(from_afar, 5, 6, Bytes(4))));
    CHECK(t.h.link->sent.empty());
    CHECK(t.h.counted(&StackCounters::ip_out_no_route) == 1);
    CHECK(t.h.counted(&StackCounters::ip_out_no_memory) == 0);
}
