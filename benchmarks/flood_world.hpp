// A stack under a flood, and what is measured meanwhile: a periodic timer on every protocol thread, control calls,
// requests and responses of established connections, keepalives of idle ones, datagrams that a program reads. One
// object per stack; its threads are pinned to the CPUs of the protocol threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

namespace bench {

// Every sample is kept; sorted once.
struct Samples {
    std::vector<double> us;

    void sort();
    double quantile(double q) const; // after sort(); 0 when there is none
    double max() const { return quantile(1); }
};

struct FloodSample {
    double seconds = 0;
    double offered_per_s = 0;    // asked of the card, all CPUs
    double taken_per_s = 0;      // of it, what the stack took
    double lost_per_s = 0;       // of it, what the card lost
    double read_per_s = 0;       // datagrams that the reading program got
    double exchanges_per_s = 0;  // requests answered on established connections
    std::uint64_t probes = 0;    // keepalives sent
    std::uint64_t idle_lost = 0; // idle connections that ended, or have an error
    std::uint64_t broken = 0;    // established connections that ended, since the beginning
    std::uint64_t refused = 0;   // control calls that failed: there was no room for a connection
    Samples timer;               // lateness of 1 ms timers, all protocol threads
    Samples gap;                 // CPU time of a protocol thread between two looks at its timers
    Samples control;             // duration of a control call
};

class FloodWorld {
public:
    static constexpr std::size_t idle_default = 100;
    static constexpr std::size_t idle_max = 14'000; // both ends in one family, on 2 CPUs

    // cpus: OS CPU of each protocol thread. read: a program reads flood_read_port. idle: connections that say nothing
    // but a keepalive a second.
    FloodWorld(const std::vector<int>& cpus, bool read, std::size_t idle = idle_default);
    ~FloodWorld();

    // Floods for a moment, then measures for `time`.
    FloodSample measure(unsigned kinds, double packets_per_s, std::chrono::duration<double> time);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace bench
