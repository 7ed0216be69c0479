// The ownership key: who may touch a field, written as a letter beside it. Used on every struct that two threads can
// reach. The struct's comment names how its owner is found ("owner = the CPU of `domain`").
//
//   c   nobody writes after construction; anyone reads
//   o   the owner CPU's protocol thread writes and reads, nobody else touches
//   m   the current holder of the message; moves with send, forward and reply
//   p,q producer side, consumer side of a ring; the other side reads by an acquire paired with the release that the
//       comment names
//   s   owner writes relaxed (count()), anyone reads, approximate (statistics)
//   u   the application, in shared memory; the owner copies once, validates the copy, never re-reads
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/check.hpp"

namespace base {

using CpuId = std::uint16_t;
inline constexpr CpuId no_cpu = 0xffff;

// What one CPU writes begins at a multiple of this and nothing of another CPU's lies in the same one (decision 0037):
// objects of all CPUs are made by one thread, side by side. Two lines, since processors fetch a line's neighbour along.
inline constexpr std::size_t apart = 128;

// Adds to a counter of which the caller is the only writer (s): no locked instruction.
[[gnu::always_inline]] inline void count(std::atomic<std::uint64_t>& counter, std::uint64_t n = 1)
{
    counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

// The CPU whose protocol thread this OS thread is at the moment; no_cpu on every other thread. Set by the run loop only
// (one OS thread steps several CPUs in turn under the virtual clock).
inline thread_local CpuId current_cpu = no_cpu;

// An execution context: "running on CPU `id`'s protocol thread".
class Owner {
public:
    explicit constexpr Owner(CpuId id) : id_(id) {}
    constexpr CpuId id() const { return id_; }

private:
    CpuId id_; // c
};

// Aborts, in release too, unless the caller runs on `owner`. One thread-local load and a compare.
inline void assert_on(const Owner& owner)
{
    INVARIANT(current_cpu == owner.id());
}

} // namespace base
