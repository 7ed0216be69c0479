// How sockets end: shutdown, and holding and releasing by processes. Ends are offsets: snd_end is fixed before netd
// hears of it, and FIN follows exactly that byte.
#include <algorithm>

#include "client/blocking.hpp"
#include "client/control.hpp"

namespace client {

namespace {

// No byte can follow what is published now. Under snd_lock, so that a writer in the middle of a copy is in or out.
int fix_send_end(Session& s, SocketSlot& slot)
{
    SideGuard lock(s, slot.share.snd_lock);
    if (lock.error() != 0) {
        return lock.error();
    }
    std::uint64_t open = no_offset;
    slot.app.snd_end.compare_exchange_strong(
        open, slot.app.snd_produced.load(std::memory_order_relaxed), std::memory_order_seq_cst);
    return 0;
}

// SO_LINGER with a time: close(2) blocks until all is sent and acknowledged or the time is over, whatever O_NONBLOCK
// says (inet_release does not look at it).
base::Micros linger_time(Session& s, SocketSlot& slot, Sock k)
{
    linger option{};
    socklen_t len = sizeof option;
    if (!has_status(slot, status_lingers) || is_datagram(slot) ||
        sock_getsockopt(s, k, SOL_SOCKET, SO_LINGER, &option, &len) != 0 || option.l_onoff == 0) {
        return base::Micros{0};
    }
    return base::seconds(option.l_linger);
}

// In slices: that a slot is free again is no event.
void await_closed(Session& s, SocketSlot& slot, Sock k, base::Instant deadline)
{
    auto closed = [&] { return !is_current(slot, k) || state_of(slot) == SlotState::closed; };
    while (!closed() && s.host->alive() && s.host->now() < deadline) {
        wait_for(s, slot, k, std::min(deadline, s.host->now() + base::millis(5)), closed);
    }
}

} // namespace

int sock_shutdown(Session& s, Sock k, int how)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) {
        return -EINVAL;
    }
    SlotState state = state_of(*slot);
    bool allowed = state == SlotState::connected || state == SlotState::connecting || state == SlotState::listening;
    if (!allowed &&
        !is_datagram(*slot)) { // of a datagram socket netd says so, and shuts it all the same, as Linux does
        return -ENOTCONN;
    }
    if (how != SHUT_RD && state != SlotState::listening) {
        if (int error = fix_send_end(s, *slot)) {
            return error;
        }
    }
    sockbuf::Request r = make_request(*slot, k, sockbuf::Op::shutdown, how);
    int rc = call_netd(s, *slot, k, r);
    if (rc == 0 && state == SlotState::connecting && state_of(*slot) == SlotState::open) {
        slot->share.status.fetch_and(~status_connect_posted); // it is as new; the next connect is another one
    }
    return rc;
}

void sock_hold(Session& s, Sock k)
{
    if (SocketSlot* slot = find_slot(s, k)) {
        slot->share.holders.fetch_or(process_bit(s), std::memory_order_seq_cst);
    }
}

int sock_release(Session& s, Sock k)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    bool last = slot->share.holders.load(std::memory_order_seq_cst) == process_bit(s);
    base::Micros linger = last ? linger_time(s, *slot, k) : base::Micros{0};
    sockbuf::Request r = make_request(*slot, k, sockbuf::Op::close);
    std::uint64_t before = slot->share.holders.fetch_and(~process_bit(s), std::memory_order_seq_cst);
    if ((before & process_bit(s)) == 0) {
        return -EBADF; // another thread released it for us
    }
    if (before != process_bit(s)) {
        return 0; // others hold it still
    }
    // Nobody else can write any more; a writer of ours that is still in the middle of a copy (or dead in one) must not
    // hold up the close, hence no lock. With unread data the close will be a reset: an end that netd met before the
    // request (by an older mark) would be sent as FIN first. The request itself takes what was published.
    bool unread = slot->owner.rcv_produced.load(std::memory_order_seq_cst) !=
                  slot->app.rcv_consumed.load(std::memory_order_seq_cst);
    if (!unread) {
        std::uint64_t open = no_offset;
        slot->app.snd_end.compare_exchange_strong(
            open, slot->app.snd_produced.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
    }
    int rc = post_to_netd(s, *slot, r);
    if (rc == 0 && linger.count() > 0) {
        await_closed(s, *slot, k, s.host->now() + linger);
    }
    return 0; // as close(2): the descriptor is gone whatever became of netd
}

} // namespace client
