#include "sockbuf/side_lock.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

#include "base/pause.hpp"

namespace sockbuf {

namespace {

constexpr int spin_rounds = 64; // about as long as a copy of a few KiB under the lock

thread_local std::uint32_t this_thread = 0; // kernel thread number, 0 = not asked yet

bool held_by(std::uint32_t value, std::uint32_t holder)
{
    return (value & ~side_lock_waiters) == holder;
}

// The word is shared between processes, so the futex is not PRIVATE.
void wait_on(std::atomic<std::uint32_t>& word, std::uint32_t value, const timespec& patience)
{
    syscall(SYS_futex, &word, FUTEX_WAIT, value, &patience, nullptr, 0);
}

} // namespace

std::uint32_t side_lock_holder(std::uint32_t process)
{
    if (this_thread == 0) [[unlikely]] {
        this_thread = static_cast<std::uint32_t>(syscall(SYS_gettid)) & ((1U << (31 - side_lock_process_bits)) - 1);
    }
    return (process + 1) | (this_thread << side_lock_process_bits);
}

void side_lock_after_fork()
{
    this_thread = 0;
}

SideLockResult side_lock_contended(std::atomic<std::uint32_t>& word, std::uint32_t holder)
{
    for (int i = 0; i < spin_rounds; ++i) {
        std::uint32_t value = word.load(std::memory_order_relaxed);
        if (held_by(value, holder)) {
            return SideLockResult::self_held;
        }
        if (value == 0 && word.compare_exchange_weak(value, holder, std::memory_order_seq_cst)) {
            return SideLockResult::taken;
        }
        base::pause_cpu();
    }
    // The wait is bounded: a woken waiter may die before it takes the lock (the wake is lost with it), and when netd is
    // gone too nobody releases the lock of a dead holder.
    timespec patience{0, side_lock_patience_ms * 1'000'000L};
    for (int waits = 0; waits < 2;) {
        std::uint32_t value = word.load(std::memory_order_relaxed);
        if (value == 0) {
            // Others may sleep still: take it with the flag set, so that our release wakes the next.
            if (word.compare_exchange_weak(value, holder | side_lock_waiters, std::memory_order_seq_cst)) {
                return SideLockResult::taken;
            }
            continue;
        }
        if ((value & side_lock_waiters) == 0 &&
            !word.compare_exchange_weak(value, value | side_lock_waiters, std::memory_order_relaxed)) {
            continue;
        }
        wait_on(word, value | side_lock_waiters, patience);
        ++waits;
    }
    return SideLockResult::timed_out;
}

void side_lock_wake(std::atomic<std::uint32_t>& word, int count)
{
    syscall(SYS_futex, &word, FUTEX_WAKE, count, nullptr, nullptr, 0);
}

bool side_lock_release_dead(std::atomic<std::uint32_t>& word, std::uint32_t process)
{
    // Only a waiter's flag can change the word of a dead holder; the bound is for clients that scribble.
    for (int i = 0; i < 4; ++i) {
        std::uint32_t value = word.load(std::memory_order_relaxed);
        if ((value & ((1U << side_lock_process_bits) - 1)) != process + 1) {
            return false;
        }
        if (word.compare_exchange_strong(value, 0, std::memory_order_acq_rel)) {
            side_lock_wake(word, INT_MAX);
            return true;
        }
    }
    return false;
}

} // namespace sockbuf
