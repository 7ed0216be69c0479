// Datagram writes: one record (DatagramHeader, payload) in the send ring under snd_lock, published with one store; with
// UDP_CORK or MSG_MORE several writes build it. A socket that is not bound yet is bound to a port of netd's choice
// first, since only a request makes netd create it.
#include <netinet/in.h>

#include <cstring>

#include "client/blocking.hpp"
#include "client/control.hpp"
#include "client/datagram_control.hpp"
#include "client/sockaddr.hpp"
#include "client/transfer.hpp"

namespace client {

namespace {

// An option may have made netd create the socket before: it has its port and its ring only once it is bound.
bool is_bound(SocketSlot& slot)
{
    return state_of(slot) != SlotState::granted && slot.info.local_port != 0;
}

int create_at_netd(Session& s, SocketSlot& slot, Sock k)
{
    if (is_bound(slot)) {
        return 0;
    }
    sockbuf::Request r = make_request(slot, k, sockbuf::Op::bind);
    set_endpoint(r, {family_of(slot) == AF_INET6 ? base::IpAddr{} : base::IpAddr::any_v4(), 0});
    int rc = call_netd(s, slot, k, r);
    // Two threads may send first at once; the loser finds it bound.
    return rc == -EINVAL && is_bound(slot) ? 0 : rc;
}

int read_destination(SocketSlot& slot, const msghdr& m, sockbuf::DatagramHeader& h)
{
    if (m.msg_name == nullptr || m.msg_namelen == 0) {
        return state_of(slot) == SlotState::connected ? 0 : -EDESTADDRREQ;
    }
    base::Endpoint to;
    if (int error = parse_sockaddr(static_cast<const sockaddr*>(m.msg_name), m.msg_namelen, family_of(slot), to)) {
        return error;
    }
    if (to.port == 0) {
        return -EINVAL;
    }
    std::memcpy(h.addr, to.addr.bytes(), sizeof h.addr);
    h.port = to.port;
    return 0;
}

bool has_space(Session& s, SocketSlot& slot, std::uint64_t stride)
{
    return send_ring(s, slot).size() - queued_bytes(slot) >= stride;
}

// What becomes a record.
struct Outgoing {
    sockbuf::DatagramHeader h{};
    unsigned char source6[sockbuf::datagram_local_bytes] = {}; // with datagram_has_source

