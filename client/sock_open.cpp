// How sockets come to be and get their ends: socket, bind, listen, accept, connect. Control operations but for accept,
// which takes from lanes in shared memory.
#include <netinet/in.h>

#include <algorithm>

#include "client/blocking.hpp"
#include "client/control.hpp"
#include "client/lanes.hpp"
#include "client/sockaddr.hpp"
#include "client/transfer.hpp"

namespace client {

namespace {

constexpr base::Micros grant_nap{200};
constexpr base::Micros grant_patience = base::millis(500); // netd refills at its next look; this is a full segment

int check_type(int domain, int type, int protocol, std::uint32_t& status)
{
    if (domain != AF_INET && domain != AF_INET6) {
        return -EAFNOSUPPORT;
    }
    bool stream = (type & 0xf) == SOCK_STREAM;
    if (!stream && (type & 0xf) != SOCK_DGRAM) {
        return -ESOCKTNOSUPPORT;
    }
    if (protocol != 0 && protocol != (stream ? IPPROTO_TCP : IPPROTO_UDP)) {
        return -EPROTONOSUPPORT;
    }
    status = (domain == AF_INET6 ? status_inet6 : 0) | (stream ? 0 : status_datagram) |
             ((type & SOCK_NONBLOCK) != 0 ? std::uint32_t{O_NONBLOCK} : 0);
    return 0;
}

// 1 = taken, 0 = the lane is empty, or the error of its lock.
int take_from_grants(Session& s, std::uint32_t cpu, Sock& out)
{
    sockbuf::LaneHeader& lane = s.view.grant_lane(cpu);
    LaneTake t = take_from_lane(s, lane, out);
    if (t.taken && t.left <= lane.capacity / 2) {
        poke_netd(s, cpu);
    }
    return t.error != 0 ? t.error : t.taken ? 1 : 0;
}

// Whoever opens many sockets in a row empties the lane of the CPU he runs on, whose protocol thread waits for that CPU.
// A turn of its costs microseconds, a socket of another CPU moves lines for as long as it lives. More than one: others
// may be before it.
int take_from_grants_refilled(Session& s, std::uint32_t cpu, Sock& out)
{
    constexpr int turns = 4;
    int taken = 0;
    poke_netd(s, cpu);
    for (int i = 0; taken == 0 && i < turns; ++i) {
        s.host->let_others_run();
        taken = take_from_grants(s, cpu, out);
    }
    return taken;
}

// From the first lane that has one, the nearest first; results as above.
int take_granted_now(Session& s, Sock& out)
{
    std::uint32_t cpus = s.view.cpus();
    std::uint32_t first = first_lane(s);
    int taken = take_from_grants(s, first, out);
    if (taken == 0 && cpus > 1 && !s.near.empty()) {
        taken = take_from_grants_refilled(s, first, out);
    }
    for (std::uint32_t i = 1; taken == 0 && i < cpus; ++i) {
        taken = take_from_grants(s, (first + i) % cpus, out);
    }
    return taken;
}

int take_granted(Session& s, Sock& out)
{
    base::Instant give_up = base::never;
    for (;;) {
        if (int taken = take_granted_now(s, out); taken != 0) {
            return taken == 1 ? 0 : taken;
        }
        if (!s.host->alive()) {
            return -ENETDOWN;
        }
        base::Instant now = s.host->now();
        if (give_up == base::never) {
            give_up = now + grant_patience;
        } else if (now >= give_up) {
            return -ENFILE;
        }
        for (std::uint32_t cpu = 0; cpu < s.view.cpus(); ++cpu) {
            poke_netd(s, cpu);
        }
        s.host->sleep(WaiterHandle{}, now + grant_nap);
    }
}

// The application's side of a fresh slot. netd holds no socket for it, so nothing races.
void prepare_granted(SocketSlot& slot, std::uint32_t status)
{
    slot.app.snd_produced.store(0, std::memory_order_relaxed);
    slot.app.rcv_consumed.store(0, std::memory_order_relaxed);
    slot.app.snd_end.store(no_offset, std::memory_order_relaxed);
    slot.app.want_space.store(0, std::memory_order_relaxed);
    slot.app.want_level.store(0, std::memory_order_relaxed);
    slot.app.accept_taken.store(0, std::memory_order_relaxed);
    slot.share.rcv_timeout_us.store(0, std::memory_order_relaxed);
    slot.share.snd_timeout_us.store(0, std::memory_order_relaxed);
    slot.share.segment_bytes.store(0, std::memory_order_relaxed);
    slot.share.coalesces.store(0, std::memory_order_relaxed);
    slot.share.status.store(status, std::memory_order_release);
}

// socket(7), as Linux: an accepted socket has its listener's timeouts and low-water mark, not its O_NONBLOCK.
void inherit(SocketSlot& listener, SocketSlot& slot, int flags)
{
    std::uint32_t kept = status_inet6 | status_oob_inline | status_lingers;
    std::uint32_t status = listener.share.status.load(std::memory_order_relaxed) & kept;
    slot.share.rcv_timeout_us.store(listener.share.rcv_timeout_us.load(std::memory_order_relaxed));
    slot.share.snd_timeout_us.store(listener.share.snd_timeout_us.load(std::memory_order_relaxed));
    slot.app.want_level.store(listener.app.want_level.load(std::memory_order_relaxed));
    slot.share.status.store(status | ((flags & SOCK_NONBLOCK) != 0 ? std::uint32_t{O_NONBLOCK} : 0));
}

// 1 = taken, 0 = all lanes are empty, or the error of a lane's lock.
int take_accepted(Session& s, SocketSlot& listener, Sock k, Sock& out)
{
    std::uint32_t first = first_accept_lane(s);
    for (std::uint32_t i = 0; i < s.view.cpus(); ++i) {
        std::uint32_t cpu = (first + i) % s.view.cpus();
        LaneTake t = take_from_lane(
            s, s.view.accept_lane(sockbuf::SegmentView::lanes_of(listener), listener.info.lane_entries, cpu), out);
        if (t.error != 0) {
            return t.error;
        }
        if (!t.taken) {
            continue;
        }
        listener.app.accept_taken.fetch_add(1, std::memory_order_seq_cst);
        if (t.was_full && set_mark(s.view, cpu, k.slot)) {
            s.look_and_ring(cpu); // the CPU of the lane, whichever owns the listener
        }
        return 1;
    }
    return 0;
}

// True for the first call of connect that finds the connection complete (inet_stream_connect: it returns 0).
bool tell_success(SocketSlot& slot)
{
    return (slot.share.status.fetch_and(~status_connect_posted) & status_connect_posted) != 0;
}

// The connection is over. A connect that failed is told, and then the socket is as new (inet_stream_connect). `told`:
// a connect has succeeded before; else it hears of what ended the connection meanwhile.
int tell_failure(Session& s, SocketSlot& slot, Sock k, bool told)
{
    slot.app.snd_end.store(no_offset, std::memory_order_seq_cst);
    sockbuf::Request r = make_request(slot, k, sockbuf::Op::disconnect);
    if (call_netd(s, slot, k, r) != 0 && told) {
        return -EISCONN;
    }
    int error = take_error(slot);
    return error != 0 ? -error : -ECONNABORTED;
}

int connect_result(Session& s, SocketSlot& slot, Sock k)
{
    SlotState state = state_of(slot);
    if (state == SlotState::connected) {
        tell_success(slot);
        return 0;
    }
    if (state == SlotState::connecting) {
        slot.share.status.fetch_or(status_connect_posted);
        return s.host->alive() ? -EINPROGRESS : -ENETDOWN;
    }
    if (state == SlotState::closed) {
        return tell_failure(s, slot, k, false);
    }
    int error = take_error(slot); // refused before anything was sent
    return error != 0 ? -error : -ECONNABORTED;
}

// As inet_stream_connect: waits up to SO_SNDTIMEO, then the connect goes on behind our back, of which `goes_on` tells.
int await_connected(Session& s, SocketSlot& slot, Sock k, int goes_on)
{
    base::Instant deadline = deadline_after(s, slot.share.snd_timeout_us.load(std::memory_order_relaxed));
    int rc = wait_for(s, slot, k, deadline, [&] { return state_of(slot) != SlotState::connecting; });
    if (!is_current(slot, k)) {
        return -EBADF;
    }
    if (rc == -EPIPE) {
        return -ENETDOWN;
    }
    if (rc != 0 && rc != -ETIMEDOUT) {
        slot.share.status.fetch_or(status_connect_posted);
        return rc;
    }
    rc = connect_result(s, slot, k);
    return rc == -EINPROGRESS ? goes_on : rc;
}

// A non-blocking connect of a socket that is not bound does not wait for netd's look at it: what can still be refused
// (no memory, no free port) shows as a connect that failed, in SO_ERROR. A round trip each would cost a server that
// opens many connections two thread switches a piece.
int post_connect(Session& s, SocketSlot& slot, sockbuf::Request& r)
{
    if ((slot.share.status.fetch_or(status_connect_posted) & status_connect_posted) != 0) {
        return -EALREADY;
    }
    int error = post_to_netd(s, slot, r);
    if (error != 0) {
        slot.share.status.fetch_and(~status_connect_posted);
    }
    return error != 0 ? error : -EINPROGRESS;
}

// Of a connect that was posted and that netd refused. An error of a connection before it nobody hears of any more, as
// on Linux.
int refusal(SocketSlot& slot)
{
    bool posted = has_status(slot, status_connect_posted);
    int error = take_error(slot);
    return posted ? error : 0;
}

// With Fast Open the SYN may wait for the first text: then connect is over at once, as on Linux.
int connect_stream(Session& s, SocketSlot& slot, Sock k, const base::Endpoint& to, int flags, sockbuf::FastConnect fast)
{
    switch (state_of(slot)) {
    case SlotState::connected:
        return tell_success(slot) ? 0 : -EISCONN;
    case SlotState::listening:
        return -EISCONN;
    case SlotState::connecting:
        return is_nonblocking(slot, flags) ? -EALREADY : await_connected(s, slot, k, -EALREADY);
    case SlotState::closed:
        return tell_failure(s, slot, k, !tell_success(slot));
    default:
        break;
    }
    if (int error = refusal(slot)) {
        return -error;
    }
    slot.app.snd_end.store(no_offset, std::memory_order_seq_cst); // one said before is not this connection's
    sockbuf::Request r = make_request(slot, k, sockbuf::Op::connect, static_cast<std::int32_t>(fast));
    set_endpoint(r, to);
    if (fast == sockbuf::FastConnect::no && is_nonblocking(slot, flags) && slot.info.local_port == 0 && to.port != 0) {
        return post_connect(s, slot, r);
    }
    int rc = call_netd(s, slot, k, r);
    if (rc != -EINPROGRESS) {
        return rc;
    }
    if (is_nonblocking(slot, flags)) {
        return connect_result(s, slot, k);
    }
    return await_connected(s, slot, k, -EINPROGRESS);
}

// connect(2) to AF_UNSPEC.
int unconnect(Session& s, SocketSlot& slot, Sock k)
{
    sockbuf::Request r = make_request(slot, k, sockbuf::Op::disconnect, 1);
    int rc = call_netd(s, slot, k, r);
    if (rc != 0) {
        return rc;
    }
    tell_success(slot);       // to nobody
    if (!is_datagram(slot)) { // what was not read is gone, and no writer is in the middle, or begins before a connect
        {
            SideGuard writers(s, slot.share.snd_lock);
            if (writers.error() == 0) {
                slot.app.snd_end.store(
                    slot.app.snd_produced.load(std::memory_order_relaxed), std::memory_order_seq_cst);
            }
        }
        SideGuard lock(s, slot.share.rcv_lock);
        if (lock.error() == 0) {
            slot.app.rcv_consumed.store(
                slot.owner.rcv_produced.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
        }
    }
    return 0;
}

} // namespace

int sock_socket(Session& s, int domain, int type, int protocol, Sock& out)
{
    std::uint32_t status = 0;
    if (int error = check_type(domain, type, protocol, status)) {
        return error;
    }
    if (!s.host->alive()) {
        return -ENETDOWN;
    }
    if (int error = take_granted(s, out)) {
        return error;
    }
    prepare_granted(s.view.slot(out.slot), status);
    return 0;
}

int sock_bind(Session& s, Sock k, const sockaddr* addr, socklen_t len)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    base::Endpoint at;
    if (int error = parse_sockaddr(addr, len, family_of(*slot), at)) {
        return error;
    }
    sockbuf::Request r = make_request(*slot, k, sockbuf::Op::bind);
    set_endpoint(r, at);
    return call_netd(s, *slot, k, r);
}

int sock_listen(Session& s, Sock k, int backlog)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    if (is_datagram(*slot)) {
        return -EOPNOTSUPP;
    }
    sockbuf::Request r = make_request(*slot, k, sockbuf::Op::listen, backlog);
    return call_netd(s, *slot, k, r);
}

