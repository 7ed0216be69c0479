// Datagram writes: one record (DatagramHeader, payload) in the send ring under snd_lock, published with one store. A
// socket that is not bound yet is bound to a port of netd's choice first, since only a request makes netd create it.
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "client/blocking.hpp"
#include "client/control.hpp"
#include "client/sockaddr.hpp"
#include "client/transfer.hpp"

namespace client {

namespace {

int create_at_netd(Session& s, SocketSlot& slot, Sock k)
{
    if (state_of(slot) != SlotState::granted) {
        return 0;
    }
    sockbuf::Request r = make_request(slot, k, sockbuf::Op::bind);
    set_endpoint(r, {family_of(slot) == AF_INET6 ? base::IpAddr{} : base::IpAddr::any_v4(), 0});
    int rc = call_netd(s, slot, k, r);
    // Two threads may send first at once; the loser finds it bound.
    return rc == -EINVAL && state_of(slot) != SlotState::granted ? 0 : rc;
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

bool is_hop_limit(const cmsghdr& c)
{
    return c.cmsg_level == IPPROTO_IP ? c.cmsg_type == IP_TTL : c.cmsg_type == IPV6_HOPLIMIT;
}
bool is_class(const cmsghdr& c)
{
    return c.cmsg_level == IPPROTO_IP ? c.cmsg_type == IP_TOS : c.cmsg_type == IPV6_TCLASS;
}

// ip(7), ipv6(7): hop limit and class for this datagram. Others that Linux knows (IP_PKTINFO) choose routes that netd
// chooses.
int read_control(const msghdr& m, sockbuf::DatagramHeader& h)
{
    auto* all = const_cast<msghdr*>(&m);
    for (cmsghdr* c = m.msg_controllen != 0 ? CMSG_FIRSTHDR(all) : nullptr; c != nullptr; c = CMSG_NXTHDR(all, c)) {
        bool known = c->cmsg_level == IPPROTO_IP || c->cmsg_level == IPPROTO_IPV6;
        if (!known || (!is_hop_limit(*c) && !is_class(*c))) {
            continue;
        }
        int value = 0;
        if (c->cmsg_len == CMSG_LEN(sizeof value)) {
            std::memcpy(&value, CMSG_DATA(c), sizeof value);
        } else if (c->cmsg_len == CMSG_LEN(1)) {
            value = *CMSG_DATA(c);
        } else {
            return -EINVAL;
        }
        bool hops = is_hop_limit(*c);
        if (c->cmsg_level == IPPROTO_IPV6 && value == -1) { // the socket's own
            continue;
        }
        if (value < (hops && c->cmsg_level == IPPROTO_IP ? 1 : 0) || value > 255) {
            return -EINVAL;
        }
        (hops ? h.ttl : h.tos) = static_cast<std::uint8_t>(value);
    }
    return 0;
}

bool has_space(Session& s, SocketSlot& slot, std::uint64_t stride)
{
    return send_ring(s, slot).size() - queued_bytes(slot) >= stride;
}

// True when the record is in the ring; `error` when it never will be.
bool put(Session& s, SocketSlot& slot, Sock k, const sockbuf::DatagramHeader& h, IovecCursor data, int& error)
{
    SideGuard lock(s, slot.share.snd_lock);
    error = lock.error();
    std::uint64_t stride = sockbuf::datagram_stride(h.size);
    if (error != 0 || !has_space(s, slot, stride)) {
        return false;
    }
    sockbuf::RingView ring = send_ring(s, slot);
    std::uint64_t at = slot.app.snd_produced.load(std::memory_order_relaxed);
    ring.copy_in(at, &h, sizeof h);
    data.to_ring(ring, at + sizeof h, h.size);
    slot.app.snd_produced.store(at + stride, std::memory_order_seq_cst);
    mark(s, slot, k);
    return true;
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
    sockbuf::DatagramHeader h{};
    if ((flags & MSG_OOB) != 0) {
        return -EOPNOTSUPP;
    }
    if (data.left() > sockbuf::datagram_payload_max) {
        return -EMSGSIZE;
    }
    h.size = static_cast<std::uint32_t>(data.left());
    int error = read_destination(slot, m, h);
    bool v4 = base::IpAddr::v6(h.port != 0 ? h.addr : slot.info.peer_addr).is_v4();
    if (error == 0 && v4 && h.size > sockbuf::datagram_payload_max_v4) {
        return -EMSGSIZE;
    }
    error = error != 0 ? error : read_control(m, h);
    error = error != 0 ? error : create_at_netd(s, slot, k);
    if (error != 0) {
        return error;
    }
    std::uint64_t stride = sockbuf::datagram_stride(h.size);
    if (stride > send_ring(s, slot).size()) {
        return -EMSGSIZE;
    }
    base::Instant deadline = base::never;
    bool timed = false;
    for (;;) {
        error = sendable(slot);
        if (error == 0 && put(s, slot, k, h, data, error)) {
            return static_cast<ssize_t>(h.size);
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
