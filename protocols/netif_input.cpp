// Link layer demultiplexing: Ethernet frames for us go to ARP or IP, bare IP packets go to IP directly. Runs on the CPU
// where the packet arrived; anything else is dropped and counted.
#include "protocols/netif_input.hpp"

#include <algorithm>
#include <cstring>

#include "protocols/arp.hpp"
#include "protocols/gro.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/wire/ethernet.hpp"

namespace protocols {

namespace {

void ethernet_input(Domain& d, Interface& in, netmsg::Packet& p);

// To IP, now or joined with others of its flow.
void to_ip(Domain& d, Interface& in, netmsg::Packet& p, bool v6)
{
    if (in.netif->info().gro && d.gro->receive(in, p, v6)) {
        return;
    }
    v6 ? ipv6_input(d, in, p) : ipv4_input(d, in, p);
}

// IEEE 802.1Q: takes the tag off. To the VLAN that it names; priority alone (0) is no VLAN. What is in another VLAN, or
// has a second tag, is not for us.
void vlan_input(Domain& d, Interface& in, netmsg::Packet& p)
{
    constexpr std::uint32_t tag_bytes = 4;
    constexpr std::uint32_t addresses_bytes = 12;
    constexpr std::uint16_t id_mask = 0xfff;
    if (!p.pullup(wire::ethernet_header_bytes + tag_bytes)) {
        return drop(p, d.counters.eth_malformed);
    }
    std::uint16_t id = base::load_be16(p.data + wire::ethernet_header_bytes) & id_mask;
    auto at = std::find_if(
        in.vlans.begin(), in.vlans.end(), [&](const Interface* v) { return v->netif->info().vlan_id == id; });
    bool tagged_inside =
        base::load_be16(p.data + wire::ethernet_header_bytes + 2) == wire::ethertype_vlan; // no end to it otherwise
    if ((id != 0 && at == in.vlans.end()) || tagged_inside) {
        return drop(p, d.counters.eth_other_vlan);
    }
    Interface& to = id == 0 ? in : **at;
    if (id != 0) {
        to.netif->count_input(d.id(), p.total());
    }
    std::memmove(p.data + tag_bytes, p.data, addresses_bytes);
    p.pull(tag_bytes);
    p.netif = to.netif;
    ethernet_input(d, to, p);
}

void ethernet_input(Domain& d, Interface& in, netmsg::Packet& p)
{
    auto h = p.pullup(wire::ethernet_header_bytes) ? wire::parse_ethernet(p.data, p.size) : std::nullopt;
    if (!h) {
        return drop(p, d.counters.eth_malformed);
    }
    p.broadcast = h->destination.is_multicast(); // broadcast is one of the groups
    if (!p.broadcast && h->destination != in.netif->info().mac) {
        return drop(p, d.counters.eth_not_ours);
    }
    if (h->type == wire::ethertype_vlan) {
        return vlan_input(d, in, p);
    }
    p.pull(wire::ethernet_header_bytes);
    switch (h->type) {
    case wire::ethertype_ipv4:
        to_ip(d, in, p, false);
        return;
    case wire::ethertype_arp:
        arp_input(d, in, p);
        return;
    case wire::ethertype_ipv6:
        if (in.ipv6) {
            return to_ip(d, in, p, true);
        }
        [[fallthrough]];
    default:
        drop(p, d.counters.eth_unknown_type);
    }
}

} // namespace

void netif_input(void* context, netmsg::Packet& p)
{
    auto& in = *static_cast<Interface*>(context);
    INVARIANT(base::current_cpu != base::no_cpu);
    Domain& d = in.stack->domain(base::current_cpu);
    if (in.netif->info().ethernet) {
        ethernet_input(d, in, p);
    } else {
        to_ip(d, in, p, in.ipv6 && p.size != 0 && std::to_integer<unsigned>(p.data[0]) >> 4 == 6);
    }
}

} // namespace protocols
