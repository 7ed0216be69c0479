// bench-goodput: what applications receive through a link that loses and delays: ours in virtual time, ours in real
// time over TAPs, or the Linux kernel's in real time over TAPs, through the same link code with the same parameters.
// One JSON object on stdout. The namespaces and their devices are the caller's (suite/goodput_lane.py).
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "benchmarks/goodput/goodput_cell.hpp"

namespace {

double cpu_seconds()
{
    rusage u{};
    getrusage(RUSAGE_SELF, &u);
    auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    return seconds(u.ru_utime) + seconds(u.ru_stime);
}

} // namespace

int main(int argc, char** argv)
{
    bench::GoodputCell cell;
    std::string side = "virtual";
    std::string near;
    std::string far;
    CLI::App app{"Goodput of TCP through an impaired link"};
    app.add_option("side", side, "virtual, tap or kernel")->check(CLI::IsMember({"virtual", "tap", "kernel"}));
    app.add_option("--loss", cell.loss, "probability per frame and direction")->check(CLI::Range(0.0, 0.5));
    app.add_option("--rtt-us", cell.rtt_us, "round trip without the queue")->check(CLI::Range(2, 1000000));
    app.add_option("--flows", cell.flows)->check(CLI::Range(1, 64));
    app.add_option("--seed", cell.seed);
    app.add_option("--mbit", cell.mbit_per_s, "rate of each direction")->check(CLI::Range(1, 1000));
    app.add_option("--seconds", cell.seconds)->check(CLI::Range(0.1, 600.0));
    app.add_option("--congestion", cell.congestion);
    app.add_option("--near", near, "path of the senders' network namespace (tap, kernel)");
    app.add_option("--far", far, "path of the receivers'");
    CLI11_PARSE(app, argc, argv);
    bench::GoodputResult r = side == "virtual" ? bench::goodput_virtual(cell)
                             : side == "tap"   ? bench::goodput_tap(cell, near, far)
                                               : bench::goodput_kernel(cell, near, far);
    double mbit = static_cast<double>(r.bytes) * 8 / cell.seconds / 1e6;
    std::printf("{\"name\": \"goodput.%s\", \"value\": %.4f, \"unit\": \"Mbit/s\", \"loss\": %g, \"rtt_us\": %u, "
                "\"flows\": %u, \"seed\": %u, \"seconds\": %g, \"mss\": %u, \"refused\": %u, \"cpu_s\": %.2f, "
                "\"counters\": {%s}}\n",
        side.c_str(), mbit, cell.loss, cell.rtt_us, cell.flows, cell.seed, cell.seconds, r.mss, r.refused,
        cpu_seconds(), r.counters.c_str());
    return 0;
}
