// The data path in the steady state: no allocation, no message between CPUs, no packet or connection more than before.
// Replaces the global operator new of this program by one that counts while the stacks are stepped.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <new>

#include "tests/tcp/pair.hpp"

namespace {
bool counting = false;
std::uint64_t allocations = 0;
} // namespace

void* operator new(std::size_t bytes)
{
    allocations += counting ? 1 : 0;
    void* p = std::malloc(bytes);
    if (p == nullptr) {
        std::abort();
    }
    return p;
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept
{
    return operator new(bytes);
}
void operator delete(void* p) noexcept
{
    std::free(p);
}
void operator delete(void* p, std::size_t) noexcept
{
    std::free(p);
}

using namespace tcp_test;

namespace {

// Messages that CPUs of a host sent to each other.
std::uint64_t messages(Host& h)
{
    std::uint64_t n = 0;
    for (base::CpuId c = 0; c < h.set.size(); ++c) {
        n += h.set.cpu(c).counters().messages_out.load();
    }
    return n;
}

std::uint64_t segments(Host& h)
{
    std::uint64_t n = 0;
    for (base::CpuId c = 0; c < h.set.size(); ++c) {
        n += h.tcp(c).counters.segments_in.load();
    }
    return n;
}

// Steps both hosts until nothing is left to do, counting what they allocate.
void step_counted(Pair& p)
{
    counting = true;
    while (p.a.set.step() || p.b.set.step()) {
    }
    counting = false;
}

} // namespace

TEST_CASE("an established connection allocates nothing and sends nothing to other CPUs")
{
    PairOptions o;
    o.cpus = 2;
    Pair p(o);
    auto [client, server] = p.connected(5010);
    Stream warm(*client, *server, 4U << 20, 1);
    REQUIRE(p.run_until([&] { return warm.pump(); }, base::seconds(60)));

    std::uint64_t messages_before = messages(p.a) + messages(p.b);
    std::uint64_t segments_before = segments(p.a) + segments(p.b);
    std::vector<char> buffer(65536, 'x');
    std::uint64_t moved = 0;
    for (unsigned round = 0; round < 2000; ++round) {
        client->write(buffer.data(), buffer.size());
        step_counted(p);
        moved += server->take(buffer.data(), buffer.size());
        step_counted(p);
        p.clock.advance_to(p.clock.now() + base::Micros{100});
    }
    INFO("moved " << moved << " bytes");
    CHECK(moved > 32U << 20);
    CHECK(segments(p.a) + segments(p.b) > segments_before + 1000);
    CHECK(allocations == 0);
    CHECK(messages(p.a) + messages(p.b) == messages_before);
    p.close_all();
    p.expect_clean();
}
