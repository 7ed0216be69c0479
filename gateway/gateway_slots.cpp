// Slots and records: granting, resetting, freeing, and what happens to them when a process dies. Owner: this CPU's
// protocol thread; slots go home to Client::home.
#include <cstring>

#include "base/plant.hpp"
#include "gateway/gateway_cpu.hpp"
#include "sockbuf/side_lock.hpp"

namespace gateway {

using sockbuf::SlotState;

// A slot as a new owner finds it. Nobody uses it: it is in no lane and has no record.
void GatewayCpu::reset_slot(Client& c, std::uint32_t slot)
{
    auto& s = c.view().slot(slot);
    auto relaxed = std::memory_order_relaxed;
    // A thread that still waits for the end of the last use reads this word meanwhile.
    c.generations[slot] += base::planted(base::Plant::slot_keeps_generation) && c.generations[slot] != 0 ? 0 : 1;
    s.info.generation.store(c.generations[slot], std::memory_order_seq_cst);
    s.info.so_error.store(0, relaxed);
    s.info.owner_cpu.store(c.home(slot), relaxed);
    s.info.kind = 0;
    s.info.family = 0;
    std::memset(s.info.local_addr, 0, sizeof s.info.local_addr);
    std::memset(s.info.peer_addr, 0, sizeof s.info.peer_addr);
    s.info.local_port = s.info.peer_port = 0;
    s.info.snd_shift = s.info.rcv_shift = 0;
    s.info.lane_entries = 0;
    auto zero = [](auto&... words) { (words.store(0, std::memory_order_relaxed), ...); };
    auto none = [](auto&... words) { (words.store(sockbuf::no_offset, std::memory_order_relaxed), ...); };
    zero(s.info.snd_ring, s.info.rcv_ring);
    zero(s.owner.snd_acked, s.owner.rcv_produced, s.owner.lanes, s.owner.snd_broken, s.owner.rcv_start,
        s.owner.accept_ready, s.owner.armed);
    none(s.owner.rcv_end, s.owner.rcv_ring_at, s.owner.urgent_mark);
    zero(s.app.snd_produced, s.app.rcv_consumed, s.app.waiters[0], s.app.waiters[1], s.app.want_space, s.app.want_level,
        s.app.accept_taken, s.app.partner, s.app.snd_start, s.app.rcv_turn);
    none(s.app.snd_end);
    zero(s.share.snd_lock, s.share.rcv_lock, s.share.ctl_lock, s.share.status, s.share.rcv_timeout_us,
        s.share.snd_timeout_us, s.share.segment_bytes, s.share.coalesces, s.reply.done);
    s.share.holders.store(sockbuf::lane_holder, relaxed);
}

void GatewayCpu::fill_grants(Client& c)
{
    ClientCpu& mine = c.cpu[me()];
    auto& lane = c.view().grant_lane(me());
    auto* entries = sockbuf::SegmentView::lane_entries(lane);
    std::uint32_t waiting = mine.grants_produced - lane.consumed.load(std::memory_order_acquire);
    if (waiting > mine.grants) {
        fault(c); // an index that no honest process writes: no more grants
        return;
    }
    for (; waiting < mine.grants && !mine.free_slots.empty(); ++waiting) {
        std::uint32_t slot = mine.free_slots.pop(c.slots.get());
        reset_slot(c, slot);
        c.view().slot(slot).info.state.store(static_cast<std::uint32_t>(SlotState::granted), std::memory_order_relaxed);
        c.slots[slot].grant(mine.grants_produced);
        entries[mine.grants_produced % mine.grants].store(
            slot | std::uint64_t{c.generations[slot]} << 32, std::memory_order_relaxed);
        ++mine.grants_produced;
        lane.produced.store(mine.grants_produced, std::memory_order_release);
    }
}

// The private side of a record.
SocketRecord* GatewayCpu::new_record(Client& c, std::uint32_t slot, sockbuf::SlotKind kind, std::uint8_t family)
{
    SocketRecord* rec = records_.make(); // control path: a socket is made, not a packet moved
    if (rec == nullptr) {
        return nullptr;
    }
    rec->client = &c;
    rec->slot = slot;
    rec->generation = c.generations[slot];
    rec->so.domain = &domain();
    rec->so.user = &user_;
    rec->so.user_ref = rec;
    rec->so.slot = &c.view().slot(slot);
    rec->so.slot_id = slot;
    rec->so.user_id = c.uid;
    rec->so.kind = kind;
    protocols::so_set_family(rec->so, family);
    if (kind == sockbuf::SlotKind::datagram) {
        rec->so.lanes = c.view().lanes(slot);
        for (std::uint32_t i = 0; i <= c.cpus; ++i) {
            rec->so.lanes[i].produced.store(0, std::memory_order_relaxed);
            rec->so.lanes[i].dropped.store(0, std::memory_order_relaxed);
            rec->so.lanes[i].consumed.store(0, std::memory_order_relaxed);
        }
    }
    c.slots[slot].hold(rec);
    return rec;
}

SocketRecord* GatewayCpu::make_record(Client& c, std::uint32_t slot, sockbuf::SlotKind kind, std::uint8_t family)
{
    SocketRecord* rec = new_record(c, slot, kind, family);
    if (rec == nullptr) {
        return nullptr;
    }
    base::count(c.cpu[me()].records_made);
    auto& info = c.view().slot(slot).info;
    info.kind = static_cast<std::uint8_t>(kind);
    info.family = family;
    protocols::so_publish_state(rec->so, SlotState::open);
    return rec;
}

// Connections in a lane or on their way to it; an index that no honest process writes makes it full: the family loses
// its own connections.
std::uint32_t GatewayCpu::waiting_in(const SocketRecord& listener, std::uint32_t cpu)
{
    auto& lane = lane_of(listener, cpu);
    std::uint32_t waiting = listener.accept_lanes[cpu].produced.load(std::memory_order_relaxed) -
                            lane.consumed.load(std::memory_order_acquire);
    std::uint32_t on_their_way = listener.accept_lanes[cpu].reserved.load(std::memory_order_relaxed);
    return std::min(std::min(waiting, accept_lane_entries) + on_their_way, accept_lane_entries);
}

// May one more connection wait in this CPU's lane?
bool GatewayCpu::may_wait(const SocketRecord& listener) const
{
    std::uint32_t waiting = waiting_in(listener, me());
    return waiting < accept_lane_entries &&
           listener.credits->take(me(), waiting, [&](std::uint32_t cpu) { return waiting_in(listener, cpu); });
}

// The listener is there as long as it has connections that are not complete: its end ends them first.
void GatewayCpu::release_place(SocketRecord& child) const
{
    if (child.reserved_at != nullptr) {
        auto& places = child.reserved_at->accept_lanes[me()].reserved; // this CPU's alone to write
        places.store(places.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
        child.reserved_at = nullptr;
    }
}

SocketRecord* GatewayCpu::accepted(
    SocketRecord& listener, const protocols::SocketOptions& options, const base::FourTuple& flow)
{
    base::assert_on(cpu_.owner());
    Client& c = *listener.client;
    ClientCpu& mine = c.cpu[me()];
    if (mine.free_slots.empty() || !may_wait(listener)) {
        return nullptr;
    }
    std::uint32_t slot = mine.free_slots.pop(c.slots.get());
    reset_slot(c, slot);
    SocketRecord* rec = make_record(c, slot, sockbuf::SlotKind::stream, listener.so.family);
    if (rec != nullptr) {
        rec->so.options = options; // as Linux; the ring's size is the one that the SYN-ACK spoke of
    }
    if (rec == nullptr || !provide_rings(*rec)) {
        if (rec != nullptr) {
            free_record(*rec);
        } else {
            mine.free_slots.push(c.slots.get(), slot);
        }
        return nullptr;
    }
    rec->reserved_at = &listener;
    auto& places = listener.accept_lanes[me()].reserved;
    places.store(places.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    rec->so.flow = flow;
    return rec;
}

void GatewayCpu::ready(SocketRecord& listener, SocketRecord& child)
{
    Client& c = *listener.client;
    auto& lane = lane_of(listener, me());
    std::uint32_t at = listener.accept_lanes[me()].produced.load(std::memory_order_relaxed);
    release_place(child);
    if (at - lane.consumed.load(std::memory_order_acquire) >= accept_lane_entries) {
        fault(c); // it had a place: an index that no honest process writes
        close(child, true);
        return;
    }
    child.lane_at = at;
    child.accept_lane = &lane;
    sockbuf::SegmentView::lane_entries(lane)[at % accept_lane_entries].store(
        child.slot | std::uint64_t{child.generation} << 32, std::memory_order_relaxed);
    listener.accept_lanes[me()].produced.store(at + 1, std::memory_order_relaxed);
    lane.produced.store(at + 1, std::memory_order_release);
    c.view().slot(listener.slot).owner.accept_ready.fetch_add(1, std::memory_order_seq_cst);
    if (!base::planted(base::Plant::accept_not_told)) {
        queue_event(c, listener.slot);
    }
    watch_idle(child);
}

// What the socket was on this CPU is over: one whose connect failed may have rings, one that was a listener lanes.
void GatewayCpu::leaves(SocketRecord& rec)
{
    forget_idle(rec);
    give_rings(rec);
    give_lanes(rec);
}

// For the application's marks; to the gateway the socket stays in transit until the reply is here, as its message may
// go on to other CPUs.
void GatewayCpu::moved_here(SocketRecord& rec)
{
    rec.client->view().slot(rec.slot).info.owner_cpu.store(me(), std::memory_order_release);
}

void GatewayCpu::detached(SocketRecord& rec)
{
    base::assert_on(cpu_.owner());
    INVARIANT(!rec.detached);
    release_place(rec);
    rec.detached = true;
    if (!rec.busy) {
        dead_.push_back(&rec);
    }
}

// As an application asks for it.
void GatewayCpu::request_close(Client& c, std::uint32_t slot, std::uint32_t generation, bool abort)
{
    sockbuf::Request r{};
    r.op = static_cast<std::uint32_t>(sockbuf::Op::close);
    r.slot = slot;
    r.generation = generation;
    r.value = abort ? 1 : 0;
    request(c, r);
}

// Connections in the lanes of a listener that closed or was shut down; the TCP has stopped making more. Each is closed
// on its own CPU, and the lanes are empty then. Their words are the family's: a forged one names at most another socket
// of the same family.
void GatewayCpu::close_unaccepted(SocketRecord& listener)
{
    Client& c = *listener.client;
    for (std::uint32_t cpu = 0; cpu < c.cpus; ++cpu) {
        auto& lane = lane_of(listener, cpu);
        std::uint32_t end = listener.accept_lanes[cpu].produced.load(std::memory_order_relaxed);
        std::uint32_t at = lane.consumed.load(std::memory_order_acquire);
        if (end - at > accept_lane_entries) {
            fault(c);
            continue;
        }
        listener.accept_lanes[cpu].produced.store(at, std::memory_order_relaxed);
        lane.produced.store(at, std::memory_order_release);
        for (; at != end; ++at) {
            std::uint64_t entry =
                sockbuf::SegmentView::lane_entries(lane)[at % accept_lane_entries].load(std::memory_order_relaxed);
            request_close(c, static_cast<std::uint32_t>(entry), static_cast<std::uint32_t>(entry >> 32), true);
        }
    }
}

void GatewayCpu::give_lanes(SocketRecord& rec)
{
    if (rec.lanes != 0) {
        INVARIANT(rec.rings_cpu == me());
        give_ring(*rec.client, rec.lanes, rec.lanes_shift, true);
        rec.so.slot->app.accept_taken.store(0, std::memory_order_relaxed); // a connection has snd_urgent there
    }
    rec.lanes = 0;
}

void GatewayCpu::free_record(SocketRecord& rec)
{
    Client& c = *rec.client;
    INVARIANT(!rec.busy);
    forget_idle(rec);
    give_rings(rec);
    give_lanes(rec);
    rec.msg.dispatch = record_home_dispatch;
    rec.msg.reply_port = nullptr;
    rec.msg.cls = lwkt::Class::gen;
    rec.msg.socket = &rec.so;
    if (c.home(rec.slot) == me()) {
        record_home_dispatch(rec.msg);
    } else {
        // The home CPU may free it as soon as it has the message, so from here on nobody sweeps or reports it but that
        // one; to requests and marks it is detached there as it was here.
        c.owner[rec.slot].store(c.home(rec.slot), std::memory_order_release);
        cpu_.send_passive(c.home(rec.slot), rec.msg);
    }
}

// On the slot's home CPU: the record ends, the slot is free again.
void GatewayCpu::record_home_dispatch(lwkt::Message& m)
{
    auto& msg = static_cast<netmsg::SocketMsg&>(m);
    auto* rec = static_cast<SocketRecord*>(msg.socket->user_ref);
    Client& c = *rec->client;
    GatewayCpu& here = *c.gateway_cpus[base::current_cpu];
    std::uint32_t slot = rec->slot;
    here.slot_home(c, slot);
    here.records_.end(*rec);
    here.queue_event(c, slot); // a thread that still sleeps for it finds its socket gone
    auto& ended = c.cpu[base::current_cpu].records_ended;
    ended.store(ended.load(std::memory_order_relaxed) + 1, std::memory_order_release); // last: the family may go now
}

void GatewayCpu::slot_home(Client& c, std::uint32_t slot)
{
    c.view().slot(slot).info.state.store(static_cast<std::uint32_t>(SlotState::free), std::memory_order_relaxed);
    c.view().slot(slot).share.holders.store(0, std::memory_order_relaxed);
    c.cpu[me()].free_slots.push(c.slots.get(), slot);
}

// ---- Death of a process ---------------------------------------------------------------------------------------------

void GatewayCpu::drain_process(Client& c, std::uint32_t process)
{
    drain_ring(c, process, sockbuf::request_slots); // more than that only a liar's ring can hold
    name_marked_words(c);
}

void GatewayCpu::reset_process(Client& c, std::uint32_t process)
{
    auto& ring = c.view().requests(process, me());
    ring.produced.store(0, std::memory_order_relaxed);
    ring.lock.store(0, std::memory_order_relaxed);
    if (me() == 0) { // one for all CPUs
        c.view().reply_area(process).lock.store(0, std::memory_order_relaxed);
    }
    ring.consumed.store(0, std::memory_order_release);
    c.cpu[me()].requests_consumed[process] = 0;
}

void GatewayCpu::sweep_process(Client& c, std::uint32_t process)
{
    sockbuf::side_lock_release_dead(c.view().grant_lane(me()).lock, process);
    for (std::uint32_t slot = 0; slot < c.view().sockets(); ++slot) {
        if (c.owner[slot].load(std::memory_order_acquire) == me()) {
            sweep_slot(c, slot, process);
        }
    }
    fill_grants(c);
}

// Of sockets that a dead process waited for: whoever gets its waiters' numbers next does not. Whichever CPU owns a
// socket, its home does it; a slot that was never in use may have no page, and gets none here.
void GatewayCpu::forget_waiters(Client& c, const WaiterSet& its)
{
    for (std::uint32_t slot = 0; (its[0] | its[1]) != 0 && slot < c.view().sockets(); ++slot) {
        if (c.home(slot) != me() || c.generations[slot] == 0) {
            continue;
        }
        auto& waiters = c.view().slot(slot).app.waiters;
        for (std::uint32_t half = 0; half < 2; ++half) {
            if ((waiters[half].load(std::memory_order_relaxed) & its[half]) != 0) {
                waiters[half].fetch_and(~its[half], std::memory_order_seq_cst);
            }
        }
    }
}

void GatewayCpu::release_locks(Client& c, std::uint32_t slot, std::uint32_t process)
{
    auto& share = c.view().slot(slot).share;
    bool held = ((share.holders.load(std::memory_order_seq_cst) >> process) & 1) != 0;
    if (SocketRecord* joined = c.slots[slot].record(); held && joined != nullptr && joined->partner != 0) {
        finish_joined(c, *joined, process);
    }
    sockbuf::side_lock_release_dead(share.snd_lock, process);
    sockbuf::side_lock_release_dead(share.rcv_lock, process);
    sockbuf::side_lock_release_dead(share.ctl_lock, process);
    SocketRecord* rec = c.slots[slot].record();
    if (rec != nullptr && rec->lanes != 0) {
        for (std::uint32_t i = 0; i < c.cpus; ++i) {
            sockbuf::side_lock_release_dead(lane_of(*rec, i).lock, process);
        }
    }
}

// The lane's memory may be another listener's by now, whose index says nothing of this socket; but who takes a socket
// clears lane_holder last.
bool GatewayCpu::still_in_lane(const SocketRecord& rec)
{
    if (rec.reserved_at != nullptr) {
        return true; // not in it yet, which is no process' doing
    }
    if (rec.accept_lane == nullptr) {
        return false; // never in one; a granted slot leaves its lane before its first request makes the record
    }
    std::uint32_t consumed = rec.accept_lane->consumed.load(std::memory_order_acquire);
    bool taken = (rec.so.slot->share.holders.load(std::memory_order_seq_cst) & sockbuf::lane_holder) == 0;
    return !taken && static_cast<std::int32_t>(rec.lane_at - consumed) >= 0;
}

void GatewayCpu::sweep_slot(Client& c, std::uint32_t slot, std::uint32_t process)
{
    SocketRecord* rec = c.slots[slot].record();
    bool granted = c.slots[slot].granted();
    if (rec == nullptr && c.slots[slot].asleep() == nullptr && !granted) {
        return;
    }
    // Before the holders: who takes a slot sets its bit, then moves the lane on (tests/lwkt/test_ring_models.cpp).
    bool in_lane = false;
    if (rec != nullptr) {
        in_lane = still_in_lane(*rec);
    } else if (granted) {
        std::uint32_t consumed = c.view().grant_lane(me()).consumed.load(std::memory_order_acquire);
        in_lane = static_cast<std::int32_t>(c.slots[slot].place() - consumed) >= 0;
    }
    release_locks(c, slot, process);
    auto& holders = c.view().slot(slot).share.holders;
    std::uint64_t bit = std::uint64_t{1} << process;
    std::uint64_t left = holders.load(std::memory_order_seq_cst);
    if ((left & bit) != 0) {
        left = holders.fetch_and(~bit, std::memory_order_seq_cst) & ~bit;
    }
    if (c.slots[slot].asleep() != nullptr) {
        // To be closed; nobody's claim of it can be pending.
        rec = (left & ~sockbuf::lane_holder) == 0 ? wake_to_close(c, slot) : nullptr;
        if (rec == nullptr) {
            return;
        }
    }
    if (rec == nullptr) {
        if (!in_lane && (left & ~sockbuf::lane_holder) == 0) {
            slot_home(c, slot);
        }
        return;
    }
    if ((left & ~sockbuf::lane_holder) == 0 && !rec->closing && !rec->detached && !in_lane) {
        close(*rec, false);
    }
}

void GatewayCpu::close_all(Client& c, bool abort)
{
    for (std::uint32_t slot = 0; slot < c.view().sockets(); ++slot) {
        if (c.owner[slot].load(std::memory_order_acquire) != me()) {
            continue;
        }
        SocketRecord* rec = c.slots[slot].asleep() != nullptr ? wake_to_close(c, slot) : c.slots[slot].record();
        if (rec != nullptr) {
            close(*rec, abort);
        }
    }
}

void GatewayCpu::close_sleepers(Client& c)
{
    Ending ending = c.ending.load(std::memory_order_relaxed);
    for (std::uint32_t slot = 0; slot < c.view().sockets(); ++slot) {
        if (c.owner[slot].load(std::memory_order_acquire) != me() || c.slots[slot].asleep() == nullptr) {
            continue;
        }
        std::uint64_t holders = c.view().slot(slot).share.holders.load(std::memory_order_seq_cst);
        bool over = ending != Ending::none || (holders & ~sockbuf::lane_holder) == 0;
        if (SocketRecord* rec = over ? wake_to_close(c, slot) : nullptr) {
            close(*rec, ending == Ending::abort);
        }
    }
}

} // namespace gateway
