// The error queue (ip(7), IP_RECVERR): one entry a read with MSG_ERRQUEUE, which never waits. The name is where the
// datagram was sent, the data what is known of it, the control message says what went wrong and who says so.
#include <ctime> // for the next one

#include <linux/errqueue.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "client/datagram_control.hpp"
#include "client/datagram_lanes.hpp"
#include "client/sockaddr.hpp"
#include "client/transfer.hpp"

namespace client {

namespace {

template <typename Address>
struct Told {
    sock_extended_err error;
    Address offender;
};

template <typename Address>
Told<Address> told(int family, const sockbuf::DatagramError& e)
{
    Told<Address> t{};
    t.error.ee_errno = e.error;
    t.error.ee_origin = e.origin;
    t.error.ee_type = e.type;
    t.error.ee_code = e.code;
    t.error.ee_info = e.info;
    if (e.origin != SO_EE_ORIGIN_LOCAL) {
        socklen_t len = sizeof t.offender;
        write_sockaddr(family, e.offender, 0, reinterpret_cast<sockaddr*>(&t.offender), &len);
    }
    return t;
}

void write_told(int family, const sockbuf::DatagramError& e, msghdr& m)
{
    ControlWriter w(m);
    if (family == AF_INET6) {
        w.add(IPPROTO_IPV6, IPV6_RECVERR, told<sockaddr_in6>(family, e));
    } else {
        w.add(IPPROTO_IP, IP_RECVERR, told<sockaddr_in>(family, e));
    }
}

sockbuf::DatagramError error_at(const sockbuf::RingView& ring, std::uint64_t at)
{
    sockbuf::DatagramError e;
    ring.copy_out(at + sizeof(sockbuf::DatagramHeader), &e, sizeof e);
    return e;
}

// As Linux: what SO_ERROR says is the next entry of the queue.
void announce_next(SocketSlot& slot, const sockbuf::DatagramLane& lane, const sockbuf::RingView& ring, std::uint64_t at)
{
    bool more = lane.produced.load(std::memory_order_seq_cst) != at;
    int next = more ? static_cast<int>(error_at(ring, at).error) : 0;
    slot.info.so_error.store(next, std::memory_order_seq_cst);
}

} // namespace

ssize_t datagram_receive_error(Session& s, SocketSlot& slot, Sock k, msghdr& m)
{
    SideGuard lock(s, slot.share.rcv_lock);
    if (lock.error() != 0) {
        return lock.error();
    }
    sockbuf::DatagramLane& lane = error_lane(s, k);
    std::uint64_t at = lane.consumed.load(std::memory_order_relaxed);
    if (lane.produced.load(std::memory_order_seq_cst) == at) {
        return -EAGAIN;
    }
    sockbuf::RingView ring = s.view.lane_ring(lane);
    sockbuf::DatagramHeader h;
    ring.copy_out(at, &h, sizeof h);
    sockbuf::DatagramError e = error_at(ring, at);
    IovecCursor into(m.msg_iov, m.msg_iovlen);
    std::uint64_t n = std::min<std::uint64_t>(into.left(), h.size);
    into.from_ring(ring, at + sizeof h + sizeof e, n);
    at += sockbuf::datagram_stride(h.size + static_cast<std::uint32_t>(sizeof e));
    lane.consumed.store(at, std::memory_order_seq_cst);
    announce_next(slot, lane, ring, at);
    lock.release();
    m.msg_flags = MSG_ERRQUEUE | (n < h.size ? MSG_TRUNC : 0);
    write_sockaddr(family_of(slot), h.addr, h.port, static_cast<sockaddr*>(m.msg_name), &m.msg_namelen);
    write_told(family_of(slot), e, m);
    return static_cast<ssize_t>(n);
}

} // namespace client
