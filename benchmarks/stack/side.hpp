// What the workloads of bench-stack need of a stack, once for embedded netd and once for the kernel. Both sides are
// used through ordinary non-blocking calls and an event set; errors end the program, since a benchmark that goes on
// after one measures something else. A side belongs to all worker threads, a set to one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <nlohmann/json.hpp>

namespace bench {

[[noreturn]] inline void give_up(const char* what, long error)
{
    std::fprintf(stderr, "bench-stack: %s: %s\n", what, std::strerror(static_cast<int>(-error)));
    std::exit(1);
}

// Passes a result that is no error, or one that only says "later".
template <typename T>
T must(T result, const char* what)
{
    if (result < 0 && result != -EAGAIN && result != -EINPROGRESS) {
        give_up(what, static_cast<long>(result));
    }
    return result;
}

// Destinations are 127.0.0.1 and up, so that TIME-WAITs spread over many addresses (the kernel crawls otherwise).
inline constexpr std::uint32_t first_address = 0x7f000001;
inline constexpr unsigned addresses = 200;
inline constexpr std::uint16_t first_port = 5000;

struct Plan {
    std::vector<int> cpus;       // one worker (and protocol thread) each
    unsigned concurrency = 1000; // operations under way, all workers together
    std::size_t bytes = 64;      // of a request and of a response; bulk: of a write
    double seconds = 1;
    std::string discipline =
        "message"; // embed: who serialises the stack, with which lock, and how many an operation takes
    std::string lock = "mutex";
    unsigned locks_per_operation = 1;
    unsigned shards = 64;         // embed, striped
    bool near = true;             // embed, striped: a worker's sockets lie in shards of its own CPU
    bool cross = false;           // a worker's clients ask the next worker's server
    std::string waiter = "probe"; // embed: what an idle protocol thread sleeps in
    int stack_cpu = -1;           // lwIP: CPU of its thread; -1 = the first of `cpus`
    bool copy = true;             // lwIP, bulk: copy at both ends, which is what send and recv mean
    bool gso = true;              // embed, with mss: segments are cut in front of the wire,
    bool gro = true;              // and joined behind it
    unsigned mss = 0; // embed: 0 = super-segments without checksums; else plain segments, checksums, rings of 512 KiB
};

} // namespace bench
