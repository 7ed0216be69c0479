// tools/sim: runs worlds by seed, one after the other; see docs/testing.md. A violation, an assertion or a fault of the
// stack is printed with the seed and the command that replays it, and the exit code is not 0.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <new>
#include <sstream>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/check.hpp"
#include "base/poison.hpp"
#include "tests/sim/plants.hpp"
#include "tests/sim/sim_world.hpp"

namespace {

struct Options {
    std::uint64_t seed = 1;
    std::uint64_t seeds = 1;
    std::uint64_t steps = 20000;
    std::string soak;
    unsigned jobs = 1; // processes that share the seeds
    std::string plant;
    std::string file;
    bool trace = false;
    bool events = false;
    bool twice = false;
    bool verbose = false;
};

void on_fault(int number)
{
    if (sim::World* w = sim::World::current()) {
        w->print_report(number == SIGABRT ? "an assertion of the stack (above)" : "a fault of memory");
    }
    std::_Exit(1);
}

// Under AddressSanitizer memory's faults and the stack to report them on are its own.
void catch_faults()
{
    struct sigaction action {};
    action.sa_handler = on_fault;
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGABRT, &action, nullptr);
    if (base::poisons) {
        return;
    }
    thread_local unsigned char stack[65536]; // a fiber's own may be what is used up
    stack_t other{};
    other.ss_sp = stack;
    other.ss_size = sizeof stack;
    sigaltstack(&other, nullptr);
    for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
        sigaction(number, &action, nullptr);
    }
}

// "90", "90s", "10m", "2h"; 0 = not understood.
std::int64_t seconds_of(const std::string& text)
{
    std::size_t end = 0;
    long long n = 0;
    try {
        n = std::stoll(text, &end);
    } catch (const std::exception&) {
        return 0;
    }
    std::string unit = text.substr(end);
    return unit.empty() || unit == "s" ? n : unit == "m" ? n * 60 : unit == "h" ? n * 3600 : 0;
}

sim::RunResult run_seed(const Options& o, std::uint64_t seed)
{
    sim::RunOptions run;
    run.seed = seed;
    run.steps = o.steps;
    run.plant = o.plant;
    run.trace = o.trace;
    run.events = o.events;
    sim::RunResult result;
    // A thread for each, because what the client library keeps for its thread must not outlive a world.
    std::thread([&] {
        catch_faults();
        sim::World world(run);
        if (o.verbose) {
            std::printf("seed %llu\n%s", static_cast<unsigned long long>(seed), world.config().text().c_str());
        }
        result = world.run();
    }).join();
    return result;
}

// What a process has done so far: in memory that it shares with the one which tells, so that it counts however it ends.
struct Total {
    sim::RunResult sum;
    std::uint64_t seeds = 0;
};
static_assert(std::is_trivially_copyable_v<Total>);

void add(Total& to, const Total& from)
{
    to.sum.hash ^= from.sum.hash;
    to.sum.steps += from.sum.steps;
    to.sum.connections += from.sum.connections;
    to.sum.bytes += from.sum.bytes;
    to.sum.datagrams += from.sum.datagrams;
    to.sum.deaths += from.sum.deaths;
    to.seeds += from.seeds;
}

using Clock = std::chrono::steady_clock; // how long it took is told, and nothing depends on it but the soak's end

// Every `o.jobs`th seed; false: two runs of one differ. (A violation ends the process.)
bool run_share(const Options& o, unsigned share, Clock::time_point began, Total& total)
{
    std::chrono::seconds soak{o.soak.empty() ? 0 : seconds_of(o.soak)};
    for (std::uint64_t i = share; o.soak.empty() ? i < o.seeds : Clock::now() - began < soak; i += o.jobs) {
        std::uint64_t seed = o.seed + i;
        sim::RunResult r = run_seed(o, seed);
        if (o.twice && run_seed(o, seed).hash != r.hash) {
            std::fprintf(stderr, "sim: seed %llu gives different runs\n", static_cast<unsigned long long>(seed));
            return false;
        }
        if (o.verbose) {
            std::printf("  steps %llu, connections %llu, bytes %llu, datagrams %llu, deaths %llu, %.3f s virtual\n",
                static_cast<unsigned long long>(r.steps), static_cast<unsigned long long>(r.connections),
                static_cast<unsigned long long>(r.bytes), static_cast<unsigned long long>(r.datagrams),
                static_cast<unsigned long long>(r.deaths), static_cast<double>(r.time.count()) * 1e-6);
        }
        add(total, {r, 1});
    }
    return true;
}

