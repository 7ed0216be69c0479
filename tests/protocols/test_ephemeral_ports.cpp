// The order of ephemeral ports: each once, and among the first few one that keeps both ends of a connection at home.
#include <catch2/catch.hpp>

#include <set>

#include "netmsg/steering.hpp"
#include "protocols/ephemeral_ports.hpp"

using protocols::EphemeralPorts;

TEST_CASE("the order of ephemeral ports has each port once")
{
    for (auto [low, high] : {std::pair{40000, 40000}, {40000, 40001}, {40000, 40199}, {32768, 60999}, {1, 65535}}) {
        EphemeralPorts ports(static_cast<std::uint16_t>(low), static_cast<std::uint16_t>(high));
        REQUIRE(ports.count() == static_cast<std::uint32_t>(high - low + 1));
        std::set<std::uint16_t> seen;
        std::uint16_t port = ports.nth(7);
        for (std::uint32_t n = 0; n < ports.count(); ++n, port = ports.after(port)) {
            REQUIRE(port == ports.nth(7 + n));
            REQUIRE((port >= low && port <= high));
            seen.insert(port);
        }
        CHECK(seen.size() == ports.count());
    }
}

TEST_CASE("among 32 ephemeral ports one has both ends of a connection on this CPU, whatever the key")
{
    EphemeralPorts ports(32768, 60999);
    unsigned searches = 0;
    unsigned in_vain = 0;
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        base::Random random(seed);
        netmsg::Steering steering(2, random);
        for (std::uint32_t host = 1; host <= 5; ++host) {
            base::Endpoint peer{base::IpAddr::v4(0x7f000000 + host), 7000};
            std::uint16_t port = ports.nth(random.below(ports.count()));
            bool found = false;
            for (unsigned tries = 0; tries < 32 && !found; ++tries, port = ports.after(port)) {
                base::Endpoint local{base::IpAddr::v4(0x7f000001), port};
                found = steering.cpu_of({local, peer}) == 0 && steering.cpu_of({peer, local}) == 0;
            }
            ++searches;
            in_vain += found ? 0 : 1;
        }
    }
    CHECK(searches == 1000);
    CHECK(in_vain <= 2); // of a fair coin in 32 throws of two: one in ten thousand
}
