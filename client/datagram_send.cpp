// Datagram writes: one record (DatagramHeader, payload) in the send ring under snd_lock, published with one store; with
// UDP_CORK or MSG_MORE several writes build it. What netd refuses is heard by the next call; only the first send of a
// socket, and the first after an error, asks beforehand (decision 0029), which also makes netd create and bind the
// socket.
#include <netinet/in.h>

#include <cstring>

#include "client/blocking.hpp"
#include "client/control.hpp"
#include "client/datagram_control.hpp"
#include "client/sockaddr.hpp"
#include "client/transfer.hpp"

namespace client {

namespace {

int read_destination(SocketSlot& slot, const msghdr& m, sockbuf::DatagramHeader& h)
{
    const auto* name = static_cast<const sockaddr*>(m.msg_name);
    if (names_nobody(name, m.msg_namelen, family_of(slot))) {
        return state_of(slot) == SlotState::connected ? 0 : -EDESTADDRREQ;
    }
    base::Endpoint to;
    if (int error = parse_destination(name, m.msg_namelen, family_of(slot), to)) {
        return error;
    }
    if (to.port == 0) {
        return -EINVAL;
    }
    std::memcpy(h.addr, to.addr.bytes(), sizeof h.addr);
    h.port = to.port;
    return 0;
}

bool has_space(SocketSlot& slot, std::uint64_t stride)
{
    return send_ring_bytes(slot) - queued_bytes(slot) >= stride;
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

constexpr std::uint32_t building_flags = sockbuf::datagram_corked | sockbuf::datagram_asked;

// 1 + the payload bytes of the record that is being built, 0 = none.
std::uint32_t built_of(SocketSlot& slot)
{
    return slot.app.building().load(std::memory_order_relaxed) & ~building_flags;
}

// Under snd_lock.
void set_built(SocketSlot& slot, std::uint32_t built)
{
    std::uint32_t flags = slot.app.building().load(std::memory_order_relaxed) & building_flags;
    slot.app.building().store(flags | built, std::memory_order_relaxed);
}

bool has_asked(SocketSlot& slot)
{
    return (slot.app.building().load(std::memory_order_relaxed) & sockbuf::datagram_asked) != 0;
}

// Whether netd would take the record, by a round trip.
int ask(Session& s, SocketSlot& slot, Sock k, const Outgoing& o)
{
    sockbuf::DatagramQuestion q{};
    q.header = o.h;
    std::memcpy(q.source, o.source6, sizeof q.source);
    sockbuf::Request r = make_request(slot, k, sockbuf::Op::may_send);
    std::memcpy(r.data, &q, sizeof q);
    int rc = call_netd(s, slot, k, r);
    return rc != 0 ? rc : datagram_set_asked(s, slot, true);
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
        a.prepared = false; // should that record be gone when there is room
        error = set_size(a.slot, built - 1 + a.data.left(), a.o);
    } else if (!a.prepared) {
        a.o = {};
        error = prepare(a.slot, a.m, a.data.left(), a.o);
        a.prepared = error == 0;
    }
    if (error == 0 && a.o.stride() > send_ring_bytes(a.slot)) {
        error = -EMSGSIZE;
    }
    if (error != 0 && built != 0) {
        set_built(a.slot, 0); // as Linux: what was there is lost with it
    }
    return error;
}

// The record that lies at snd_produced.
void publish_record(Session& s, SocketSlot& slot, Sock k, std::uint64_t stride)
{
    std::uint64_t at = slot.app.snd_produced.load(std::memory_order_relaxed);
    slot.app.snd_produced.store(at + stride, std::memory_order_seq_cst);
    mark(s, slot, k);
}

// True when the data is in the ring; `error` when it never will be.
bool put(Sending& a, int& error)
{
    SideGuard lock(a.s, a.slot.share.snd_lock);
    std::uint32_t built = built_of(a.slot);
    error = lock.error() != 0 ? lock.error() : find_record(a, built);
    std::uint64_t stride = a.o.stride();
    if (error != 0 || !has_space(a.slot, stride)) {
        return false;
    }
    sockbuf::RingView ring = send_ring(a.s, a.slot);
    std::uint64_t at = a.slot.app.snd_produced.load(std::memory_order_relaxed);
    if (built == 0 && a.slot.owner.snd_acked.load(std::memory_order_acquire) == at) {
        restart_send_ring(a.slot, ring, at, stride);
    }
    ring.copy_in(at, &a.o.h, sizeof a.o.h);
    a.data.to_ring(ring, at + sizeof a.o.h + (built == 0 ? 0 : built - 1), a.data.left());
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
    publish_record(a.s, a.slot, a.k, stride);
    return true;
}

int sendable(Session& s, SocketSlot& slot)
{
    if (int error = take_error(slot)) { // of an earlier datagram: by ICMP, as Linux reports it, or by netd
        (void)datagram_set_asked(s, slot, false);
        return -error;
    }
    return send_over(slot) ? -EPIPE : 0;
}

} // namespace

int datagram_set_asked(Session& s, SocketSlot& slot, bool asked)
{
    SideGuard lock(s, slot.share.snd_lock);
    if (lock.error() == 0) {
        std::uint32_t others = slot.app.building().load(std::memory_order_relaxed) & ~sockbuf::datagram_asked;
        slot.app.building().store(others | (asked ? sockbuf::datagram_asked : 0), std::memory_order_relaxed);
    }
    return lock.error();
}

int datagram_set_cork(Session& s, SocketSlot& slot, Sock k, bool on)
{
    SideGuard lock(s, slot.share.snd_lock);
    if (lock.error() != 0) {
        return lock.error();
    }
    std::uint32_t built = built_of(slot);
    std::uint32_t asked = slot.app.building().load(std::memory_order_relaxed) & sockbuf::datagram_asked;
    if (on || built == 0) {
        slot.app.building().store(asked | (on ? sockbuf::datagram_corked : 0) | built, std::memory_order_relaxed);
        return 0;
    }
    Outgoing o;
    resume(s, slot, built - 1, o);
    slot.app.building().store(asked, std::memory_order_relaxed);
    publish_record(s, slot, k, o.stride());
    return 0;
}

ssize_t datagram_send(Session& s, SocketSlot& slot, Sock k, const msghdr& m, int flags)
{
    if ((flags & MSG_OOB) != 0) {
        return -EOPNOTSUPP;
    }
    Sending a{s, slot, k, m, IovecCursor(m.msg_iov, m.msg_iovlen), (flags & MSG_MORE) != 0};
    std::uint64_t size = a.data.left();
    a.prepared = built_of(slot) == 0;
    int error = a.prepared ? prepare(slot, m, size, a.o) : 0;
    if (error == 0 && a.prepared && !has_asked(slot)) {
        error = sendable(s, slot);
        error = error != 0 ? error : ask(s, slot, k, a.o);
    }
    if (error != 0) {
        return error;
    }
    base::Instant deadline = base::never;
    bool timed = false;
    for (;;) {
        error = sendable(s, slot);
        if (error == 0 && put(a, error)) {
            return static_cast<ssize_t>(size);
        }
        if (error != 0) {
            return error;
        }
        if (!s.host->alive()) {
            return -ENETDOWN;
        }
        auto may_go_on = [&] {
            return has_space(slot, a.o.stride()) || send_over(slot) ||
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
