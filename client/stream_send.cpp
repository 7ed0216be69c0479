// Stream writes: copy into the send ring under snd_lock, publish with one store, mark the socket. Large writes publish
// piece by piece so that the protocol thread sends the first while the next is copied. The lock is not held asleep.
#include <algorithm>
#include <optional>

#include "client/blocking.hpp"
#include "client/transfer.hpp"

namespace client {

namespace {

constexpr std::uint64_t publish_bytes = 64 * 1024;
constexpr base::Micros answer_patience = base::millis(50);

// 0 = go on in `state`; a negative errno as tcp_sendmsg gives it: a pending error first, then EPIPE.
int sendable(SocketSlot& slot, SlotState& state)
{
    if (int error = take_error(slot)) {
        return -error;
    }
    if (send_over(slot)) {
        return -EPIPE;
    }
    state = state_of(slot);
    return state == SlotState::connected || state == SlotState::connecting ? 0 : -EPIPE;
}

bool ring_empty(Session& s, SocketSlot& slot, const sockbuf::RingView& ring, std::uint64_t at)
{
    if (slot.owner.snd_acked.load(std::memory_order_acquire) == at) {
        return true;
    }
    std::uint32_t partner = slot.app.partner.load(std::memory_order_relaxed);
    return partner != 0 && ring.since_restart(at) >= sockbuf::joined_look_again && drained(s, partner - 1, at);
}

// What flags say about bytes that end at `end`; before they are published. `last`: of this write.
void announce(Session& s, SocketSlot& slot, int flags, std::uint64_t end, bool last)
{
    std::uint32_t more = (flags & MSG_MORE) != 0 ? 1 : 0;
    if (slot.app.snd_more().load(std::memory_order_relaxed) != more) {
        slot.app.snd_more().store(more, std::memory_order_relaxed);
    }
    if ((flags & MSG_OOB) == 0 || !last) {
        return;
    }
    if (std::uint32_t partner = slot.app.partner.load(std::memory_order_relaxed); partner != 0) {
        s.view.slot(partner - 1).owner.urgent_mark.store(end, std::memory_order_release);
    } else {
        slot.app.snd_urgent().store(static_cast<std::uint32_t>(end), std::memory_order_relaxed);
    }
}

// Copies and publishes what fits now; < 0 = errno, else bytes.
ssize_t fill(Session& s, SocketSlot& slot, Sock k, IovecCursor& data, int flags)
{
    SideGuard lock(s, slot.share.snd_lock);
    if (lock.error() != 0) {
        return lock.error();
    }
    if (slot.app.snd_end.load(std::memory_order_acquire) != no_offset) {
        return -EPIPE; // shut down by another thread while we waited for the lock
    }
    sockbuf::RingView ring = send_ring(s, slot); // under the lock: netd takes no ring away from its holder
    if (!ring.valid()) {
        return 0;
    }
    std::uint64_t at = slot.app.snd_produced.load(std::memory_order_relaxed);
    if (ring_empty(s, slot, ring, at)) { // the lines it had are the warm ones
        restart_send_ring(slot, ring, at, data.left());
    }
    ssize_t done = 0;
    while (data.left() != 0) {
        std::uint64_t queued = at - slot.owner.snd_acked.load(std::memory_order_acquire);
        std::uint64_t n = std::min({data.left(), publish_bytes, ring.size() - std::min(queued, ring.size())});
        if (n == 0) {
            break;
        }
        data.to_ring(ring, at, n);
        at += n;
        announce(s, slot, flags, at, data.left() == 0);
        publish(s, slot, k, at);
        done += static_cast<ssize_t>(n);
    }
    return done;
}

// The connection was idle and has no ring: asks for one. netd answers at once, if only that there is no memory now
// (page_wanted); so non-blocking calls wait for it too, as for the answer to any request. 0 = look again.
int await_ring(Session& s, SocketSlot& slot, Sock k)
{
    CountedBy nobody(nullptr);
    auto answered = [&] {
        return send_page(slot) != sockbuf::no_page || state_of(slot) != SlotState::connected || send_over(slot) ||
               slot.info.so_error.load(std::memory_order_relaxed) != 0;
    };
    slot.app.want_space.store(1, std::memory_order_seq_cst);
    mark(s, slot, k);
    for (;;) {
        int rc = wait_for(s, slot, k, s.host->now() + answer_patience, answered);
        if (rc == 0) {
            return 0;
        }
        if (rc == -EPIPE || !s.host->alive()) {
            return -ECONNRESET;
        }
        if (rc == -ETIMEDOUT) {
            return -EAGAIN;
        }
    }
}

int wait_for_space(Session& s, SocketSlot& slot, Sock k, base::Instant deadline)
{
    return wait_for(s, slot, k, deadline, [&] {
        auto may_go_on = [&] {
            SlotState state = state_of(slot);
            if (state == SlotState::connecting) {
                return false;
            }
            return state != SlotState::connected || send_over(slot) ||
                   slot.info.so_error.load(std::memory_order_relaxed) != 0 || stream_writable(slot);
        };
        return may_go_on() || ask_for_space(slot, may_go_on);
    });
}

// What a write returns that cannot go on with errno `error` after `done` bytes.
ssize_t partly(ssize_t done, int error)
{
    return done > 0 ? done : error;
}

// Not all of it fitted. 0 = look again; a negative errno = it cannot go on. Out of line, or every write would save the
// registers that this needs. `deadline`: of the whole write, from the first wait on.
[[gnu::noinline]] int await_room(
    Session& s, SocketSlot& slot, Sock k, int flags, SlotState state, std::optional<base::Instant>& deadline)
{
    if (state == SlotState::connected && send_page(slot) == sockbuf::no_page && s.host->alive()) {
        int rc = await_ring(s, slot, k);
        if (!is_current(slot, k)) {
            return -EBADF;
        }
        return rc == -EAGAIN && !is_nonblocking(slot, flags) ? 0 : rc;
    }
    if (!s.host->alive()) {
        return -ECONNRESET;
    }
    if (is_nonblocking(slot, flags)) {
        auto has_space = [&] {
            return state_of(slot) == SlotState::connected && send_page(slot) != sockbuf::page_wanted &&
                   queued_bytes(slot) < send_ring_bytes(slot);
        };
        return ask_for_space(slot, has_space) ? 0
                                              : -EAGAIN; // it may come between the copy and the request for an event
    }
    if (!deadline) {
        deadline = deadline_after(s, slot.share.snd_timeout_us.load(std::memory_order_relaxed));
    }
    int rc = wait_for_space(s, slot, k, *deadline);
    if (!is_current(slot, k)) {
        return -EBADF;
    }
    return rc == -ETIMEDOUT ? -EAGAIN : rc == -EPIPE ? -ECONNRESET : rc;
}

} // namespace

ssize_t stream_send(Session& s, SocketSlot& slot, Sock k, IovecCursor data, int flags)
{
    std::optional<base::Instant> deadline;
    ssize_t done = 0;
    for (;;) {
        if (done != 0 && slot.info.so_error.load(std::memory_order_relaxed) != 0) {
            return done; // the error is for the next call
        }
        SlotState state = SlotState::free;
        if (int error = sendable(slot, state)) {
            return partly(done, error);
        }
        if (state == SlotState::connected) {
            ssize_t n = fill(s, slot, k, data, flags);
            if (n < 0) {
                return partly(done, static_cast<int>(n));
            }
            done += n;
            if (data.left() == 0) {
                return done;
            }
        }
        if (int error = await_room(s, slot, k, flags, state, deadline)) {
            return partly(done, error);
        }
    }
}

} // namespace client
