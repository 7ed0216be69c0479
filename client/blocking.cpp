#include "client/blocking.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace client {

namespace {

// This thread's hold on a waiter of one session. Plain data: it outlives the thread_local destructors.
struct Hold {
    std::uint64_t host_id = 0; // 0 = unused
    std::uint64_t number = 0;
    std::uint32_t waiter = 0;
    bool waits = false; // just now
};

constexpr std::size_t holds_max = 8; // sessions and nested waits of one thread; of more sessions some change places
constexpr base::Micros nap{500};     // without a waiter

struct ThreadState {
    std::array<Hold, holds_max> holds;
    bool ended = false; // the thread's destructors ran: no new waiters
};
constinit thread_local ThreadState this_state;

struct ThreadEnd {
    ~ThreadEnd()
    {
        this_state.ended = true;
        for (Hold& h : this_state.holds) {
            if (h.host_id != 0) {
                end_hold(h.host_id, h.waiter, h.number);
                h = {};
            }
        }
    }
    bool touched = false;
};
thread_local ThreadEnd at_thread_end;

std::uint64_t new_number()
{
    static std::atomic<std::uint64_t> last{0};
    return last.fetch_add(2, std::memory_order_relaxed) + 2;
}

std::atomic<std::uint64_t>& waiter_word(SocketSlot& slot, std::uint32_t waiter)
{
    return slot.app.waiters[waiter / 64];
}

// What this thread waited with last and nobody took meanwhile, in use from now on; null: nothing.
HeldWaiter* own_waiter(Session& s)
{
    for (Hold& h : this_state.holds) {
        if (h.host_id != s.host->id()) {
            continue;
        }
        HeldWaiter& w = s.host->held(h.waiter);
        std::uint64_t now = h.number;
        bool before = std::exchange(h.waits, true); // first: a handler may come in between
        if (w.hold.compare_exchange_strong(now, h.number | HeldWaiter::in_use, std::memory_order_acq_rel)) {
            return &w;
        }
        h.waits = before;
        if (now != (h.number | HeldWaiter::in_use)) { // else a wait that this one interrupted has it
            h = {};
        }
    }
    return nullptr;
}

// One that some thread of this process keeps from a wait that is over.
HeldWaiter* take_idle(Session& s, std::uint64_t number)
{
    for (std::uint32_t i = 0; i < sockbuf::max_waiters; ++i) {
        HeldWaiter& w = s.host->held(i);
        std::uint64_t now = w.hold.load(std::memory_order_relaxed);
        bool idle = now != 0 && (now & HeldWaiter::in_use) == 0;
        if (idle && w.hold.compare_exchange_strong(now, number | HeldWaiter::in_use, std::memory_order_acq_rel)) {
            if (w.watching) { // a wake for that which is under way is a spurious one of ours
                sock_unwatch(s, w.watched, i);
            }
            return &w;
        }
    }
    return nullptr;
}

HeldWaiter* new_waiter(Session& s, std::uint64_t number)
{
    WaiterHandle handle;
    int error = s.host->make_waiter(sockbuf::WaiterKind::thread, handle);
    if (error != 0) {
        return error == -ENOSPC ? take_idle(s, number) : nullptr;
    }
    HeldWaiter& w = s.host->held(handle.index);
    w.handle = handle;
    w.watching = false;
    w.hold.store(number | HeldWaiter::in_use, std::memory_order_release);
    return &w;
}

// Holds on waiters of a Host that is gone (a closed session, the parent before fork) make room; else a session does in
// which the thread does not wait, which gets its waiter back.
Hold* place_for_hold()
{
    for (Hold& h : this_state.holds) {
        if (h.host_id == 0 || !host_exists(h.host_id)) {
            h = {};
            return &h;
        }
    }
    for (Hold& h : this_state.holds) {
        if (!h.waits) {
            end_hold(h.host_id, h.waiter, h.number);
            h = {};
            return &h;
        }
    }
    return nullptr;
}

// In use from now on; null when there is none to be had.
HeldWaiter* take_waiter(Session& s)
{
    if (HeldWaiter* own = own_waiter(s)) {
        return own;
    }
    Hold* place = this_state.ended ? nullptr : place_for_hold();
    if (place == nullptr) {
        return nullptr;
    }
    at_thread_end.touched = true; // constructs it, so that its destructor runs
    std::uint64_t number = new_number();
    HeldWaiter* w = new_waiter(s, number);
    if (w != nullptr) {
        *place = {s.host->id(), number, w->handle.index, true};
    }
    return w;
}

void watch_only(Session& s, HeldWaiter& w, Sock k)
{
    if (w.watching && w.watched.slot == k.slot && w.watched.generation == k.generation) {
        return;
    }
    if (w.watching) {
        sock_unwatch(s, w.watched, w.handle.index);
    }
    sock_watch(s, k, w.handle.index);
    w.watched = k;
    w.watching = true;
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
        give_thread_waiter(s_, waiter_->handle);
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
    HeldWaiter& w = s.host->held(waiter);
    if (w.watching && w.watched.slot == k.slot) {
        w.watching = false;
    }
}

int thread_waiter(Session& s, WaiterHandle& out)
{
    HeldWaiter* w = take_waiter(s);
    if (w == nullptr) {
        return s.host->alive() ? -ENOSPC : -EPIPE;
    }
    out = w->handle;
    return 0;
}

// Of a child that was forked in the middle of the wait it is not any more: the Host's id is new.
void give_thread_waiter(Session& s, const WaiterHandle& w)
{
    for (Hold& h : this_state.holds) {
        if (h.host_id == s.host->id() && h.waiter == w.index) {
            s.host->held(h.waiter).hold.store(h.number, std::memory_order_release);
            h.waits = false;
        }
    }
}

int make_set_waiter(Session& s, WaiterHandle& out)
{
    for (;;) {
        int error = s.host->make_waiter(sockbuf::WaiterKind::set, out);
        HeldWaiter* idle = error == -ENOSPC ? take_idle(s, new_number()) : nullptr;
        if (idle == nullptr) {
            return error;
        }
        give_up(*s.host, *idle);
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
