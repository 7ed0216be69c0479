// Construction, and what the control thread has a CPU do. Owner: this CPU's protocol thread (through CpuSet::call).
#include "gateway/gateway_cpu.hpp"

#include <algorithm>
#include <bit>

#include "protocols/tcp/tcp_report.hpp"

namespace gateway {

GatewayCpu::GatewayCpu(GatewayShared& shared, protocols::SocketUser& user, lwkt::Cpu& cpu)
    : shared_(shared), user_(user), cpu_(cpu), domain_(shared.stack.domain(cpu.id())), me_(cpu.id()),
      families_(lwkt::uses_locks(shared.stack.set().discipline())), sweep_(std::make_unique<IdleSweep>(*this)),
      cooling_(std::make_unique<Cooling>(*this))
{
    shared.stack.set().call(cpu.id(), [this](lwkt::Cpu& c) {
        c.add_poller(lwkt::Class::serial, *this);
        c.add_rollup(*this);
    });
}

GatewayCpu::~GatewayCpu()
{
    shared_.stack.set().call(cpu_.id(), [this](lwkt::Cpu& c) {
        c.remove_poller(lwkt::Class::serial, *this);
        c.remove_rollup(*this);
        sweep_.reset(); // leaves the wheel
        cooling_.reset();
    });
}

void GatewayCpu::add_client(Client& c)
{
    std::uint64_t share = (c.view().layout().bytes - c.view().layout().rings) / c.cpus;
    share &= ~((std::uint64_t{1} << RingArena::shift_max) - 1); // rings of any size stay inside the share
    std::uint64_t begin = c.view().layout().rings + share * me();
    c.cpu[me()].arena = RingArena{begin, begin + share, c.view().layout().rings};
    for (std::uint32_t s = c.view().sockets(); s-- > 0;) {
        if (c.home(s) == me()) {
            c.cpu[me()].free_slots.push(c.slots.get(), s);
        }
    }
    // At most a quarter of the slots waits to be granted: the others are for connections to be accepted.
    std::uint32_t quarter = std::bit_floor(std::max(c.view().sockets() / c.cpus / 4, 1U));
    c.cpu[me()].grants = std::min(quarter, sockbuf::grant_lane_entries);
    auto& lane = c.view().grant_lane(me());
    lane.capacity = c.cpu[me()].grants;
    families_.add(c, me());
    fill_grants(c);
}

void GatewayCpu::stop_polling(Client& c)
{
    families_.remove(c);
}

void GatewayCpu::forget_client(Client& c)
{
    stop_polling(c);
    std::erase(wakes_, &c);
    std::erase(to_cool_, &c);
    std::erase(to_serve_, &c);
    std::erase_if(events_, [&](const EventRef& e) { return e.client == &c; });
}

void GatewayCpu::report(Client& c, std::uint32_t from, std::uint32_t to, std::vector<SocketReport>& out)
{
    for (std::uint32_t slot = from; slot < to; ++slot) {
        if (c.owner[slot].load(std::memory_order_acquire) != me()) {
            continue;
        }
        if (c.slots[slot].asleep() != nullptr) {
            SocketReport r;
            r.client = c.id;
            r.slot = slot;
            r.cpu = me();
            r.state = "ESTABLISHED";
            r.flow = protocols::tcp_idle_flow(*c.slots[slot].asleep());
            r.holders = c.view().slot(slot).share.holders.load(std::memory_order_relaxed);
            out.push_back(r);
        }
        if (c.slots[slot].record() == nullptr) {
            continue;
        }
        SocketRecord& rec = *c.slots[slot].record();
        SocketReport r;
        r.client = c.id;
        r.slot = slot;
        r.cpu = me();
        r.stream = rec.so.kind == sockbuf::SlotKind::stream;
        r.state = r.stream ? protocols::tcp_state_text(rec.so) : "UNCONN";
        r.flow = rec.so.flow;
        r.holders = c.view().slot(slot).share.holders.load(std::memory_order_relaxed);
        r.app_closed = rec.closing;
        r.joined = rec.partner != 0;
        if (rec.lanes != 0) {
            for (std::uint32_t i = 0; i < c.cpus; ++i) {
                auto& lane = lane_of(rec, i);
                r.recv_queue += rec.accept_lanes[i].produced.load(std::memory_order_relaxed) -
                                lane.consumed.load(std::memory_order_relaxed);
            }
            // As asked for: of those one more may wait, but for the most that there is.
            r.send_queue = rec.backlog < protocols::listen_backlog_max ? rec.backlog - 1 : rec.backlog;
        } else if (rec.partner != 0) {
            auto& s = c.view().slot(slot);
            r.recv_queue = s.owner.rcv_produced.load(std::memory_order_relaxed) -
                           s.app.rcv_consumed.load(std::memory_order_relaxed);
        } else {
            r.recv_queue = rec.so.rcv_produced - rec.so.rcv_consumed;
            for (std::uint32_t i = 0; i < c.cpus && rec.so.lanes != nullptr; ++i) {
                r.recv_queue += rec.so.lanes[i].produced.load(std::memory_order_relaxed) -
                                rec.so.lanes[i].consumed.load(std::memory_order_relaxed);
            }
            r.send_queue = rec.so.snd_limit - rec.so.snd_acked;
        }
        out.push_back(r);
    }
}

} // namespace gateway
