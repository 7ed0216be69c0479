// futex(2) on a word of this process. Waking an address that nobody waits on any more is harmless, so a waker may touch
// the address (never the word) after the waiter has freed it.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <ctime>

#include "base/units.hpp"

namespace lwkt {

static_assert(sizeof(std::atomic<std::uint32_t>) == 4, "a futex word is 32 bits");

inline void futex_wake(std::atomic<std::uint32_t>& word, int sleepers)
{
    syscall(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, sleepers, nullptr, nullptr, 0);
}

// Sleeps while the word is `value`, at most until the CLOCK_MONOTONIC deadline. 0 or errno (EAGAIN: it was not
// `value`). FUTEX_WAIT_BITSET has absolute deadlines; without one it restarts after a signal handler with SA_RESTART,
// with one it does not.
inline int futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value, base::Instant deadline = base::never)
{
    std::int64_t at = deadline.time_since_epoch().count();
    timespec until{at / 1'000'000, (at % 1'000'000) * 1000};
    long rc = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, value,
        deadline == base::never ? nullptr : &until, nullptr, FUTEX_BITSET_MATCH_ANY);
    return rc == 0 ? 0 : errno;
}

} // namespace lwkt
