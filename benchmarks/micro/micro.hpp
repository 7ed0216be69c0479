// What the files of bench-micro share: figures and how they are printed, rounds, clocks, pinning. A family is what a
// NAME on the command line asks for; it prints its figures itself. Sides that are compared take turns within the
// rounds.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "lwkt/cpu_set.hpp"

namespace micro {

struct Figure {
    std::string name;
    std::string unit = "ns";
    std::string why{};
    std::vector<double> values{}; // one per round; empty = could not be measured
    std::string of{};             // a curve this is a point of, at `at`
    std::uint64_t at = 0;

    double median() const;
    void print() const; // one JSON object, one line
};

extern bool quick;
double seconds_now();     // wall time
double cpu_seconds_now(); // of this thread: what others do on a busy machine does not count
// `for (Rounds r; r.another();)`: 11 of them (5 when quick), fewer when they take long, 3 at least.
class Rounds {
public:
    bool another();

private:
    int begun_ = 0;
    double start_ = seconds_now();
};
void bind_here(int os_cpu);
// Two OS CPUs to measure between; empty when there is only one, and then says so as figures without a value.
std::vector<int> pair_of_cpus(const std::vector<std::string>& figures, const char* unit = "ns");
// CPU set options for two protocol threads that do not go to sleep, or do so at once.
lwkt::CpuSetOptions awake(const std::vector<int>& cpus);
lwkt::CpuSetOptions sleepy(const std::vector<int>& cpus);
// 1,000 to 10 million by tens; to a million when quick.
std::vector<std::size_t> sizes();
std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Keeps a value from being optimised away.
template <typename T>
void use(const T& value)
{
    asm volatile("" : : "r,m"(value) : "memory");
}

// Both threads come together here before a measurement.
struct Meeting {
    std::atomic<int> here{0};
    void wait()
    {
        here.fetch_add(1);
        while (here.load() != 2) {
        }
    }
};

struct Family {
    const char* name;
    void (*measure)();
};

void rings();          // micro_ring.cpp
void calls();          // micro_call.cpp
void messages();       // micro_message.cpp
void doorbells();      // micro_message.cpp
void wheel();          // micro_wheel.cpp
void pools();          // micro_pool.cpp
void checksums();      // micro_wire.cpp
void aliased_copies(); // micro_wire.cpp
void toeplitz();       // micro_wire.cpp
void pcbs();           // micro_pcb.cpp

} // namespace micro
