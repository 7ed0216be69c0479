// The way of a connected datagram socket is kept (decision 0027): whatever decided it is heard of before the next
// datagram leaves. One host with two gateways, what it sends looked at frame by frame. Both families.
#include "protocols/dead_gateways.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/neighbor.hpp"
#include "tests/protocols/frames6.hpp"
#include "tests/protocols/host.hpp"

using namespace test;
using base::Error;
using protocols::Domain;
using protocols::Ipv4Change;
using sockbuf::SlotKind;
using Kind = Ipv4Change::Kind;

namespace {

constexpr unsigned char first_gateway = 21;
constexpr unsigned char second_gateway = 22;
constexpr unsigned char neighbor = 2;

base::Endpoint far(std::uint16_t port = 7)
{
    return {base::parse_ip(over_v6() ? "2001:db8:9::1" : "192.0.2.1").value(), port};
}

// 10.0.0.1 with a socket connected to a host behind gateway 10.0.0.21, failing that 10.0.0.22; the gateways and
// 10.0.0.2 are known neighbours whose link-layer addresses end like their others.
struct Connected {
    Connected() : h(world.add(slot, {.address6 = "fd00::1"})), client(world, h, SlotKind::datagram)
    {
        std::string why;
        base::Prefix all{over_v6() ? base::IpAddr{} : base::IpAddr::any_v4(), 0};
        REQUIRE(h.stack.add_route(all, ip("10.0.0.21"), why));
        REQUIRE(h.stack.add_route(all, ip("10.0.0.22"), why));
        world.advance(base::seconds(12)); // quiet: groups are joined
        meet("10.0.0.2", neighbor);
        meet("10.0.0.21", first_gateway);
        meet("10.0.0.22", second_gateway);
        REQUIRE(client.bind(at("0.0.0.0", 0)) == Error::none);
        connect(far());
    }
    void meet(const char* address, unsigned char mac_last)
    {
        protocols::NeighborNews n;
        n.interface = h.eth->index;
        n.address = ip(address);
        n.mac = base::MacAddr{{2, 0, 0, 0, 0, mac_last}};
        n.create = true;
        with([&](Domain& d) { protocols::neighbor_take(d, n); });
    }
    void with(const std::function<void(Domain&)>& f)
    {
        h.on(0, f);
        world.settle();
    }
    // The way is kept from here on.
    void connect(const base::Endpoint& to)
    {
        REQUIRE(client.connect(to) == Error::none);
        CHECK(sent() == 1);
    }
    // Frames that a datagram to the peer becomes; what its sender reads otherwise is in `error`.
    std::size_t sent(std::size_t size = 10)
    {
        h.link->sent.clear();
        client.send(Bytes(size));
        error = client.take_error();
        return h.link->sent.size();
    }
    const Bytes& frame() const { return h.link->sent.back(); }
    unsigned char to_mac() const { return frame()[5]; }
    unsigned hops() const { return over_v6() ? frame()[21] : frame()[22]; }
    unsigned tos() const { return over_v6() ? (frame()[14] & 0xfU) << 4 | frame()[15] >> 4U : frame()[15]; }
    base::IpAddr source() const
    {
        const unsigned char* b = frame().data();
        return over_v6() ? base::IpAddr::v6(b + 22) : base::IpAddr::v4(base::load_be32(b + 26));
    }
    void set(int level4, int name4, int level6, int name6, int value)
    {
        REQUIRE(client.set(over_v6() ? level6 : level4, over_v6() ? name6 : name4, value) == Error::none);
    }
    void set_ip(int name4, int name6, int value) { set(IPPROTO_IP, name4, IPPROTO_IPV6, name6, value); }
    void change_v4(const Ipv4Change& c)
    {
        with([&](Domain& d) { REQUIRE(protocols::ipv4_change(d, c)); });
    }