    bool has_source6() const { return (h.flags & sockbuf::datagram_has_source) != 0; }
    std::uint64_t stride() const
    {
        return sockbuf::datagram_stride(h.size + (has_source6() ? sockbuf::datagram_local_bytes : 0U));
    }
};

// May the record have this payload? Then it has.
int set_size(SocketSlot& slot, std::uint64_t size, Outgoing& o)
{
    bool v4 = base::IpAddr::v6(o.h.port != 0 ? o.h.addr : slot.info.peer_addr).is_v4();
    if (size > (v4 ? sockbuf::datagram_payload_max_v4 : sockbuf::datagram_payload_max)) {
        return -EMSGSIZE;
    }
    if (o.h.segment != 0 && size > std::uint64_t{o.h.segment} * sockbuf::datagram_segments_max) {
        return -EINVAL; // as Linux
    }
    o.h.size = static_cast<std::uint16_t>(size);
    return 0;
}

// From the caller's message; 0, or what the send fails with.
int prepare(SocketSlot& slot, const msghdr& m, std::uint64_t size, Outgoing& o)
{
    int error = read_destination(slot, m, o.h);
    o.h.segment = static_cast<std::uint16_t>(slot.share.segment_bytes.load(std::memory_order_relaxed));
    error = error != 0 ? error : read_control(m, family_of(slot), o.h, o.source6);
    return error != 0 ? error : set_size(slot, size, o);
}

// One send: a record, or a part of one that several sends build (UDP_CORK, MSG_MORE).
struct Sending {
    Session& s;
    SocketSlot& slot;
    Sock k;
    const msghdr& m;
    IovecCursor data;
    bool more;
    bool prepared = false;
    Outgoing o{};
};

// 1 + the payload bytes of the record that is being built, 0 = none.
std::uint32_t built_of(SocketSlot& slot)
{
    return slot.app.building().load(std::memory_order_relaxed) & ~sockbuf::datagram_corked;
}

// Under snd_lock.
void set_built(SocketSlot& slot, std::uint32_t built)
{
    std::uint32_t corked = slot.app.building().load(std::memory_order_relaxed) & sockbuf::datagram_corked;
    slot.app.building().store(corked | built, std::memory_order_relaxed);
}

// The record that is being built lies beyond snd_produced; where it goes was said by the send that began it.
void resume(Session& s, SocketSlot& slot, std::uint32_t bytes, Outgoing& o)
{
    sockbuf::RingView ring = send_ring(s, slot);
    std::uint64_t at = slot.app.snd_produced.load(std::memory_order_relaxed);
    ring.copy_out(at, &o.h, sizeof o.h);
    if (o.has_source6()) {
        ring.copy_out(at + sizeof o.h + bytes, o.source6, sizeof o.source6);
    }
    o.h.size = static_cast<std::uint16_t>(bytes);
}

// What the record is with this send in it; 0, or what the send fails with.
int find_record(Sending& a, std::uint32_t built)
{
    int error = 0;
    if (built != 0) {
        resume(a.s, a.slot, built - 1, a.o);
        error = set_size(a.slot, built - 1 + a.data.left(), a.o);
    } else if (!a.prepared) {
        error = prepare(a.slot, a.m, a.data.left(), a.o);
    }
    if (error == 0 && a.o.stride() > send_ring(a.s, a.slot).size()) {
        error = -EMSGSIZE;
    }
    if (error != 0 && built != 0) {
        set_built(a.slot, 0); // as Linux: what was there is lost with it
    }
    return error;
}

void publish_record(Session& s, SocketSlot& slot, Sock k, const Outgoing& o)
{
    std::uint64_t at = slot.app.snd_produced.load(std::memory_order_relaxed);
    slot.app.snd_produced.store(at + o.stride(), std::memory_order_seq_cst);
    mark(s, slot, k);
}

// True when the data is in the ring; `error` when it never will be.
bool put(Sending& a, int& error)
{
    SideGuard lock(a.s, a.slot.share.snd_lock);
    std::uint32_t built = built_of(a.slot);
    error = lock.error() != 0 ? lock.error() : find_record(a, built);
    if (error != 0 || !has_space(a.s, a.slot, a.o.stride())) {
        return false;
    }
    sockbuf::RingView ring = send_ring(a.s, a.slot);
    std::uint64_t at = a.slot.app.snd_produced.load(std::memory_order_relaxed);
    IovecCursor from = a.data;
    ring.copy_in(at, &a.o.h, sizeof a.o.h);
    from.to_ring(ring, at + sizeof a.o.h + (built == 0 ? 0 : built - 1), a.data.left());
    if (a.o.has_source6()) {
        ring.copy_in(at + sizeof a.o.h + a.o.h.size, a.o.source6, sizeof a.o.source6);
    }
    if (a.more || (a.slot.app.building().load(std::memory_order_relaxed) & sockbuf::datagram_corked) != 0) {
        set_built(a.slot, 1U + a.o.h.size);
        return true;
    }
    if (built != 0) {
        set_built(a.slot, 0);
    }
    publish_record(a.s, a.slot, a.k, a.o);
    return true;
}

int sendable(SocketSlot& slot)
{
    int error = take_error(slot); // an ICMP error of an earlier datagram, as Linux reports it
    return error != 0 ? -error : send_over(slot) ? -EPIPE : 0;
}

} // namespace

int datagram_set_cork(Session& s, SocketSlot& slot, Sock k, bool on)
{
    SideGuard lock(s, slot.share.snd_lock);
    if (lock.error() != 0) {
        return lock.error();
    }
    std::uint32_t built = built_of(slot);
    if (on || built == 0) {
        slot.app.building().store((on ? sockbuf::datagram_corked : 0) | built, std::memory_order_relaxed);
        return 0;
    }
    Outgoing o;
    resume(s, slot, built - 1, o);
    slot.app.building().store(0, std::memory_order_relaxed);
    publish_record(s, slot, k, o);
    return 0;
}

ssize_t datagram_send(Session& s, SocketSlot& slot, Sock k, const msghdr& m, int flags)
{
    if ((flags & MSG_OOB) != 0) {
        return -EOPNOTSUPP;
    }
    Sending a{s, slot, k, m, IovecCursor(m.msg_iov, m.msg_iovlen), (flags & MSG_MORE) != 0};
    a.prepared = built_of(slot) == 0;
    int error = a.prepared ? prepare(slot, m, a.data.left(), a.o) : 0;
    error = error != 0 ? error : create_at_netd(s, slot, k);
    if (error != 0) {
        return error;
    }
    base::Instant deadline = base::never;
    bool timed = false;
    for (;;) {
        error = sendable(slot);
        if (error == 0 && put(a, error)) {
            return static_cast<ssize_t>(a.data.left());
        }
        if (error != 0) {
            return error;
        }
        if (!s.host->alive()) {
            return -ENETDOWN;
        }
        auto may_go_on = [&] {
            return has_space(s, slot, a.o.stride()) || send_over(slot) ||
                   slot.info.so_error.load(std::memory_order_relaxed);
        };
        if (is_nonblocking(slot, flags)) {
            if (ask_for_space(slot, may_go_on)) {
                continue;
            }
            return -EAGAIN;
        }
        if (!timed) {
            timed = true;
            deadline = deadline_after(s, slot.share.snd_timeout_us.load(std::memory_order_relaxed));
        }
        int rc = wait_for(s, slot, k, deadline, [&] { return may_go_on() || ask_for_space(slot, may_go_on); });
        if (!is_current(slot, k)) {
            return -EBADF;
        }
        if (rc != 0) {
            return rc == -ETIMEDOUT ? -EAGAIN : rc == -EPIPE ? -ENETDOWN : rc;
        }
    }
}

} // namespace client
