// The lock among the application threads and processes that share one direction of a socket (or a lane, or a request
// ring): one word in the segment. One CAS when nobody else wants it, a bounded spin, then a shared futex.
//
// Word: 0 = free, else bits 0..5 = process index + 1, bits 6..30 = thread, bit 31 = somebody may sleep for it. The
// holder is recorded so that netd can release the lock of a process that died; what it protects becomes visible by
// single stores, so a dead holder leaves nothing half done. netd itself never takes one.
// Signals are not blocked: a handler that wants a lock its own thread holds is told so (`self_held`) and must give up.
#pragma once

#include <atomic>
#include <cstdint>

#include "sockbuf/abi.hpp"

namespace sockbuf {

enum class SideLockResult : std::uint8_t {
    taken,
    self_held, // the calling thread holds it (a signal handler came in between)
    timed_out, // still held by another after side_lock_patience_ms; the caller looks whether netd lives, then retries
};
inline constexpr std::uint32_t side_lock_waiters = std::uint32_t{1} << 31;
inline constexpr std::uint32_t side_lock_process_bits = 6;
inline constexpr int side_lock_patience_ms = 20;
static_assert(max_processes < (1U << side_lock_process_bits), "index + 1 fits the process bits");

// The word that says "held by the calling thread of process `process`".
std::uint32_t side_lock_holder(std::uint32_t process);
// In a forked child: forget the parent's thread number.
void side_lock_after_fork();

SideLockResult side_lock_contended(std::atomic<std::uint32_t>& word, std::uint32_t holder);
void side_lock_wake(std::atomic<std::uint32_t>& word, int count);

// False: somebody holds it, perhaps the calling thread.
inline bool side_lock_try(std::atomic<std::uint32_t>& word, std::uint32_t holder)
{
    std::uint32_t free = 0;
    // Sequentially consistent: netd looks at snd_lock after it withdrew a ring (SlotInfo::snd_ring).
    return word.compare_exchange_strong(free, holder, std::memory_order_seq_cst, std::memory_order_relaxed);
}

inline SideLockResult side_lock_acquire(std::atomic<std::uint32_t>& word, std::uint32_t holder)
{
    return side_lock_try(word, holder) ? SideLockResult::taken : side_lock_contended(word, holder);
}

inline void side_lock_release(std::atomic<std::uint32_t>& word)
{
    if ((word.exchange(0, std::memory_order_release) & side_lock_waiters) != 0) {
        side_lock_wake(word, 1);
    }
}

// netd, after `process` died: whether it holds the lock.
inline bool side_lock_holds(const std::atomic<std::uint32_t>& word, std::uint32_t process)
{
    return (word.load(std::memory_order_seq_cst) & ((1U << side_lock_process_bits) - 1)) == process + 1;
}
// netd, after `process` died: frees the word if that process held it. True if it did.
bool side_lock_release_dead(std::atomic<std::uint32_t>& word, std::uint32_t process);

} // namespace sockbuf
