// bench-flood: does anything starve while packets flood in? Lateness of timers, duration of control calls, keepalives
// and established connections at several times the capacity, on one CPU and on two, and the receive livelock curve:
// what a program still gets as more and more is offered. The capacity is measured first. Application threads share the
// CPUs of the protocol threads. One JSON object a line on stdout.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

#include "benchmarks/flood_netif.hpp"
#include "benchmarks/flood_world.hpp"
#include "lwkt/topology.hpp"

namespace {

using bench::FloodSample;
using bench::FloodWorld;
using Seconds = std::chrono::duration<double>;

constexpr double multiples[] = {0.25, 0.5, 1, 2, 4, 8};
constexpr double flood_multiple = 4;
constexpr double without_end = 1e12; // packets per second that no CPU takes

struct Plan {
    Seconds point{0.5};
    Seconds late{5};
    std::size_t connections = FloodWorld::idle_default; // idle ones, with keepalives
};

// The worst of all numbers of CPUs.
struct Worst {
    double value = -1;
    double p50 = 0, p99 = 0, max = 0;
    std::size_t samples = 0;
    std::size_t cpus = 0;
    std::uint64_t refused = 0; // of the samples; they count with the time that their refusal took

    void take(const bench::Samples& s, std::size_t on_cpus, std::uint64_t failed = 0)
    {
        if (s.quantile(0.999) > value) {
            *this = {s.quantile(0.999), s.quantile(0.5), s.quantile(0.99), s.max(), s.us.size(), on_cpus, failed};
        }
    }
};

void print_late(const char* name, const Worst& w)
{
    std::printf("{\"name\": \"%s\", \"value\": %.0f, \"unit\": \"us\", \"low\": %.0f, \"high\": %.0f, \"runs\": 1, "
                "\"why\": \"the larger of 1 and 2 CPUs, here %zu: p50 %.0f, p99 %.0f, p99.9 %.0f, max %.0f us of %zu "
                "samples, %llu of them refused, at %.0f times the capacity, programs on the same CPUs\"}\n",
        name, w.value, w.value, w.value, w.cpus, w.p50, w.p99, w.value, w.max, w.samples,
        static_cast<unsigned long long>(w.refused), flood_multiple);
    std::fflush(stdout);
}

struct Point {
    const char* name;
    const char* goodput; // what `value` is
    std::size_t cpus;
    double multiple;
    double value;
};

void print_point(const Point& p, const FloodSample& s)
{
    std::printf("{\"name\": \"%s.cpus%zu\", \"multiple\": %.2f, \"offered\": %.0f, \"%s\": %.0f, \"taken\": %.0f, "
                "\"lost\": %.0f, \"exchanges\": %.0f, \"timer_p999_us\": %.0f, \"timer_max_us\": %.0f, "
                "\"gap_p999_us\": %.0f, \"gap_max_us\": %.0f, "
                "\"control_p999_us\": %.0f, \"control_calls\": %zu, \"keepalive_probes\": %llu, \"idle_lost\": "
                "%llu, \"broken\": %llu, \"refused\": %llu}\n",
        p.name, p.cpus, p.multiple, s.offered_per_s, p.goodput, p.value, s.taken_per_s, s.lost_per_s, s.exchanges_per_s,
        s.timer.quantile(0.999), s.timer.max(), s.gap.quantile(0.999), s.gap.max(), s.control.quantile(0.999),
        s.control.us.size(), static_cast<unsigned long long>(s.probes), static_cast<unsigned long long>(s.idle_lost),
        static_cast<unsigned long long>(s.broken), static_cast<unsigned long long>(s.refused));
    std::fflush(stdout);
}

// The mixed flood beside established connections: theirs is the goodput.
void flood(const std::vector<int>& cpus, const Plan& plan, Worst& timer, Worst& control)
{
    FloodWorld world(cpus, false, plan.connections);
    double capacity = world.measure(bench::flood_mixed, without_end, plan.point).taken_per_s;
    FloodSample quiet = world.measure(bench::flood_mixed, 0, plan.point);
    print_point({"flood", "established", cpus.size(), 0, quiet.exchanges_per_s}, quiet);
    for (double m : multiples) {
        FloodSample s = world.measure(bench::flood_mixed, capacity * m, m == flood_multiple ? plan.late : plan.point);
        print_point({"flood", "established", cpus.size(), m, s.exchanges_per_s}, s);
        if (m == flood_multiple) {
            timer.take(s.timer, cpus.size());
            control.take(s.control, cpus.size(), s.refused);
        }
    }
}

// Datagrams to a program that reads as fast as it can: what it gets is the goodput.
void livelock(const std::vector<int>& cpus, const Plan& plan)
{
    FloodWorld world(cpus, true);
    // What it gets at its best, found by doubling: beyond it, more offered may mean less got.
    double capacity = 0;
    for (double rate = 50'000; rate < 64e6; rate *= 2) {
        double got = world.measure(bench::flood_udp_read, rate, plan.point / 2).read_per_s;
        capacity = std::max(capacity, got);
        if (got < rate / 2) {
            break;
        }
    }
    for (double m : multiples) {
        FloodSample s = world.measure(bench::flood_udp_read, capacity * m, plan.point);
        print_point({"livelock", "goodput", cpus.size(), m, s.read_per_s}, s);
    }
}

int usage()
{
    std::fprintf(stderr, "usage: bench-flood [--quick] [--cpus LIST] [--seconds S] [--connections N]\n");
    return 64;
}

} // namespace

int main(int argc, char** argv)
{
    Plan plan;
    std::vector<int> usable = lwkt::usable_cpus();
    for (int i = 1; i < argc; ++i) {
        std::string_view arg = argv[i];
        std::string error;
        if (arg == "--quick") {
            plan.point = Seconds{0.1};
            plan.late = Seconds{1.2};
        } else if (arg == "--cpus" && i + 1 < argc) {
            usable = lwkt::parse_cpu_list(argv[++i], error);
        } else if (arg == "--seconds" && i + 1 < argc) {
            plan.late = Seconds{std::strtod(argv[++i], nullptr)};
        } else if (arg == "--connections" && i + 1 < argc) {
            plan.connections = std::strtoull(argv[++i], nullptr, 10);
        } else {
            return usage();
        }
    }
    bool idle = plan.connections >= 1 && plan.connections <= FloodWorld::idle_max;
    if (usable.empty() || plan.late <= Seconds{0} || !idle) {
        return usage();
    }
    Worst timer;
    Worst control;
    for (std::size_t n = 1; n <= std::min<std::size_t>(usable.size(), 2); ++n) {
        std::vector<int> cpus(usable.begin(), usable.begin() + static_cast<std::ptrdiff_t>(n));
        std::fprintf(stderr, "bench-flood: %zu CPUs\n", n);
        flood(cpus, plan, timer, control);
        livelock(cpus, plan);
    }
    print_late("late.timer_p999", timer);
    print_late("late.control_p999", control);
    return 0;
}
