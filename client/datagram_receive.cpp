// Datagram reads: one record of the lane whose turn it is, under rcv_lock; what does not fit the caller's buffer is cut
// off. The sender's address and the control messages that were asked for come from the record's header.
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "base/endian.hpp"
#include "client/blocking.hpp"
#include "client/datagram_lanes.hpp"
#include "client/sockaddr.hpp"
#include "client/transfer.hpp"

namespace client {

namespace {

// Appends one control message, or says that it did not fit (MSG_CTRUNC).
class ControlWriter {
public:
    explicit ControlWriter(msghdr& m) : m_(m), room_(m.msg_control != nullptr ? m.msg_controllen : 0) {}
    ~ControlWriter() { m_.msg_controllen = used_; }
    ControlWriter(const ControlWriter&) = delete;
    ControlWriter& operator=(const ControlWriter&) = delete;

    template <typename T>
    void add(int level, int type, const T& value)
    {
        if (room_ - used_ < CMSG_SPACE(sizeof value)) {
            m_.msg_flags |= MSG_CTRUNC;
            return;
        }
        cmsghdr head{};
        head.cmsg_level = level;
        head.cmsg_type = type;
        head.cmsg_len = CMSG_LEN(sizeof value);
        auto* at = static_cast<std::byte*>(m_.msg_control) + used_;
        std::memcpy(at, &head, sizeof head);
        std::memcpy(at + CMSG_LEN(0), &value, sizeof value);
        used_ += CMSG_SPACE(sizeof value);
    }

private:
    msghdr& m_;
    std::size_t room_;
    std::size_t used_ = 0;
};

// As Linux: IPv4's messages about what came over IPv4, IPv6's about what came over IPv6, but for where it came in, of
// which an IPv6 socket hears either way.
void write_control(SocketSlot& slot, const sockbuf::DatagramHeader& h, const base::IpAddr& local, msghdr& m)
{
    ControlWriter w(m);
    bool v4 = local.is_v4();
    if (v4 && has_status(slot, status_pktinfo)) {
        in_pktinfo info{};
        info.ipi_ifindex = static_cast<int>(h.interface);
        base::store_be32(&info.ipi_addr, h.local_v4);
        info.ipi_spec_dst = info.ipi_addr;
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
}

sockbuf::DatagramHeader header_at(Session& s, const sockbuf::DatagramLane& lane, std::uint64_t at)
{
    sockbuf::DatagramHeader h;
    s.view.ring(lane.ring, lane.shift).copy_out(at, &h, sizeof h);
    return h;
}

// The next record, copied out; false when there is none.
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
    std::uint64_t at = lane->consumed.load(std::memory_order_relaxed);
    sockbuf::DatagramHeader h = header_at(s, *lane, at);
    IovecCursor into(m.msg_iov, m.msg_iovlen);
    std::uint64_t n = std::min<std::uint64_t>(into.left(), h.size);
    into.from_ring(s.view.ring(lane->ring, lane->shift), at + sizeof h, n);
    bool v4 = base::IpAddr::v6(h.addr).is_v4();
    unsigned char trailer[sockbuf::datagram_local_bytes] = {};
    if (!v4) {
        s.view.ring(lane->ring, lane->shift).copy_out(at + sizeof h + h.size, trailer, sizeof trailer);
    }
    if ((flags & MSG_PEEK) == 0) {
        std::uint32_t bytes = h.size + (v4 ? 0 : sockbuf::datagram_local_bytes);
        lane->consumed.store(at + sockbuf::datagram_stride(bytes), std::memory_order_seq_cst);
        advance_turn(slot);
    }
    lock.release();
    m.msg_flags = n < h.size ? MSG_TRUNC : 0;
    write_sockaddr(family_of(slot), h.addr, h.port, static_cast<sockaddr*>(m.msg_name), &m.msg_namelen);
    write_control(slot, h, v4 ? base::IpAddr::v4(h.local_v4) : base::IpAddr::v6(trailer), m);
    result = static_cast<ssize_t>((flags & MSG_TRUNC) != 0 ? h.size : n);
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
    return header_at(s, *lane, lane->consumed.load(std::memory_order_relaxed)).size;
}

ssize_t datagram_receive(Session& s, SocketSlot& slot, Sock k, msghdr& m, int flags)
{
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
