// Connections in which nothing happens fall asleep: rings, record, socket and Tcb go, an IdleConnection of the
// protocols and the slot stay (decision 0011). A timer of class clock looks at those that may have fallen idle, a few
// at a time; what cannot sleep though nothing happens (unread data, a bound port) is looked at again when something
// happens. Owner: this CPU's protocol thread.
#include <algorithm>

#include "gateway/gateway_cpu.hpp"
#include "protocols/domain.hpp"

namespace gateway {

namespace {

constexpr unsigned looked_at_once = 64;
constexpr base::Micros breath{1000};       // between two batches of a round
constexpr base::Micros hurry_pause{10000}; // between two rounds while writers wait for rings

} // namespace

void GatewayCpu::IdleSweep::fired(lwkt::Timer& t)
{
    static_cast<IdleSweep&>(t).of_.sweep_idle();
}

void GatewayCpu::watch_idle(SocketRecord& rec)
{
    if (rec.so.kind != sockbuf::SlotKind::stream) {
        return; // first: news of a datagram socket may come on a CPU that does not own it (its lane's)
    }
    if (!rec.awake_link.linked() && rec.partner == 0 && rec.so.tcb != nullptr && !rec.closing && !rec.detached) {
        list_awake(rec);
    }
}

void GatewayCpu::list_awake(SocketRecord& rec)
{
    if (shared_.options.idle_after.count() == 0) {
        return;
    }
    rec.round = round_;
    rec.moved = ~std::uint64_t{0};
    awake_.push_back(rec);
    if (!sweep_->armed()) {
        domain().wheel.arm(*sweep_, cpu_.now() + shared_.options.idle_after);
    }
}

void GatewayCpu::forget_idle(SocketRecord& rec)
{
    if (rec.awake_link.linked()) {
        rec.awake_link.unlink();
    }
    stop_wanting(rec);
}

// A round looks at every record once; those that stay go to the back with the next round's number.
void GatewayCpu::sweep_idle()
{
    base::assert_on(cpu_.owner());
    std::uint32_t next_round = round_ + 1;
    for (unsigned i = 0; i < looked_at_once; ++i) {
        SocketRecord* rec = awake_.front();
        if (rec == nullptr || rec->round == next_round) {
            break;
        }
        Idleness found = look_idle(*rec);
        if (found != Idleness::asleep) { // else it is gone
            rec->awake_link.unlink();
        }
        if (found == Idleness::moving) {
            rec->round = next_round;
            awake_.push_back(*rec);
        }
    }
    bool over = awake_.empty() || awake_.front()->round == next_round;
    if (over) {
        round_ = next_round;
        hurry_ = wanting_ != 0;
    }
    if (!awake_.empty()) {
        base::Micros pause = !over ? breath : hurry_ ? hurry_pause : shared_.options.idle_after;
        domain().wheel.arm(*sweep_, cpu_.now() + pause);
    }
}

void GatewayCpu::hurry()
{
    hurry_ = true;
    base::Instant soon = cpu_.now() + breath;
    // Never later than before: failures may come faster than breaths.
    if (!awake_.empty() && (!sweep_->armed() || sweep_->deadline() > soon)) {
        domain().wheel.arm(*sweep_, soon);
    }
}

GatewayCpu::Idleness GatewayCpu::look_idle(SocketRecord& rec)
{
    protocols::Socket& so = rec.so;
    if (rec.closing || rec.detached || so.listening || so.tcb == nullptr) {
        return Idleness::never;
    }
    bool wrong = !protocols::so_take_consumed(so); // its next look finds it too
    std::uint64_t moved = so.snd_limit + so.rcv_produced + so.rcv_consumed;
    bool moves = moved != rec.moved;
    rec.moved = moved;
    if (wrong) {
        return Idleness::never;
    }
    bool waits = rec.busy || rec.want_ring_link.linked() || still_in_lane(rec);
    if ((moves && !hurry_) || waits || so.snd_acked != so.snd_limit) {
        return Idleness::moving;
    }
    if (so.rcv_consumed != so.rcv_produced) { // the reader marks the socket once it has read all
        std::uint64_t due = so.slot->owner.rcv_ring_at.load(std::memory_order_relaxed); // a window update, as it was
        protocols::so_publish_ring_at(so, std::min(due, so.rcv_produced));
        bool honest = protocols::so_take_consumed(so);
        return honest && so.rcv_consumed == so.rcv_produced ? Idleness::moving : Idleness::never;
    }
    if (!protocols::tcp_may_sleep(so)) {
        return moves || protocols::tcp_sleeps_later(so) ? Idleness::moving : Idleness::never;
    }
    return let_sleep(rec) ? Idleness::asleep : Idleness::moving;
}

// A writer that took snd_lock before our store is seen in the lock; one that takes it after sees no ring and asks for
// one. False: somebody writes.
bool GatewayCpu::withdraw_send_ring(SocketRecord& rec)
{
    rec.so.slot->info.snd_ring.store(sockbuf::no_page, std::memory_order_seq_cst);
    return rec.so.slot->share.snd_lock.load(std::memory_order_seq_cst) == 0;
}

bool GatewayCpu::let_sleep(SocketRecord& rec)
{
    Client& c = *rec.client;
    auto& info = rec.so.slot->info;
    bool had_rings = rec.so.snd_ring.valid();
    protocols::IdleConnection* idle =
        !had_rings || withdraw_send_ring(rec) ? protocols::tcp_sleep(domain(), rec.so, &c) : nullptr;
    if (idle == nullptr) {
        if (had_rings) { // who saw no ring meanwhile has asked for one by a mark
            publish_rings(rec);
        }
        return false;
    }
    info.rcv_ring.store(sockbuf::no_page, std::memory_order_seq_cst);
    give_rings(rec);
    forget_idle(rec);
    c.slots[rec.slot].hold(idle);
    records_.end(rec);
    return true;
}

SocketRecord* GatewayCpu::wake(Client& c, std::uint32_t slot)
{
    protocols::IdleConnection* idle = c.slots[slot].asleep();
    return idle != nullptr && protocols::tcp_wake(domain(), *idle) != nullptr ? c.slots[slot].record() : nullptr;
}

// For lack of memory it may sleep on; then the control thread has it tried again.
SocketRecord* GatewayCpu::wake_to_close(Client& c, std::uint32_t slot)
{
    SocketRecord* rec = wake(c, slot);
    if (rec == nullptr) {
        c.sleeper_left.store(true, std::memory_order_relaxed);
    }
    return rec;
}

SocketRecord* GatewayCpu::record_of(Client& c, std::uint32_t slot)
{
    SocketRecord* rec = c.slots[slot].record();
    return rec != nullptr ? rec : wake(c, slot);
}

// In the middle of tcp_wake: the socket is filled when it returns.
SocketRecord* GatewayCpu::woken(Client& c, std::uint32_t slot)
{
    base::assert_on(cpu_.owner());
    SocketRecord* rec = new_record(c, slot, sockbuf::SlotKind::stream, 0);
    if (rec == nullptr) {
        return nullptr;
    }
    list_awake(*rec);
    return rec;
}

} // namespace gateway
