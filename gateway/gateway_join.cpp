// Joined pairs: what their slots say, and what netd puts right when a process dies in the middle. Owner: this CPU's
// protocol thread; the connecting socket is in transit, so its slot may be written here. Neither slot nor the rings of
// one end are given away before the other end is closed too (protocols/tcp/joined_end.hpp): an application that is in
// the middle of a call may still write there.
#include "gateway/gateway_cpu.hpp"
#include "sockbuf/side_lock.hpp"

namespace gateway {

void GatewayCpu::join(SocketRecord& active, SocketRecord& passive)
{
    base::assert_on(cpu_.owner());
    Client& c = *passive.client;
    auto tie = [&c](SocketRecord& writer, const SocketRecord& reader) {
        auto& slot = c.view().slot(writer.slot);
        writer.partner = reader.slot + 1;
        slot.info.snd_ring.store(page_of(c, reader.so.rcv_ring), std::memory_order_relaxed);
        slot.info.snd_shift = reader.rcv_shift;
        auto& start = c.view().slot(reader.slot).owner.rcv_start; // the writer's from now on
        start.store(slot.app.snd_start.load(std::memory_order_relaxed), std::memory_order_relaxed);
        slot.app.partner.store(writer.partner, std::memory_order_release);
        // Who waits for it already was not asked to arm it: looked for at the first event.
        slot.owner.armed.store(sockbuf::armed_thread | sockbuf::armed_set, std::memory_order_seq_cst);
        slot.owner.rcv_ring_at.store(sockbuf::joined_step(writer.so.rcv_ring.size()), std::memory_order_seq_cst);
    };
    tie(active, passive);
    tie(passive, active);
}

// What a process published that died before it told the other end, and whom it was about to wake: it may have taken
// their `sleeping` already. Its side locks still stand: nobody else moves what they guard.
void GatewayCpu::finish_joined(Client& c, const SocketRecord& rec, std::uint32_t process)
{
    auto& own = c.view().slot(rec.slot);
    auto& other = c.view().slot(rec.partner - 1);
    if (sockbuf::side_lock_holds(own.share.snd_lock, process)) {
        other.owner.rcv_start.store(own.app.snd_start.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
        other.owner.rcv_produced.store(own.app.snd_produced.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
    }
    if (sockbuf::side_lock_holds(own.share.rcv_lock, process)) {
        other.owner.snd_acked.store(own.app.rcv_consumed.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
    }
    queue_event(c, rec.slot);
    queue_event(c, rec.partner - 1, For::sleepers);
}

} // namespace gateway
