// VLANs of an interface: tags on the way out and in, checksums and segments behind them, and what is in other VLANs.
#include "base/endian.hpp"
#include "drivers/vlan.hpp"
#include "protocols/ipv6.hpp"
#include "tests/protocols/frames.hpp"
#include "tests/protocols/frames6.hpp"
#include "tests/protocols/host.hpp"
#include "tests/protocols/nd_link.hpp"

using namespace test;
using base::Error;
using protocols::StackCounters;
using sockbuf::SlotKind;

namespace {

constexpr std::uint16_t id = 7;

// Two hosts on one wire, each with 10.7.0.N in VLAN 7 beside 10.0.0.N without a tag.
struct Tagged : Pair {
    Tagged()
    {
        add(a, {{ip("10.7.0.1"), 24}, {ip("10.7.0.11"), 24}, {ip("fd07::1"), 64}});
        add(b, {{ip("10.7.0.2"), 24}, {ip("fd07::2"), 64}});
    }
    static void add(Host& h, const std::vector<protocols::InterfaceAddress>& addresses)
    {
        std::string error;
        auto vlan = std::make_unique<drivers::Vlan>(*h.link, drivers::VlanOptions{"eth0.7", id, 0});
        REQUIRE(h.stack.add_interface(std::move(vlan), addresses, error) != nullptr);
    }
};

bool is_tagged(const Bytes& frame)
{
    return base::load_be16(frame.data() + 12) == wire::ethertype_vlan && base::load_be16(frame.data() + 14) == id;
}

Bytes with_tag(const Bytes& frame, std::uint16_t tag)
{
    Bytes f(frame.begin(), frame.begin() + 12);
    f.resize(16);
    base::store_be16(f.data() + 12, wire::ethertype_vlan);
    base::store_be16(f.data() + 14, tag);
    f.insert(f.end(), frame.begin() + 12, frame.end());
    return f;
}

} // namespace

TEST_CASE("VLAN: neighbours are found and datagrams travel with the tag, and without it beside them")
{
    Tagged t;
    TestSocket server(t.world, t.b, SlotKind::datagram);
    TestSocket client(t.world, t.a, SlotKind::datagram);
    REQUIRE(server.bind(at("0.0.0.0", 7)) == Error::none);
    REQUIRE(client.bind(at("0.0.0.0", 0)) == Error::none);
    client.send(Bytes(2500, 3), at("10.7.0.2", 7)); // in fragments
    Bytes got;
    base::Endpoint from;
    REQUIRE(server.receive(got, &from));
    CHECK(got == Bytes(2500, 3));
    CHECK(from.addr == ip("10.7.0.1"));
    CHECK(server.header.interface == 3);
    REQUIRE(t.a.link->sent.size() >= 3);
    CHECK(std::all_of(t.a.link->sent.begin(), t.a.link->sent.end(), is_tagged));
    std::uint64_t tagged = t.a.link->sent.size();
    std::uint64_t bytes = 0;
    for (const Bytes& frame : t.a.link->sent) {
        bytes += frame.size();
    }
    t.a.link->sent.clear();
    server.send(Bytes(10, 4), from);
    REQUIRE(client.receive(got));
    client.send(Bytes(10, 5), at("10.0.0.2", 7));
    REQUIRE(server.receive(got, &from));
    CHECK(from.addr == ip("10.0.0.1"));
    CHECK(server.header.interface == 1);
    CHECK(std::none_of(t.a.link->sent.begin(), t.a.link->sent.end(), is_tagged));
    const netmsg::NetifCounters& counted = t.b.stack.interfaces()[2]->netif->counters(0);
    CHECK(counted.in_packets.load() == tagged);
    CHECK(counted.in_bytes.load() == bytes);
    CHECK(counted.out_packets.load() == 2); // what it was asked for, and an answer
    CHECK(t.a.packets_in_use() + t.b.packets_in_use() == 0);
}

TEST_CASE("VLAN: other tags, tags within tags and cut ones are dropped; a tag of priority alone is none")
{
    Tagged t;
    TestSocket server(t.world, t.b, SlotKind::datagram);
    REQUIRE(server.bind(at("0.0.0.0", 7)) == Error::none);
    IpFields f{.source = 0x0a000001, .destination = 0x0a000002, .to = mac(2)};
    Bytes plain = ip_frame(f, udp_datagram(f, 9, 7, Bytes(4, 1)));
    auto arrives = [&](const Bytes& frame) {
        t.b.link->inject(frame, 0);
        t.world.settle();
        Bytes got;
        return server.receive(got);
    };
    CHECK(arrives(plain));
    CHECK(arrives(with_tag(plain, 0xa000))); // priority 5
    CHECK(!arrives(with_tag(plain, 8)));
    CHECK(!arrives(with_tag(with_tag(plain, id), id)));
    CHECK(t.b.counted(&StackCounters::eth_other_vlan) == 2);
    CHECK(!arrives(slice(with_tag(plain, id), 0, 16)));
    CHECK(t.b.counted(&StackCounters::eth_malformed) == 1);
    CHECK(t.b.packets_in_use() == 0);
}

