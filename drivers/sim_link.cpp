// The two interfaces of a simulated link: attach, detach and what they share. Queues are in sim_queue.cpp.
#include "drivers/sim_link.hpp"

#include <algorithm>

#include "drivers/frame_flow.hpp"
#include "drivers/sim_wire.hpp"

namespace drivers {
namespace {

netmsg::NetifInfo side_info(const SimLinkOptions& o, const SimLinkSide& side)
{
    netmsg::NetifInfo info;
    info.name = side.name;
    info.mtu = o.mtu;
    info.mac = side.mac;
    info.ethernet = o.ethernet;
    info.tso_max_bytes = o.tso ? 65535 : 0;
    info.gso_max_bytes = !o.tso && o.gso ? 65535 : 0;
    info.gro = o.gro;
    info.tx_csum = o.csum_offload;
    info.in_memory = true;
    return info;
}

class SimNetif final : public netmsg::Netif {
public:
    SimNetif(std::shared_ptr<SimWire> wire, unsigned side)
        : Netif(side_info(wire->options, side == 0 ? wire->options.a : wire->options.b)), wire_(std::move(wire)),
          side_(side)
    {
    }
    ~SimNetif() override { detach(); }

    bool attach(
        lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error) override;
    void detach() override;
    void transmit(netmsg::Packet& p) override { wire_->sides[side_].queues[base::current_cpu].transmit(p); }
    std::string describe() const override;

private:
    std::shared_ptr<SimWire> wire_; // c
    unsigned side_;                 // c
};

bool SimNetif::attach(
    lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error)
{
    std::lock_guard lock(wire_->control);
    SimWire::Side& mine = wire_->sides[side_];
    SimWire::Side& peer = wire_->sides[1 - side_];
    const netmsg::Steering* steering = side_ == 0 ? wire_->options.a.steering : wire_->options.b.steering;
    if (mine.queues != nullptr || (steering != nullptr && steering->cpus() != set.size())) {
        error = info_.name + (mine.queues != nullptr ? ": a side is attached once" : ": steering is for other CPUs");
        return false;
    }
    mine.set = &set;
    mine.cpus = set.size();
    counters_ = std::make_unique<netmsg::NetifCounters[]>(set.size());
    mine.queues = std::make_unique<SimQueue[]>(set.size());
    if (peer.set != nullptr) {
        wire_->make_lanes();
    }
    set.configure([&](lwkt::Cpu& cpu) {
        mine.queues[cpu.id()].attach(*wire_, side_, cpu, *this, pool, input, context, counters_[cpu.id()]);
    });
    if (peer.set != nullptr) {
        mine.up.store(true, std::memory_order_release);
        peer.up.store(true, std::memory_order_release);
    }
    return true;
}

// The peer's CPUs write into packets that this side posted, so they must have seen that it is down before the packets
// are freed: a call on each of them proves it.
void SimNetif::detach()
{
    std::lock_guard lock(wire_->control);
    SimWire::Side& mine = wire_->sides[side_];
    SimWire::Side& peer = wire_->sides[1 - side_];
    if (mine.set == nullptr) {
        return;
    }
    mine.up.store(false, std::memory_order_release);
    if (peer.set != nullptr) {
        peer.set->configure([](lwkt::Cpu&) {});
    }
    mine.set->configure([&mine](lwkt::Cpu& cpu) { mine.queues[cpu.id()].detach(); });
    mine.set = nullptr;
}

std::string SimNetif::describe() const
{
    const SimLinkOptions& o = wire_->options;
    return "simulated link " + info_.name + ": " + std::to_string(wire_->sides[side_].cpus) + " queues, " +
           (o.ethernet ? "Ethernet" : "bare IP") + ", mtu " + std::to_string(o.mtu) + (o.tso ? ", TSO" : "") +
           (o.split ? ", split before the wire" : "") + ", seed " + std::to_string(o.seed);
}

} // namespace

// Large buffers are posted only where a frame can need one: with many CPUs on both sides they are most of the memory.
void SimWire::make_lanes()
{
    std::uint32_t frame_max = options.mtu + link_header_bytes() + (options.ethernet ? vlan_tag_bytes : 0);
    bool large = (options.tso && !options.split) || frame_max > SimLane::small_frame_max;
    shared_lanes = lwkt::uses_locks(sides[0].set->discipline()) || lwkt::uses_locks(sides[1].set->discipline());
    for (unsigned from = 0; from < 2; ++from) {
        auto share = static_cast<std::uint32_t>(shared_lanes ? sides[1 - from].cpus : sides[from].cpus);
        std::size_t count = (shared_lanes ? 1 : sides[from].cpus) * sides[1 - from].cpus;
        for (std::size_t i = 0; i < count; ++i) {
            sides[from].lanes.push_back(std::make_unique<SimLane>(std::max(options.posted_small / share, 32U),
                large ? std::max(options.posted_large / share, 4U) : 0U, shared_lanes));
        }
    }
    made.store(true, std::memory_order_release);
}

void SimLink::set(unsigned side, const Impairments& impairments)
{
    INVARIANT(side < 2);
    (side == 0 ? wire->options.a : wire->options.b).send = impairments;
}

SimLinkCounters SimLink::counters(unsigned side) const
{
    INVARIANT(side < 2);
    SimLinkCounters sum;
    for (std::size_t i = 0; i < wire->sides[side].cpus; ++i) {
        wire->sides[side].queues[i].count_into(sum);
    }
    return sum;
}

SimLink make_sim_link(const SimLinkOptions& options)
{
    SimLink link;
    link.wire = std::make_shared<SimWire>(options);
    link.a = std::make_unique<SimNetif>(link.wire, 0);
    link.b = std::make_unique<SimNetif>(link.wire, 1);
    return link;
}

} // namespace drivers
