// The data paths behind sock_sendmsg and sock_recvmsg, one pair for streams and one for datagrams. Internal to client/.
#pragma once

#include <algorithm>

#include "client/iovec_cursor.hpp"
#include "client/slot_access.hpp"

namespace client {

// Linux's rule for "worth waking a writer" (sk_stream_is_writeable): free space is at least half of what is queued.
inline bool stream_writable(std::uint64_t ring_bytes, std::uint64_t queued)
{
    return queued <= ring_bytes && ring_bytes - queued >= queued / 2 && ring_bytes != queued;
}
inline std::uint64_t queued_bytes(SocketSlot& slot)
{
    return slot.app.snd_produced.load(std::memory_order_seq_cst) - slot.owner.snd_acked.load(std::memory_order_seq_cst);
}
// A connection without a ring counts as writable, since a write asks for one; not when netd said that it has none.
inline bool stream_writable(SocketSlot& slot)
{
    return send_page(slot) != sockbuf::page_wanted && stream_writable(send_ring_bytes(slot), queued_bytes(slot));
}
// Asks netd for an event when the ring has space again, then looks again: true if it has it already.
template <typename Writable>
bool ask_for_space(SocketSlot& slot, Writable writable)
{
    slot.app.want_space.store(1, std::memory_order_seq_cst);
    return writable();
}

// What a stream has to read. The byte before the urgent mark is left out of it, also after MSG_OOB took it; with
// SO_OOBINLINE it is a byte like any other, but no read runs into it, or nobody would find the mark (SIOCATMARK).
struct Unread {
    std::uint64_t from;  // offset of the first byte that a read gives out
    std::uint64_t bytes; // how many are here
    std::uint64_t piece; // how many of them one read gives out: it stops before the urgent byte
    bool at_mark;        // that byte is what comes next, here or not
};
inline Unread unread_of(SocketSlot& slot)
{
    std::uint64_t consumed = slot.app.rcv_consumed.load(std::memory_order_seq_cst);
    std::uint64_t produced = slot.owner.rcv_produced.load(std::memory_order_seq_cst); // the mark is known before it
    std::uint64_t mark = slot.owner.urgent_mark.load(std::memory_order_acquire);
    std::uint64_t bytes = produced > consumed ? produced - consumed : 0;
    if (mark == no_offset || mark <= consumed) {
        return {consumed, bytes, bytes, false};
    }
    std::uint64_t before = mark - 1 - consumed;
    if (before != 0) {
        return {consumed, bytes, std::min(bytes, before), false};
    }
    if (has_status(slot, status_oob_inline)) {
        return {consumed, bytes, bytes, true};
    }
    std::uint64_t behind = bytes == 0 ? 0 : bytes - 1;
    return {consumed + (bytes - behind), behind, behind, true};
}

// Where a reader stands who has read up to `offset`: behind an urgent byte that MSG_OOB took, which would be text once
// the mark has moved on, as it may have by now.
inline std::uint64_t past_taken(SocketSlot& slot, std::uint64_t offset)
{
    bool taken = urgent_was_read(slot, offset + 1) && !has_status(slot, status_oob_inline);
    return taken ? offset + 1 : offset;
}

// A reader who has read up to `offset` stands at the byte that MSG_OOB took, as Linux has it; behind it, as we count.
inline bool stands_at_taken(SocketSlot& slot, std::uint64_t offset)
{
    return slot.owner.urgent_mark.load(std::memory_order_acquire) == offset && urgent_was_read(slot, offset);
}

ssize_t stream_send(Session& s, SocketSlot& slot, Sock k, IovecCursor data, int flags);
ssize_t stream_receive(Session& s, SocketSlot& slot, Sock k, IovecCursor into, int flags);
int connect_for_send(Session& s, SocketSlot& slot, Sock k, const msghdr& m, int flags); // MSG_FASTOPEN
// The urgent byte (MSG_OOB), which is read once.
ssize_t stream_receive_urgent(Session& s, SocketSlot& slot, Sock k, IovecCursor into, int flags);

// m: address and control messages; data is m's iovec.
ssize_t datagram_send(Session& s, SocketSlot& slot, Sock k, const msghdr& m, int flags);
int datagram_set_cork(Session& s, SocketSlot& slot, Sock k, bool on); // UDP_CORK; off: what was built is sent
int datagram_set_asked(Session& s, SocketSlot& slot, bool asked);     // whether netd knows of a way for what comes next
ssize_t datagram_receive(Session& s, SocketSlot& slot, Sock k, msghdr& m, int flags);
ssize_t datagram_receive_error(Session& s, SocketSlot& slot, Sock k, msghdr& m); // MSG_ERRQUEUE

// Bytes of the datagram that is read next, -1 when there is none.
std::int64_t next_datagram_size(Session& s, SocketSlot& slot, Sock k);

} // namespace client
