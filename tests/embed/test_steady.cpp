// The steady state of an established connection whose packets arrive on its owner: no lock, no allocation, no message
// between CPUs and no atomic operation on a line of another protocol thread per packet. benchmarks/steady_state.hpp
// counts; here each counter is shown to count by planting what it looks for on the protocol threads' path.
#include <catch2/catch.hpp>

#include "benchmarks/steady_state.hpp"

using steady::Planted;

TEST_CASE("steady state: no lock, no allocation, no message to another CPU per packet")
{
    steady::Counts r = steady::measure(Planted::nothing);
    REQUIRE(r.good);
    CHECK(r.packets > 250);
    CHECK(r.locks == 0);
    CHECK(r.allocations == 0);
    CHECK(r.remote == 0);
}

TEST_CASE("steady state: what is planted is counted")
{
    steady::Counts lock = steady::measure(Planted::lock);
    CHECK(lock.locks > 0);
    CHECK(lock.allocations == 0);
    steady::Counts allocation = steady::measure(Planted::allocation);
    CHECK(allocation.allocations > 0);
    CHECK(allocation.locks == 0);
    steady::Counts message = steady::measure(Planted::message);
    CHECK(message.remote > 0);
    CHECK(message.allocations == 0);
}

#if defined(__x86_64__)
TEST_CASE("steady state: no locked instruction on a line that another protocol thread locks; a planted one is seen",
    "[.stepped]")
{
    steady::Atomics r = steady::measure_atomics(Planted::nothing);
    REQUIRE(r.good);
    REQUIRE(r.looks > 0);
    CHECK(r.packets > 10);
    CHECK(r.shared == 0);
    CHECK(r.fences == 0);
    steady::Atomics planted = steady::measure_atomics(Planted::atomic);
    REQUIRE(planted.good);
    CHECK(planted.shared > 0);
}
#endif