TEST_CASE("several interfaces: a datagram may choose the one it leaves by, a membership is of one")
{
    Tagged t;
    TestSocket sender(t.world, t.a, SlotKind::datagram);
    TestSocket member(t.world, t.b, SlotKind::datagram);
    REQUIRE(sender.bind(at("0.0.0.0", 0)) == Error::none);
    REQUIRE(member.bind(at("0.0.0.0", 7)) == Error::none);
    sockbuf::DatagramHeader h{};
    h.size = 3;
    h.port = 7;
    h.interface = 3; // IP_PKTINFO; the route would take the first
    std::memcpy(h.addr, ip("10.0.0.2").bytes(), 16);
    sender.send_raw(h, Bytes(3));
    sender.look();
    REQUIRE(!t.a.link->sent.empty());
    CHECK(is_tagged(t.a.link->sent.back()));
    Bytes got;
    CHECK(member.receive(got)); // the weak host model: ARP answers for an address on whatever link it is asked for

    base::Endpoint group = at("239.1.2.3", 7);
    sockbuf::GroupRequest join{};
    std::memcpy(join.group, group.addr.bytes(), 16);
    join.interface = 3;
    REQUIRE(member.set(IPPROTO_IP, MCAST_JOIN_GROUP, &join, sizeof join) == Error::none);
    for (int index : {3, 1, 0}) {
        ip_mreqn by{};
        by.imr_ifindex = index;
        REQUIRE(sender.set(IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof by) == Error::none);
        sender.send(Bytes(5), group);
        CHECK(is_tagged(t.a.link->sent.back()) == (index == 3));
        CHECK(member.receive(got) == (index == 3));
    }
    CHECK(t.b.counted(&StackCounters::udp_in_no_member) == 2);
    ip_mreqn nowhere{};
    nowhere.imr_ifindex = 9;
    CHECK(sender.set(IPPROTO_IP, IP_MULTICAST_IF, &nowhere, sizeof nowhere) == Error::address_not_available);
}

TEST_CASE("RFC 4861 6.3.6: each interface has its own default routers, and what leaves by it goes to one of them")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.address6 = nullptr, .slaac = true});
    std::string error;
    auto vlan = std::make_unique<drivers::Vlan>(*h.link, drivers::VlanOptions{"eth0.7", id, 0});
    protocols::Interface* tagged = h.stack.add_interface(std::move(vlan), {}, error, true);
    REQUIRE(tagged != nullptr);
    world.advance(base::seconds(3));
    Ip6Fields other = from_router();
    other.source = ip6("fe80::55");
    other.from = mac(0x55);
    h.link->inject(router_advertisement({}), 0);
    h.link->inject(with_tag(router_advertisement({}, other), id), 0);
    world.settle();
    h.on(0, [&](protocols::Domain& d) {
        protocols::Route r;
        REQUIRE(protocols::ipv6_route_by(d, ip6("2001:db8::1"), *h.eth, r));
        CHECK(r.next_hop == ip6("fe80::99%1"));
        REQUIRE(protocols::ipv6_route_by(d, ip6("2001:db8::1"), *tagged, r));
        CHECK((r.interface == tagged && r.next_hop == ip6("fe80::55").in_zone(tagged->index)));
        REQUIRE(protocols::ipv6_route_lookup(d, ip6("2001:db8::1"), r));
        CHECK(r.next_hop == ip6("fe80::99%1"));
    });
}