    World world;
    std::unique_ptr<Host> slot;
    Host& h;
    TestSocket client;
    int error = 0;
};

} // namespace

TEST_CASE("kept way of a connected datagram socket: routes that come and go, gateways that die and return")
{
    Connected t;
    CHECK(t.to_mac() == first_gateway);
    t.with([&](Domain& d) { protocols::gateway_failed(d, t.h.eth->index, ip("10.0.0.21")); });
    CHECK(t.sent() == 1);
    CHECK(t.to_mac() == second_gateway);
    t.with([&](Domain& d) { protocols::gateway_answered(d, t.h.eth->index, ip("10.0.0.21")); });
    CHECK(t.sent() == 1);
    CHECK(t.to_mac() == first_gateway);
    if (over_v6()) {
        wire::NdMessage m;
        m.target = ip("10.0.0.22");
        m.destination = far().addr;
        t.with([&](Domain& d) { protocols::ipv6_take_redirect(d, *t.h.eth, ip("10.0.0.21"), m); });
        CHECK(t.sent() == 1);
        CHECK(t.to_mac() == second_gateway);
        return;
    }
    Ipv4Change c{Kind::add_route, {}, {{far().addr, 32}, ip("10.0.0.22"), t.h.eth, protocols::Origin::configured}};
    t.change_v4(c);
    CHECK(t.sent() == 1);
    CHECK(t.to_mac() == second_gateway);
    c.kind = Kind::remove_route;
    t.change_v4(c);
    CHECK(t.sent() == 1);
    CHECK(t.to_mac() == first_gateway);
}

TEST_CASE("kept way of a connected datagram socket: without its address it sends nothing (RFC 1122 3.2.1.3)")
{
    Connected t;
    if (over_v6()) {
        t.with([&](Domain& d) { protocols::ipv6_duplicate(d, *t.h.eth, ip("10.0.0.1")); });
        CHECK((t.sent() == 0 && t.error != 0));
        return;
    }
    Ipv4Change c{Kind::remove_address, protocols::ipv4_address(*t.h.eth, ip("10.0.0.1").v4(), 24), {}};
    t.change_v4(c);
    CHECK((t.sent() == 0 && t.error != 0));
    c.kind = Kind::set_address;
    t.change_v4(c);
    CHECK((t.sent() == 1 && t.error == 0));
    c.address.mtu = 1000; // as a lease has it
    t.change_v4(c);
    t.set_ip(IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO);
    CHECK((t.sent(1100) == 0 && t.error == EMSGSIZE));
}

