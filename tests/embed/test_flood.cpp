// Many idle connections with keepalives while packets flood in, on real threads: nobody is starved so long that a
// connection ends, whatever the machine does. How late anything is, bench-flood --connections tells.
#include <catch2/catch.hpp>

#include "benchmarks/flood_netif.hpp"
#include "benchmarks/flood_world.hpp"

TEST_CASE("idle connections live through a flood by their keepalives, established ones go on")
{
    constexpr std::size_t idle = 10'000;
    constexpr int waits_max = 60;
    bench::FloodWorld world({-1, -1}, false, idle);
    for (double packets_per_s : {0.0, 200'000.0}) {
        std::uint64_t probes = 0;
        for (int waits = 0; waits < waits_max && probes < 2 * idle; ++waits) {
            bench::FloodSample s = world.measure(bench::flood_mixed, packets_per_s, std::chrono::seconds(1));
            CAPTURE(packets_per_s, waits, s.probes, s.taken_per_s, s.lost_per_s, s.refused);
            REQUIRE(s.idle_lost == 0);
            REQUIRE(s.broken == 0);
            REQUIRE(s.exchanges_per_s > 0);
            REQUIRE_FALSE(s.timer.us.empty());
            REQUIRE_FALSE(s.control.us.empty());
            probes += s.probes;
        }
        REQUIRE(probes >= 2 * idle); // one a second and connection is due
    }
}