TEST_CASE("RFC 4861 8.1: each interface's router redirects what leaves by that interface, and nothing else")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 2, .address6 = nullptr, .slaac = true});
    std::string error;
    auto vlan = std::make_unique<drivers::Vlan>(*h.link, drivers::VlanOptions{"eth0.7", id, 0});
    protocols::Interface* tagged = h.stack.add_interface(std::move(vlan), {}, error, true);
    REQUIRE(tagged != nullptr);
    world.advance(base::seconds(3));
    auto in = [&](const Bytes& frame) {
        h.link->inject(frame, 0);
        world.settle();
    };
    Ip6Fields other = from_router();
    other.source = ip6("fe80::55");
    in(router_advertisement({}));
    in(with_tag(router_advertisement({}, other), id));
    const char* far = "2001:db8:ffff::1";
    auto leads = [&](const char* by_eth, const char* by_tagged) {
        for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
            h.on(cpu, [&](protocols::Domain& d) {
                protocols::Route r;
                REQUIRE(protocols::route_lookup(d, ip6(far), r));
                CHECK((r.interface == h.eth && r.next_hop == ip6(by_eth).in_zone(h.eth->index)));
                REQUIRE(protocols::route_lookup_by(d, ip6(far), tagged->index, r));
                CHECK((r.interface == tagged && r.next_hop == ip6(by_tagged).in_zone(tagged->index)));
            });
        }
    };
    in(with_tag(redirect(far, "fe80::56", "fe80::55"), id));
    leads("fe80::99", "fe80::56");
    in(with_tag(redirect(far, "fe80::57", "fe80::99"), id)); // no router of that link
    in(redirect(far, "fe80::57", "fe80::55"));
    CHECK(h.counted(&StackCounters::nd_redirects_refused) == 2);
    in(redirect(far, "fe80::98", "fe80::99"));
    leads("fe80::98", "fe80::56");
    in(with_tag(redirect(far, "fe80::58", "fe80::56"), id)); // by whom it was redirected to
    in(with_tag(redirect(far, "fe80::59", "fe80::56"), id)); // who leads there no more
    leads("fe80::98", "fe80::58");
    CHECK(h.counted(&StackCounters::nd_redirects_refused) == 3);
}

TEST_CASE("RFC 6724 4: where no address of the link reaches as far as the destination another link's is taken")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.address6 = nullptr, .slaac = true});
    std::string error;
    auto vlan = std::make_unique<drivers::Vlan>(*h.link, drivers::VlanOptions{"eth0.7", id, 0});
    REQUIRE(h.stack.add_interface(std::move(vlan), {{ip("fd07::1"), 64}}, error) != nullptr);
    world.advance(base::seconds(3));
    h.link->inject(router_advertisement({}), 0); // a router, and no prefix
    world.settle();
    auto source = [&](const char* to) {
        protocols::Route r;
        h.on(0, [&](protocols::Domain& d) { REQUIRE(protocols::ipv6_route_lookup(d, ip6(to), r)); });
        CHECK(r.interface == h.eth);
        return r.source;
    };
    CHECK(source("2001:db8::1") == ip6("fd07::1"));
    CHECK(source("fe80::9%1").is_link_local_v6());
    CHECK(source("ff15::7").is_link_local_v6());
    TestSocket s(world, h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.connect(at("2001:db8::1", 7)) == Error::none);
    h.link->sent.clear();
    s.send(Bytes(3));
    REQUIRE(h.link->sent.size() == 1);
    CHECK((base::IpAddr::v6(h.link->sent[0].data() + 22) == ip6("fd07::1") && !is_tagged(h.link->sent[0])));
    world.advance(base::seconds(6)); // the router is asked whether it is there, from an address of its link
    REQUIRE(h.link->sent.size() >= 2);
    CHECK(base::IpAddr::v6(h.link->sent[1].data() + 22).is_link_local_v6());
    h.link->inject(router_advertisement({.prefix = "2001:db8:1::"}), 0);
    world.settle();
    CHECK(base::Prefix{ip6("2001:db8:1::"), 64}.contains(source("2001:db8::1")));
}

TEST_CASE("IP_MULTICAST_IF: a connect to a group goes by it too, and the address that it names is the source")
{
    Tagged t;
    TestSocket member(t.world, t.b, SlotKind::datagram);
    REQUIRE(member.bind(at("0.0.0.0", 7)) == Error::none);
    base::Endpoint group = at("239.1.2.3", 7);
    ip_mreqn join{};
    join.imr_multiaddr.s_addr = htonl(group.addr.v4());
    join.imr_ifindex = 3;
    REQUIRE(member.set(IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join) == Error::none);
    Bytes got;
    base::Endpoint from;
    TestSocket tied(t.world, t.a, SlotKind::datagram);
    ip_mreqn by{};
    by.imr_ifindex = 3;
    REQUIRE(tied.set(IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof by) == Error::none);
    REQUIRE(tied.connect(group) == Error::none);
    CHECK(tied.so.flow.local.addr == ip("10.7.0.1"));
    tied.send(Bytes(5));
    REQUIRE(member.receive(got, &from));
    CHECK(from.addr == ip("10.7.0.1"));

    in_addr second{htonl(ip("10.7.0.11").v4())};
    TestSocket loose(t.world, t.a, SlotKind::datagram);
    REQUIRE(loose.bind(at("0.0.0.0", 0)) == Error::none);
    REQUIRE(loose.set(IPPROTO_IP, IP_MULTICAST_IF, &second, sizeof second) == Error::none);
    loose.send(Bytes(5), group);
    REQUIRE(member.receive(got, &from));
    CHECK(from.addr == ip("10.7.0.11"));
    loose.send(Bytes(5), at("10.7.0.2", 7));
    REQUIRE(member.receive(got, &from));
    CHECK(from.addr == ip("10.7.0.1")); // it is for groups
    REQUIRE(loose.connect(group) == Error::none);
    CHECK(loose.so.flow.local.addr == ip("10.7.0.11"));
}

