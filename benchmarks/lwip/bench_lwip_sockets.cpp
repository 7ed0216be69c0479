// bench-lwip-locking and bench-lwip-messages: the workloads of bench-stack on lwIP's threaded side, its application
// threads apart from its own thread. The two differ in how a call reaches the protocol (LWIP_TCPIP_CORE_LOCKING): under
// lwIP's one lock, or as a message to its thread. One JSON object on stdout; conditions: benchmarks/README.md.
#include <iostream>
#include <set>

#include <CLI/CLI.hpp>

#include "benchmarks/lwip/lwip_side.hpp"
#include "benchmarks/stack/measure.hpp"

#ifdef BENCH_TRAINS
extern "C" void __gcov_dump(); // libgcov: writes what was counted (benchmarks/train)
#endif

int main(int argc, char** argv)
{
    using namespace bench;
    Options o;
    o.on = "lwip";
    o.plan.cpus = {0};
    o.plan.concurrency = 16;
    o.plan.mss = 1460;
    CLI::App app{"The workloads of bench-stack on lwIP's threaded side"};
    app.add_option("workload", o.workload, "conn, rr, udp or bulk")
        ->required()
        ->check(CLI::IsMember({"conn", "rr", "udp", "bulk"}));
    app.add_option("--cpus", o.plan.cpus, "CPUs of the workers, one on each (default 0)")
        ->delimiter(',')
        ->check(CLI::Range(0, CPU_SETSIZE - 1));
    app.add_option("--stack-cpu", o.plan.stack_cpu, "CPU of lwIP's thread (default: the first of --cpus)")
        ->check(CLI::Range(0, CPU_SETSIZE - 1));
    app.add_option("--seconds", o.plan.seconds, "measured time after a warm-up of a fifth of it")
        ->check(CLI::Range(0.01, 3600.0));
    app.add_option("--concurrency", o.plan.concurrency, "operations under way, all workers together (default 16)")
        ->check(CLI::Range(1, 16000));
    app.add_option("--bytes", o.plan.bytes, "of a request and of a response; bulk: of a write, 256 KiB if not given")
        ->check(CLI::Range(8, 1 << 18));
    app.add_option("--mss", o.plan.mss, "TCP payload of a packet (default 1460)")->check(CLI::Range(536, 65495));
    bool no_copy = false;
    app.add_flag(
        "--no-copy", no_copy, "bulk: netconns can write without a copy and lend what they received; sockets cannot");
    CLI11_PARSE(app, argc, argv);
    o.plan.copy = !no_copy;
    if (o.workload == "bulk" && app.count("--bytes") == 0) {
        o.plan.bytes = 1 << 18;
    }
    std::set<int> used(o.plan.cpus.begin(), o.plan.cpus.end());
    if (o.plan.stack_cpu >= 0) {
        used.insert(o.plan.stack_cpu);
    }
    nlohmann::json result = measure<LwipSide>(o);
    result["cpus"] = used.size();
    result["discipline"] = LWIP_TCPIP_CORE_LOCKING != 0 ? "core lock" : "messages";
    std::cout << result << std::endl;
#ifdef BENCH_TRAINS
    __gcov_dump(); // which the way out below would not
#endif
    _exit(0); // lwIP's thread has no end
}
