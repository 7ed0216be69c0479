// A process's membership in a family: the mapped segment, the sleep words, its process index, and the Host through
// which it sleeps, wakes and reads the clock. The same calls (socket_calls.hpp) run over netd (client/admission),
// inside an embedding process, and in a simulation; only the Host differs.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "base/plant.hpp"
#include "base/units.hpp"
#include "sockbuf/admission.hpp"
#include "sockbuf/segment_view.hpp"

namespace client {

struct WaiterHandle {
    std::uint32_t index = 0; // in the segment's waiters
    int fd = -1;             // read end of its pipe; -1 where the Host needs none
};

struct Sock {
    std::uint32_t slot = 0;
    std::uint32_t generation = 0;
};

// A waiter with which a thread of this process waits, or waited last: between waits another may take it (blocking.cpp).
struct alignas(64) HeldWaiter {
    static constexpr std::uint64_t in_use = 1;
    std::atomic<std::uint64_t> hold{0}; // an even number, once a hold, | in_use during a wait; 0 = no waiter
    // m: whoever made `hold` one in use is the holder
    WaiterHandle handle;
    Sock watched; // whose waiters word has our bit, when `watching`
    bool watching = false;
};

// What differs between the places where the calls run. Every member may be called from any application thread.
class Host {
public:
    Host();
    virtual ~Host();
    Host(const Host&) = delete;
    Host& operator=(const Host&) = delete;
    // Unique in the process, never reused; new in a forked child. Threads that remember something of a Host key it so.
    std::uint64_t id() const { return id_; }
    HeldWaiter& held(std::uint32_t waiter) { return held_[waiter]; }
    // Rings CPU `cpu` (its sleep word was seen set).
    virtual void ring(std::uint32_t cpu) = 0;
    // A new waiter; 0 or a negative errno (-ENOSPC: all in use; a thread then waits by short timed sleeps, a set
    // fails).
    virtual int make_waiter(sockbuf::WaiterKind kind, WaiterHandle& out) = 0;
    virtual void drop_waiter(const WaiterHandle& w) = 0;
    // Sleeps until the waiter is woken, at most until `deadline` (never = no limit). 0 = woken or spurious; -EINTR with
    // the kernel's restart rules (a sleep without deadline restarts under SA_RESTART); -ETIMEDOUT; -EPIPE: netd is
    // gone.
    virtual int sleep(const WaiterHandle& w, base::Instant deadline) = 0;
    // Wakes waiter `w`, perhaps of another process of the family, whose `sleeping` the caller has exchanged for 0.
    // False: it cannot, netd has to. can_wake: whether it is worth the exchange.
    virtual bool can_wake(std::uint32_t w)
    {
        (void)w;
        return false;
    }
    virtual bool wake_waiter(std::uint32_t w)
    {
        (void)w;
        return false;
    }
    virtual base::Instant now() = 0;
    virtual bool alive() = 0; // false once netd is gone
    // Of sessions that are `direct`: looks at the socket, or carries the request out, on CPU `cpu` before it returns.
    // False: not possible here and now (a signal handler that interrupted such a call); the caller does it by a mark.
    virtual bool look(std::uint32_t, std::uint32_t) { return false; }
    virtual bool request(std::uint32_t, const sockbuf::Request&) { return false; }
    // Of sessions with `homes`: the CPU (inline: that the calling thread runs; striped: a shard of its OS CPU) whose
    // lanes come first; any other number: none.
    virtual std::uint32_t home() { return UINT32_MAX; }
    // Gives the CPU to whoever waits for it, the protocol thread beside us first of all; retire() does so while it
    // waits.
    virtual void let_others_run();

protected:
    // Threads that end from now on no longer give their waiters back, and those that do have done: the first line of a
    // derived destructor.
    void retire();
    // In a forked child: what the parent's threads remember is void.
    void renew_after_fork();

private:
    friend void end_hold(std::uint64_t host_id, std::uint32_t waiter, std::uint64_t hold);
    std::uint64_t id_;        // c
    std::uint32_t users_ = 0; // under the registry's mutex: threads that give a waiter back
    HeldWaiter held_[sockbuf::max_waiters];
};

bool host_exists(std::uint64_t host_id);
// Its holder gives the waiter back to netd.
void give_up(Host& host, HeldWaiter& w);
// The same for a thread that ends, if its waiter is still its own and there still is a host of this id.
void end_hold(std::uint64_t host_id, std::uint32_t waiter, std::uint64_t hold);

inline constexpr std::uint16_t no_cpu_near = 0xffff;
// By OS CPU: which of the pinned threads is on it; no_cpu_near or short = none. -1 in `pins`: not pinned.
std::vector<std::uint16_t> threads_near(std::span<const int> pins);
// Session::near of a segment.
std::vector<std::uint16_t> cpus_near(const sockbuf::SegmentHeader& header);

struct Session {
    sockbuf::SegmentView view;                     // c
    const std::atomic<std::uint32_t>* sleep_words; // c: sleep word of CPU i at index i * 16 (64 bytes apart)
    std::uint32_t process = 0;                     // c (a forked child has its own Session value)
    Host* host = nullptr;                          // c
    std::vector<std::uint16_t> near; // c: OS CPU -> the stack's CPU pinned there; no_cpu_near or short = none
    bool defer_signals = false;      // c: a signal handler may make socket calls of its own in the middle of ours
    bool direct = false;             // c: calls run the stack themselves (inline, giant, striped)
    bool homes = false;              // c: Host::home() tells where a thread is at home (inline, striped)
    base::Micros look_max{0};        // c: longest look before a sleep (looking.hpp); 0 in simulations
    base::Micros look_min{0};        // c: looks for so long whether it pays or not (netrun --spin)
    // c: simulations: counts which lane to look at first in place of a counter per thread, so that a run depends on
    // nothing but its seed; null elsewhere.
    std::uint32_t* lane_turn = nullptr;

    // After publishing (sequentially consistent): rings the CPU if it sleeps.
    void look_and_ring(std::uint32_t cpu) const
    {
        if (sleep_words[std::size_t{cpu} * 16].load(std::memory_order_seq_cst) != 0 &&
            !base::planted(base::Plant::lost_mark_doorbell)) {
            host->ring(cpu);
        }
    }
};

} // namespace client
