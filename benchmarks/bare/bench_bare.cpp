// bench-bare: the workloads of bench-stack on a stack without a protocol (bare/bare_side.hpp), program and stack in one
// thread on one CPU. One JSON object on stdout.
#include <iostream>

#include <CLI/CLI.hpp>

#include "benchmarks/bare/bare_side.hpp"
#include "benchmarks/stack/measure.hpp"

int main(int argc, char** argv)
{
    using namespace bench;
    Options o;
    o.on = "bare";
    o.plan.discipline = "";
    o.plan.cpus = {0};
    CLI::App app{"The workloads of bench-stack on a stack without a protocol"};
    app.add_option("workload", o.workload, "conn, rr or bulk")
        ->required()
        ->check(CLI::IsMember({"conn", "rr", "bulk"}));
    app.add_option("--cpu", o.plan.cpus[0], "CPU of the thread (default 0)")->check(CLI::Range(0, CPU_SETSIZE - 1));
    app.add_option("--seconds", o.plan.seconds, "measured time after a warm-up of a fifth of it")
        ->check(CLI::Range(0.01, 3600.0));
    app.add_option("--concurrency", o.plan.concurrency, "operations under way")->check(CLI::Range(1, 16000));
    app.add_option("--bytes", o.plan.bytes, "of a request and of a response; bulk: of a write, 256 KiB if not given")
        ->check(CLI::Range(8, 1 << 18));
    CLI11_PARSE(app, argc, argv);
    if (o.workload == "bulk" && app.count("--bytes") == 0) {
        o.plan.bytes = 1 << 18;
    }
    std::cout << measure<BareSide>(o) << std::endl;
    return 0;
}
