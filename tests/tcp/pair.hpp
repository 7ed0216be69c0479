// Two hosts joined by the simulated link, on one virtual clock; and a checked stream from one application to another.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "base/random.hpp"
#include "drivers/sim_link.hpp"
#include "lwkt/clock.hpp"
#include "tests/tcp/tcp_host.hpp"

namespace tcp_test {

struct PairOptions {
    std::uint64_t seed = 1;
    unsigned cpus = 1;
    std::uint32_t ring_shift = 18;
    std::uint32_t time_wait_per_cpu = 65536;
    drivers::Impairments weather;
    bool tso = true;
    bool gso = false;
    bool gro = false;
    bool split = false;
    bool csum_offload = true;
    std::uint8_t congestion = 0;   // StackOptions::congestion
    bool shuffle = true;           // the order of CPUs in each round is drawn from the seed
    protocols::StackOptions stack; // the rest of what both hosts do
};

class Pair {
public:
    explicit Pair(const PairOptions& options);
    ~Pair();

    App& listen(std::uint16_t port);
    App& connect(std::uint16_t port, base::CpuId cpu = 0);
    std::pair<App*, App*> connected(std::uint16_t port); // client on a, server on b
    // Steps and advances time until `done` (called after every quiet moment); false when `limit` passes first.
    bool run_until(const std::function<bool()>& done, base::Micros limit);
    void run_for(base::Micros time, const std::function<void()>& each = {});
    void close_all();
    // After 2 MSL and more: no connections, no sockets but closed ones, no packets out of their pools.
    void expect_clean();

    lwkt::VirtualClock clock;
    Host a;
    Host b;

private:
    bool step();
    void settle();
    base::Random order_;
    bool shuffle_;
};

class Stream {
public:
    Stream(App& from, App& to, std::uint64_t bytes, std::uint64_t seed)
        : from_(from), to_(to), bytes_(bytes), out_(seed), in_(seed)
    {
    }
    // Moves what can be moved; true when everything has arrived.
    bool pump();
    bool correct() const { return correct_ && received_ == bytes_; }

private:
    App& from_;
    App& to_;
    std::uint64_t bytes_;
    base::Random out_;
    base::Random in_;
    std::uint64_t sent_ = 0; // in whole words
    std::uint64_t received_ = 0;
    std::vector<unsigned char> pending_; // not written yet
    std::vector<unsigned char> tail_;    // of an incomplete word
    bool correct_ = true;
};

} // namespace tcp_test
