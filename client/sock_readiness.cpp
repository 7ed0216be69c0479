// Readiness and names: what poll and epoll report (the rules of Linux's tcp_poll and datagram_poll), and the questions
// that are answered from the slot alone. No lock, no message, but for the name of a socket whose connect is posted.
#include <sys/epoll.h>

#include <algorithm>
#include <climits>

#include "client/control.hpp"
#include "client/datagram_lanes.hpp"
#include "client/lanes.hpp"
#include "client/sockaddr.hpp"
#include "client/transfer.hpp"

namespace client {

namespace {

constexpr std::uint32_t in_bits = EPOLLIN | EPOLLRDNORM;
constexpr std::uint32_t out_bits = EPOLLOUT | EPOLLWRNORM;

// datagram_poll: half of the buffer must be free (sock_writeable).
bool datagram_writable(SocketSlot& slot)
{
    std::uint64_t ring = send_ring_bytes(slot);
    return ring == 0 || queued_bytes(slot) < ring / 2;
}

// None for who does not ask: no look at what only the answer needs.
template <typename Writable>
std::uint32_t writable_bits(SocketSlot& slot, std::uint32_t interest, Writable writable)
{
    bool asks = (interest & out_bits) != 0;
    return asks && (writable() || ask_for_space(slot, writable)) ? out_bits : 0;
}

std::uint32_t stream_readiness(Session& s, SocketSlot& slot, std::uint32_t interest)
{
    SlotState state = state_of(slot);
    if (state == SlotState::listening) {
        return can_accept(s, slot) ? in_bits : 0;
    }
    if (state == SlotState::granted || state == SlotState::open) {
        return out_bits | EPOLLHUP; // TCP_CLOSE, nothing shut down
    }
    bool closed = state == SlotState::closed;
    bool receive_ended = closed || slot.owner.rcv_end.load(std::memory_order_seq_cst) != no_offset;
    bool send_ended = closed || send_over(slot);
    std::uint32_t events = receive_ended && send_ended ? std::uint32_t{EPOLLHUP} : 0;
    if (receive_ended) {
        events |= in_bits | EPOLLRDHUP;
    }
    if (state == SlotState::connecting) {
        return events;
    }
    std::uint64_t wanted = slot.app.want_level.load(std::memory_order_relaxed);
    if (wanted > 1) { // tcp(7) of Linux: half the buffer at most
        wanted = reachable(receive_ring(s, slot), wanted);
    }
    if (unread_of(slot).bytes >= std::max<std::uint64_t>(wanted, 1)) {
        events |= in_bits;
    }
    std::uint64_t mark = slot.owner.urgent_mark.load(std::memory_order_acquire);
    bool unread = mark != no_offset && mark > slot.app.rcv_consumed.load(std::memory_order_seq_cst);
    if (unread && !urgent_was_read(slot, mark)) {
        events |= EPOLLPRI;
    }
    return events | (send_ended ? out_bits : writable_bits(slot, interest, [&] { return stream_writable(slot); }));
}

std::uint32_t datagram_readiness(Session& s, SocketSlot& slot, Sock k, std::uint32_t interest)
{
    bool receive_ended = slot.owner.rcv_end.load(std::memory_order_seq_cst) != no_offset;
    std::uint32_t events = receive_ended ? in_bits | EPOLLRDHUP : 0;
    if (receive_ended && send_over(slot)) {
        events |= EPOLLHUP;
    }
    if (datagram_waiting(s, slot, k)) {
        events |= in_bits;
    }
    if (lane_bytes(error_lane(s, k)) != 0) {
        events |= EPOLLERR;
    }
    return events | writable_bits(slot, interest, [&] { return datagram_writable(slot); });
}

// Linux has chosen address and port before connect returns. netd has once it has answered anything that was asked after
// the connect.
void await_name(Session& s, SocketSlot& slot, Sock k)
{
    auto raw = static_cast<SlotState>(slot.info.state.load(std::memory_order_seq_cst));
    if (is_datagram(slot) || raw == SlotState::connecting || state_of(slot) != SlotState::connecting) {
        return;
    }
    int type = 0;
    ReplyBuffer reply{&type, sizeof type};
    sockbuf::Request r = make_request(slot, k, sockbuf::Op::getsockopt);
    r.level = SOL_SOCKET;
    r.name = SO_TYPE;
    r.size = sizeof type;
    (void)call_netd(s, slot, k, r, &reply);
}

} // namespace

std::uint32_t sock_readiness(Session& s, Sock k, std::uint32_t interest)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return EPOLLERR | EPOLLHUP; // given to somebody else meanwhile
    }
    std::uint32_t events =
        is_datagram(*slot) ? datagram_readiness(s, *slot, k, interest) : stream_readiness(s, *slot, interest);
    if (slot->info.so_error.load(std::memory_order_seq_cst) != 0) {
        events |= EPOLLERR;
    }
    if (!s.host->alive()) {
        events |= in_bits | out_bits | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
    }
    return events & (interest | EPOLLERR | EPOLLHUP);
}

