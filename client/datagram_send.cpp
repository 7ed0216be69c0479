// Datagram writes: one record (DatagramHeader, payload) in the send ring under snd_lock, published with one store. A
// socket that is not bound yet is bound to a port of netd's choice first, since only a request makes netd create it.
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

// True when the record is in the ring; `error` when it never will be.
bool put(Session& s, SocketSlot& slot, Sock k, const Outgoing& o, IovecCursor data, int& error)
{
    SideGuard lock(s, slot.share.snd_lock);
    error = lock.error();
    if (error != 0 || !has_space(s, slot, o.stride())) {
        return false;
    }
    sockbuf::RingView ring = send_ring(s, slot);
    std::uint64_t at = slot.app.snd_produced.load(std::memory_order_relaxed);
    ring.copy_in(at, &o.h, sizeof o.h);
    data.to_ring(ring, at + sizeof o.h, o.h.size);
    if (o.has_source6()) {
        ring.copy_in(at + sizeof o.h + o.h.size, o.source6, sizeof o.source6);
    }
    slot.app.snd_produced.store(at + o.stride(), std::memory_order_seq_cst);
    mark(s, slot, k);
    return true;
}

// From the caller's message; 0, or what the send fails with.
int prepare(SocketSlot& slot, const msghdr& m, std::uint64_t size, Outgoing& o)
{
    if (size > sockbuf::datagram_payload_max) {
        return -EMSGSIZE;
    }
    o.h.size = static_cast<std::uint16_t>(size);
    int error = read_destination(slot, m, o.h);
    bool v4 = base::IpAddr::v6(o.h.port != 0 ? o.h.addr : slot.info.peer_addr).is_v4();
    if (error == 0 && v4 && size > sockbuf::datagram_payload_max_v4) {
        return -EMSGSIZE;
    }
    if (error != 0) {
        return error;
    }
    o.h.segment = static_cast<std::uint16_t>(slot.share.segment_bytes.load(std::memory_order_relaxed));
    error = read_control(m, family_of(slot), o.h, o.source6);
    if (o.h.segment != 0 && size > std::uint64_t{o.h.segment} * sockbuf::datagram_segments_max) {
        return -EINVAL; // as Linux
    }
    return error;
}

int sendable(SocketSlot& slot)
{
    int error = take_error(slot); // an ICMP error of an earlier datagram, as Linux reports it
    return error != 0 ? -error : send_over(slot) ? -EPIPE : 0;
}

} // namespace

ssize_t datagram_send(Session& s, SocketSlot& slot, Sock k, const msghdr& m, int flags)
{
    IovecCursor data(m.msg_iov, m.msg_iovlen);
    Outgoing o;
    if ((flags & MSG_OOB) != 0) {
        return -EOPNOTSUPP;
    }
    int error = prepare(slot, m, data.left(), o);
    error = error != 0 ? error : create_at_netd(s, slot, k);
    if (error != 0) {
        return error;
    }
    std::uint64_t stride = o.stride();
    if (stride > send_ring(s, slot).size()) {
        return -EMSGSIZE;
    }
    base::Instant deadline = base::never;
    bool timed = false;
    for (;;) {
        error = sendable(slot);
        if (error == 0 && put(s, slot, k, o, data, error)) {
            return static_cast<ssize_t>(o.h.size);
        }
        if (error != 0) {
            return error;
        }
        if (!s.host->alive()) {
            return -ENETDOWN;
        }
        auto may_go_on = [&] {
            return has_space(s, slot, stride) || send_over(slot) || slot.info.so_error.load(std::memory_order_relaxed);
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
