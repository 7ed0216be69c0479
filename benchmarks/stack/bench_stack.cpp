// bench-stack: one measurement of a stack without a device, as one JSON object on stdout. Workers (application threads)
// and protocol threads share the CPUs of --cpus, one of each per CPU; with --cpus 0 everything is on one. The same
// workers run on an embedded netd over its loopback wire and on the kernel's loopback. benchmarks/run alternates
// invocations and makes rows of them.
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#include <chrono>
#include <functional>
#include <iostream>
#include <thread>

#include <CLI/CLI.hpp>

#include "benchmarks/stack/embed_side.hpp"
#include "benchmarks/stack/kernel_side.hpp"
#include "benchmarks/stack/workloads.hpp"

namespace {

using namespace bench;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

struct Options {
    Plan plan;
    std::string workload;
    std::string on = "embed";
};

void pin(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(cpu), &one);
    if (int error = pthread_setaffinity_np(pthread_self(), sizeof one, &one); error != 0) {
        give_up("--cpus", -error);
    }
}

std::uint64_t context_switches()
{
    rusage use{};
    getrusage(RUSAGE_SELF, &use);
    return static_cast<std::uint64_t>(use.ru_nvcsw + use.ru_nivcsw);
}

double cpu_seconds()
{
    timespec used{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

std::uint64_t sum(const std::vector<Progress>& all, std::atomic<std::uint64_t> Progress::*field)
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
    return name == "conn"  ? &Worker<Side>::conn
           : name == "rr"  ? &Worker<Side>::rr
           : name == "udp" ? &Worker<Side>::udp
                           : &Worker<Side>::bulk;
}

template <typename Side>
nlohmann::json measure(const Options& o)
{
    Side side(o.plan);
    std::atomic<bool> stop{false};
    std::vector<Progress> progress(o.plan.cpus.size());
    std::vector<std::thread> workers;
    for (unsigned i = 0; i < o.plan.cpus.size(); ++i) {
        workers.emplace_back([&, i] {
            pin(o.plan.cpus[i]);
            [[maybe_unused]] auto entered = side.enter(i);
            Worker<Side> worker(side, o.plan, i, progress[i], stop);
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
    auto start = Clock::now();
    std::this_thread::sleep_for(Seconds(o.plan.seconds));
    std::uint64_t done = sum(progress, &Progress::done) - before;
    Seconds took = Clock::now() - start;
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
        {"seconds", took.count()}, {"cpu_seconds", used}, {"counters", counters}};
}

} // namespace

int main(int argc, char** argv)
{
    Options o;
    o.plan.cpus = {0};
    CLI::App app{"bench-stack: connections, requests, datagrams and bulk on an in-memory wire"};
    app.add_option("workload", o.workload, "conn, rr, udp or bulk")
        ->required()
        ->check(CLI::IsMember({"conn", "rr", "udp", "bulk"}));
    app.add_option("--on", o.on, "embed (netd in this process) or kernel (its loopback)")
        ->check(CLI::IsMember({"embed", "kernel"}));
    app.add_option("--discipline", o.plan.discipline, "embed: message, inline, giant or striped")
        ->check(CLI::IsMember({"message", "inline", "giant", "striped"}));
    app.add_option("--lock", o.plan.lock, "giant, striped: mutex, spin (then sleep) or queue")
        ->check(CLI::IsMember({"mutex", "spin", "queue"}));
    app.add_option("--locks-per-operation", o.plan.locks_per_operation, "striped: 1, or 3 with the buffers' locks")
        ->check(CLI::IsMember({1, 3}));
    app.add_option("--cpus", o.plan.cpus, "CPUs, one worker and one protocol thread on each")
        ->delimiter(',')
        ->check(CLI::Range(0, CPU_SETSIZE - 1));
    app.add_option("--seconds", o.plan.seconds, "measured time after a warm-up of a fifth of it")
        ->check(CLI::Range(0.01, 3600.0));
    app.add_option("--concurrency", o.plan.concurrency, "operations under way, all workers together")
        ->check(CLI::Range(1, 1 << 24));
    app.add_option("--bytes", o.plan.bytes, "of a request and of a response; bulk: of a write, 256 KiB if not given")
        ->check(CLI::Range(8, 1 << 18));
    app.add_option("--mss", o.plan.mss, "embed: plain segments of this size with checksums, not super-segments without")
        ->check(CLI::Range(536, 65495));
    CLI11_PARSE(app, argc, argv);
    if (o.workload == "bulk" && app.count("--bytes") == 0) {
        o.plan.bytes = 1 << 18;
    }
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    std::cout << (o.on == "kernel" ? measure<KernelSide>(o) : measure<EmbedSide>(o)) << std::endl;
    return 0;
}
