// Neighbour discovery where what was known turns out wrong, or a message is not what it seems: addresses that others
// have, next hops that do not answer, routers that are none any more, CPUs that missed it, frames that come back.
#include "protocols/neighbor.hpp"
#include "tests/protocols/nd_link.hpp"

using namespace test;
using base::Error;
using protocols::NeighborStatus;
using protocols::StackCounters;
using sockbuf::SlotKind;

TEST_CASE("RFC 4861 7.2: an address that another host has, as we found out, or that we had, is resolved as any other's")
{
    bool duplicate = GENERATE(true, false);
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.address6 = "fd00::1", .duplicate_probes = 1});
    world.advance(base::millis(200));
    if (duplicate) {
        h.link->inject(advertise("fd00::1", 7, false, true), 0);
    }
    world.advance(base::seconds(5));
    h.on(0, [&](protocols::Domain& d) {
        for (protocols::Ipv6Address& a : d.ipv6->addresses) {
            a.valid_until = a.addr == ip6("fd00::1") && !duplicate ? d.now() : a.valid_until;
        }
        d.ipv6->prefixes.push_back({{ip6("fd00::"), 64}, 1, base::never});
    });
    TestSocket s(world, h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.bind(at("::", 5)) == Error::none);
    h.link->sent.clear();
    protocols::Route route;
    h.on(0, [&](protocols::Domain& d) { REQUIRE(protocols::ipv6_route_by(d, ip6("fd00::1"), *h.eth, route)); });
    CHECK(route.source.is_link_local_v6());
    s.send(Bytes(1), at("fd00::1", 7));
    wire::NdMessage m;
    m.type = wire::nd_neighbor_advertisement;
    m.target = ip6("fd00::1");
    m.solicited = true;
    m.override_known = true;
    m.mac = mac(7);
    Ip6Fields f = to_us("fe80::7");
    f.destination = route.source.on_wire();
    h.link->inject(nd_frame(f, m), 0);
    world.settle();
    const auto* e = protocols::neighbor_find(h.domain(), 1, ip6("fd00::1"));
    REQUIRE(e != nullptr);
    CHECK((e->status == NeighborStatus::reachable && e->mac == mac(7)));
    CHECK(h.counted(&StackCounters::nd_conflicts) == 0);
    CHECK(h.packets_in_use() == 0);
}

TEST_CASE("RFC 4862 5.4.3: our own probe that comes back makes no duplicate")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.address6 = "fd00::1", .duplicate_probes = 2});
    h.link->peer = h.link; // as from a bridge's port that reflects
    world.advance(base::seconds(5));
    CHECK(h.counted(&StackCounters::nd_in_solicitations) == 4);
    CHECK(h.counted(&StackCounters::nd_duplicates) == 0);
    h.on(0, [&](protocols::Domain& d) { CHECK(protocols::ipv6_is_local(d, ip6("fd00::1"))); });
}

