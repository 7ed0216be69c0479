// bench-lwip: the workloads of bench-stack on lwIP, for comparison. Both ends in one thread on one CPU, an in-memory
// wire between them. One JSON object on stdout; how lwIP is built and why that is fair: benchmarks/README.md.
#include <sched.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <iostream>

#include <CLI/CLI.hpp>
#include <lwip/memp.h>
#include <nlohmann/json.hpp>

#include "benchmarks/lwip/lwip_port.hpp"
#include "benchmarks/lwip/lwip_work.hpp"

namespace {

using namespace lwip_bench;

constexpr unsigned turns_per_tick = 16; // of the wire, between two looks at the clock
constexpr std::uint64_t stalled_ns = 10'000'000'000;

struct Options {
    WorkOptions work;
    WireOptions wire;
    double seconds = 1.0;
    unsigned cpu = 0;
};

void pin(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (cpu >= CPU_SETSIZE || sched_setaffinity(0, sizeof set, &set) != 0) {
        fail("CPU %u: %s", cpu, std::strerror(errno));
    }
}

double cpu_seconds()
{
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// Runs the stack for a time, or until `done`. Returns the time it took.
template <typename Done>
double run(Wire& wire, Work& work, double seconds, Done done)
{
    std::uint64_t start = tick_ns();
    std::uint64_t now = start;
    std::uint64_t progress = start;
    std::uint64_t seen = wire.counters.packets;
    auto length = static_cast<std::uint64_t>(seconds * 1e9);
    while (now - start < length && !done()) {
        for (unsigned i = 0; i < turns_per_tick; ++i) {
            if (!wire.turn()) {
                work.refill();
            }
        }
        now = tick_ns();
        if (wire.counters.packets != seen) {
            seen = wire.counters.packets;
            progress = now;
        } else if (now - progress > stalled_ns) {
            fail("nothing moved for %llu s", static_cast<unsigned long long>(stalled_ns / 1'000'000'000));
        }
    }
    return static_cast<double>(now - start) * 1e-9;
}

void measure(const Options& o, Wire& wire, Work& work)
{
    run(wire, work, 1e3, [&work] { return work.ready(); });
    run(wire, work, o.seconds / 5, [] { return false; }); // warm
    WireCounters before = wire.counters;
    std::uint64_t done_before = work.operations;
    double cpu_before = cpu_seconds();
    double took = run(wire, work, o.seconds, [] { return false; });
    double cpu = cpu_seconds() - cpu_before;
    std::uint64_t done = work.operations - done_before;
    const WireCounters& after = wire.counters;
    if (done == 0) {
        fail("no operation was completed in %.3f s", took);
    }
    bool bulk = o.work.workload == "bulk";
    nlohmann::json counters{{"packets", after.packets - before.packets}, {"wire_bytes", after.bytes - before.bytes},
        {"drops", after.drops - before.drops}, {"corrupted", after.corrupted}, {"cpu_seconds", cpu}};
    std::cout << nlohmann::json{{"workload", o.work.workload}, {"on", "lwip"}, {"discipline", ""}, {"cpus", 1},
                     {"concurrency", bulk ? 1 : o.work.concurrency}, {"value", static_cast<double>(done) / took},
                     {"unit", bulk ? "B/s" : "1/s"}, {"operations", done}, {"seconds", took}, {"mss", o.wire.mss},
                     {"bytes", o.work.bytes}, {"checksums", o.wire.checksums}, {"copy", o.work.copy},
                     {"routines", o.wire.fast_routines ? "fast" : "lwip"}, {"counters", counters}}
              << std::endl;
}

// Memory of one end of an established connection that had a request and a response, and is idle now.
void weigh(const Options& o, Wire& wire, Work& work)
{
    run(wire, work, 1e3, [&] { return work.ready() && work.operations == o.work.concurrency; });
    run(wire, work, 1.0, [] { return false; }); // delayed ACKs
    double ends = 2.0 * o.work.concurrency;
    double pools = 0;
    for (int pool : {MEMP_TCP_PCB, MEMP_TCP_SEG, MEMP_PBUF}) {
        pools += static_cast<double>(pool_used(pool)) * pool_element_bytes(pool);
    }
    double heap = static_cast<double>(heap_used_bytes());
    nlohmann::json counters{{"pcb", pool_element_bytes(MEMP_TCP_PCB)}, {"pools", pools / ends}, {"heap", heap / ends}};
    std::cout << nlohmann::json{{"name", "bytes.idle_lwip"}, {"value", (pools + heap) / ends}, {"unit", "bytes"},
                     {"connections", o.work.concurrency}, {"counters", counters}}
              << std::endl;
}

Options parse(int argc, char** argv)
{
    Options o;
    CLI::App app{"The workloads of bench-stack on lwIP"};
    std::string checksums = "on";
    std::string routines = "fast";
    app.add_option("workload", o.work.workload, "conn, rr, bulk, udp, or idle (memory of an idle connection)")
        ->required()
        ->check(CLI::IsMember({"conn", "rr", "bulk", "udp", "idle"}));
    app.add_option("--seconds", o.seconds, "time measured")->check(CLI::Range(0.01, 3600.0));
    auto* concurrency =
        app.add_option("--concurrency", o.work.concurrency, "operations outstanding (default 1); bulk is one stream");
    concurrency->check(CLI::Range(1, 16000));
    app.add_option("--cpu", o.cpu, "CPU of the thread (default 0)");
    app.add_option("--mss", o.wire.mss, "TCP payload of a packet (default 1460; up to 65495: super-frames)")
        ->check(CLI::Range(536, 65495));
    auto* bytes = app.add_option("--bytes", o.work.bytes, "of a request and a response (64); bulk: of a write");
    bytes->check(CLI::Range(1, 65535));
    app.add_option("--checksums", checksums, "on (default) or off")->check(CLI::IsMember({"on", "off"}));
    app.add_flag("--copy", o.work.copy, "bulk: copy at both ends, as sockets do");
    app.add_option("--routines", routines, "checksum and heap: fast (default), or lwip: its own and malloc's")
        ->check(CLI::IsMember({"fast", "lwip"}));
    app.add_option("--corrupt", o.wire.corrupt_nth, "flip a bit in the nth packet (shows that checksums are verified)");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        std::exit(app.exit(e) == 0 ? 0 : 64);
    }
    o.wire.checksums = checksums == "on";
    o.wire.fast_routines = routines == "fast";
    if (bytes->count() == 0 && o.work.workload == "bulk") {
        o.work.bytes = 32120; // 22 segments of 1,460
    }
    if (o.work.workload == "udp" && o.work.bytes > o.wire.mss + 12) {
        fail("udp: %zu bytes do not fit one packet", o.work.bytes);
    }
    if (o.work.workload == "idle" && !o.wire.fast_routines) {
        fail("idle: the memory of malloc is not counted");
    }
    if (o.work.workload == "idle" && concurrency->count() == 0) {
        o.work.concurrency = 1000;
    }
    return o;
}

} // namespace

int main(int argc, char** argv)
{
    Options o = parse(argc, argv);
    pin(o.cpu);
    Wire wire(o.wire);
    const std::string& name = o.work.workload;
    auto work = name == "bulk" ? make_bulk_work(o.work) : name == "udp" ? make_udp_work(o.work) : make_tcp_work(o.work);
    if (name == "idle") {
        weigh(o, wire, *work);
    } else {
        measure(o, wire, *work);
    }
    return 0;
}
