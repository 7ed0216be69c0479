// See vlan.hpp.
#include "drivers/vlan.hpp"

#include <algorithm>
#include <cstring>

#include "base/endian.hpp"
#include "base/ownership.hpp"
#include "drivers/frame_flow.hpp"

namespace drivers {

namespace {

constexpr std::uint32_t addresses_bytes = 12; // of Ethernet, in front of the tag

netmsg::NetifInfo info_of(netmsg::Netif& parent, const VlanOptions& options)
{
    netmsg::NetifInfo info = parent.info();
    info.name = options.name;
    info.index = 0;
    info.mtu = options.mtu == 0 ? info.mtu : std::min(options.mtu, info.mtu);
    info.vlan_parent = &parent;
    info.vlan_id = options.id;
    return info;
}

} // namespace

Vlan::Vlan(netmsg::Netif& parent, const VlanOptions& options) : Netif(info_of(parent, options)), parent_(parent)
{
}

bool Vlan::attach(lwkt::CpuSet& set, netmsg::PacketPool&, netmsg::InputFn, void*, std::string& error)
{
    if (!info_.ethernet || parent_.info().vlan_parent != nullptr) {
        error = info_.name + ": " + parent_.info().name + " is no Ethernet interface that could have VLANs";
        return false;
    }
    counters_ = std::make_unique<netmsg::NetifCounters[]>(set.size());
    return true;
}

void Vlan::transmit(netmsg::Packet& p)
{
    netmsg::NetifCounters& counters = counters_[base::current_cpu];
    if (p.headroom() < vlan_tag_bytes) {
        base::count(counters.out_dropped);
        p.free();
        return;
    }
    std::byte* frame = p.push(vlan_tag_bytes);
    std::memmove(frame, frame + vlan_tag_bytes, addresses_bytes);
    base::store_be16(frame + addresses_bytes, vlan_tag_type);
    base::store_be16(frame + addresses_bytes + 2, info_.vlan_id);
    p.csum_start = static_cast<std::uint16_t>(p.csum_start + vlan_tag_bytes);
    p.netif = &parent_;
    base::count(counters.out_packets);
    base::count(counters.out_bytes, p.total());
    parent_.transmit(p);
}

std::string Vlan::describe() const
{
    return "vlan " + info_.name + ": " + std::to_string(info_.vlan_id) + " of " + parent_.info().name;
}

} // namespace drivers
