// bench-scale: what an operation costs in messages, forwarded packets and cache lines between CPUs, counted exactly in
// virtual time for 1 to 64 virtual CPUs, whatever the machine has. One JSON object a line on stdout; the counting rules
// are scale_world.hpp's.
#include <charconv>
#include <cstdio>
#include <cstring>
#include <span>
#include <string_view>

#include "benchmarks/scale_world.hpp"

namespace {

using bench::ScaleCounts;
using bench::ScaleRun;
using bench::ScaleWire;
using bench::ScaleWork;

struct Named {
    const char* name;
    ScaleWork work;
};
constexpr Named works[] = {{"conn", ScaleWork::conn}, {"rr", ScaleWork::rr}, {"udp", ScaleWork::udp}};
constexpr std::size_t cpu_counts[] = {1, 2, 4, 8, 16, 32, 64};

void print(const Named& n, const ScaleRun& run, const ScaleCounts& c)
{
    auto per_operation = [&c](double value) { return value / static_cast<double>(c.operations); };
    double share = c.packets == 0 ? 0 : static_cast<double>(c.busiest) / static_cast<double>(c.packets);
    std::printf("{\"name\": \"scale.%s%s\", \"cpus\": %zu, \"messages\": %.4f, \"frees\": %.4f, "
                "\"forwarded\": %.4f, \"line_transfers\": %.4f, \"batches\": %.4f, \"busiest_cpu_share\": %.4f, "
                "\"setup_messages\": %llu, \"operations\": %llu, \"seed\": %llu}\n",
        n.name, run.wire == ScaleWire::link ? "" : "_loopback", run.cpus,
        per_operation(static_cast<double>(c.messages)), per_operation(static_cast<double>(c.frees)),
        per_operation(static_cast<double>(c.forwarded)), per_operation(c.line_transfers()),
        per_operation(static_cast<double>(c.batches)), share, static_cast<unsigned long long>(c.walks_port),
        static_cast<unsigned long long>(c.operations), static_cast<unsigned long long>(run.seed));
    std::fflush(stdout);
}

int usage()
{
    std::fprintf(stderr, "usage: bench-scale [--quick] [--cpus-max N] [--seed S] [conn|rr|udp ...]\n");
    return 64;
}

bool number(const char* text, std::uint64_t& out)
{
    const char* end = text + std::strlen(text);
    auto [at, error] = std::from_chars(text, end, out);
    return error == std::errc{} && at == end;
}

} // namespace

int main(int argc, char** argv)
{
    std::uint64_t cpus_max = 64;
    std::uint64_t seed = 1;
    bool wanted[std::size(works)] = {};
    bool all = true;
    for (int i = 1; i < argc; ++i) {
        std::string_view arg = argv[i];
        if ((arg == "--cpus-max" || arg == "--seed") && i + 1 < argc) {
            if (!number(argv[++i], arg == "--seed" ? seed : cpus_max)) {
                return usage();
            }
            continue;
        }
        if (arg == "--quick") {
            cpus_max = 16;
            continue;
        }
        bool known = false;
        for (std::size_t w = 0; w < std::size(works); ++w) {
            if (arg == works[w].name) {
                wanted[w] = known = true;
                all = false;
            }
        }
        if (!known) {
            return usage();
        }
    }
    for (std::size_t w = 0; w < std::size(works); ++w) {
        for (ScaleWire wire : {ScaleWire::link, ScaleWire::loopback}) {
            for (std::size_t cpus : cpu_counts) {
                if (cpus <= cpus_max && (all || wanted[w])) {
                    ScaleRun run{works[w].work, wire, cpus, seed, 32 * cpus + 1024, 4 * cpus + 64};
                    print(works[w], run, bench::run_scale(run));
                }
            }
        }
    }
    return 0;
}