TEST_CASE("RFC 4862 5.4: a CPU that could not be told of a duplicate is told as soon as it can be")
{
    Link t({.cpus = 3, .address6 = "fd00::1", .slaac = true, .duplicate_probes = 1});
    t.in(router_advertisement({.prefix = "2001:db8:1::"}));
    base::IpAddr own = t.autoconfigured("2001:db8:1::");
    std::vector<netmsg::Packet*> all;
    t.h.on(0, [&](protocols::Domain& d) {
        while (netmsg::Packet* p = d.stack.pool().allocate()) {
            all.push_back(p);
        }
        protocols::ipv6_duplicate(d, *t.h.eth, own);
    });
    t.world.advance(base::seconds(3)); // it is tentative no more
    CHECK((!t.has_address(own, 0) && t.has_address(own, 1) && t.has_address(own, 2)));
    t.h.on(0, [&](protocols::Domain&) {
        for (netmsg::Packet* p : all) {
            p->free();
        }
    });
    t.world.advance(base::seconds(1));
    CHECK((!t.has_address(own, 0) && !t.has_address(own, 1) && !t.has_address(own, 2)));
    CHECK(t.h.counted(&StackCounters::nd_duplicates) == 3);
    t.world.advance(base::seconds(3));
    for (base::CpuId cpu = 0; cpu < 3; ++cpu) {
        CHECK(t.has_address(t.autoconfigured("2001:db8:1::", 0), cpu)); // another one
    }
    std::uint32_t known[3];
    for (base::CpuId cpu = 0; cpu < 3; ++cpu) {
        known[cpu] = t.h.domain(cpu).route_generation;
    }
    t.h.on(0, [&](protocols::Domain& d) { protocols::ipv6_duplicate(d, *t.h.eth, ip6("fd00::1")); });
    t.world.settle();
    for (base::CpuId cpu = 0; cpu < 3; ++cpu) {
        CHECK((!t.has_address(ip6("fd00::1"), cpu) && t.h.domain(cpu).route_generation != known[cpu]));
    }
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 4861 7.2.5: who is no router any more is none on any CPU")
{
    Link t({.cpus = 2, .address6 = nullptr, .slaac = true});
    t.in(router_advertisement({.prefix = "2001:db8:1::"}));
    protocols::Route r;
    REQUIRE(t.route("2001:db8:ffff::1", r, 1));
    t.in(advertise("fe80::99", 0x99, false, false, false)); // its link-layer address is as it was
    CHECK(!t.route("2001:db8:ffff::1", r, 0));
    CHECK(!t.route("2001:db8:ffff::1", r, 1));
}

TEST_CASE("RFC 6980 5: neighbour discovery in fragments is not believed")
{
    Link t({.address6 = nullptr, .slaac = true});
    Bytes plain = router_advertisement({.prefix = "2001:db8:1::"});
    Bytes message = slice(plain, 54, plain.size() - 54);
    auto in_fragment = [&](std::size_t offset, std::size_t bytes, bool more) {
        Ip6Fields f = from_router();
        Bytes header(8);
        wire::emit_ipv6_fragment(header.data(), {wire::protocol_icmp6, static_cast<std::uint16_t>(offset), more, 3});
        f.kinds = {wire::next_fragment};
        f.extensions = {header};
        t.in(ip6_frame(f, slice(message, offset, bytes)));
    };
    protocols::Route r;
    in_fragment(0, message.size(), false); // an atomic one
    CHECK(!t.route("2001:db8:ffff::1", r));
    in_fragment(0, 24, true);
    in_fragment(24, message.size() - 24, false);
    CHECK(t.h.counted(&StackCounters::frag_reassembled) == 1);
    CHECK(!t.route("2001:db8:ffff::1", r));
    CHECK(t.h.counted(&StackCounters::nd_in_malformed) == 2);
    CHECK(t.h.packets_in_use() == 0);
    t.in(plain);
    CHECK(t.route("2001:db8:ffff::1", r));
}

TEST_CASE(
    "RFC 4861 7.3.3: what a redirect leads to that does not answer is forgotten, and the router takes what waited")
{
    Link t({.cpus = 2, .address6 = nullptr, .slaac = true});
    t.in(router_advertisement({.prefix = "2001:db8:1::"}));
    t.in(redirect("2001:db8:ffff::1", "fe80::55"));
    t.in(redirect("2001:db8:ffff::2", "fe80::55"));
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    TestSocket kept(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.bind(at("::", 5)) == Error::none);
    REQUIRE(kept.connect(at("2001:db8:ffff::2", 7)) == Error::none);
    protocols::Route r;
    REQUIRE(t.route("2001:db8:ffff::1", r));
    REQUIRE(r.next_hop == ip6("fe80::55%1"));
    s.send(Bytes(1), at("2001:db8:ffff::1", 7));
    kept.send(Bytes(1));
    t.world.advance(base::seconds(4));
    for (const char* destination : {"2001:db8:ffff::1", "2001:db8:ffff::2"}) {
        REQUIRE(t.route(destination, r));
        CHECK(r.next_hop == ip6("fe80::99%1"));
    }
    CHECK(s.take_error() == 0);
    CHECK(kept.take_error() == 0);
    CHECK(t.h.domain().ipv6->redirect_count == 0);
    auto by_router = [](const Bytes& f) { return f[5] == 0x99 && f[20] == wire::protocol_udp; };
    CHECK(std::count_if(t.h.link->sent.begin(), t.h.link->sent.end(), by_router) == 2);
    kept.send(Bytes(1));
    CHECK(by_router(t.h.link->sent.back()));
}

TEST_CASE("RFC 4861 8.3, 7.2.5: whom a redirect names is a router until it says otherwise")
{
    Link t({.cpus = 2, .address6 = nullptr, .slaac = true});
    t.in(router_advertisement({.prefix = "2001:db8:1::"}));
    for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
        t.h.on(cpu, [](protocols::Domain& d) {
            protocols::NeighborNews n;
            n.interface = 1;
            n.address = ip6("fe80::55%1");
            n.mac = mac(0x55);
            n.create = true;
            n.confirmed = false;
            protocols::neighbor_take(d, n);
        });
    }
    t.in(redirect("2001:db8:ffff::1", "fe80::55")); // without its link-layer address, which is known
    protocols::Route r;
    REQUIRE(t.route("2001:db8:ffff::1", r));
    CHECK(r.next_hop == ip6("fe80::55%1"));
    t.in(advertise("fe80::55", 0x55, false, false, false));
    for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
        REQUIRE(t.route("2001:db8:ffff::1", r, cpu));
        CHECK(r.next_hop == ip6("fe80::99%1"));
    }
}

