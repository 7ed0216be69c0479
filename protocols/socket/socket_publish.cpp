// The shared slot of a socket: what the protocols publish (release stores, and sequentially consistent where the
// application may be about to sleep) and what they take from it. Every taken value is read once and checked against the
// private copies. Owner: the socket's CPU.
#include <cstring>

#include "base/plant.hpp"
#include "protocols/domain.hpp"
#include "protocols/socket/socket.hpp"

namespace protocols {

Socket* SocketUser::socket_wakes(void*, std::uint32_t)
{
    return nullptr;
}

void so_publish_state(Socket& so, sockbuf::SlotState state)
{
    so.slot->info.state.store(static_cast<std::uint32_t>(state), std::memory_order_release);
}

void so_publish_addresses(Socket& so)
{
    sockbuf::SlotInfo& info = so.slot->info;
    std::memcpy(info.local_addr, so.flow.local.addr.bytes(), 16);
    std::memcpy(info.peer_addr, so.flow.peer.addr.bytes(), 16);
    info.local_port = so.flow.local.port;
    info.peer_port = so.flow.peer.port;
}

// The store and the look at want_space are ordered against the application's store of want_space and its second look at
// snd_acked: one of the two sees the other.
void so_publish_acked(Socket& so)
{
    so.slot->owner.snd_acked.store(so.snd_acked, std::memory_order_seq_cst);
    if (so.slot->app.want_space.load(std::memory_order_seq_cst) == 0) {
        return;
    }
    std::uint64_t used = so.snd_limit - so.snd_acked;
    if (used * 3 <= so.snd_ring.size() * 2 && !base::planted(base::Plant::writer_not_woken) &&
        so.slot->app.want_space.exchange(0, std::memory_order_seq_cst) != 0) {
        so.user->socket_event(so, so_writable);
    }
}

void so_publish_received(Socket& so)
{
    so.slot->owner.rcv_produced.store(
        so.rcv_produced, std::memory_order_release); // the user's barrier is before the wake
    so.user->socket_event(so, so_readable);
}

void so_publish_end(Socket& so)
{
    so.slot->owner.rcv_end.store(so.rcv_produced, std::memory_order_seq_cst);
    so.user->socket_event(so, so_readable);
}

void so_publish_fin(Socket& so)
{
    so.slot->owner.fin_came().store(1, std::memory_order_seq_cst);
    so_publish_end(so);
}

void so_publish_error(Socket& so, base::Error error)
{
    so.slot->info.so_error.store(base::to_errno(error), std::memory_order_seq_cst);
    so.user->socket_event(so, so_error_event);
}

void so_publish_broken(Socket& so)
{
    so.slot->owner.snd_broken.store(1, std::memory_order_seq_cst);
    so.user->socket_event(so, so_writable);
}

void so_publish_as_new(Socket& so)
{
    so.slot->owner.rcv_end.store(sockbuf::no_offset, std::memory_order_seq_cst);
    so.slot->owner.urgent_mark.store(sockbuf::no_offset, std::memory_order_seq_cst);
    so.slot->owner.snd_broken.store(0, std::memory_order_seq_cst);
    so.slot->owner.fin_came().store(0, std::memory_order_seq_cst);
    so_publish_state(so, sockbuf::SlotState::open);
}

void so_publish_ring_at(Socket& so, std::uint64_t offset)
{
    so.slot->owner.rcv_ring_at.store(offset, std::memory_order_seq_cst);
}

// snd_end is read first: an honest application stores it after snd_produced, so what is read then includes every byte
// that the end promises.
bool so_take_send(Socket& so)
{
    std::uint64_t end = so.slot->app.snd_end.load(std::memory_order_acquire);
    std::uint64_t produced = so.slot->app.snd_produced.load(std::memory_order_acquire);
    std::uint64_t room = so.snd_ring.valid() ? so.snd_ring.size() : 0;
    if (produced < so.snd_limit || produced - so.snd_acked > room) {
        return false;
    }
    if (so.snd_end != sockbuf::no_offset) {
        return true; // the end is fixed: neither it nor the limit moves any more
    }
    if (end != sockbuf::no_offset) {
        if (end < so.snd_limit || end > produced) {
            return false;
        }
        so.snd_end = end;
        produced = end;
    }
    if (produced != so.snd_limit) {
        so.more = so.slot->app.snd_more().load(std::memory_order_relaxed) != 0;
    }
    so.snd_limit = produced;
    // This and `more` were stored before snd_produced. A position that does not lie in what is unacknowledged is not
    // yet there, or of an octet long gone.
    std::uint32_t urgent = so.slot->app.snd_urgent().load(std::memory_order_relaxed);
    std::uint32_t behind = static_cast<std::uint32_t>(produced) - urgent;
    if (urgent != so.snd_urgent_seen && behind < produced - so.snd_acked) {
        so.snd_urgent_seen = urgent;
        so.snd_urgent = produced - behind;
    }
    // Moved only while the ring was empty; whatever a liar says here names a place in its own ring.
    so.snd_ring.set_start(so.slot->app.snd_start.load(std::memory_order_relaxed));
    return true;
}

void so_restart_receive(Socket& so, std::uint64_t offset, std::uint64_t bytes)
{
    so.rcv_ring.restart(offset, bytes);
    if (!base::planted(base::Plant::wrong_start_of_ring)) {
        so.slot->owner.rcv_start.store(so.rcv_ring.start(), std::memory_order_relaxed); // rcv_produced follows
    }
}

bool so_take_consumed(Socket& so)
{
    std::uint64_t consumed = so.slot->app.rcv_consumed.load(std::memory_order_acquire);
    if (consumed < so.rcv_consumed || consumed > so.rcv_produced) {
        return false;
    }
    so.rcv_consumed = consumed;
    return true;
}

} // namespace protocols
