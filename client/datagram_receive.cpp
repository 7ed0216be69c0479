// Datagram reads: one record of the lane whose turn it is, under rcv_lock; what does not fit the caller's buffer is cut
// off. The sender's address and the control messages that were asked for come from the record's header.
#include <netinet/in.h>
#include <netinet/udp.h>

#include <algorithm>
#include <cstring>

#include "base/endian.hpp"
#include "client/blocking.hpp"
#include "client/datagram_control.hpp"
#include "client/datagram_lanes.hpp"
#include "client/sockaddr.hpp"
#include "client/transfer.hpp"

namespace client {

namespace {

// As Linux: IPv4's messages about what came over IPv4, IPv6's about what came over IPv6, but for where it came in, of
// which an IPv6 socket hears either way.
void write_control(
    SocketSlot& slot, const sockbuf::DatagramHeader& h, const base::IpAddr& local, std::uint64_t bytes, msghdr& m)
{
    ControlWriter w(m);
    bool v4 = local.is_v4();
    if (v4 && has_status(slot, status_pktinfo)) {
        in_pktinfo info{};
        info.ipi_ifindex = static_cast<int>(h.interface);
        base::store_be32(&info.ipi_addr, h.local_v4);
        base::store_be32(&info.ipi_spec_dst, sockbuf::answer_v4(h));
        w.add(IPPROTO_IP, IP_PKTINFO, info);
    }
    if (has_status(slot, status_pktinfo6)) {
        in6_pktinfo info{};
        info.ipi6_ifindex = h.interface;
        std::memcpy(&info.ipi6_addr, local.on_wire().bytes(), 16);
        w.add(IPPROTO_IPV6, IPV6_PKTINFO, info);
    }
    if (v4 && has_status(slot, status_recv_ttl)) {
        w.add(IPPROTO_IP, IP_TTL, int{h.ttl});
    }
    if (v4 && has_status(slot, status_recv_tos)) {
        w.add(IPPROTO_IP, IP_TOS, h.tos);
    }
    if (!v4 && has_status(slot, status_recv_hops)) {
        w.add(IPPROTO_IPV6, IPV6_HOPLIMIT, int{h.ttl});
    }
    if (!v4 && has_status(slot, status_recv_class)) {
        w.add(IPPROTO_IPV6, IPV6_TCLASS, int{h.tos});
    }
    if (bytes > h.size) {
        w.add(IPPROTO_UDP, UDP_GRO, int{h.size});
    }
}

sockbuf::DatagramHeader header_at(const sockbuf::RingView& ring, std::uint64_t at)
{
    sockbuf::DatagramHeader h;
    ring.copy_out(at, &h, sizeof h);
    return h;
}

// A record and where it lies in the ring of its lane.
struct Incoming {
    sockbuf::DatagramHeader h;
    base::IpAddr local;
    std::uint64_t payload = 0;
    std::uint64_t next = 0; // the record behind it
};

inline Incoming record_at(const sockbuf::RingView& ring, std::uint64_t at)
{
    Incoming r;
    r.h = header_at(ring, at);
    r.payload = at + sizeof r.h;
    if (base::IpAddr::v6(r.h.addr).is_v4()) {
        r.local = base::IpAddr::v4(r.h.local_v4);
        r.next = at + sockbuf::datagram_stride(r.h.size);
    } else {
        unsigned char trailer[sockbuf::datagram_local_bytes];
        ring.copy_out(r.payload + r.h.size, trailer, sizeof trailer);
        r.local = base::IpAddr::v6(trailer);
        r.next = at + sockbuf::datagram_stride(r.h.size + sockbuf::datagram_local_bytes);
    }
    return r;
}

// udp(7), UDP_GRO: may `r` go behind datagrams like `first`? All have its size but the last, which may have less.
bool continues(const Incoming& first, const Incoming& r)
{
    sockbuf::DatagramHeader like = r.h;
    like.size = first.h.size;
    return r.h.size <= first.h.size && r.h.size != 0 && std::memcmp(&like, &first.h, sizeof like) == 0 &&
           r.local == first.local;
}

// Further datagrams of the flow behind `first`, whole ones only, which the caller is told the size of. Where the last
// one ends.
[[gnu::noinline]] std::uint64_t coalesce(const sockbuf::DatagramLane& lane, const sockbuf::RingView& ring,
    const Incoming& first, IovecCursor& into, std::uint64_t& bytes)
{
    constexpr unsigned datagrams_max = 64; // as Linux (UDP_GRO_CNT_MAX)
    std::uint64_t at = first.next;
    std::uint64_t end = lane.produced.load(std::memory_order_seq_cst);
    for (unsigned n = 1; n < datagrams_max && at != end; ++n) {
        Incoming r = record_at(ring, at);
        if (!continues(first, r) || r.h.size > into.left() || bytes + r.h.size > sockbuf::datagram_payload_max) {
            break;
        }
        into.from_ring(ring, r.payload, r.h.size);
        bytes += r.h.size;
        at = r.next;
        if (r.h.size < first.h.size) {
            break;
        }
    }
    return at;
}

// The next record, copied out, or several of them; false when there is none.
bool take(Session& s, SocketSlot& slot, Sock k, msghdr& m, int flags, ssize_t& result)
{
    SideGuard lock(s, slot.share.rcv_lock);
    if (lock.error() != 0) {
        result = lock.error();
        return true;
    }
    sockbuf::DatagramLane* lane = lane_in_turn(s, slot, k);
    if (lane == nullptr) {
        return false;
    }
    sockbuf::RingView ring = s.view.lane_ring(*lane); // does not begin again before the record is consumed
    Incoming r = record_at(ring, lane->consumed.load(std::memory_order_relaxed));
    IovecCursor into(m.msg_iov, m.msg_iovlen);
    std::uint64_t n = std::min<std::uint64_t>(into.left(), r.h.size);
    into.from_ring(ring, r.payload, n);
    std::uint64_t bytes = r.h.size;
    std::uint64_t next = r.next;
    if (n == r.h.size && n != 0 && slot.share.coalesces.load(std::memory_order_relaxed) != 0) {
        next = coalesce(*lane, ring, r, into, bytes);
        n = bytes;
    }
    if ((flags & MSG_PEEK) == 0) {
        lane->consumed.store(next, std::memory_order_seq_cst);
        advance_turn(slot);
    }
    lock.release();
    m.msg_flags = n < bytes ? MSG_TRUNC : 0;
    write_sockaddr(family_of(slot), r.h.addr, r.h.port, static_cast<sockaddr*>(m.msg_name), &m.msg_namelen);
    write_control(slot, r.h, r.local, bytes, m);
    result = static_cast<ssize_t>((flags & MSG_TRUNC) != 0 ? bytes : n);
    return true;
}

} // namespace

std::int64_t next_datagram_size(Session& s, SocketSlot& slot, Sock k)
{
    SideGuard lock(s, slot.share.rcv_lock);
    const sockbuf::DatagramLane* lane = lock.error() == 0 ? lane_in_turn(s, slot, k) : nullptr;
    if (lane == nullptr) {
        return -1;
    }
    return header_at(s.view.lane_ring(*lane), lane->consumed.load(std::memory_order_relaxed)).size;
}

ssize_t datagram_receive(Session& s, SocketSlot& slot, Sock k, msghdr& m, int flags)
{
    if ((flags & MSG_ERRQUEUE) != 0) {
        return datagram_receive_error(s, slot, k, m);
    }
    base::Instant deadline = base::never;
    bool timed = false;
    ssize_t result = 0;
    for (;;) {
        if (int error = take_error(slot)) {
            return -error;
        }
        if (take(s, slot, k, m, flags, result)) {
            return result;
        }
        if (receive_over(slot)) {
            m.msg_namelen = 0;
            m.msg_controllen = 0;
            m.msg_flags = 0;
            return 0;
        }
        if (!s.host->alive()) {
            return -ENETDOWN;
        }
        if (is_nonblocking(slot, flags)) {
            return -EAGAIN;
        }
        if (!timed) {
            timed = true;
            deadline = deadline_after(s, slot.share.rcv_timeout_us.load(std::memory_order_relaxed));
        }
        int rc = wait_for(s, slot, k, deadline, [&] {
            return datagram_waiting(s, slot, k) || receive_over(slot) ||
                   slot.info.so_error.load(std::memory_order_seq_cst) != 0;
        });
        if (!is_current(slot, k)) {
            return -EBADF;
        }
        if (rc != 0) {
            return rc == -ETIMEDOUT ? -EAGAIN : rc == -EPIPE ? -ENETDOWN : rc;
        }
    }
}

} // namespace client
