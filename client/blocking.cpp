#include "client/blocking.hpp"

#include <algorithm>
#include <array>

namespace client {

// One waiter of this thread in one session. Plain data: it outlives the thread_local destructors.
struct ThreadWaiter {
    std::uint64_t host_id = 0; // 0 = unused
    WaiterHandle handle;
    Sock watched; // whose waiters word has our bit, when `watching`
    bool watching = false;
    bool busy = false; // a wait of this thread uses it
};

namespace {

constexpr std::size_t waiters_max = 8; // sessions and nested waits of one thread
constexpr base::Micros nap{500};       // without a waiter

struct ThreadState {
    std::array<ThreadWaiter, waiters_max> waiters;
    bool ended = false; // the thread's destructors ran: no new waiters
};
constinit thread_local ThreadState this_state;

struct ThreadEnd {
    ~ThreadEnd()
    {
        this_state.ended = true;
        for (ThreadWaiter& t : this_state.waiters) {
            if (t.host_id != 0) {
                drop_waiter_of(t.host_id, t.handle);
                t.host_id = 0;
            }
        }
    }
    bool touched = false;
};
thread_local ThreadEnd at_thread_end;

std::atomic<std::uint64_t>& waiter_word(SocketSlot& slot, std::uint32_t waiter)
{
    return slot.app.waiters[waiter / 64];
}

// This thread's waiter in `s` that is not busy; null when there is none to be had.
ThreadWaiter* find_waiter(Session& s)
{
    ThreadState& state = this_state;
    ThreadWaiter* unused = nullptr;
    for (ThreadWaiter& t : state.waiters) {
        if (t.host_id == s.host->id() && !t.busy) {
            return &t;
        }
        if (t.host_id == 0 && unused == nullptr) {
            unused = &t;
        }
    }
    if (unused == nullptr || state.ended) {
        return nullptr;
    }
    at_thread_end.touched = true; // constructs it, so that its destructor runs
    WaiterHandle handle;
    if (s.host->make_waiter(sockbuf::WaiterKind::thread, handle) != 0) {
        return nullptr;
    }
    *unused = ThreadWaiter{};
    unused->handle = handle;
    unused->host_id = s.host->id();
    return unused;
}

void watch_only(Session& s, ThreadWaiter& t, Sock k)
{
    if (t.watching && t.watched.slot == k.slot && t.watched.generation == k.generation) {
        return;
    }
    if (t.watching) {
        sock_unwatch(s, t.watched, t.handle.index);
    }
    sock_watch(s, k, t.handle.index);
    t.watched = k;
    t.watching = true;
}

// Waiters remembered for a Host that is gone (a closed session, the parent before fork) make room.
void forget_stale(Session& s)
{
    for (ThreadWaiter& t : this_state.waiters) {
        if (t.host_id != 0 && t.host_id != s.host->id() && !host_exists(t.host_id)) {
            t = ThreadWaiter{};
        }
    }
}

// As find_waiter; it is busy from now on.
ThreadWaiter* take_waiter(Session& s)
{
    ThreadWaiter* t = find_waiter(s);
    if (t == nullptr) {
        forget_stale(s);
        t = find_waiter(s);
    }
    if (t != nullptr) {
        t->busy = true;
    }
    return t;
}

} // namespace

Blocker::Blocker(Session& s, Sock k, base::Instant deadline)
    : s_(s), sock_(k), deadline_(deadline), waiter_(take_waiter(s))
{
}

Blocker::~Blocker()
{
    if (waiter_ != nullptr) {
        // A wake that is on its way stays in the pipe: one spurious wake-up later is cheaper than draining now.
        s_.view.waiter(waiter_->handle.index).sleeping.store(0, std::memory_order_relaxed);
        waiter_->busy = false;
    }
}

void Blocker::arm()
{
    if (waiter_ == nullptr) {
        return;
    }
    watch_only(s_, *waiter_, sock_);
    arm_waiter(s_, waiter_->handle);
    arm_slot(s_.view.slot(sock_.slot), sockbuf::armed_thread);
}

int Blocker::sleep()
{
    if (waiter_ != nullptr) {
        return s_.host->sleep(waiter_->handle, deadline_);
    }
    base::Instant until = std::min(deadline_, s_.host->now() + nap);
    int rc = s_.host->sleep(WaiterHandle{}, until);
    return rc == -ETIMEDOUT && until != deadline_ ? 0 : rc;
}

namespace {

bool is_set(const Session& s, std::uint32_t waiter)
{
    return s.view.waiter(waiter).kind.load(std::memory_order_relaxed) ==
           static_cast<std::uint32_t>(sockbuf::WaiterKind::set);
}

} // namespace

void sock_watch(Session& s, Sock k, std::uint32_t waiter)
{
    if (SocketSlot* slot = find_slot(s, k)) {
        waiter_word(*slot, waiter).fetch_or(std::uint64_t{1} << (waiter % 64), std::memory_order_seq_cst);
        arm_slot(*slot, is_set(s, waiter) ? sockbuf::armed_set : sockbuf::armed_thread);
    }
}

void sock_unwatch(Session& s, Sock k, std::uint32_t waiter)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return;
    }
    waiter_word(*slot, waiter).fetch_and(~(std::uint64_t{1} << (waiter % 64)), std::memory_order_seq_cst);
    if (is_set(s, waiter)) {
        return; // no thread's own
    }
    for (ThreadWaiter& t : this_state.waiters) {
        if (t.watching && t.host_id == s.host->id() && t.handle.index == waiter && t.watched.slot == k.slot) {
            t.watching = false;
        }
    }
}

int thread_waiter(Session& s, WaiterHandle& out)
{
    ThreadWaiter* t = take_waiter(s);
    if (t == nullptr) {
        return s.host->alive() ? -ENOSPC : -EPIPE;
    }
    out = t->handle;
    return 0;
}

void give_thread_waiter(Session& s, const WaiterHandle& w)
{
    for (ThreadWaiter& t : this_state.waiters) {
        if (t.host_id == s.host->id() && t.handle.index == w.index) {
            t.busy = false;
        }
    }
}

void sock_arm(Session& s, Sock k)
{
    arm_slot(s.view.slot(k.slot), sockbuf::armed_thread);
}

void arm_waiter(Session& s, const WaiterHandle& w)
{
    s.view.waiter(w.index).sleeping.store(1, std::memory_order_seq_cst);
}

void disarm_waiter(Session& s, const WaiterHandle& w)
{
    if (s.view.waiter(w.index).sleeping.exchange(0, std::memory_order_seq_cst) == 0) {
        s.host->sleep(w, base::Instant{}); // a moment long past: takes what is in the pipe and does not wait
    }
}

} // namespace client