TEST_CASE("RFC 6583 7: while many addresses are asked for in vain, a neighbour that asks for ours is answered")
{
    Link t;
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.bind(at("::", 5)) == Error::none);
    for (unsigned i = 0; i < 600; ++i) {
        char to[32];
        std::snprintf(to, sizeof to, "fd00::1:%x", i);
        s.send(Bytes(1), at(to, 7));
    }
    CHECK(t.h.counted(&StackCounters::neighbor_table_full) != 0);
    t.in(solicit("fd00::1"));
    CHECK(t.sent(wire::nd_neighbor_advertisement).size() == 1);
    CHECK(t.neighbor("fd00::2") != nullptr);
    t.world.advance(base::seconds(60));
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 4861 6.1.2: an advertisement may be as long as a frame")
{
    Link t({.address6 = nullptr, .slaac = true});
    Bytes plain = router_advertisement({.prefix = "2001:db8:1::"});
    Bytes message = slice(plain, 54, plain.size() - 54);
    while (message.size() + 56 <= 1460) { // names of domains, say
        Bytes o(56);
        o[0] = 31;
        o[1] = 7;
        message.insert(message.end(), o.begin(), o.end());
    }
    base::store_be16(message.data() + 2, 0);
    Ip6Fields f = from_router();
    t.in(ip6_frame(f, with_checksum6(f, wire::protocol_icmp6, message, 2)));
    protocols::Route r;
    CHECK(t.route("2001:db8:ffff::1", r));
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 4861 6.1.2: ... and as long as a frame of a link with a larger MTU, on every CPU")
{
    std::size_t bytes = GENERATE(1900U, 2000U, 8900U);
    Link t({.cpus = 2, .mtu = 9000, .address6 = nullptr, .slaac = true});
    Bytes plain = router_advertisement({});
    Bytes message = slice(plain, 54, plain.size() - 54);
    while (message.size() + 56 + 32 <= bytes) {
        Bytes o(56);
        o[0] = 31;
        o[1] = 7;
        message.insert(message.end(), o.begin(), o.end());
    }
    Bytes with_prefix = router_advertisement({.prefix = "2001:db8:1::"});
    message.insert(message.end(), with_prefix.end() - 32, with_prefix.end()); // the last of its options
    base::store_be16(message.data() + 2, 0);
    Ip6Fields f = from_router();
    Bytes frame = ip6_frame(f, with_checksum6(f, wire::protocol_icmp6, message, 2));
    t.in(frame, 1);
    protocols::Route r;
    for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
        CHECK(t.route("2001:db8:ffff::1", r, cpu));
        CHECK(!t.autoconfigured("2001:db8:1::", cpu).is_any());
    }
    frame[frame.size() - 31] = 9; // a length that leads out of it
    base::store_be16(frame.data() + 56, 0);
    message = slice(frame, 54, frame.size() - 54);
    t.in(ip6_frame(f, with_checksum6(f, wire::protocol_icmp6, message, 2)));
    CHECK(t.h.counted(&StackCounters::nd_in_malformed) == 1);
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 4861 6.3.4, RFC 7048: a retransmission timer that would stop neighbour discovery is not believed")
{
    Link t({.address6 = nullptr, .slaac = true});
    auto solicits_in = [&](std::uint32_t said_ms, base::Micros time) {
        t.in(router_advertisement({.retransmit_ms = said_ms}));
        t.h.link->sent.clear();
        t.h.on(0, [&](protocols::Domain& d) { protocols::neighbor_ask(d, 1, ip6("fe80::7").in_zone(1)); });
        t.world.advance(time);
        auto n = t.sent(wire::nd_neighbor_solicitation).size();
        t.world.advance(base::seconds(240)); // it is given up
        return n;
    };
    CHECK(solicits_in(0, base::millis(2500)) == 3);
    CHECK(solicits_in(0xffffffff, base::millis(2500)) == 3);
    CHECK(solicits_in(60'001, base::millis(2500)) == 3);
    CHECK(solicits_in(60'000, base::seconds(61)) == 2);
    CHECK(solicits_in(2'000, base::millis(2500)) == 2);
}
