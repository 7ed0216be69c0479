// The credit pool of a listener's backlog: the total is bounded, no CPU is shut out by what another does not use.
#include <catch2/catch.hpp>

#include <numeric>
#include <vector>

#include "gateway/listen_credits.hpp"

namespace {

struct Lanes {
    Lanes(std::uint32_t cpus, std::uint32_t backlog) : credits(cpus), waiting(cpus) { reset(backlog); }
    void reset(std::uint32_t backlog)
    {
        credits.reset(backlog, [this](std::uint32_t i) { return waiting[i]; });
    }
    bool arrive(std::uint32_t cpu)
    {
        bool taken = credits.take(cpu, waiting[cpu], [this](std::uint32_t i) { return waiting[i]; });
        waiting[cpu] += taken ? 1 : 0;
        return taken;
    }
    std::uint32_t total() const { return std::accumulate(waiting.begin(), waiting.end(), 0U); }

    gateway::ListenCredits credits;
    std::vector<std::uint32_t> waiting;
};

} // namespace

TEST_CASE("whatever CPUs connections arrive on, exactly the backlog of them wait")
{
    for (std::uint32_t cpus : {1U, 2U, 7U, 64U}) {
        for (std::uint32_t backlog : {1U, 2U, 5U, 128U, 4096U}) {
            Lanes even(cpus, backlog);
            Lanes one(cpus, backlog);
            for (std::uint32_t i = 0; i < 2 * backlog + cpus; ++i) {
                even.arrive(i % cpus);
                one.arrive(cpus - 1);
            }
            CHECK(even.total() == backlog);
            CHECK(one.total() == backlog);
        }
    }
}

TEST_CASE("credits that a CPU holds and does not use any more are found by the others")
{
    Lanes l(4, 64);
    for (int i = 0; i < 64; ++i) {
        REQUIRE(l.arrive(0));
    }
    CHECK_FALSE(l.arrive(1));
    l.waiting[0] = 10; // accepted; CPU 0 sees no connection more
    for (int i = 0; i < 54; ++i) {
        REQUIRE(l.arrive(1 + static_cast<std::uint32_t>(i) % 3));
    }
    CHECK_FALSE(l.arrive(2));
    CHECK_FALSE(l.arrive(0));
    CHECK(l.total() == 64);
}

TEST_CASE("a second listen() changes the bound, also below what waits already")
{
    Lanes l(2, 8);
    for (int i = 0; i < 8; ++i) {
        REQUIRE(l.arrive(static_cast<std::uint32_t>(i) % 2));
    }
    l.reset(4);
    CHECK_FALSE(l.arrive(0));
    CHECK_FALSE(l.arrive(1));
    l.waiting = {1, 1};
    l.reset(4);
    CHECK(l.arrive(0));
    CHECK(l.arrive(0));
    CHECK_FALSE(l.arrive(0));
    CHECK_FALSE(l.arrive(1));
    l.reset(16);
    for (int i = 0; i < 12; ++i) {
        REQUIRE(l.arrive(1));
    }
    CHECK_FALSE(l.arrive(0));
}
