// Connections fall asleep while application threads write and read, on real threads: the race of a writer with the
// taking away of its ring. Assertions on the main thread only.
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "protocols/tcp/tcp_domain.hpp"
#include "tests/embed/pair.hpp"

using namespace test;

namespace {

constexpr unsigned connections = 4;
constexpr int bursts = 300;

// Bursts with pauses about as long as the idle time, so that many meet the sweep.
void write_bursts(embed::Socket& s, unsigned salt, std::atomic<int>& errors)
{
    base::Random random{salt};
    std::uint64_t at = 0;
    std::string piece;
    for (int i = 0; i < bursts; ++i) {
        piece.resize(1 + random.below(3000));
        for (char& c : piece) {
            c = static_cast<char>(at * 31 + salt + (at >> 8));
            ++at;
        }
        errors += s.send(piece, MSG_NOSIGNAL) != static_cast<ssize_t>(piece.size());
        std::this_thread::sleep_for(std::chrono::microseconds(random.below(4000)));
    }
    s.shutdown(SHUT_WR);
}

void read_all(embed::Socket& s, unsigned salt, std::atomic<int>& errors)
{
    std::vector<char> buffer(8192);
    std::uint64_t at = 0;
    for (;;) {
        ssize_t n = s.recv(buffer);
        if (n <= 0) {
            errors += n < 0;
            return;
        }
        for (ssize_t i = 0; i < n; ++i, ++at) {
            errors += buffer[static_cast<std::size_t>(i)] != static_cast<char>(at * 31 + salt + (at >> 8));
        }
    }
}

} // namespace

TEST_CASE("idle connections on threads: writers race with the sweep, streams stay whole")
{
    gateway::GatewayOptions o = small_gateway();
    o.idle_after = base::Micros{800};
    Pair p(2, nullptr, 1, {}, o);
    embed::Socket listener = listen(p.b, b_echo);
    std::vector<embed::Socket> ours(connections);
    std::vector<embed::Socket> theirs(connections);
    std::vector<std::thread> threads;
    std::atomic<int> errors{0};
    for (unsigned i = 0; i < connections; ++i) {
        ours[i] = open(p.a, SOCK_STREAM);
        REQUIRE(ours[i].connect(b_echo) == 0);
        REQUIRE(listener.accept(theirs[i]) == 0);
    }
    for (unsigned i = 0; i < connections; ++i) {
        threads.emplace_back([&, i] { write_bursts(ours[i], i, errors); });
        threads.emplace_back([&, i] { read_all(theirs[i], i, errors); });
        threads.emplace_back([&, i] { write_bursts(theirs[i], i + 100, errors); });
        threads.emplace_back([&, i] { read_all(ours[i], i + 100, errors); });
    }
    for (std::thread& t : threads) {
        t.join();
    }
    CHECK(errors == 0);
    std::uint64_t slept = 0;
    for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
        slept += p.a.protocols().domain(cpu).tcp->counters.slept.load();
    }
    CHECK(slept > 0);
}
