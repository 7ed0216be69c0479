// The DHCP client (RFC 2131, RFC 2132) against a scripted server in virtual time.
#include "protocols/wire/tcp_wire.hpp"
#include "tests/protocols/dhcp_link.hpp"

using namespace test;
using namespace test::dhcp;
using base::Error;
using protocols::StackCounters;

TEST_CASE("RFC 2131 3.1: discover, offer, request, acknowledgement; every CPU has the address, its network, its router")
{
    Link t;
    REQUIRE(t.bound());
    REQUIRE(t.sent.size() == 2);
    const Sent& discover = t.sent[0];
    CHECK((discover.m.type == DhcpType::discover && discover.m.broadcast && discover.m.client == 0));
    CHECK((discover.source == 0 && discover.destination == limited && discover.to.is_broadcast()));
    CHECK((discover.m.mac == mac(1) && !discover.m.from_server));
    const Sent& request = t.sent[1];
    CHECK((request.m.type == DhcpType::request && request.m.requested == given && request.m.server == server));
    CHECK((request.source == 0 && request.destination == limited && request.m.client == 0));
    CHECK(request.m.xid == discover.m.xid);
    for (base::CpuId cpu = 0; cpu < 3; ++cpu) {
        CHECK(t.route("192.0.2.1", cpu).next_hop == base::IpAddr::v4(server));
        CHECK(t.route("10.5.9.9", cpu).source == base::IpAddr::v4(given));
        CHECK(t.h.domain(cpu).ipv4->routes.size() == 2);
    }
    CHECK(t.client().lease.dns.count == 2);
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 2131 3.1 (3), 2: a request has the seconds of its discover; a renewal counts its own")
{
    Link t;
    t.alive = false;
    t.run(base::seconds(6));
    REQUIRE(t.sent.size() == 2);
    CHECK(t.sent[1].m.seconds >= 3);
    t.reply(t.sent[1].m, DhcpType::offer);
    t.run(base::seconds(8));
    REQUIRE(t.sent.size() >= 4);
    for (std::size_t i : {2U, 3U}) { // the first is not answered
        CHECK(t.sent[i].m.type == DhcpType::request);
        CHECK(t.sent[i].m.seconds == t.sent[1].m.seconds);
    }
    t.alive = true;
    t.run(base::seconds(10));
    REQUIRE(t.client().phase == DhcpPhase::bound);
    t.alive = false;
    std::size_t before = t.sent.size();
    t.run(base::seconds(3600 - 30));
    REQUIRE(t.sent.size() >= before + 2);
    CHECK(t.sent[before].m.seconds == 0);
    CHECK(t.sent[before + 1].m.seconds >= 600);
    CHECK(t.sent.back().m.seconds <= 1800);
}

TEST_CASE(
    "RFC 2131 4.4.1, RFC 5227: the address is probed for before it is used, then announced; a conflict declines it")
{
    Link t;
    REQUIRE(t.bound());
    std::vector<std::uint32_t> from;
    for (const wire::Arp& a : t.arp) {
        CHECK(a.target_v4 == given);
        from.push_back(a.sender_v4);
    }
    CHECK(from == std::vector<std::uint32_t>{0, 0, 0, given});
    t.run(base::millis(300)); // RFC 5227 2.3: and once more, two seconds behind the first
    CHECK(t.arp.size() == 4);
    t.run(base::seconds(10));
    REQUIRE(t.arp.size() == 5);
    CHECK((t.arp[4].sender_v4 == given && t.arp[4].target_v4 == given));

    Link c;
    c.taken = given;
    c.run(base::seconds(5));
    REQUIRE(c.sent.size() == 3);
    const Sent& decline = c.sent[2];
    CHECK((decline.m.type == DhcpType::decline && decline.m.requested == given && decline.m.server == server));
    CHECK((decline.source == 0 && decline.m.client == 0));
    CHECK(c.cpus_with(given) == 0);
    CHECK(c.h.counted(&StackCounters::dhcp_conflicts) == 1);
    c.address = given + 1;
    c.run(base::seconds(4));
    CHECK(c.sent.size() == 3); // RFC 2131 3.1 (5): ten seconds at least
    c.run(base::seconds(3));
    CHECK(c.bound());
}

TEST_CASE("RFC 5227 2.1.1: who probes for the same address at the same time has it as little as we")
{
    Link t;
    t.run(base::millis(100));
    REQUIRE(t.client().phase == DhcpPhase::probing);
    t.inject(arp_frame(base::MacAddr::broadcast(), {wire::arp_request, mac(77), 0, {}, given}));
    t.look();
    CHECK(t.sent.back().m.type == DhcpType::decline);
}

TEST_CASE("RFC 2131 4.1: without an answer it asks again after 4, 8, 16, 32, 64 seconds, give or take one")
{
    Link t;
    t.alive = false;
    t.run(base::seconds(260));
    REQUIRE(t.sent.size() >= 7);
    std::int64_t expected[] = {4, 8, 16, 32, 64, 64};
    for (unsigned i = 0; i < 6; ++i) {
        auto gap = (t.sent[i + 1].at - t.sent[i].at).count() / 1000;
        CHECK(gap >= (expected[i] - 1) * 1000 - 100);
        CHECK(gap <= (expected[i] + 1) * 1000 + 200);
        CHECK(t.sent[i + 1].m.xid == t.sent[i].m.xid);
    }
    CHECK(t.sent[3].m.seconds >= 25);
    t.alive = true;
    t.run(base::seconds(70));
    CHECK(t.bound());
}

TEST_CASE("RFC 2131 4.1: a server that sends to the address which it offers, though asked for a broadcast, is heard")
{
    for (unsigned cpus : {1U, 3U}) {
        Link t(cpus);
        t.replies_to = given;
        t.replies_at = mac(1);
        CHECK(t.bound());
        CHECK(t.h.counted(&StackCounters::ip_in_not_ours) == 0);
        IpFields f{.source = server, .destination = given + 1, .to = mac(1)}; // to anybody else, and from other ports
        t.inject(ip_frame(f, udp_datagram(f, wire::dhcp_server_port, 69, Bytes(4))));
        t.inject(ip_frame(f, udp_datagram(f, 69, wire::dhcp_client_port, Bytes(4))));
        CHECK(t.h.counted(&StackCounters::ip_in_not_ours) == 2);
        CHECK(t.h.packets_in_use() == 0);
    }
}

TEST_CASE("an offer whose server falls silent is asked for four times, then it begins anew")
{
    Link t;
    t.alive = false;
    t.run(base::seconds(1));
    REQUIRE(t.sent.size() == 1);
    t.reply(t.sent[0].m, DhcpType::offer);
    t.run(base::seconds(70));
    std::vector<DhcpType> types;
    for (const Sent& s : t.sent) {
        types.push_back(s.m.type);
    }
    types.resize(6);
    CHECK(types == std::vector<DhcpType>{DhcpType::discover, DhcpType::request, DhcpType::request, DhcpType::request,
                       DhcpType::request, DhcpType::discover});
}

TEST_CASE("RFC 2131 4.4.5: at T1 the lease is renewed from its server by unicast")
{
    Link t;
    REQUIRE(t.bound());
    t.offer.routers = {{server + 5}, 1}; // it changes its mind about the router
    t.run(base::seconds(1790));
    CHECK(t.sent.size() == 2);
    t.run(base::seconds(20));
    REQUIRE(t.sent.size() == 3);
    const Sent& renew = t.sent[2];
    CHECK((renew.m.type == DhcpType::request && renew.m.client == given && renew.m.requested == 0));
    CHECK((renew.m.server == 0 && !renew.m.broadcast));
    CHECK((renew.source == given && renew.destination == server && renew.to == mac(server_mac)));
    CHECK(t.client().phase == DhcpPhase::bound);
    CHECK(t.h.counted(&StackCounters::dhcp_renewals) == 1);
    CHECK(t.route("192.0.2.1", 2).next_hop == base::IpAddr::v4(server + 5));
    CHECK(t.h.domain(1).ipv4->routes.size() == 2);
    t.run(base::seconds(3000));
    CHECK(t.cpus_with(given) == 3);
}

TEST_CASE("RFC 2131 4.4.5: past T2 any server is asked by broadcast; when the lease ends the address goes at once")
{
    Link t;
    REQUIRE(t.bound());
    t.alive = false;
    t.run(base::seconds(3600 - 4));
    std::size_t unicast = 0;
    std::size_t broadcast = 0;
    for (const Sent& s : t.sent) {
        unicast += s.m.client == given && s.destination == server ? 1 : 0;
        broadcast += s.m.client == given && s.destination == limited ? 1 : 0;
    }
    CHECK(unicast >= 4); // half of what is left each time, at least a minute
    CHECK(unicast <= 6);
    CHECK(broadcast >= 2);
    CHECK(t.cpus_with(given) == 3);
    t.run(base::seconds(3));
    CHECK(t.cpus_with(given) == 0);
    for (base::CpuId cpu = 0; cpu < 3; ++cpu) {
        CHECK(t.h.domain(cpu).ipv4->routes.empty());
    }
    CHECK(t.h.counted(&StackCounters::dhcp_expired) == 1);
    CHECK(t.sent.back().m.type == DhcpType::discover);
    t.alive = true;
    t.run(base::seconds(10));
    CHECK(t.bound());
}

TEST_CASE("RFC 2131 4.4.5: a refusal takes the address away, and it begins anew")
{
    Link t;
    REQUIRE(t.bound());
    t.refuses = true;
    t.address = given + 3;
    t.run(base::seconds(1798));
    CHECK(t.cpus_with(given) == 0);
    CHECK(t.h.counted(&StackCounters::dhcp_refused) >= 1);
    t.refuses = false;
    t.run(base::seconds(10));
    CHECK(t.cpus_with(given + 3) == 3);
}

TEST_CASE("T1 and T2 are the server's where they are in order; a lease without end is not renewed")
{
    Link t;
    t.offer.renew_s = 100;
    t.offer.rebind_s = 200;
    REQUIRE(t.bound());
    CHECK(t.client().lease.renew_at - t.client().asked_at == base::seconds(100));
    CHECK(t.client().lease.rebind_at - t.client().asked_at == base::seconds(200));
    Link wrong;
    wrong.offer.renew_s = 4000;
    wrong.offer.rebind_s = 3600;
    REQUIRE(wrong.bound());
    CHECK(wrong.client().lease.renew_at - wrong.client().asked_at == base::seconds(1800));
    CHECK(wrong.client().lease.rebind_at - wrong.client().asked_at == base::seconds(3150));
    Link forever;
    forever.offer.lease_s = wire::dhcp_forever;
    REQUIRE(forever.bound());
    CHECK(forever.client().lease.ends_at == base::never);
}

TEST_CASE("what no lease can be is not taken: foreign, early, forged, unusable")
{
    Link t;
    t.alive = false;
    t.run(base::seconds(1));
    DhcpMessage ask = t.sent.at(0).m;
    auto offered = [&](const std::function<void(DhcpMessage&)>& f) {
        DhcpMessage m = t.offer;
        m.from_server = true;
        m.type = DhcpType::offer;
        m.xid = ask.xid;
        m.mac = ask.mac;
        m.yours = given;
        m.server = server;
        f(m);
        t.deliver(m);
        t.look();
    };
    offered([](DhcpMessage& m) { ++m.xid; });
    offered([](DhcpMessage& m) { m.mac = mac(3); });
    offered([](DhcpMessage& m) { m.from_server = false; });
    offered([](DhcpMessage& m) { m.type = DhcpType::ack; });
    offered([](DhcpMessage& m) { m.type = DhcpType::nak; });
    offered([](DhcpMessage& m) { m.lease_s = 0; });
    offered([](DhcpMessage& m) { m.server = 0; });
    for (std::uint32_t a : {0U, 0x7f000001U, 0xe0000001U, limited, 0x0a050000U, 0x0a05ffffU}) {
        offered([&](DhcpMessage& m) { m.yours = a; });
    }
    CHECK(t.h.counted(&StackCounters::dhcp_in_ignored) == 13);
    CHECK(t.client().phase == DhcpPhase::selecting);
    t.deliver(Bytes(300, 0x41));
    t.deliver(Bytes(20));
    CHECK(t.h.counted(&StackCounters::dhcp_in_malformed) == 2);
    offered([](DhcpMessage&) {});
    REQUIRE(t.client().phase == DhcpPhase::requesting);
    offered([](DhcpMessage& m) { m.type = DhcpType::ack, m.server = server + 1; });
    offered([](DhcpMessage& m) { m.type = DhcpType::ack, m.yours = given + 1; });
    offered([](DhcpMessage& m) { m.type = DhcpType::nak, m.server = server + 1; });
    CHECK(t.client().phase == DhcpPhase::requesting);
    offered([](DhcpMessage& m) { m.type = DhcpType::ack; });
    CHECK(t.bound());
}

TEST_CASE("parameters that make no sense are passed over: MTU, mask, routers, broadcast")
{
    Link t;
    t.offer.mtu = 100;
    t.offer.mask = 0xff00ff00;
    t.offer.routers = {{0x0b000001, given, server, server}, 4};
    t.offer.broadcast_address = 0x0b0000ff;
    REQUIRE(t.bound());
    const protocols::DhcpLease& l = t.client().lease;
    CHECK(l.own.mtu == 0);
    CHECK(l.own.length == 8); // the class of 10.0.0.0
    CHECK(l.own.broadcast == 0x0affffff);
    CHECK(l.routes.size() == 1);
    Link good;
    good.offer.mtu = 1400;
    good.offer.broadcast_address = 0x0a050000;
    REQUIRE(good.bound());
    CHECK(good.route("192.0.2.1", 1).mtu == 1400);
    CHECK(good.client().lease.own.broadcast == 0x0a050000);
}

TEST_CASE("RFC 9293 MUST-67: the announced MSS keeps to the lease's MTU")
{
    Link t(1);
    t.offer.mtu = 1400;
    REQUIRE(t.bound());
    TestSocket s(t.world, t.h, sockbuf::SlotKind::stream, 0, 18, AF_INET);
    t.h.link->sent.clear();
    REQUIRE(s.connect({base::IpAddr::v4(server), 80}) == Error::in_progress);
    t.inject(arp_frame(mac(1), {wire::arp_reply, mac(server_mac), server, mac(1), given}));
    REQUIRE(!t.h.link->sent.empty());
    const Bytes& syn = t.h.link->sent.back();
    wire::TcpHeader h;
    REQUIRE(wire::tcp_parse(syn.data() + 34, syn.size() - 34, h));
    CHECK(h.options.mss == 1360);
}

TEST_CASE("a clean end gives the lease back")
{
    Link t;
    REQUIRE(t.bound());
    t.inject(arp_frame(mac(1), {wire::arp_request, mac(server_mac), server, {}, given}));
    unsigned done = 0;
    t.h.on(t.owner(), [&](protocols::Domain& d) { protocols::dhcp_release(d, *t.h.eth, [&] { ++done; }); });
    t.world.settle();
    CHECK(done == 1);
    t.look();
    Sent release = t.sent.back();
    CHECK((release.m.type == DhcpType::release && release.m.client == given && release.m.server == server));
    CHECK((release.source == given && release.destination == server && release.to == mac(server_mac)));
    CHECK(t.cpus_with(given) == 0);
    std::size_t before = t.sent.size();
    t.run(base::seconds(4000));
    CHECK(t.sent.size() == before);
}

TEST_CASE("a release that waits for its server's link-layer address goes when that is known, and ends without it")
{
    for (bool answers : {true, false}) {
        Link t;
        REQUIRE(t.bound());
        unsigned done = 0;
        t.h.on(t.owner(), [&](protocols::Domain& d) { protocols::dhcp_release(d, *t.h.eth, [&] { ++done; }); });
        t.world.settle();
        CHECK(done == 0);
        CHECK(t.cpus_with(given) == 3); // the answer must find its way
        if (answers) {
            t.run(base::millis(200)); // look() answers
            CHECK(t.sent.back().m.type == DhcpType::release);
        } else {
            t.world.advance(base::seconds(5));
        }
        CHECK(done == 1);
        CHECK(t.cpus_with(given) == 0);
        CHECK(t.h.packets_in_use() == 0);
    }
}

TEST_CASE(
    "RFC 2131 4.3.2, 4.4.2: after a restart it asks for the address it had; what is refused or unheard begins anew")
{
    std::vector<std::uint32_t> told;
    auto had = [&](Link& t, std::uint32_t address) {
        told.clear();
        protocols::dhcp_remember(t.h.domain(t.owner()), *t.h.eth, address, [&](std::uint32_t a) { told.push_back(a); });
    };
    Link t;
    had(t, given);
    REQUIRE(t.bound());
    REQUIRE(t.sent.size() == 1);
    const Sent& request = t.sent[0];
    CHECK((request.m.type == DhcpType::request && request.m.requested == given && request.m.server == 0));
    CHECK((request.m.client == 0 && request.m.broadcast && request.source == 0 && request.destination == limited));
    CHECK(t.arp.size() == 4); // probed for and announced as any
    CHECK(told == std::vector<std::uint32_t>{given});
    t.h.on(t.owner(), [&](protocols::Domain& d) { protocols::dhcp_release(d, *t.h.eth, [] {}); });
    CHECK(told == std::vector<std::uint32_t>{given, 0});

    Link refused;
    had(refused, given + 9);
    refused.refuses = true;
    refused.run(base::millis(500));
    CHECK(told == std::vector<std::uint32_t>{0});
    refused.refuses = false;
    refused.run(base::seconds(2));
    CHECK(refused.bound());
    CHECK(refused.sent.at(1).m.type == DhcpType::discover);
    CHECK(told == std::vector<std::uint32_t>{0, given});

    Link unheard;
    had(unheard, given + 9);
    unheard.alive = false;
    unheard.run(base::seconds(16));
    std::vector<DhcpType> types;
    for (const Sent& s : unheard.sent) {
        types.push_back(s.m.type);
    }
    types.resize(3);
    CHECK(types == std::vector<DhcpType>{DhcpType::request, DhcpType::request, DhcpType::discover});
    CHECK(told.empty());

    Link other; // an address that was not asked for is not taken
    had(other, given + 9);
    other.run(base::seconds(1));
    CHECK(other.client().phase == DhcpPhase::rebooting);
}

TEST_CASE("RFC 3442: classless routes go before the routers, on every CPU, and change with the lease")
{
    Link t;
    t.offer.routes = {{{0x0a140000, server + 1, 16}, {0, 0x0a640001, 0}, {0x0a640001, 0, 32},
                          {0xc0a80100, 0x0b000001, 24}, {0x7f000000, server, 8}, {0x0a1e0000, given, 16}},
        6, true};
    REQUIRE(t.bound());
    CHECK(t.client().lease.routes.size() == 3);
    for (base::CpuId cpu = 0; cpu < 3; ++cpu) {
        CHECK(t.route("10.20.1.1", cpu).next_hop == base::IpAddr::v4(server + 1));
        CHECK(t.route("192.0.2.1", cpu).next_hop == base::IpAddr::v4(0x0a640001)); // not the router's
        CHECK(t.route("10.100.0.1", cpu).next_hop == base::IpAddr::v4(0x0a640001));
        CHECK(t.route("192.168.1.1", cpu).next_hop == base::IpAddr::v4(0x0a640001)); // by a router that is nowhere: no
    }
    t.offer.routes = {{{0x0a140000, server + 2, 16}}, 1, true};
    t.run(base::seconds(1810));
    CHECK(t.h.counted(&StackCounters::dhcp_renewals) == 1);
    CHECK(t.route("10.20.1.1", 2).next_hop == base::IpAddr::v4(server + 2));
    CHECK(t.h.domain(1).ipv4->routes.size() == 2); // and the network

    Link own; // a route that is the lease's network goes, and the network stays
    own.offer.routes = {{{given & 0xffff0000, 0, 16}, {0, server, 0}}, 2, true};
    REQUIRE(own.bound());
    own.offer.routes = {{{0, server, 0}}, 1, true};
    own.run(base::seconds(1810));
    CHECK(own.h.counted(&StackCounters::dhcp_renewals) == 1);
    CHECK(own.route("10.5.0.77", 1).next_hop == ip("10.5.0.77"));
}

TEST_CASE("a CPU that could not be told of the lease hears of it soon")
{
    Link t;
    t.run(base::seconds(1));
    REQUIRE(t.client().phase == DhcpPhase::probing);
    std::vector<netmsg::Packet*> all;
    t.h.on(t.owner(), [&](protocols::Domain& d) {
        while (netmsg::Packet* p = d.stack.pool().allocate()) {
            all.push_back(p);
        }
    });
    t.run(base::millis(1500));
    CHECK(t.cpus_with(given) == 1);
    t.h.on(t.owner(), [&](protocols::Domain&) {
        for (netmsg::Packet* p : all) {
            p->free();
        }
    });
    t.run(base::millis(500));
    CHECK(t.cpus_with(given) == 3);
    CHECK(t.route("192.0.2.1", 0).next_hop == base::IpAddr::v4(server));
    CHECK(t.route("192.0.2.1", 2).next_hop == base::IpAddr::v4(server));
}

TEST_CASE("sockets hear nothing of the client's port where it runs")
{
    Link t;
    REQUIRE(t.bound());
    TestSocket s(t.world, t.h, sockbuf::SlotKind::datagram);
    REQUIRE(s.bind({base::IpAddr::any_v4(), wire::dhcp_client_port}) == Error::none);
    t.deliver(Bytes(300));
    Bytes got;
    CHECK(!s.receive(got));
    CHECK(t.h.counted(&StackCounters::dhcp_in_malformed) == 1);
}
