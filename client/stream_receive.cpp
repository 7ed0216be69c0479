// Stream reads: copy out of the receive ring under rcv_lock, then free the bytes with one store; netd is told only when
// a window update is due. EOF and errors are offsets: they show once everything before them is consumed.
#include <algorithm>
#include <optional>

#include "client/blocking.hpp"
#include "client/transfer.hpp"

namespace client {

namespace {

struct Taken {
    std::uint64_t bytes = 0;
    bool stop = false; // at the urgent mark
    int error = 0;
};

// `begun`: this read gave out bytes already, so it ends before the urgent byte.
Taken take(Session& s, SocketSlot& slot, Sock k, IovecCursor& into, int flags, std::uint64_t target, bool begun)
{
    SideGuard lock(s, slot.share.rcv_lock);
    if (lock.error() != 0) {
        return {0, false, lock.error()};
    }
    Unread u = unread_of(slot);
    if (u.at_mark && begun) {
        return {0, true, 0};
    }
    sockbuf::RingView ring = receive_ring(s, slot);
    bool peek = (flags & MSG_PEEK) != 0;
    bool over = u.piece < u.bytes || u.from + u.bytes >= slot.owner.rcv_end.load(std::memory_order_acquire);
    if (peek && u.bytes < reachable(ring, target) && !over) {
        return {}; // a peek gives all or nothing, since it leaves no position to go on from
    }
    std::uint64_t n = std::min(u.piece, into.left());
    if ((flags & MSG_TRUNC) != 0) { // tcp(7): the bytes are thrown away
        into.skip(n);
    } else if (n != 0) { // an idle connection has no ring
        into.from_ring(ring, u.from, n);
    }
    bool to_mark = n == u.piece && u.piece < u.bytes;
    std::uint64_t to = to_mark ? past_taken(slot, u.from + n) : u.from + n;
    if (!peek && to != slot.app.rcv_consumed.load(std::memory_order_relaxed)) {
        consume(s, slot, k, to);
    }
    return {n, n != 0 && to_mark, 0};
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
    std::uint64_t end = slot.owner.rcv_end.load(std::memory_order_seq_cst);
    Unread u = unread_of(slot);
    if (u.from >= end || state == SlotState::closed) {
        if (u.bytes != 0 && u.from < end) {
            return 0; // data came before the end, after we looked
        }
        if (slot.owner.fin_came().load(std::memory_order_seq_cst) != 0) {
            return end_of_stream; // SOCK_DONE: an error that came behind the FIN is for SO_ERROR and writers
        }
        int error = take_error(slot);
        return error != 0 ? -error : end_of_stream;
    }
    return s.host->alive() ? 0 : -ECONNRESET;
}

std::uint64_t wanted(SocketSlot& slot, std::uint64_t size, int flags)
{
    if ((flags & MSG_WAITALL) != 0) {
        return std::max<std::uint64_t>(size, 1);
    }
    std::uint64_t low = slot.app.want_level.load(std::memory_order_relaxed);
    return std::max<std::uint64_t>(std::min(low, size), 1); // sock_rcvlowat: a read of no bytes waits for one
}

// Until `more` unread bytes are there (or all that will ever fit), or the end is.
int wait_for_data(Session& s, SocketSlot& slot, Sock k, std::uint64_t more, base::Instant deadline)
{
    return wait_for(s, slot, k, deadline, [&] {
        if (slot.owner.rcv_end.load(std::memory_order_seq_cst) != no_offset || state_of(slot) != SlotState::connected) {
            return state_of(slot) != SlotState::connecting;
        }
        Unread u = unread_of(slot);
        return u.piece < u.bytes || u.bytes >= reachable(receive_ring(s, slot), more);
    });
}

// `got` bytes are not enough. 0 = look again, end_of_stream = the read ends with them, or a negative errno. Out of
// line, or every read would save the registers that this needs. `deadline`: of the whole read, from the first wait on.
[[gnu::noinline]] int await_more(Session& s, SocketSlot& slot, Sock k, int flags, std::uint64_t got,
    std::uint64_t target, std::optional<base::Instant>& deadline)
{
    if (got != 0) {
        if (receive_over(slot) || unread_of(slot).at_mark || !s.host->alive()) {
            return end_of_stream; // the error, if any, is for the next call
        }
    } else if (int why = why_empty(s, slot); why != 0) {
        return why;
    }
    if (is_nonblocking(slot, flags)) {
        return -EAGAIN;
    }
    if (!deadline) {
        deadline = deadline_after(s, slot.share.rcv_timeout_us.load(std::memory_order_relaxed));
    }
    int rc = wait_for_data(s, slot, k, target - got, *deadline);
    if (!is_current(slot, k)) {
        return -EBADF;
    }
    return rc == -ETIMEDOUT ? -EAGAIN : rc == -EPIPE ? -ECONNRESET : rc;
}

} // namespace

ssize_t stream_receive(Session& s, SocketSlot& slot, Sock k, IovecCursor into, int flags)
{
    std::uint64_t target = wanted(slot, into.left(), flags);
    std::optional<base::Instant> deadline;
    std::uint64_t got = 0;
    bool nothing_wanted = into.left() == 0;
    for (;;) {
        if (nothing_wanted && unread_of(slot).bytes != 0) {
            return 0;
        }
        Taken t = nothing_wanted ? Taken{} : take(s, slot, k, into, flags, target, got != 0);
        got += t.bytes;
        int error = t.error;
        if (error == 0) {
            if (got >= target || t.stop || (got != 0 && (flags & MSG_PEEK) != 0)) {
                return static_cast<ssize_t>(got);
            }
            error = await_more(s, slot, k, flags, got, target, deadline);
        }
        if (error < 0 && error != -EBADF && (flags & MSG_PEEK) != 0) { // as tcp_recvmsg: what is there, if it is less
            got = take(s, slot, k, into, flags, 1, false).bytes;
        }
        if (error != 0) {
            return got != 0 || error == end_of_stream ? static_cast<ssize_t>(got) : error;
        }
    }
}

ssize_t stream_receive_urgent(Session& s, SocketSlot& slot, Sock k, IovecCursor into, int flags)
{
    std::uint64_t mark = slot.owner.urgent_mark.load(std::memory_order_acquire);
    if (has_status(slot, status_oob_inline) || mark == no_offset || mark == 0) {
        return -EINVAL;
    }
    SideGuard lock(s, slot.share.rcv_lock);
    if (lock.error() != 0) {
        return lock.error();
    }
    std::uint64_t consumed = slot.app.rcv_consumed.load(std::memory_order_relaxed);
    if (consumed >= mark || urgent_was_read(slot, mark)) {
        return -EINVAL; // read past it
    }
    if (slot.owner.rcv_produced.load(std::memory_order_acquire) < mark) {
        return -EAGAIN; // announced, not here yet
    }
    std::uint64_t n = std::min<std::uint64_t>(into.left(), 1);
    into.from_ring(receive_ring(s, slot), mark - 1, n);
    if ((flags & MSG_PEEK) == 0) { // tcp_recv_urg of Linux: once, then EINVAL and no POLLPRI
        slot.share.urgent_read().store(static_cast<std::uint32_t>(mark), std::memory_order_relaxed);
        if (std::uint64_t to = past_taken(slot, consumed); to != consumed) {
            consume(s, slot, k, to);
        }
    }
    return static_cast<ssize_t>(n);
}

} // namespace client