base::Instant accept_deadline(Session& s, Sock k)
{
    SocketSlot* slot = find_slot(s, k);
    return slot == nullptr ? base::never
                           : deadline_after(s, slot->share.rcv_timeout_us.load(std::memory_order_relaxed));
}

// Everybody who waits for the listener is woken for a connection and one gets it; the others sleep again. A thundering
// herd is what many blocked accepts on one socket cost, as on kernels before exclusive wake-ups.
int sock_await_accept(Session& s, Sock k, int flags, base::Instant deadline)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    if ((flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0) {
        return -EINVAL;
    }
    if (is_datagram(*slot)) {
        return -EOPNOTSUPP;
    }
    if (state_of(*slot) != SlotState::listening) {
        return -EINVAL;
    }
    if (can_accept(s, *slot)) {
        return 0;
    }
    if (!s.host->alive()) {
        return -ENETDOWN;
    }
    if (is_nonblocking(*slot, 0)) {
        return -EAGAIN;
    }
    int rc = wait_for(
        s, *slot, k, deadline, [&] { return can_accept(s, *slot) || state_of(*slot) != SlotState::listening; });
    if (!is_current(*slot, k)) {
        return -EBADF;
    }
    if (rc != 0) {
        return rc == -ETIMEDOUT ? -EAGAIN : rc == -EPIPE ? -ENETDOWN : rc;
    }
    return state_of(*slot) == SlotState::listening ? 0 : -EINVAL;
}