int sock_getsockname(Session& s, Sock k, sockaddr* addr, socklen_t* len)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    if (is_below_zero(len)) {
        return -EINVAL;
    }
    await_name(s, *slot, k);
    static constexpr unsigned char nowhere[16] = {};
    bool bound = state_of(*slot) != SlotState::granted;
    write_sockaddr(
        family_of(*slot), bound ? slot->info.local_addr : nowhere, bound ? slot->info.local_port : 0, addr, len);
    return 0;
}

int sock_getpeername(Session& s, Sock k, sockaddr* addr, socklen_t* len)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    if (state_of(*slot) != SlotState::connected) {
        return -ENOTCONN;
    }
    if (is_below_zero(len)) {
        return -EINVAL;
    }
    write_sockaddr(family_of(*slot), slot->info.peer_addr, slot->info.peer_port, addr, len);
    return 0;
}

int sock_fionread(Session& s, Sock k)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    if (is_datagram(*slot)) {
        return static_cast<int>(std::max<std::int64_t>(next_datagram_size(s, *slot, k), 0));
    }
    if (state_of(*slot) == SlotState::listening) {
        return -EINVAL;
    }
    Unread u = unread_of(*slot);
    bool at_mark = u.at_mark || stands_at_taken(*slot, u.from);
    std::uint64_t before_mark = at_mark ? 0 : u.piece; // tcp_inq: as far as the urgent byte, also a taken one
    return static_cast<int>(
        std::min<std::uint64_t>(has_status(*slot, status_oob_inline) ? u.bytes : before_mark, INT_MAX));
}

int sock_outq(Session& s, Sock k)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    if (state_of(*slot) == SlotState::listening) {
        return -EINVAL;
    }
    if (slot->app.partner.load(std::memory_order_relaxed) != 0) {
        return 0; // it is in the other end's receive buffer already
    }
    return static_cast<int>(std::min<std::uint64_t>(queued_bytes(*slot), INT_MAX));
}

int sock_at_mark(Session& s, Sock k)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr || is_datagram(*slot)) {
        return slot == nullptr ? -EBADF : -ENOTTY;
    }
    std::uint64_t mark = slot->owner.urgent_mark.load(std::memory_order_acquire);
    std::uint64_t consumed = slot->app.rcv_consumed.load(std::memory_order_relaxed);
    return mark != no_offset && (mark == consumed + 1 || stands_at_taken(*slot, consumed)) ? 1 : 0;
}

int sock_status_flags(Session& s, Sock k)
{
    SocketSlot* slot = find_slot(s, k);
    if (slot == nullptr) {
        return -EBADF;
    }
    return O_RDWR | static_cast<int>(slot->share.status.load(std::memory_order_relaxed) & status_settable);
}

void sock_set_status_flags(Session& s, Sock k, int flags)
{
    if (SocketSlot* slot = find_slot(s, k)) {
        std::uint32_t wanted = static_cast<std::uint32_t>(flags) & status_settable;
        std::uint32_t now = slot->share.status.load(std::memory_order_relaxed);
        while (!slot->share.status.compare_exchange_weak(now, (now & ~status_settable) | wanted)) {
        }
    }
}

} // namespace client
