// IPv6 output: header, checksum completion, link header, neighbour; and cutting what is longer than the path (only the
// source does, RFC 8200 4.5). Runs on the CPU that sends, as ipv4_output.cpp does.
#include <algorithm>

#include "netmsg/gso.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/multicast/groups.hpp"
#include "protocols/neighbor.hpp"
#include "protocols/netif_output.hpp"
#include "protocols/wire/ethernet.hpp"

namespace protocols {

namespace {

// RFC 7739: counters per address pair that start at random places; each CPU takes its own residue class.
std::uint32_t next_id(Domain& d, const wire::Ipv6Header& h)
{
    base::IpAddr pair[2] = {h.source, h.destination};
    std::uint32_t& counter = d.ipv6->next_id[base::siphash(d.table_key, pair, sizeof pair) % id6_slots];
    std::uint64_t cpus = d.stack.cpus();
    counter = static_cast<std::uint32_t>((counter + 1ULL) % (0x1'0000'0000 / cpus)); // as ipv4_output.cpp has it
    return static_cast<std::uint32_t>(counter * cpus + d.id());
}

// What has no hop to go, as RFC 1122 3.2.1.7 has it of IPv4, and groups of interface scope (RFC 4291 2.7.1); to those
// of scope 0 nothing is sent at all.
bool is_for_host_only(const wire::Ipv6Header& h)
{
    return h.hop_limit == 0 || (h.destination.is_multicast_v6() && group_scope(h.destination) <= interface_scope);
}

// On the wire no address has a zone; what loops keeps it, for there nobody could tell which link's address it is.
base::IpAddr in_header(const base::IpAddr& a, const Interface& out)
{
    if (!out.netif->info().loopback) {
        return a.on_wire();
    }
    return a.zone() != 0 ? a : a.in_zone(out.index);
}

// One fragment with payload [offset, offset + bytes) of p; null without memory.
netmsg::Packet* make_fragment(
    Domain& d, wire::Ipv6Header h, wire::Ipv6Fragment f, const netmsg::Packet& p, std::uint32_t bytes)
{
    netmsg::Packet* out = d.stack.pool().allocate();
    if (out == nullptr) {
        return nullptr;
    }
    f.more = wire::ipv6_header_bytes + f.offset + bytes < p.total();
    h.payload_bytes = static_cast<std::uint16_t>(wire::ipv6_fragment_bytes + bytes);
    wire::emit_ipv6(out->put(wire::ipv6_header_bytes), h);
    wire::emit_ipv6_fragment(out->put(wire::ipv6_fragment_bytes), f);
    out->l3 = out->data;
    out->csum = netmsg::Csum::valid;
    if (!d.stack.pool().append(*out, p, wire::ipv6_header_bytes + f.offset, bytes)) {
        out->free();
        return nullptr;
    }
    return out;
}

base::Error fragment(Domain& d, const Route& route, wire::Ipv6Header h, netmsg::Packet& p)
{
    if (p.csum == netmsg::Csum::partial) { // no device can do it over several packets
        INVARIANT(netmsg::finish_checksum(p));
    }
    constexpr std::uint32_t headers = wire::ipv6_header_bytes + wire::ipv6_fragment_bytes;
    INVARIANT(route.mtu >= headers + 8);
    wire::Ipv6Fragment f;
    f.next_header = h.next_header;
    f.id = next_id(d, h);
    h.next_header = wire::next_fragment;
    std::uint32_t payload = p.total() - wire::ipv6_header_bytes;
    std::uint32_t step = (route.mtu - headers) & ~7U;
    count(d.counters.frag_out_datagrams);
    for (std::uint32_t offset = 0; offset < payload; offset += step) {
        f.offset = static_cast<std::uint16_t>(offset);
        netmsg::Packet* out = make_fragment(d, h, f, p, std::min(step, payload - offset));
        if (out == nullptr) {
            return refuse(p, d.counters.ip_out_no_memory, base::Error::no_buffers);
        }
        count(d.counters.frag_out_created);
        ipv6_transmit(d, route, *out);
    }
    p.free();
    return base::Error::none;
}

} // namespace

base::Error ipv6_output(Domain& d, const Route& route, const IpOut& ip, netmsg::Packet& p)
{
    base::assert_on(d.cpu.owner());
    if (ip.destination.is_v4() || ip.source.is_v4() || ip.source.is_any()) {
        return refuse(p, d.counters.ip_out_no_route, base::Error::network_unreachable);
    }
    if (ip.source.is_loopback() && !route.interface->netif->info().loopback) { // RFC 4291 2.5.3
        return refuse(p, d.counters.ip_out_martian, base::Error::invalid);
    }
    std::uint32_t total = p.total() + wire::ipv6_header_bytes;
    bool super = p.gso != netmsg::Gso::none;
    bool fits = total <= (super ? netmsg::super_max(route.interface->netif->info(), p.gso) : route.mtu);
    if (super && longest_cut(p, wire::ipv6_header_bytes) > route.mtu) {
        return refuse(p, d.counters.ip_out_segment_too_long, base::Error::message_size);
    }
    if (p.total() > wire::ipv6_payload_max || (!fits && (super || ip.dont_fragment))) {
        return refuse(p, d.counters.ip_out_too_long, base::Error::message_size);
    }
    wire::Ipv6Header h;
    h.traffic_class = ip.tos;
    h.flow_label = ip.flow_label;
    h.payload_bytes = static_cast<std::uint16_t>(p.total());
    h.next_header = ip.protocol;
    // RFC 4861 6.3.4: what no socket chose otherwise is as the routers say (64 said by name is not told from it).
    h.hop_limit = ip.ttl == default_hop_limit ? d.ipv6->link(route.interface->index).hop_limit : ip.ttl;
    h.source = in_header(ip.source, *route.interface);
    h.destination = in_header(ip.destination, *route.interface);
    wire::emit_ipv6(p.push(wire::ipv6_header_bytes), h);
    p.l3 = p.data;
    p.csum_start = static_cast<std::uint16_t>(p.csum_start + wire::ipv6_header_bytes);
    bool loopback = route.interface->netif->info().loopback; // which brings everything back by itself
    if (ip.loop_group && !loopback &&
        groups_admit(d, ip.destination.in_zone(route.interface->index), route.interface->index, ip.source)) {
        ipv6_loop(d, route, p);
    }
    if (is_for_host_only(h) && !loopback) { // members here have it
        return refuse(p, d.counters.ip_out_host_only, base::Error::none);
    }
    if (!fits) {
        return fragment(d, route, h, p);
    }
    ipv6_transmit(d, route, p);
    return base::Error::none;
}

void ipv6_transmit(Domain& d, const Route& route, netmsg::Packet& p)
{
    count(d.counters.ip6_out);
    if (transmit_without_link(d, route, p)) {
        return;
    }
    if (route.next_hop.is_multicast_v6()) {
        link_transmit(*route.interface, wire::multicast_mac_v6(route.next_hop), wire::ethertype_ipv6, p);
    } else if (const base::MacAddr* mac = neighbor_lookup(d, *route.interface, route.next_hop); mac != nullptr) {
        link_transmit(*route.interface, *mac, wire::ethertype_ipv6, p);
    } else {
        neighbor_resolve(d, *route.interface, route.next_hop, p);
    }
}

} // namespace protocols
