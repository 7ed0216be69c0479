// Control operations of the fake netd. See fake_netd.hpp.
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "base/net_addr.hpp"
#include "tests/client/fake_netd.hpp"
#include "tests/family.hpp"

namespace fake {

using namespace sockbuf;

namespace {

constexpr auto seq = std::memory_order_seq_cst;
const base::IpAddr here = test::address("127.0.0.1");

void set_state(SocketSlot& slot, SlotState state)
{
    slot.info.state.store(static_cast<std::uint32_t>(state), seq);
}

} // namespace

void Netd::serve_request(const Request& r)
{
    SocketSlot& s = slot(r.slot);
    if (s.info.generation != r.generation) {
        return;
    }
    Socket& so = sockets_[r.slot];
    if (r.op == static_cast<std::uint32_t>(Op::close)) {
        close(r.slot);
        return;
    }
    if (!so.exists) {
        so.exists = true;
        so.datagram = r.kind == static_cast<std::uint8_t>(SlotKind::datagram);
        if (so.datagram) {
            set_rings(r.slot);
        }
        set_state(s, SlotState::open);
    }
    std::vector<unsigned char> data;
    s.reply.result = perform(r, data);
    s.reply.size = static_cast<std::uint32_t>(data.size());
    bool fits = data.size() <= reply_inline_bytes;
    std::copy(data.begin(), data.end(), fits ? s.reply.data : view_.reply_area(r.process).data);
    s.reply.done.store(r.sequence, seq);
    wake(r.slot);
    if (r.op == static_cast<std::uint32_t>(Op::connect) && !so.datagram && s.reply.result == EINPROGRESS) {
        complete_connect(r.slot);
    }
    if (r.op == static_cast<std::uint32_t>(Op::shutdown)) {
        pump(r.slot);
    }
}

void Netd::forget_requests()
{
    for (std::uint32_t p = 0; p < next_process_; ++p) {
        for (std::uint32_t cpu = 0; cpu < options_.cpus; ++cpu) {
            RequestRing& ring = view_.requests(p, cpu);
            ring.consumed.store(ring.produced.load(seq), seq);
        }
    }
}

std::int32_t Netd::perform(const Request& r, std::vector<unsigned char>& data)
{
    Socket& so = sockets_[r.slot];
    SocketSlot& s = slot(r.slot);
    switch (static_cast<Op>(r.op)) {
    case Op::bind:
        return bind(r);
    case Op::listen:
        return listen(r);
    case Op::connect:
        return connect(r);
    case Op::shutdown:
        if (r.value != SHUT_WR) {
            s.owner.rcv_end.store(so.filled, seq);
        }
        return 0;
    case Op::setsockopt:
        if (r.name == unknown_option) {
            return ENOPROTOOPT;
        }
        so.options[{r.level, r.name}].assign(r.data, r.data + r.size);
        return 0;
    case Op::getsockopt: {
        auto it = so.options.find({r.level, r.name});
        if (it == so.options.end()) {
            return ENOPROTOOPT;
        }
        data.assign(
            it->second.begin(), it->second.begin() + std::min<long>(r.size, static_cast<long>(it->second.size())));
        return 0;
    }
    case Op::may_send:
        return may_send(r);
    case Op::disconnect:
        so.peer_port = 0;
        s.owner.rcv_end.store(sockbuf::no_offset);
        set_state(s, SlotState::open);
        return 0;
    default:
        return EINVAL;
    }
}

int Netd::find_port(std::uint16_t port, bool datagram)
{
    for (std::size_t i = 0; i < sockets_.size(); ++i) {
        const Socket& so = sockets_[i];
        bool there = so.exists && so.port == port && so.datagram == datagram && (datagram || so.peer < 0);
        if (there && !so.closing) {
            return static_cast<int>(i);
        }
    }
    return -1;
}

// Every datagram may go.
std::int32_t Netd::may_send(const Request& r)
{
    if (sockets_[r.slot].port != 0) {
        return 0;
    }
    Request any = r;
    if (r.family == AF_INET) {
        std::memcpy(any.addr, base::IpAddr::any_v4().bytes(), 16);
    }
    return bind(any);
}

std::int32_t Netd::bind(const Request& r)
{
    Socket& so = sockets_[r.slot];
    if (so.port != 0) {
        return EINVAL;
    }
    if (r.port != 0 && find_port(r.port, so.datagram) >= 0) {
        return EADDRINUSE;
    }
    so.port = r.port != 0 ? r.port : next_port_++;
    SocketSlot& s = slot(r.slot);
    std::memcpy(s.info.local_addr, r.addr, 16);
    s.info.local_port = so.port;
    set_state(s, SlotState::open);
    return 0;
}

std::int32_t Netd::listen(const Request& r)
{
    SocketSlot& s = slot(r.slot);
    Socket& so = sockets_[r.slot];
    so.port = so.port != 0 ? so.port : next_port_++;
    so.listening = true;
    std::uint64_t per_socket = (view_.layout().bytes - view_.layout().rings) / options_.sockets;
    std::uint64_t lanes = view_.layout().rings + r.slot * (per_socket & ~std::uint64_t{4095});
    s.info.rcv_ring = static_cast<std::uint32_t>(lanes >> page_shift);
    s.info.lane_entries = static_cast<std::uint16_t>(options_.lane_entries);
    for (std::uint32_t cpu = 0; cpu < options_.cpus; ++cpu) {
        LaneHeader& lane = view_.accept_lane(lanes, options_.lane_entries, cpu);
        lane.capacity = options_.lane_entries;
        lane.produced.store(0);
        lane.consumed.store(0);
        lane.lock.store(0);
    }
    set_state(s, SlotState::listening);
    return 0;
}

void Netd::set_rings(std::uint32_t s)
{
    std::uint64_t per_socket = (view_.layout().bytes - view_.layout().rings) / options_.sockets;
    SlotInfo& info = slot(s).info;
    std::uint64_t rings = view_.layout().rings + s * (per_socket & ~std::uint64_t{4095});
    info.snd_ring = static_cast<std::uint32_t>(rings >> page_shift);
    info.rcv_ring = static_cast<std::uint32_t>((rings + (std::uint64_t{1} << options_.ring_shift)) >> page_shift);
    info.snd_shift = info.rcv_shift = static_cast<std::uint8_t>(options_.ring_shift);
}

std::int32_t Netd::connect(const Request& r)
{
    SocketSlot& s = slot(r.slot);
    Socket& so = sockets_[r.slot];
    so.port = so.port != 0 ? so.port : next_port_++;
    so.peer_port = r.port;
    std::memcpy(s.info.local_addr, here.bytes(), 16);
    std::memcpy(s.info.peer_addr, r.addr, 16);
    s.info.local_port = so.port;
    s.info.peer_port = r.port;
    if (so.datagram) {
        set_state(s, SlotState::connected);
        return 0;
    }
    set_rings(r.slot);
    set_state(s, SlotState::connecting);
    return EINPROGRESS;
}

void Netd::complete_connect(std::uint32_t s)
{
    Socket& so = sockets_[s];
    SocketSlot& client = slot(s);
    if (so.peer_port == black_hole_port) {
        return;
    }
    int found = find_port(so.peer_port, false);
    if (found < 0 || !sockets_[static_cast<std::size_t>(found)].listening || free_.empty()) {
        client.info.so_error.store(ECONNREFUSED, seq);
        client.owner.rcv_end.store(0, seq);
        set_state(client, SlotState::closed);
        wake(s);
        return;
    }
    auto listener = static_cast<std::uint32_t>(found);
    // Our hash of a flow: the connection lives on the CPU of its port, in a slot of that CPU while there is one.
    auto taken = std::find_if(
        free_.rbegin(), free_.rend(), [&](std::uint32_t f) { return f % options_.cpus == so.port % options_.cpus; });
    std::uint32_t a = taken != free_.rend() ? *taken : free_.back();
    LaneHeader& lane =
        view_.accept_lane(SegmentView::lanes_of(slot(listener)), options_.lane_entries, a % options_.cpus);
    if (lane.produced.load() - lane.consumed.load() == lane.capacity) {
        return; // stays connecting: tests do not go there
    }
    std::erase(free_, a);
    prepare(a, lane_holder, SlotState::connected);
    set_rings(a);
    sockets_[a].exists = true;
    sockets_[a].port = so.peer_port;
    sockets_[a].peer = static_cast<int>(s);
    so.peer = static_cast<int>(a);
    SlotInfo& info = slot(a).info;
    std::memcpy(info.local_addr, here.bytes(), 16);
    std::memcpy(info.peer_addr, here.bytes(), 16);
    info.local_port = so.peer_port;
    info.peer_port = so.port;
    set_state(client, SlotState::connected);
    wake(s);
    push_lane(lane, a);
    slot(listener).owner.accept_ready.fetch_add(1, seq);
    wake(listener);
}

// Unread data: the peer sees a reset; else FIN after the last byte.
void Netd::close(std::uint32_t s)
{
    Socket& so = sockets_[s];
    if (so.exists && so.peer >= 0) {
        auto p = static_cast<std::uint32_t>(so.peer);
        if (so.filled != slot(s).app.rcv_consumed.load(seq)) {
            slot(p).info.so_error.store(ECONNRESET, seq);
            slot(p).owner.snd_broken.store(1, seq);
            slot(p).owner.rcv_end.store(sockets_[p].filled, seq);
            set_state(slot(p), SlotState::closed);
            sockets_[p].peer = -1;
            wake(p);
            release(s);
            return;
        }
        so.closing = true;
        pump_stream(s);
        return;
    }
    release(s);
}

void Netd::release(std::uint32_t s)
{
    sockets_[s] = Socket{};
    set_state(slot(s), SlotState::closed);
    wake(s);
    set_state(slot(s), SlotState::free);
    slot(s).info.generation.fetch_add(1);
    free_.insert(free_.begin(), s);
}

} // namespace fake
