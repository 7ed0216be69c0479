// See wrap_fault.hpp. Counters: what was spoiled or dropped here, per CPU; the wrapped interface counts its own.
#include "drivers/wrap_fault.hpp"

#include "base/ownership.hpp"
#include "netmsg/gso.hpp"

namespace drivers {

WrapFault::WrapFault(std::unique_ptr<netmsg::Netif> inner, const WrapFaultOptions& options)
    : Netif(inner->info()), inner_(std::move(inner)), options_(options)
{
}

WrapFault::~WrapFault()
{
    detach();
}

bool WrapFault::attach(
    lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error)
{
    counters_ = std::make_unique<netmsg::NetifCounters[]>(set.size());
    per_cpu_ = std::make_unique<PerCpu[]>(set.size());
    for (std::size_t i = 0; i < set.size(); ++i) {
        per_cpu_[i].random = base::Random(options_.seed + (std::uint64_t{i} << 32));
    }
    pool_ = &pool;
    input_ = input;
    context_ = context;
    if (!inner_->attach(set, pool, &WrapFault::on_input, this, error)) {
        return false;
    }
    std::uint32_t index = info_.index;
    info_ = inner_->info(); // the device may have chosen its name
    info_.index = index;
    return true;
}

void WrapFault::detach()
{
    inner_->detach();
}

// Takes p; returns what goes on, or null, and perhaps a second one.
netmsg::Packet* WrapFault::spoil(netmsg::Packet& p, const Faults& faults, netmsg::Packet*& twin)
{
    base::Random& random = per_cpu_[base::current_cpu].random;
    twin = nullptr;
    if (faults.drop > 0 && random.chance(faults.drop)) {
        p.free();
        return nullptr;
    }
    netmsg::Packet* result = &p;
    bool mended = p.csum == netmsg::Csum::partial && p.gso != netmsg::Gso::none;
    if (faults.corrupt > 0 && random.chance(faults.corrupt) && p.total() != 0 && !mended) {
        result = pool_->clone(p); // pieces may lie in memory that is not the packet's
        p.free();
        if (result == nullptr) {
            return nullptr;
        }
        if (result->csum == netmsg::Csum::partial) {
            netmsg::finish_checksum(*result);
        }
        iovec byte[netmsg::packet_pieces_max + 1];
        result->span(random.below(result->total()), 1, byte);
        *static_cast<std::byte*>(byte[0].iov_base) ^= std::byte{1} << random.below(8);
    }
    if (faults.duplicate > 0 && random.chance(faults.duplicate)) {
        twin = pool_->clone(*result);
    }
    return result;
}

void WrapFault::on_input(void* context, netmsg::Packet& p)
{
    auto& self = *static_cast<WrapFault*>(context);
    netmsg::NetifCounters& counters = self.counters_[base::current_cpu];
    bool was_spoilable = p.csum == netmsg::Csum::valid && self.options_.in.corrupt > 0;
    netmsg::Packet* twin = nullptr;
    netmsg::Packet* result = self.spoil(p, self.options_.in, twin);
    if (result == nullptr) {
        base::count(counters.in_dropped);
        return;
    }
    if (was_spoilable && result != &p) {
        result->csum = netmsg::Csum::unknown;
    }
    for (netmsg::Packet* passed : {result, twin}) {
        if (passed != nullptr) {
            passed->netif = &self;
            base::count(counters.in_packets);
            base::count(counters.in_bytes, passed->total());
            self.input_(self.context_, *passed);
        }
    }
}

void WrapFault::transmit(netmsg::Packet& p)
{
    netmsg::NetifCounters& counters = counters_[base::current_cpu];
    netmsg::Packet* twin = nullptr;
    netmsg::Packet* result = spoil(p, options_.out, twin);
    if (result == nullptr) {
        base::count(counters.out_dropped);
        return;
    }
    for (netmsg::Packet* passed : {result, twin}) {
        if (passed != nullptr) {
            base::count(counters.out_packets);
            base::count(counters.out_bytes, passed->total());
            inner_->transmit(*passed);
        }
    }
}

std::string WrapFault::describe() const
{
    return inner_->describe() + ", with faults by seed " + std::to_string(options_.seed);
}

} // namespace drivers