TEST_CASE("kept way of a connected datagram socket: the path's MTU as it is learned, and forgotten ten minutes later")
{
    Connected t;
    CHECK(t.sent(1400) == 1);
    t.with([&](Domain& d) { protocols::pmtu_learn(d, far().addr, 1300); });
    CHECK(t.sent(1400) == 2); // fragments
    t.set_ip(IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO);
    CHECK((t.sent(1400) == 0 && t.error == EMSGSIZE));
    CHECK(t.sent(1200) == 1);
    t.set_ip(IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    CHECK(t.sent(1400) == 1);
    t.set_ip(IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, IP_PMTUDISC_WANT);
    CHECK(t.sent(1400) == 2);
    t.world.advance(base::seconds(601));
    t.meet("10.0.0.21", first_gateway); // again: it was asked meanwhile, and nobody answers here
    t.with([&](Domain& d) { protocols::gateway_answered(d, t.h.eth->index, ip("10.0.0.21")); });
    CHECK(t.sent(1400) == 1);
    t.with([&](Domain& d) { protocols::pmtu_learn(d, far().addr, 1300); });
    CHECK(t.sent(1400) == 2);
    t.meet("10.0.0.2", neighbor);
    t.connect(at("10.0.0.2", 7)); // whose path is another
    CHECK(t.sent(1400) == 1);
}

TEST_CASE("kept way of a connected datagram socket: a neighbour with another link-layer address")
{
    Connected t;
    t.connect(at("10.0.0.2", 7));
    CHECK(t.to_mac() == neighbor);
    t.meet("10.0.0.2", 77);
    CHECK(t.sent() == 1);
    CHECK(t.to_mac() == 77);
}

TEST_CASE("kept way of a connected datagram socket: options hold from the next datagram on")
{
    Connected t;
    CHECK((t.hops() == 64 && t.tos() == 0));
    t.set_ip(IP_TTL, IPV6_UNICAST_HOPS, 9);
    CHECK(t.sent() == 1);
    CHECK(t.hops() == 9);
    t.set_ip(IP_TOS, IPV6_TCLASS, 0x28);
    CHECK(t.sent() == 1);
    CHECK(t.tos() == 0x28);
    if (over_v6()) {
        in6_pktinfo info{};
        std::memcpy(&info.ipi6_addr, ip("::1").bytes(), 16);
        REQUIRE(t.client.set(IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info) == Error::none);
        CHECK((t.sent() == 0 && t.error == EINVAL)); // no source to send from to another host
        CHECK((t.sent() == 0 && t.error == EINVAL)); // what was found before that is no way
        info = {};
        REQUIRE(t.client.set(IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info) == Error::none);
        CHECK(t.sent() == 1);
        return;
    }
    REQUIRE(t.client.set(SOL_SOCKET, SO_BROADCAST, 1) == Error::none);
    t.connect(at("10.0.0.255", 7));
    REQUIRE(t.client.set(SOL_SOCKET, SO_BROADCAST, 0) == Error::none);
    CHECK((t.sent() == 0 && t.error == EACCES));
    CHECK((t.sent() == 0 && t.error == EACCES)); // what was found before that is no way
}

TEST_CASE("kept way of a connected datagram socket: a group's options")
{
    Connected t;
    t.connect({base::parse_ip(over_v6() ? "ff0e::77" : "239.1.2.3").value(), 7});
    CHECK(t.hops() == 1);
    t.set_ip(IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, 5);
    CHECK(t.sent() == 1);
    CHECK(t.hops() == 5);
    in_addr by{htonl(INADDR_LOOPBACK)};
    int index = 2;
    Error set = over_v6() ? t.client.set(IPPROTO_IPV6, IPV6_MULTICAST_IF, index)
                          : t.client.set(IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof by);
    REQUIRE(set == Error::none);
    CHECK(t.sent() == 0); // not by the link
}

TEST_CASE("kept way of a connected datagram socket: another peer, and none")
{
    Connected t;
    CHECK(t.to_mac() == first_gateway);
    t.connect(at("10.0.0.2", 9));
    CHECK(t.to_mac() == neighbor);
    CHECK(base::load_be16(&t.frame()[over_v6() ? 56 : 36]) == 9);
    REQUIRE(t.client.call(netmsg::SocketOp::unconnect) == Error::none);
    CHECK((t.sent() == 0 && t.error == EDESTADDRREQ));
    t.connect(far());
    CHECK(t.to_mac() == first_gateway);
    REQUIRE(t.client.connect(at("10.0.0.2", 0)) == Error::none); // chooses an address, and no peer
    CHECK((t.sent() == 0 && t.error == EDESTADDRREQ));
}

TEST_CASE("kept way of a connected datagram socket: what one datagram says of itself is its own")
{
    Connected t;
    auto plain = [&] { return t.sent() == 1 && t.to_mac() == first_gateway && t.hops() == 64 && t.tos() == 0; };
    t.client.send(Bytes(1), at("10.0.0.2", 7));
    CHECK(t.to_mac() == neighbor);
    CHECK(plain());
    auto send = [&](sockbuf::DatagramHeader h, Bytes payload = Bytes(1)) {
        h.size = 1;
        t.client.send_raw(h, payload);
        t.client.look();
        return t.client.take_error();
    };
    sockbuf::DatagramHeader h{};
    h.ttl = 3;
    CHECK(send(h) == 0);
    CHECK((t.hops() == 3 && t.to_mac() == first_gateway));
    CHECK(plain());
    h = {};
    h.tos = 0x10;
    h.flags = sockbuf::datagram_has_tos;
    CHECK(send(h) == 0);
    CHECK((t.tos() == 0x10 && t.to_mac() == first_gateway));
    CHECK(plain());
    h = {};
    h.interface = 7;
    CHECK(send(h) == ENODEV);
    CHECK(plain());
    h = {};
    h.flags = over_v6() ? sockbuf::datagram_has_source : 0;
    h.local_v4 = over_v6() ? 0 : INADDR_LOOPBACK;
    CHECK(send(h, over_v6() ? Bytes{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1} : Bytes(1)) == EINVAL);
    CHECK(plain());
}

TEST_CASE("kept way of a connected datagram socket: a source that is deprecated (RFC 6724 5, rule 3)")
{
    if (!over_v6()) {
        return;
    }
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.address = nullptr, .address6 = "fe80::1", .slaac = true});
    TestSocket client(world, h, SlotKind::datagram);
    base::Prefix first{ip("2001:db8:1::"), 64};
    base::Prefix second{ip("2001:db8:2::"), 64};
    h.link->inject(router_advertisement({.prefix = "2001:db8:1::", .preferred_s = 100}), 0);
    h.link->inject(router_advertisement({.prefix = "2001:db8:2::"}), 0);
    world.advance(base::seconds(12));
    base::Endpoint group{ip("ff0e::77"), 7}; // whoever is bound to one sends from what the route has
    REQUIRE(client.bind(group) == Error::none);
    REQUIRE(client.connect({ip("2001:db8:1::99"), 7}) == Error::none);
    auto source = [&] {
        protocols::NeighborNews n;
        n.interface = h.eth->index;
        n.address = ip("2001:db8:1::99");
        n.create = true;
        h.on(0, [&](Domain& d) { protocols::neighbor_take(d, n); });
        h.link->sent.clear();
        client.send(Bytes(1));
        REQUIRE(h.link->sent.size() == 1);
        return base::IpAddr::v6(h.link->sent.back().data() + 22);
    };
    CHECK(first.contains(source()));
    world.advance(base::seconds(60));
    CHECK(first.contains(source()));
    world.advance(base::seconds(60));
    CHECK(second.contains(source()));
    h.link->inject(router_advertisement({.prefix = "2001:db8:1::", .preferred_s = 100}), 0);
    world.settle();
    CHECK(first.contains(source()));
}

TEST_CASE("kept way of a connected datagram socket: a path below 552 octets gets what routers may cut (RFC 1191 3)")
{
    if (over_v6()) {
        return; // no path is so narrow
    }
    Connected t;
    auto df = [&] { return (t.frame()[20] & 0x40) != 0; };
    CHECK((t.sent(400) == 1 && df()));
    t.with([&](Domain& d) { CHECK(protocols::pmtu_learn(d, far().addr, 296) == 552); });
    CHECK((t.sent(400) == 1 && !df()));
    CHECK(t.sent(1000) == 2);
    std::uint32_t known = t.h.domain().route_generation;
    t.with([&](Domain& d) { CHECK(protocols::pmtu_learn(d, far().addr, 100) == 552); });
    CHECK(t.h.domain().route_generation == known); // no kept way is another for that
    t.set_ip(IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO);
    CHECK((t.sent(400) == 1 && df())); // as Linux
    t.set_ip(IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, IP_PMTUDISC_WANT);
    t.world.advance(base::seconds(601));
    t.meet("10.0.0.21", first_gateway);
    t.with([&](Domain& d) { protocols::gateway_answered(d, t.h.eth->index, ip("10.0.0.21")); });
    CHECK((t.sent(400) == 1 && df()));
}