int sock_accept_now(Session& s, Sock k, sockaddr* addr, socklen_t* len, int flags, Sock& out)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    if (addr != nullptr && is_below_zero(len)) {
        return -EINVAL;
    }
    int rc = may_accept(*slot) ? take_accepted(s, *slot, k, out) : 0; // there may be hundreds of lanes
    if (rc != 1) {
        return rc;
    }
    SocketSlot& accepted = s.view.slot(out.slot);
    inherit(*slot, accepted, flags);
    write_sockaddr(family_of(accepted), accepted.info.peer_addr, accepted.info.peer_port, addr, len);
    return 1;
}

int sock_accept(Session& s, Sock k, sockaddr* addr, socklen_t* len, int flags, Sock& out)
{
    base::Instant deadline = accept_deadline(s, k);
    for (;;) {
        if (int error = sock_await_accept(s, k, flags, deadline)) {
            return error;
        }
        if (int rc = sock_accept_now(s, k, addr, len, flags, out); rc != 0) {
            return std::min(rc, 0);
        }
    }
}

// sendto with MSG_FASTOPEN: what the connect before the send comes to.
int connect_for_send(Session& s, SocketSlot& slot, Sock k, const msghdr& m, int flags)
{
    const auto* addr = static_cast<const sockaddr*>(m.msg_name);
    if (addr != nullptr && m.msg_namelen >= sizeof addr->sa_family && addr->sa_family == AF_UNSPEC) {
        return -EOPNOTSUPP;
    }
    base::Endpoint to;
    if (int error = parse_sockaddr(addr, m.msg_namelen, family_of(slot), to)) {
        return error;
    }
    bool text = IovecCursor(m.msg_iov, m.msg_iovlen).left() != 0;
    return connect_stream(s, slot, k, to, flags, text ? sockbuf::FastConnect::with_text : sockbuf::FastConnect::bare);
}

int sock_connect(Session& s, Sock k, const sockaddr* addr, socklen_t len)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    if (addr == nullptr || len < sizeof(sa_family_t)) {
        return -EINVAL;
    }
    if (addr->sa_family == AF_UNSPEC) {
        return unconnect(s, *slot, k);
    }
    base::Endpoint to;
    if (int error = parse_sockaddr(addr, len, family_of(*slot), to)) {
        return error;
    }
    if (!is_datagram(*slot)) {
        bool fast = has_status(*slot, status_fast_connect);
        return connect_stream(s, *slot, k, to, 0, fast ? sockbuf::FastConnect::with_text : sockbuf::FastConnect::no);
    }
    sockbuf::Request r = make_request(*slot, k, sockbuf::Op::connect);
    set_endpoint(r, to);
    int rc = call_netd(s, *slot, k, r);
    return rc != 0 ? rc : datagram_set_asked(s, *slot, to.port != 0);
}

} // namespace client
