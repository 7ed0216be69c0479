// The steady state of an established connection whose packets arrive on its owner, counted: two stacks of two CPUs each
// in virtual time on the calling thread, requests and answers, then a stream. Locks and allocations by interposing
// pthread_mutex_* and malloc in the program that links this; messages by the CPUs' own counters. Shared by bench-steady
// and tests/embed. Each counter is shown to count by planting what it looks for on the protocol threads' path.
#pragma once

#include <cstdint>
#include <functional>

namespace steady {

enum class Planted : std::uint8_t { nothing, lock, allocation, message, atomic };

struct Counts {
    bool good = false; // every byte arrived
    std::uint64_t locks = 0;
    std::uint64_t allocations = 0;
    std::uint64_t remote = 0; // messages between CPUs
    std::uint64_t packets = 0;
};
Counts measure(Planted planted);

// Locked instructions and full fences of the same work (shorter: every instruction is stepped), told apart by who
// executes them and whose memory they are about. Forks; the work runs in a traced child.
struct Atomics {
    bool good = false;
    std::uint64_t packets = 0;
    std::uint64_t shared = 0;       // by protocol threads, on lines that another protocol thread also locks
    std::uint64_t own = 0;          // by protocol threads, on other private memory of the stacks
    std::uint64_t marks = 0;        // by protocol threads, on what applications mark and ring
    std::uint64_t published = 0;    // by protocol threads, elsewhere in segments: offsets, waiters' words
    std::uint64_t application = 0;  // by the application, anywhere
    std::uint64_t looks = 0;        // words of mark bits taken: one socket and batch each here
    std::uint64_t fences = 0;       // mfence, whoever
    std::uint64_t instructions = 0; // stepped
};
Atomics measure_atomics(Planted planted);

} // namespace steady
