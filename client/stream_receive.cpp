// Stream reads: copy out of the receive ring under rcv_lock, then free the bytes with one store; netd is told only when
// a window update is due. EOF and errors are offsets: they show once everything before them is consumed.
#include <algorithm>

#include "client/blocking.hpp"
#include "client/transfer.hpp"

namespace client {

namespace {

struct Piece {
    std::uint64_t from; // absolute offset of the first byte to give out
    std::uint64_t bytes;
    bool at_mark; // the reader stops here: the urgent byte follows (or was skipped)
};

// The next bytes to give out from `from`: not past `produced`, not across the urgent byte unless it is inline.
Piece next_piece(SocketSlot& slot, std::uint64_t from, std::uint64_t produced, std::uint64_t want)
{
    Piece p{from, std::min(produced - from, want), false};
    std::uint64_t mark = slot.owner.urgent_mark.load(std::memory_order_acquire);
    if (mark == no_offset || mark == 0 || has_status(slot, status_oob_inline)) {
        return p;
    }
    std::uint64_t urgent = mark - 1;
    if (p.bytes != 0 && from == urgent) {
        return {from + 1, std::min(produced - from - 1, want), false};
    }
    if (from < urgent && urgent < from + p.bytes) {
        return {from, urgent - from, true};
    }
    return p;
}

struct Taken {
    std::uint64_t bytes = 0;
    bool stop = false; // at the urgent mark
    int error = 0;
};

Taken take(Session& s, SocketSlot& slot, Sock k, IovecCursor& into, int flags, std::uint64_t target)
{
    SideGuard lock(s, slot.share.rcv_lock);
    if (lock.error() != 0) {
        return {0, false, lock.error()};
    }
    std::uint64_t consumed = slot.app.rcv_consumed.load(std::memory_order_relaxed);
    std::uint64_t produced = slot.owner.rcv_produced.load(std::memory_order_acquire);
    sockbuf::RingView ring = receive_ring(s, slot);
    bool peek = (flags & MSG_PEEK) != 0;
    bool over = produced >= slot.owner.rcv_end.load(std::memory_order_acquire);
    if (peek && produced - consumed < reachable(ring, target) && !over) {
        return {}; // a peek gives all or nothing, since it leaves no position to go on from
    }
    Piece p = next_piece(slot, consumed, produced, into.left());
    if ((flags & MSG_TRUNC) != 0) { // tcp(7): the bytes are thrown away
        into.skip(p.bytes);
    } else if (p.bytes != 0) { // an idle connection has no ring
        into.from_ring(ring, p.from, p.bytes);
    }
    if (!peek && p.from + p.bytes != consumed) {
        consume(s, slot, k, p.from + p.bytes);
    }
    return {p.bytes, p.at_mark && p.bytes != 0, 0};
}

constexpr int end_of_stream = 1;

// Nothing to read (yet): 0 = wait for more, end_of_stream, or a negative errno. As tcp_recvmsg decides it.
int why_empty(Session& s, SocketSlot& slot)
{
    SlotState state = state_of(slot);
    if (state == SlotState::granted || state == SlotState::open || state == SlotState::listening) {
        int error = take_error(slot);
        return error != 0 ? -error : -ENOTCONN;
    }
    if (receive_over(slot) || state == SlotState::closed) {
        if (slot.app.rcv_consumed.load(std::memory_order_seq_cst) <
            std::min(slot.owner.rcv_produced.load(std::memory_order_seq_cst),
                slot.owner.rcv_end.load(std::memory_order_seq_cst))) {
            return 0; // data came before the end, after we looked
        }
        int error = take_error(slot);
        return error != 0 ? -error : end_of_stream;
    }
    return s.host->alive() ? 0 : -ECONNRESET;
}

std::uint64_t wanted(SocketSlot& slot, std::uint64_t size, int flags)
{
    if ((flags & MSG_WAITALL) != 0) {
        return size;
    }
    std::uint32_t low = slot.app.want_level.load(std::memory_order_relaxed);
    return std::min<std::uint64_t>(std::max(low, 1U), size);
}

// Until `more` unread bytes are there (or all that will ever fit), or the end is.
int wait_for_data(Session& s, SocketSlot& slot, Sock k, std::uint64_t more, base::Instant deadline)
{
    return wait_for(s, slot, k, deadline, [&] {
        if (slot.owner.rcv_end.load(std::memory_order_seq_cst) != no_offset || state_of(slot) != SlotState::connected) {
            return state_of(slot) != SlotState::connecting;
        }
        std::uint64_t unread = slot.owner.rcv_produced.load(std::memory_order_seq_cst) -
                               slot.app.rcv_consumed.load(std::memory_order_seq_cst);
        return unread >= reachable(receive_ring(s, slot), more);
    });
}

} // namespace

ssize_t stream_receive(Session& s, SocketSlot& slot, Sock k, IovecCursor into, int flags)
{
    std::uint64_t target = wanted(slot, into.left(), flags);
    base::Instant deadline = base::never;
    bool timed = false;
    std::uint64_t got = 0;
    auto partly = [&got](int error) { return got != 0 ? static_cast<ssize_t>(got) : error; };
    if (into.left() == 0) {
        return 0;
    }
    for (;;) {
        Taken t = take(s, slot, k, into, flags, target);
        got += t.bytes;
        if (t.error != 0) {
            return partly(t.error);
        }
        if (got >= target || t.stop || (got != 0 && (flags & MSG_PEEK) != 0)) {
            return static_cast<ssize_t>(got);
        }
        if (got != 0) {
            if (receive_over(slot) || !s.host->alive()) {
                return static_cast<ssize_t>(got); // the error, if any, is for the next call
            }
        } else if (int why = why_empty(s, slot); why != 0) {
            return why == end_of_stream ? 0 : why;
        }
        if (is_nonblocking(slot, flags)) {
            return partly(-EAGAIN);
        }
        if (!timed) {
            timed = true;
            deadline = deadline_after(s, slot.share.rcv_timeout_us.load(std::memory_order_relaxed));
        }
        int rc = wait_for_data(s, slot, k, target - got, deadline);
        if (!is_current(slot, k)) {
            return partly(-EBADF);
        }
        if (rc != 0) {
            return partly(rc == -ETIMEDOUT ? -EAGAIN : rc == -EPIPE ? -ECONNRESET : rc);
        }
    }
}

ssize_t stream_receive_urgent(Session& s, SocketSlot& slot, IovecCursor into, int flags)
{
    std::uint64_t mark = slot.owner.urgent_mark.load(std::memory_order_acquire);
    if (has_status(slot, status_oob_inline) || mark == no_offset || mark == 0) {
        return -EINVAL;
    }
    SideGuard lock(s, slot.share.rcv_lock);
    if (lock.error() != 0) {
        return lock.error();
    }
    if (slot.app.rcv_consumed.load(std::memory_order_relaxed) >= mark || urgent_was_read(slot, mark)) {
        return -EINVAL; // read past it
    }
    if (slot.owner.rcv_produced.load(std::memory_order_acquire) < mark) {
        return -EAGAIN; // announced, not here yet
    }
    std::uint64_t n = std::min<std::uint64_t>(into.left(), 1);
    into.from_ring(receive_ring(s, slot), mark - 1, n);
    if ((flags & MSG_PEEK) == 0) { // tcp_recv_urg of Linux: once, then EINVAL and no POLLPRI
        slot.share.urgent_read().store(static_cast<std::uint32_t>(mark), std::memory_order_relaxed);
    }
    return static_cast<ssize_t>(n);
}

} // namespace client
