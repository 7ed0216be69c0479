// IPv4 output: header, checksum completion, link header, neighbour. Runs on the CPU that sends. The packet leaves by
// the driver at the latest at this CPU's roll-up; a loopback driver queues it, so input never nests in output.
#include "protocols/ip.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/multicast/groups.hpp"
#include "protocols/neighbor.hpp"
#include "protocols/netif_output.hpp"
#include "protocols/wire/ethernet.hpp"

namespace protocols {

namespace {

// Identification (RFC 6864 4.3: unique per address pair and protocol while fragments may live). Counters start at
// random places, so a third party learns nothing of our traffic, and each CPU takes its own residue class.
[[gnu::noinline]] std::uint16_t next_id_of_pair(Domain& d, const IpOut& ip)
{
    std::uint32_t pair[3] = {ip.source.v4(), ip.destination.v4(), ip.protocol};
    std::uint16_t& counter = d.ipv4->next_id[base::siphash(d.table_key, pair, sizeof pair) % id_slots];
    auto cpus = static_cast<std::uint32_t>(d.stack.cpus());
    counter = static_cast<std::uint16_t>((counter + 1U) % (0x10000 / cpus)); // else classes would mix where it wraps
    return static_cast<std::uint16_t>(counter * cpus + d.id());
}

std::uint16_t next_id(Domain& d, const IpOut& ip)
{
    return ip.dont_fragment ? ++d.ipv4->atomic_id : next_id_of_pair(d, ip);
}

// With loop_group: of a group its members on this host have a copy, of a broadcast every socket.
bool comes_back(Domain& d, const Route& route, const IpOut& ip)
{
    if (route.interface->netif->info().loopback) {
        return false; // it brings everything by itself
    }
    return !ip.destination.is_multicast_v4() || groups_admit(d, ip.destination, route.interface->index, ip.source);
}

// In front of what has `total` bytes with it.
[[gnu::always_inline]] inline wire::Ipv4Header put_header(
    Domain& d, const IpOut& ip, std::uint32_t total, netmsg::Packet& p)
{
    wire::Ipv4Header h;
    h.tos = ip.tos;
    h.total_bytes = static_cast<std::uint16_t>(total);
    h.id = next_id(d, ip);
    h.dont_fragment = ip.dont_fragment;
    h.ttl = ip.ttl;
    h.protocol = ip.protocol;
    h.source = ip.source.v4();
    h.destination = ip.destination.v4();
    wire::emit_ipv4(p.push(wire::ipv4_header_bytes), h);
    p.l3 = p.data;
    p.csum_start = static_cast<std::uint16_t>(p.csum_start + wire::ipv4_header_bytes);
    return h;
}

// What is cut, here or by the device, what this host has a copy of, and what does not leave it.
[[gnu::noinline]] base::Error output_other(
    Domain& d, const Route& route, const IpOut& ip, std::uint32_t total, netmsg::Packet& p)
{
    bool super = p.gso != netmsg::Gso::none;
    bool fits = total <= (super ? netmsg::super_max(route.interface->netif->info(), p.gso) : route.mtu);
    if (super && longest_cut(p, wire::ipv4_header_bytes) > route.mtu) {
        return refuse(p, d.counters.ip_out_segment_too_long, base::Error::message_size);
    }
    if (total > wire::ipv4_packet_max || (!fits && (super || ip.dont_fragment))) {
        return refuse(p, d.counters.ip_out_too_long, base::Error::message_size);
    }
    wire::Ipv4Header h = put_header(d, ip, total, p);
    if (ip.loop_group && comes_back(d, route, ip)) {
        ipv4_loop(d, route, p);
    }
    if (h.ttl == 0 && !route.interface->netif->info().loopback) { // RFC 1122 3.2.1.7: members here have it
        return refuse(p, d.counters.ip_out_host_only, base::Error::none);
    }
    if (!fits) {
        return ipv4_fragment(d, route, h, p);
    }
    ipv4_transmit(d, route, p);
    return base::Error::none;
}

} // namespace

Ipv4State::Ipv4State(Domain& d) : pmtu_timer(d)
{
    for (auto& id : next_id) {
        id = static_cast<std::uint16_t>(d.random.next());
    }
    atomic_id = static_cast<std::uint16_t>(d.random.next());
}

base::Error ip_output(Domain& d, const Route& route, const IpOut& ip, netmsg::Packet& p)
{
    base::assert_on(d.cpu.owner());
    if (!ip.destination.is_v4()) {
        return ipv6_output(d, route, ip, p);
    }
    if (!ip.source.is_v4()) {
        return refuse(p, d.counters.ip_out_no_route, base::Error::network_unreachable);
    }
    if (ip.source.v4() >> 24 == 127 && !route.interface->netif->info().loopback) { // RFC 1122 3.2.1.3 g
        return refuse(p, d.counters.ip_out_martian, base::Error::invalid);
    }
    std::uint32_t total = p.total() + wire::ipv4_header_bytes;
    bool whole = total <= route.mtu && total <= wire::ipv4_packet_max && p.gso == netmsg::Gso::none;
    if (!whole || ip.loop_group || ip.ttl == 0) { // few, or large
        return output_other(d, route, ip, total, p);
    }
    put_header(d, ip, total, p);
    ipv4_transmit(d, route, p);
    return base::Error::none;
}

namespace {

void to_neighbor(Domain& d, const Route& route, netmsg::Packet& p)
{
    std::uint32_t next_hop = route.next_hop.v4();
    if (route.next_hop.is_multicast_v4()) {
        link_transmit(*route.interface, wire::multicast_mac(next_hop), wire::ethertype_ipv4, p);
    } else if (ipv4_is_broadcast(d, next_hop)) {
        link_transmit(*route.interface, base::MacAddr::broadcast(), wire::ethertype_ipv4, p);
    } else if (const base::MacAddr* mac = neighbor_lookup(d, *route.interface, route.next_hop); mac != nullptr) {
        link_transmit(*route.interface, *mac, wire::ethertype_ipv4, p);
    } else {
        neighbor_resolve(d, *route.interface, route.next_hop, p);
    }
}

} // namespace

void ipv4_transmit(Domain& d, const Route& route, netmsg::Packet& p)
{
    count(d.counters.ip_out);
    if (!transmit_without_link(d, route, p)) {
        to_neighbor(d, route, p);
    }
}

} // namespace protocols
