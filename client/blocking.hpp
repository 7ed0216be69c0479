// How a call waits for a socket: a short poll that shrinks when it does not pay, then watch, arm, look again, sleep.
// Internal to client/.
//
// The thread's waiter stays registered with the last socket it slept for, so a thread that serves one connection pays
// no read-modify-write of the slot per call; netd finds the waiter awake and does nothing. A wait that interrupts
// another of the same thread (a signal handler) gets a waiter of its own, so the outer one loses nothing.
#pragma once

#include "base/pause.hpp"
#include "client/slot_access.hpp"
#include "client/spin.hpp"

namespace client {

struct ThreadWaiter;

class Blocker {
public:
    Blocker(Session& s, Sock k, base::Instant deadline);
    ~Blocker();
    Blocker(const Blocker&) = delete;
    Blocker& operator=(const Blocker&) = delete;

    unsigned spin_rounds() const;
    void spin_result(bool paid);
    // Announce the sleep; the caller looks at its condition once more before sleep().
    void arm();
    // 0 = look again; -EINTR, -ETIMEDOUT (the deadline), -EPIPE (netd is gone).
    int sleep();

private:
    Session& s_;
    Sock sock_;
    base::Instant deadline_;
    ThreadWaiter* waiter_; // null: none to be had, sleep in short naps
};

// Until `ready()` or the socket is not k any more (both 0), or as Blocker::sleep.
template <typename Ready>
int wait_for(Session& s, SocketSlot& slot, Sock k, base::Instant deadline, Ready ready)
{
    Blocker b(s, k, deadline);
    unsigned rounds = b.spin_rounds();
    for (unsigned i = 0; i < rounds; ++i) {
        if (ready()) {
            b.spin_result(true);
            return 0;
        }
        base::pause_cpu();
    }
    if (rounds != 0) {
        b.spin_result(false);
    }
    for (;;) {
        b.arm();
        if (ready() || !is_current(slot, k)) {
            return 0;
        }
        int rc = b.sleep();
        if (rc != 0) {
            return ready() ? 0 : rc;
        }
    }
}

// The moment a timeout that starts now ends; 0 us = none.
inline base::Instant deadline_after(Session& s, std::int64_t timeout_us)
{
    return timeout_us == 0 ? base::never : s.host->now() + base::Micros{timeout_us};
}

} // namespace client
