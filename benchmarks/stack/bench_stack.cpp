// bench-stack: one measurement of a stack without a device, as one JSON object on stdout. Workers (application threads)
// and protocol threads share the CPUs of --cpus, one of each per CPU; with --cpus 0 everything is on one. The same
// workers run on an embedded netd over its loopback wire and on the kernel's loopback. benchmarks/run alternates
// invocations and makes rows of them.
#include <sys/resource.h>

#include <iostream>

#include <CLI/CLI.hpp>

#include "benchmarks/stack/embed_side.hpp"
#include "benchmarks/stack/kernel_side.hpp"
#include "benchmarks/stack/measure.hpp"

int main(int argc, char** argv)
{
    using namespace bench;
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
    app.add_option("--shards", o.plan.shards, "striped: among how many locks connections are spread")
        ->check(CLI::Range(1, 64));
    app.add_flag("--near,!--no-near", o.plan.near,
        "striped: a worker's sockets lie in the shards of its own CPU (default), or in all of them");
    app.add_flag(
        "--cross", o.plan.cross, "embed: clients and their servers are on different workers (with two CPUs or more)");
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
    app.add_flag("--gso,!--no-gso", o.plan.gso, "embed, --mss: TCP makes super-segments, which are cut at the wire");
    app.add_flag("--gro,!--no-gro", o.plan.gro, "embed, --mss: received segments are joined");
    app.add_option("--waiter", o.plan.waiter, "embed: what an idle protocol thread sleeps in; valgrind needs epoll")
        ->check(CLI::IsMember({"probe", "io_uring", "epoll"}));
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
