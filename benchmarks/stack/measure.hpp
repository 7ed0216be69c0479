// Runs the workers of bench-stack (stack/workloads.hpp) over one side for a time and tells what was done, as JSON: a
// worker thread per CPU of the plan, pinned; what they did is counted after a warm-up. For every program that has a
// Side.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#include <chrono>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "benchmarks/stack/workloads.hpp"

namespace bench {

struct Options {
    Plan plan;
    std::string workload;
    std::string on = "embed";
};

inline void pin(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(cpu), &one);
    if (int error = pthread_setaffinity_np(pthread_self(), sizeof one, &one); error != 0) {
        give_up("--cpus", -error);
    }
}

inline std::uint64_t context_switches()
{
    rusage use{};
    getrusage(RUSAGE_SELF, &use);
    return static_cast<std::uint64_t>(use.ru_nvcsw + use.ru_nivcsw);
}

inline double cpu_seconds()
{
    timespec used{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

inline std::uint64_t sum(const std::vector<Progress>& all, std::atomic<std::uint64_t> Progress::*field)
{
    std::uint64_t total = 0;
    for (const Progress& p : all) {
        total += (p.*field).load(std::memory_order_relaxed);
    }
    return total;
}

template <typename Side>
using Work = void (Worker<Side>::*)();

template <typename Side>
Work<Side> find_work(const std::string& name)
{
    if constexpr (requires { typename Side::Address; }) { // of datagrams
        if (name == "udp") {
            return &Worker<Side>::udp;
        }
    }
    return name == "conn" ? &Worker<Side>::conn : name == "rr" ? &Worker<Side>::rr : &Worker<Side>::bulk;
}

template <typename Side>
nlohmann::json measure(const Options& o)
{
    using Seconds = std::chrono::duration<double>;
    Side side(o.plan);
    std::atomic<bool> stop{false};
    std::vector<Progress> progress(o.plan.cpus.size());
    Meeting meeting;
    std::vector<std::thread> workers;
    for (unsigned i = 0; i < o.plan.cpus.size(); ++i) {
        workers.emplace_back([&, i] {
            pin(o.plan.cpus[i]);
            [[maybe_unused]] auto entered = side.enter(i);
            Worker<Side> worker(side, o.plan, i, progress[i], meeting, stop);
            (worker.*find_work<Side>(o.workload))();
        });
    }
    for (Progress& p : progress) {
        while (!p.ready) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }
    std::this_thread::sleep_for(Seconds(o.plan.seconds / 5)); // warm
    side.start_counting();
    std::uint64_t switches = context_switches();
    double used = cpu_seconds();
    std::uint64_t before = sum(progress, &Progress::done);
    auto start = std::chrono::steady_clock::now();
    std::this_thread::sleep_for(Seconds(o.plan.seconds));
    std::uint64_t done = sum(progress, &Progress::done) - before;
    Seconds took = std::chrono::steady_clock::now() - start;
    used = cpu_seconds() - used;
    nlohmann::json counters = side.counters();
    counters["context_switches"] = context_switches() - switches;
    counters["datagrams_lost"] = sum(progress, &Progress::lost);
    stop = true;
    for (std::thread& t : workers) {
        t.join();
    }
    bool bytes = o.workload == "bulk";
    bool locked = o.on == "embed" && (o.plan.discipline == "giant" || o.plan.discipline == "striped");
    return {{"workload", o.workload}, {"on", o.on}, {"discipline", o.on == "kernel" ? "" : o.plan.discipline},
        {"lock", locked ? o.plan.lock : ""}, {"locks_per_operation", locked ? o.plan.locks_per_operation : 0},
        {"cpus", o.plan.cpus.size()}, {"concurrency", o.plan.concurrency},
        {"value", static_cast<double>(done) / took.count()}, {"unit", bytes ? "B/s" : "1/s"}, {"operations", done},
        {"operations_in_all", sum(progress, &Progress::done)}, {"seconds", took.count()}, {"cpu_seconds", used},
        {"counters", counters}};
}

} // namespace bench
