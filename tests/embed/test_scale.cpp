// What may not grow with the number of CPUs, counted in virtual time (benchmarks/scale_world.hpp): packets that arrive
// on their owner cost no message, and set-up costs what it must.
#include <catch2/catch.hpp>

#include "benchmarks/scale_world.hpp"

using bench::ScaleCounts;
using bench::ScaleRun;
using bench::ScaleWire;
using bench::ScaleWork;

namespace {

ScaleCounts counts(ScaleWork work, ScaleWire wire, std::size_t cpus, std::uint64_t seed = 5)
{
    return bench::run_scale({work, wire, cpus, seed, 4 * cpus + 128, 64});
}

} // namespace

TEST_CASE("scale: the same seed counts the same")
{
    ScaleCounts a = counts(ScaleWork::conn, ScaleWire::loopback, 64, 9);
    ScaleCounts b = counts(ScaleWork::conn, ScaleWire::loopback, 64, 9);
    CHECK(a.messages > 0);
    CHECK(a.forwarded > 0);
    CHECK(a.messages == b.messages);
    CHECK(a.forwarded == b.forwarded);
    CHECK(a.batches == b.batches);
    CHECK(a.busiest == b.busiest);
    CHECK(a.messages != counts(ScaleWork::conn, ScaleWire::loopback, 64, 10).messages);
}

TEST_CASE("scale: packets that arrive on their owner need no message, on any number of CPUs")
{
    for (ScaleWork work : {ScaleWork::conn, ScaleWork::rr, ScaleWork::udp}) {
        for (std::size_t cpus : {1, 4, 64}) {
            INFO(cpus << " CPUs, workload " << static_cast<int>(work));
            ScaleCounts c = counts(work, ScaleWire::link, cpus);
            CHECK(c.forwarded == 0);
            CHECK(c.messages == 0);
            CHECK(c.line_transfers() == 0);
        }
    }
}

TEST_CASE("scale: work spreads, no CPU is everybody's")
{
    for (std::size_t cpus : {4, 16}) {
        ScaleCounts c = bench::run_scale({ScaleWork::conn, ScaleWire::link, cpus, 3, 64 * cpus, 64});
        INFO(cpus << " CPUs: " << c.busiest << " of " << c.packets << " packets on the busiest");
        CHECK(c.busiest * cpus < 2 * c.packets);
    }
}

TEST_CASE("scale: a datagram socket that connects to this host takes a port that keeps its flow at home")
{
    ScaleCounts c = counts(ScaleWork::udp, ScaleWire::loopback, 4);
    INFO(c.forwarded << " of " << c.packets << " packets forwarded");
    CHECK(c.packets > 0);
    CHECK(c.forwarded < c.packets / 2); // requests stay; the answers of the one server leave from its CPU
}

TEST_CASE("scale: a local connection stays on its CPU while ports for that are found, and set-up is one walk")
{
    for (std::size_t cpus : {4, 64}) {
        ScaleCounts c = counts(ScaleWork::conn, ScaleWire::loopback, cpus);
        INFO(cpus << " CPUs: " << c.forwarded << " of " << c.packets << " packets forwarded, " << c.messages
                  << " messages");
        if (cpus == 4) {
            CHECK(c.forwarded == 0); // the port was chosen so that both ends are at home
        }
        CHECK(c.forwarded <= c.packets);      // one way at most once
        CHECK(c.messages <= 2 * c.forwarded); // there, and its memory home
        CHECK(c.walks_port <= 4 * cpus);      // bind and listen, each to every CPU and back
    }
}
