// How a call waits for a socket: it looks for a while where that pays, then watches, arms, looks again, sleeps.
// Internal to client/.
//
// The thread's waiter stays registered with the last socket it slept for, so a thread that serves one connection pays
// no read-modify-write of the slot per call; netd finds the waiter awake and does nothing. Where all are in use, one
// that is only kept so is taken. A wait that interrupts another of the same thread (a signal handler) gets a waiter of
// its own, so the outer one loses nothing.
#pragma once

#include "client/call_end.hpp"
#include "client/looking.hpp"
#include "client/slot_access.hpp"

namespace client {

class Blocker {
public:
    Blocker(Session& s, Sock k, base::Instant deadline);
    ~Blocker();
    Blocker(const Blocker&) = delete;
    Blocker& operator=(const Blocker&) = delete;

    // Announce the sleep; the caller looks at its condition once more before sleep().
    void arm();
    // 0 = look again; -EINTR, -ETIMEDOUT (the deadline), -EPIPE (netd is gone).
    int sleep();

private:
    Session& s_;
    Sock sock_;
    base::Instant deadline_;
    HeldWaiter* waiter_; // null: none to be had, sleep in short naps
};

// The protocol thread that serves the socket needs the CPU that we would look on, and there waking us costs it no more
// than a switch. (Its turns are shorter than ours, so that a yield would not come back for many of them: decision
// 0012.)
inline bool beside_owner(const Session& s, SocketSlot& slot)
{
    if (s.near.empty() || slot.app.partner.load(std::memory_order_relaxed) != 0) {
        return false;
    }
    auto here = static_cast<std::size_t>(sched_getcpu());
    return here < s.near.size() && s.near[here] == slot.info.owner_cpu.load(std::memory_order_relaxed);
}

// Until `ready()` or the socket is not k any more (both 0), or as Blocker::sleep; -EINTR also where the call's
// descriptor went meanwhile (call_end.hpp).
template <typename Ready>
int wait_for(Session& s, SocketSlot& slot, Sock k, base::Instant deadline, Ready ready)
{
    Looking looking(s, deadline);
    if (!beside_owner(s, slot) && looking.until([&] { return ready() || !is_current(slot, k); })) {
        return 0;
    }
    Blocker b(s, k, deadline);
    for (;;) {
        b.arm();
        if (ready() || !is_current(slot, k)) {
            return 0;
        }
        int rc = call_is_abandoned() ? -EINTR : b.sleep();
        if (rc != 0 && ready()) {
            return 0;
        }
        if (rc != 0) {
            looking.unpaid();
            return rc;
        }
    }
}

// The moment a timeout that starts now ends; 0 us = none.
inline base::Instant deadline_after(Session& s, std::int64_t timeout_us)
{
    return timeout_us == 0 ? base::never : s.host->now() + base::Micros{timeout_us};
}

} // namespace client
