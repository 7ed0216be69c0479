#include "embed/host.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <utility>

namespace embed {

namespace {

// futex(2), FUTEX_WAIT_BITSET: absolute CLOCK_MONOTONIC deadline. Without one it restarts after a signal handler with
// SA_RESTART, with one it does not: the rule that sleep() promises.
int futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value, base::Instant deadline)
{
    std::int64_t at = deadline.time_since_epoch().count();
    timespec until{at / 1'000'000, (at % 1'000'000) * 1000};
    long rc = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, value,
        deadline == base::never ? nullptr : &until, nullptr, FUTEX_BITSET_MATCH_ANY);
    return rc == 0 ? 0 : errno;
}

} // namespace

int Host::make_waiter(sockbuf::WaiterKind kind, client::WaiterHandle& out)
{
    std::lock_guard lock(control_);
    if (!gateway_.add_waiter(*family_, 0, kind, -1, out.index)) {
        return -ENOSPC;
    }
    out.fd = own_waiter;
    return 0;
}

void Host::drop_waiter(const client::WaiterHandle& w)
{
    std::lock_guard lock(control_);
    gateway_.drop_waiter(*family_, 0, w.index);
}

void ThreadHost::wake(std::uint32_t waiter)
{
    std::atomic<std::uint32_t>& word = words_[waiter].woken;
    word.store(1, std::memory_order_seq_cst);
    syscall(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, nullptr, nullptr, 0);
}

int ThreadHost::sleep(const client::WaiterHandle& w, base::Instant deadline)
{
    std::atomic<std::uint32_t> nobody_wakes{0};
    std::atomic<std::uint32_t>& word = is_waiter(w) ? words_[w.index].woken : nobody_wakes;
    while (word.exchange(0, std::memory_order_seq_cst) == 0) {
        int error = futex_wait(word, 0, deadline);
        if (error == EINTR || error == ETIMEDOUT) {
            return word.exchange(0, std::memory_order_seq_cst) != 0 ? 0 : -error;
        }
    }
    return 0;
}

int SimulationHost::sleep(const client::WaiterHandle& w, base::Instant deadline)
{
    for (;;) {
        if (is_waiter(w) && std::exchange(woken_[w.index], false)) {
            return 0;
        }
        if (world_.now() >= deadline) {
            return -ETIMEDOUT;
        }
        if (!world_.step(deadline)) {
            if (deadline == base::never) {
                return -EDEADLK;
            }
            world_.clock().advance_to(deadline);
        }
    }
}

} // namespace embed
