#include "client/joined.hpp"

#include <bit>

#include "client/slot_access.hpp"

namespace client {

namespace {

// False: only netd can wake it.
bool wake(Session& s, std::uint32_t w, std::uint32_t partner)
{
    sockbuf::Waiter& waiter = s.view.waiter(w);
    if (waiter.kind.load(std::memory_order_acquire) == static_cast<std::uint32_t>(sockbuf::WaiterKind::set)) {
        sockbuf::set_ready(s.view, w, partner);
    }
    // The exchange first, then the system call, as netd does it.
    if (waiter.sleeping.load(std::memory_order_seq_cst) == 0) {
        return true;
    }
    if (!s.host->can_wake(w)) {
        return false;
    }
    if (waiter.sleeping.exchange(0, std::memory_order_seq_cst) == 0 || s.host->wake_waiter(w)) {
        return true;
    }
    waiter.sleeping.store(1, std::memory_order_seq_cst);
    return false;
}

// Wakes who waits for the other end; after the offset that is news to it was stored sequentially consistent.
void tell(Session& s, SocketSlot& slot, Sock k, std::uint32_t partner)
{
    SocketSlot& peer = s.view.slot(partner);
    std::uint32_t armed = peer.owner.armed.load(std::memory_order_seq_cst);
    if (armed == 0) {
        return;
    }
    if ((armed & sockbuf::armed_thread) != 0) { // before the walk: who arms behind us looks at the offsets again
        peer.owner.armed.fetch_and(~sockbuf::armed_thread, std::memory_order_seq_cst);
    }
    bool all = true;
    for (std::uint32_t half = 0; half < 2; ++half) {
        for (std::uint64_t m = peer.app.waiters[half].load(std::memory_order_seq_cst); m != 0; m &= m - 1) {
            all = wake(s, half * 64 + static_cast<std::uint32_t>(std::countr_zero(m)), partner) && all;
        }
    }
    if (!all) {
        mark(s, slot, k); // netd looks for the waiters of the other end
    }
}

} // namespace

void deliver(Session& s, SocketSlot& slot, Sock k, std::uint32_t partner, std::uint64_t offset)
{
    auto& there = s.view.slot(partner).owner;
    there.rcv_start.store(slot.app.snd_start.load(std::memory_order_relaxed), std::memory_order_relaxed);
    there.rcv_produced.store(offset, std::memory_order_seq_cst);
    tell(s, slot, k, partner);
}

bool drained(Session& s, std::uint32_t partner, std::uint64_t offset)
{
    return s.view.slot(partner).app.rcv_consumed.load(std::memory_order_acquire) == offset;
}

void give_back(Session& s, SocketSlot& slot, Sock k, std::uint32_t partner, std::uint64_t offset)
{
    SocketSlot& peer = s.view.slot(partner);
    std::uint64_t ring = std::uint64_t{1} << slot.info.rcv_shift;
    slot.owner.rcv_ring_at.store(offset + sockbuf::joined_step(ring), std::memory_order_relaxed);
    peer.owner.snd_acked.store(offset, std::memory_order_seq_cst);
    if (peer.app.want_space.load(std::memory_order_seq_cst) == 0) {
        return;
    }
    std::uint64_t used = peer.app.snd_produced.load(std::memory_order_seq_cst) - offset;
    if (used * 3 <= ring * 2 && peer.app.want_space.exchange(0, std::memory_order_seq_cst) != 0) {
        tell(s, slot, k, partner);
    }
}

} // namespace client
