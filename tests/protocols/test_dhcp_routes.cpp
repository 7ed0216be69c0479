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