TEST_CASE("IP_MULTICAST_IF: it helps where no route leads to groups and the first link has no address")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.address = nullptr});
    Tagged::add(h, {{ip("10.7.0.1"), 24}});
    TestSocket s(world, h, SlotKind::datagram);
    CHECK(s.connect(at("239.1.2.3", 7)) == Error::network_unreachable);
    ip_mreqn by{};
    by.imr_ifindex = 3;
    REQUIRE(s.set(IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof by) == Error::none);
    CHECK(s.connect(at("239.1.2.3", 7)) == Error::none);
    CHECK(s.so.flow.local.addr == ip("10.7.0.1"));
}

TEST_CASE("IP_MULTICAST_IF and IPV6_MULTICAST_IF of one socket are two")
{
    Tagged t;
    TestSocket s(t.world, t.a, SlotKind::datagram, 0, 18, AF_INET6);
    ip_mreqn by{};
    by.imr_ifindex = 3;
    REQUIRE(s.set(IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof by) == Error::none);
    CHECK(s.get(IPPROTO_IPV6, IPV6_MULTICAST_IF) == 0);
    REQUIRE(s.set(IPPROTO_IPV6, IPV6_MULTICAST_IF, 1) == Error::none);
    CHECK(s.get(IPPROTO_IPV6, IPV6_MULTICAST_IF) == 1);
    REQUIRE(s.bind({base::IpAddr{}, 0}) == Error::none);
    s.send(Bytes(5), at("239.1.2.3", 7));
    CHECK(is_tagged(t.a.link->sent.back()));
    s.send(Bytes(5), at("ff15::3", 7));
    CHECK(!is_tagged(t.a.link->sent.back()));
}

TEST_CASE("RFC 4007 6, 9: the zone of a destination says the link, whatever else names one; no source leaves its zone")
{
    Tagged t;
    auto zoned = [](const char* text, std::uint32_t zone) { return base::Endpoint{ip(text).in_zone(zone), 7}; };
    TestSocket s(t.world, t.a, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.bind({base::IpAddr{}, 0}) == Error::none);
    auto left_tagged = [&](const base::Endpoint& to) {
        t.a.link->sent.clear();
        s.send(Bytes(5), to);
        CHECK(s.take_error() == 0);
        REQUIRE(!t.a.link->sent.empty());
        return is_tagged(t.a.link->sent.back());
    };
    REQUIRE(s.set(IPPROTO_IPV6, IPV6_MULTICAST_IF, 1) == Error::none);
    CHECK(left_tagged(zoned("ff02::77", 3)));
    CHECK(!left_tagged(zoned("ff02::77", 0)));
    in6_pktinfo sticky{};
    sticky.ipi6_ifindex = 1;
    REQUIRE(s.set(IPPROTO_IPV6, IPV6_PKTINFO, &sticky, sizeof sticky) == Error::none);
    CHECK(left_tagged(zoned("fe80::9", 3)));

    sockbuf::DatagramHeader h{};
    h.size = 3;
    h.port = 7;
    h.interface = 1;
    std::memcpy(h.addr, zoned("fe80::9", 3).addr.bytes(), 16);
    s.send_raw(h, Bytes(3));
    s.look();
    CHECK(s.take_error() == EINVAL);

    base::IpAddr own;
    t.a.on(0, [&](protocols::Domain& d) { own = protocols::ipv6_link_source(d, *t.a.eth); });
    REQUIRE(own.zone() == 1);
    TestSocket bound(t.world, t.a, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(bound.bind({own, 0}) == Error::none);
    t.a.link->sent.clear();
    bound.send(Bytes(5), zoned("fe80::9", 3));
    CHECK(bound.take_error() == ENETUNREACH);
    CHECK(bound.connect(zoned("fe80::9", 3)) == Error::network_unreachable);
    CHECK(t.a.link->sent.empty());
    CHECK(bound.connect(zoned("fe80::9", 1)) == Error::none);
}