// In processes beside each other; what one finds, it has printed. False: one has found something.
bool run_in_processes(const Options& o, Clock::time_point began, Total& total)
{
    std::size_t bytes = o.jobs * sizeof(Total);
    void* shared = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    INVARIANT(shared != MAP_FAILED);
    auto* shares = static_cast<Total*>(shared);
    std::vector<pid_t> children;
    for (unsigned share = 0; share < o.jobs; ++share) {
        pid_t child = fork();
        INVARIANT(child >= 0);
        if (child == 0) {
            bool good = run_share(o, share, began, *new (shares + share) Total);
            std::fflush(stdout);
            std::_Exit(good ? 0 : 1);
        }
        children.push_back(child);
    }
    bool good = true;
    for (unsigned share = 0; share < o.jobs; ++share) {
        int status = 0;
        waitpid(children[share], &status, 0);
        good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
        add(total, shares[share]);
    }
    munmap(shared, bytes);
    return good;
}

int run_seeds(const Options& o)
{
    auto began = Clock::now();
    Total t;
    bool good = run_in_processes(o, began, t);
    double seconds = std::max(std::chrono::duration<double>(Clock::now() - began).count(), 1e-9);
    std::printf("%llu seeds, %llu steps, %.0f steps/s, %llu connections, %llu bytes, %llu datagrams, %llu deaths, hash "
                "%016llx\n",
        static_cast<unsigned long long>(t.seeds), static_cast<unsigned long long>(t.sum.steps),
        static_cast<double>(t.sum.steps) / seconds, static_cast<unsigned long long>(t.sum.connections),
        static_cast<unsigned long long>(t.sum.bytes), static_cast<unsigned long long>(t.sum.datagrams),
        static_cast<unsigned long long>(t.sum.deaths), static_cast<unsigned long long>(t.sum.hash));
    return good ? 0 : 1;
}

// Named seeds: each found a bug once.
int run_file(const Options& o)
{
    std::ifstream in(o.file);
    unsigned done = 0;
    for (std::string line; std::getline(in, line);) {
        Options one = o;
        std::istringstream words(line);
        if (line.empty() || line[0] == '#') {
            continue;
        }
        if (!(words >> one.seed >> one.steps)) {
            std::fprintf(stderr, "sim: %s: no seed and steps: %s\n", o.file.c_str(), line.c_str());
            return 2;
        }
        run_seed(one, one.seed);
        ++done;
    }
    std::printf("%u named seeds\n", done);
    return done != 0 ? 0 : 2;
}

} // namespace

int main(int argc, char** argv)
{
    Options o;
    CLI::App app{"Whole stacks with applications on one seeded scheduler, in virtual time", "sim"};
    app.add_option("--seed", o.seed, "the first seed")->capture_default_str();
    app.add_option("--seeds", o.seeds, "how many, one after the other")->capture_default_str();
    app.add_option("--steps", o.steps, "scheduler decisions of a seed before its drain")->capture_default_str();
    app.add_option("--soak", o.soak, "run seeds until this time is over: 90s, 10m, 2h");
    app.add_option("--jobs", o.jobs, "processes that share the seeds")
        ->capture_default_str()
        ->check(CLI::Range(1, 256));
    app.add_option("--plant", o.plant, "switch on a planted bug of the stack");
    bool list = false;
    sim::PlantTest find;
    bool find_all = false;
    app.add_flag("--list-plants", list, "the planted bugs");
    app.add_flag("--find-plants", find_all, "every planted bug must be found by one of the seeds");
    app.add_option("--part", find.part, "... only every --parts'th of them")->capture_default_str();
    app.add_option("--parts", find.parts, "")->capture_default_str();
    app.add_option("--file", o.file, "run the named seeds of this file (lines: seed, steps, what it found)");
    app.add_flag("--trace", o.trace, "at a violation, show the events before it and every application");
    app.add_flag("--events", o.events, "show every event as it happens");
    app.add_flag("--twice", o.twice, "run every seed twice and compare");
    app.add_flag("--verbose", o.verbose, "say what each seed is made of and what came of it");
    CLI11_PARSE(app, argc, argv);
    if (!o.soak.empty() && seconds_of(o.soak) <= 0) {
        std::fprintf(stderr, "sim: --soak %s: not a time\n", o.soak.c_str());
        return 2;
    }
    if (list) {
        sim::list_plants();
        return 0;
    }
    if (!o.plant.empty() && !sim::switch_on(o.plant)) {
        std::fprintf(
            stderr, "sim: no plant %s (--list-plants tells; they need the program sim-planted)\n", o.plant.c_str());
        return 2;
    }
    if (find_all) {
        find.seed = o.seed;
        find.seeds = o.seeds;
        find.steps = o.steps;
        return sim::find_plants(find,
                   [](std::uint64_t seed, std::uint64_t steps) {
                       Options one;
                       one.steps = steps;
                       run_seed(one, seed);
                   }) == 0
                   ? 0
                   : 1;
    }
    return o.file.empty() ? run_seeds(o) : run_file(o);
}
