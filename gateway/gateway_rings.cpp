// Ring memory of sockets: sizes are fixed when a socket gets its rings first, memory comes and goes with use. More
// rings are promised than there is memory for, as with tcp_mem of Linux; when it runs out, connections that are drained
// give theirs back at once, writers wait, text is dropped until the peer sends it again. The last eighth of the memory
// is for text that arrives: it is what lets a sender in the same family drain. Owner: this CPU's protocol thread.
#include <algorithm>
#include <bit>

#include "gateway/gateway_cpu.hpp"

namespace gateway {

namespace {

constexpr std::uint64_t text_share = 8; // one part in so many is kept for text
constexpr unsigned served_at_once = 64; // writers that are looked at in a poll or a roll-up
// What is asked for bounds what lies in a ring; the largest datagram must fit all the same (address space only).
constexpr unsigned datagram_shift_min = 17;

unsigned shift_for(std::uint32_t bytes, unsigned fallback)
{
    unsigned shift = bytes == 0 ? fallback : static_cast<unsigned>(std::bit_width(bytes - 1));
    return std::clamp(shift, RingArena::shift_min, RingArena::shift_max);
}

unsigned datagram_shift_for(std::uint32_t bytes, unsigned fallback)
{
    return bytes == 0 ? shift_for(0, fallback) : std::max(shift_for(bytes, fallback), datagram_shift_min);
}

// Perhaps beyond its head, in whose last line a message may begin, so that the ring itself has pages.
bool touched(std::uint64_t bytes)
{
    return bytes > sockbuf::RingView::head_bytes / 4;
}

} // namespace

bool GatewayCpu::provide_rings(SocketRecord& rec)
{
    base::assert_on(cpu_.owner());
    give_lanes(rec);                   // of a listener that was shut down and connects
    if (rec.so.snd_ring.size() != 0) { // known, perhaps from before it slept
        rec.snd_shift = static_cast<std::uint8_t>(std::countr_zero(rec.so.snd_ring.size()));
        rec.rcv_shift = rec.so.rcv_ring.size() == 0
                            ? std::uint8_t{0}
                            : static_cast<std::uint8_t>(std::countr_zero(rec.so.rcv_ring.size()));
    } else {
        const GatewayOptions& o = shared_.options;
        bool stream = rec.so.kind == sockbuf::SlotKind::stream;
        const protocols::SocketOptions& wanted = rec.so.options;
        unsigned snd = stream ? shift_for(wanted.send_ring_bytes, o.send_ring_shift)
                              : datagram_shift_for(wanted.send_ring_bytes, o.datagram_ring_shift);
        rec.snd_shift = static_cast<std::uint8_t>(snd);
        rec.so.snd_ring = {nullptr, snd};
        if (stream) { // a datagram socket has lanes
            unsigned rcv = shift_for(wanted.receive_ring_bytes, o.receive_ring_shift);
            rec.rcv_shift = static_cast<std::uint8_t>(rcv);
            rec.so.rcv_ring = {nullptr, rcv};
        }
        auto& info = rec.so.slot->info; // before the application can look at them; never again
        info.snd_shift = rec.snd_shift;
        info.rcv_shift = rec.rcv_shift;
    }
    return attach_rings(rec, true);
}

// Both (of a stream) or none.
bool GatewayCpu::attach_rings(SocketRecord& rec, bool for_text)
{
    if (rec.so.snd_ring.valid()) {
        return true;
    }
    Client& c = *rec.client;
    RingArena& arena = c.cpu[me()].arena;
    std::uint64_t keep = for_text ? 0 : arena.total() / text_share;
    auto send = arena.take(rec.snd_shift, keep);
    bool both = rec.rcv_shift != 0;
    auto receive = send && both ? arena.take(rec.rcv_shift, keep) : std::nullopt;
    if (!send || (both && !receive)) {
        if (send) {
            arena.give(*send, rec.snd_shift);
        }
        hurry(); // who is drained gives
        return false;
    }
    rec.rings_cpu = me();
    rec.so.snd_ring = c.view().ring(*send, rec.snd_shift);
    if (both) {
        rec.so.rcv_ring = c.view().ring(*receive, rec.rcv_shift);
        protocols::so_restart_receive(rec.so, rec.so.rcv_produced, 0); // empty; the sender's start comes with its text
    }
    publish_rings(rec);
    if (rec.want_ring_link.linked()) {
        stop_wanting(rec);
        protocols::so_publish_acked(rec.so); // wakes the writer
    }
    return true;
}

void GatewayCpu::publish_rings(SocketRecord& rec)
{
    auto& info = rec.so.slot->info;
    if (rec.so.rcv_ring.valid()) {
        info.rcv_ring.store(page_of(*rec.client, rec.so.rcv_ring), std::memory_order_seq_cst);
    }
    info.snd_ring.store(page_of(*rec.client, rec.so.snd_ring), std::memory_order_seq_cst);
}

void GatewayCpu::give_rings(SocketRecord& rec)
{
    if (!rec.so.snd_ring.valid()) {
        return;
    }
    INVARIANT(rec.rings_cpu == me());
    Client& c = *rec.client;
    bool joined = rec.partner != 0; // its text is the two programs' own business
    auto give = [&](sockbuf::RingView& ring, unsigned shift, std::uint64_t bytes) {
        if (ring.valid()) {
            give_ring(c, static_cast<std::uint64_t>(ring.base() - c.view().base()), shift, joined || touched(bytes));
            ring = {nullptr, shift};
        }
    };
    give(rec.so.snd_ring, rec.snd_shift, rec.so.snd_limit);
    give(rec.so.rcv_ring, rec.rcv_shift, rec.so.rcv_produced);
}

// The ring of a datagram lane, on whichever CPU the first datagram arrived, or of the error queue, which no bit of
// `lanes` names; of the record only c fields.
sockbuf::RingView GatewayCpu::provide_lane(SocketRecord& rec, std::uint32_t index, std::uint32_t bytes)
{
    base::assert_on(cpu_.owner());
    Client& c = *rec.client;
    unsigned fallback = shared_.options.datagram_ring_shift;
    unsigned shift = index < c.cpus ? datagram_shift_for(bytes, fallback) : shift_for(bytes, fallback);
    auto offset = c.cpu[me()].arena.take(shift);
    if (!offset) {
        hurry();
        return {};
    }
    sockbuf::DatagramLane& lane = c.view().lanes(rec.slot)[index];
    lane.ring = *offset;
    lane.shift = shift;
    lane.start.store(0, std::memory_order_relaxed);
    if (index < c.cpus) {
        c.view().slot(rec.slot).owner.lanes.fetch_or(std::uint64_t{1} << index, std::memory_order_seq_cst);
    }
    return c.view().ring(*offset, shift);
}

void GatewayCpu::take_lane_back(SocketRecord& rec, std::uint32_t index, const sockbuf::RingView& ring)
{
    base::assert_on(cpu_.owner());
    Client& c = *rec.client;
    sockbuf::DatagramLane& lane = c.view().lanes(rec.slot)[index];
    if (index < c.cpus) {
        c.view().slot(rec.slot).owner.lanes.fetch_and(~(std::uint64_t{1} << index), std::memory_order_seq_cst);
    }
    bool used = touched(lane.produced.load(std::memory_order_relaxed));
    lane.produced.store(0, std::memory_order_relaxed); // a bind that failed may be tried again
    lane.consumed.store(0, std::memory_order_relaxed);
    give_ring(c, static_cast<std::uint64_t>(ring.base() - c.view().base()),
        static_cast<unsigned>(std::countr_zero(ring.size())), used);
}

// A writer wants an event: space in the ring, or a ring. Without a connection there is nothing to write to; a listener
// that had one before has its lanes where a ring would be named.
void GatewayCpu::look_at_want(SocketRecord& rec)
{
    if (rec.so.kind != sockbuf::SlotKind::stream || rec.so.tcb == nullptr || rec.snd_shift == 0) {
        return;
    }
    if (attach_rings(rec, false)) {
        protocols::so_publish_acked(rec.so);
    } else if (!rec.want_ring_link.linked()) {
        rec.client->cpu[me()].want_rings.push_back(rec);
        ++wanting_;
        rec.so.slot->info.snd_ring.store(sockbuf::page_wanted, std::memory_order_seq_cst);
        queue_event(*rec.client, rec.slot); // it need not wait for an answer, it knows now
    }
}

void GatewayCpu::stop_wanting(SocketRecord& rec)
{
    if (rec.want_ring_link.linked()) {
        rec.want_ring_link.unlink();
        --wanting_;
    }
}

// First come, first served, so that nobody waits for ever; families have arenas of their own. A part at a time: a
// family of which more wait, and for whom there was memory so far, goes to the back. Returns how many were served.
std::uint32_t GatewayCpu::serve_wanted_rings()
{
    std::uint32_t served = 0;
    for (unsigned looks = 0; !to_serve_.empty() && looks < served_at_once;) {
        Client& c = *to_serve_.front();
        to_serve_.erase(to_serve_.begin());
        ClientCpu& mine = c.cpu[me()];
        std::uint32_t before = served;
        SocketRecord* rec = mine.want_rings.front();
        for (; rec != nullptr && looks < served_at_once; ++looks) {
            SocketRecord* next = mine.want_rings.next(*rec);
            served += attach_rings(*rec, false) ? 1 : 0;
            rec = next;
        }
        mine.to_serve = rec != nullptr && served != before;
        if (mine.to_serve) {
            to_serve_.push_back(&c);
        }
    }
    return served;
}

} // namespace gateway
