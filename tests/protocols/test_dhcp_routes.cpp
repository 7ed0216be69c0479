// The routes of a DHCP lease beside those of the configuration, against a scripted server in virtual time.
#include "tests/protocols/dhcp_link.hpp"

using namespace test;
using namespace test::dhcp;
using protocols::StackCounters;

TEST_CASE("RFC 2132 3.5: a renewal that prefers another of its routers is heard")
{
    Link t;
    t.offer.routers = {{server, server + 5}, 2};
    REQUIRE(t.bound());
    CHECK(t.cpus_by(server) == 3);
    t.offer.routers = {{server + 5, server}, 2};
    t.run(base::seconds(1810));
    CHECK(t.h.counted(&StackCounters::dhcp_renewals) == 1);
    CHECK(t.cpus_by(server + 5) == 3);
    t.offer.routers = {{server + 9, server + 5, server}, 3};
    t.run(base::seconds(1810));
    CHECK(t.cpus_by(server + 9) == 3);
    CHECK(t.h.domain(1).ipv4->routes.size() == 4); // and the network
}

TEST_CASE("a lease takes away no route and no address that is not its own")
{
    HostOptions o{.cpus = 3, .address = "10.5.0.9", .gateway = "10.5.0.1", .dhcp = true};
    for (bool same_address : {false, true}) {
        for (unsigned how = 0; how < 3; ++how) {
            o.address = same_address ? "10.5.0.7" : "10.5.0.9";
            std::uint32_t own = same_address ? given : given + 2;
            Link t(o);
            t.offer.mask = same_address ? 0xffffff00 : 0xffff0000;
            t.run(base::seconds(1));
            REQUIRE(t.client().phase == DhcpPhase::probing);
            CHECK(t.cpus_with(own) == 3);
            REQUIRE(t.bound());
            if (how == 0) {
                t.alive = false; // the lease ends,
                t.run(base::seconds(3600));
            } else if (how == 1) {
                t.refuses = true; // or is refused,
                t.run(base::seconds(1798));
            } else {
                t.offer.routers = {}; // or is renewed without the router
                t.run(base::seconds(1810));
            }
            CHECK(t.cpus_by(server) == 3);
            CHECK(t.cpus_with(own) == 3);
            CHECK(t.route("10.5.0.77", 2).next_hop == ip("10.5.0.77"));
        }
    }
}

namespace {

// A datagram to a host beyond the networks, sent from the lease's address.
void send_beyond(Link& t, TestSocket& s)
{
    REQUIRE(s.bind({base::IpAddr::v4(given), 7}) == base::Error::none);
    s.send(Bytes(10), {base::parse_ip("192.0.2.1").value(), 7});
    t.world.settle();
}

} // namespace

TEST_CASE("RFC 3442: a router that only a route of the lease puts on the link is asked, and its answer believed")
{
    constexpr std::uint32_t router = 0x0a640001; // 10.100.0.1
    Link t;
    t.offer.mask = 0xffffffff;
    t.offer.routers = {};
    t.offer.routes = {{{router, 0, 32}, {0, router, 0}}, 2, true};
    REQUIRE(t.bound());
    TestSocket s(t.world, t.h, sockbuf::SlotKind::datagram, 1, 18, AF_INET);
    send_beyond(t, s);
    t.look();
    REQUIRE(!t.arp.empty());
    CHECK(t.arp.back().target_v4 == router);
    std::size_t before = t.h.link->sent.size();
    t.inject(arp_frame(mac(1), {wire::arp_reply, mac(0x64), router, mac(1), given}));
    REQUIRE(t.h.link->sent.size() == before + 1);
    const Bytes& f = t.h.link->sent.back();
    CHECK(std::equal(f.begin(), f.begin() + 6, mac(0x64).bytes.begin()));
    CHECK(base::load_be32(f.data() + 30) == 0xc0000201);

    Link told; // such a router's own question is enough
    told.offer = t.offer;
    REQUIRE(told.bound());
    told.inject(arp_frame(base::MacAddr::broadcast(), {wire::arp_request, mac(0x64), router, {}, given}));
    before = told.h.link->sent.size();
    TestSocket other(told.world, told.h, sockbuf::SlotKind::datagram, 1, 18, AF_INET);
    send_beyond(told, other);
    REQUIRE(told.h.link->sent.size() == before + 1);
    CHECK(told.h.link->sent.back()[12] == 8);
    CHECK(told.h.link->sent.back()[13] == 0);
}
