// bench-steady: what the steady state of a connection does besides its work: locks, allocations, messages between CPUs
// and atomic operations, counted exactly in virtual time. One JSON object a line on stdout.
#include <cinttypes>
#include <cstdio>

#include "benchmarks/steady_state.hpp"

namespace {

void row(const char* name, double value, const char* unit, const char* why)
{
    std::printf("{\"name\": \"%s\", \"value\": %.4g, \"unit\": \"%s\", \"why\": \"%s\"}\n", name, value, unit, why);
    std::fflush(stdout); // what follows takes longer, and may be ended
}

double per(std::uint64_t n, std::uint64_t of)
{
    return static_cast<double>(n) / static_cast<double>(of);
}

} // namespace

int main()
{
    steady::Counts c = steady::measure(steady::Planted::nothing);
    if (!c.good || c.packets == 0) {
        std::fprintf(stderr, "bench-steady: bytes were lost\n");
        return 1;
    }
    row("steady.locks", per(c.locks, c.packets), "1/packet", "pthread locks taken, interposed; 2 stacks of 2 CPUs");
    row("steady.allocs", per(c.allocations, c.packets), "1/packet", "malloc and its kin, interposed");
    row("steady.remote", per(c.remote, c.packets), "1/packet", "messages and frees sent to another CPU");
    steady::Atomics a = steady::measure_atomics(steady::Planted::nothing);
    if (!a.good || a.packets == 0 || a.looks == 0) {
        std::fprintf(stderr, "bench-steady: bytes were lost, or nothing was stepped\n");
        return 1;
    }
    char why[512];
    std::snprintf(why, sizeof why,
        "every instruction stepped (%" PRIu64
        "); locked ones by protocol threads on lines that another protocol thread "
        "locks too; beside them, per packet: %.2f on lines of one CPU alone, %.2f on slots and waiters, %.2f on marks; "
        "full fences %" PRIu64,
        a.instructions, per(a.own, a.packets), per(a.published, a.packets), per(a.marks, a.packets), a.fences);
    row("steady.atomics", per(a.shared + a.fences, a.packets), "1/packet", why);
    std::snprintf(why, sizeof why,
        "locked instructions of protocol threads on what applications mark and ring (mark bits, summary, sleep word), "
        "per "
        "socket and batch; the application's own, everywhere: %.2f",
        per(a.application, a.looks));
    row("steady.app_atomics", per(a.marks, a.looks), "1/batch", why);
    return 0;
}
