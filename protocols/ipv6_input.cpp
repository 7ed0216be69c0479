// IPv6 input (RFC 8200): validation and addressing on the CPU of arrival, then steering to the CPU that owns the flow
// and delivery there, as in ipv4_input.cpp. What is not for us is dropped and counted: a host does not forward.
#include <cstring>

#include "base/endian.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/multicast/groups.hpp"
#include "protocols/reassembly.hpp"
#include "protocols/wire/mld.hpp"
#include "protocols/wire/nd.hpp"
#include "protocols/wire/tcp_wire.hpp"

namespace protocols {

namespace {

constexpr std::uint32_t linear_bytes = wire::ipv6_chain_max + 8; // all headers, and the ports
constexpr std::uint32_t payload_length_at = 4;
constexpr std::uint32_t fragment_offset_at = 2; // in its header

std::atomic<std::uint64_t>& fault_counter(StackCounters& c, wire::Ipv6Fault fault)
{
    switch (fault) {
    case wire::Ipv6Fault::version:
        return c.ip_in_bad_version;
    case wire::Ipv6Fault::length:
        return c.ip_in_bad_length;
    default:
        return c.ip_in_truncated;
    }
}

// The header as everything above the wire sees it. What loops carries its zones: they are those of other interfaces.
void enter_zone(wire::Ipv6Header& h, const Interface& in)
{
    if (in.netif->info().loopback) {
        return;
    }
    h.source = h.source.in_zone(in.index);
    h.destination = h.destination.in_zone(in.index);
}

bool is_group_of(const base::IpAddr& a, unsigned scope)
{
    return a.is_multicast_v6() && group_scope(a) == scope;
}

// RFC 4291 2.5.2, 2.5.3, 2.7: addresses that must not be seen as a source, or not on a link (for groups of interface
// scope erratum 3480 says so). IPv4-mapped ones are ours inside only: on the wire they would get around IPv4's checks.
bool martian(Domain& d, const Interface& in, const wire::Ipv6Header& h)
{
    bool bad = h.source.is_multicast_v6() || h.destination.is_any() || h.source.is_v4() || h.destination.is_v4() ||
               is_group_of(h.destination, reserved_scope);
    if (bad || in.netif->info().loopback) {
        return bad;
    }
    bool loops = h.source.is_loopback() || h.destination.is_loopback() || is_group_of(h.destination, interface_scope);
    return loops || ipv6_is_local(d, h.source);
}

bool has_solicited_group(Domain& d, const Interface& in, const base::IpAddr& group)
{
    for (const Ipv6Address& a : d.ipv6->addresses) {
        if (a.interface == in.index && !a.duplicate && wire::solicited_node(a.addr).in_zone(in.index) == group) {
            return true;
        }
    }
    return false;
}

// RFC 3810 5.1.15: a query about a group goes to that group, and is for everybody in it, whatever sources he wants. It
// is told by how it must have come (RFC 3810 6.2), and what it is by deliver().
bool asks_members(Domain& d, const Interface& in, const wire::Ipv6Header& h)
{
    bool query = h.next_header == wire::next_hop_by_hop && h.hop_limit == 1 && h.source.is_link_local_v6();
    return query && d.groups->groups.contains({h.destination, in.index});
}

// RFC 4291 2.8: of groups those that a socket of ours is in, all nodes', and our addresses' own.
bool wants_group(Domain& d, const Interface& in, const wire::Ipv6Header& h)
{
    return groups_admit(d, h.destination, in.index, h.source) || has_solicited_group(d, in, h.destination);
}

bool is_ours(Domain& d, const Interface& in, const wire::Ipv6Header& h)
{
    if (!h.destination.is_multicast_v6()) {
        return ipv6_is_local(d, h.destination); // weak host model, as Linux
    }
    return wants_group(d, in, h) || asks_members(d, in, h);
}

// How a packet came here.
enum class Came : std::uint8_t { whole, in_fragments };

void steer(Domain& d, Interface& in, netmsg::Packet& p, const wire::Ipv6Header& h, Came came = Came::whole);

void resume(lwkt::Message& m)
{
    Domain& d = forwarded_domain(m);
    auto& p = static_cast<netmsg::Packet&>(m);
    Interface& in = received_on(d, p);
    auto h = wire::parse_ipv6_quote(p.data, p.size);
    INVARIANT(h.has_value()); // it was validated on the CPU of arrival
    enter_zone(*h, in);
    count(d.counters.steer_received);
    if (!is_ours(d, in, *h)) { // the address went meanwhile
        return drop(p, d.counters.ip_in_not_ours);
    }
    steer(d, in, p, *h);
}

IpIn describe(const wire::Ipv6Header& h, Interface& in, const netmsg::Packet& p, std::uint8_t protocol)
{
    IpIn ip;
    ip.source = h.source;
    ip.destination = h.destination;
    ip.interface = &in;
    ip.protocol = protocol;
    ip.ttl = h.hop_limit;
    ip.tos = h.traffic_class;
    ip.broadcast = p.broadcast || h.destination.is_multicast_v6();
    return ip;
}

// RFC 4443 3.4, about a packet whose data stands at its IP header. An error behind the headers is told of as well as
// one in front (RFC 4443 2.4 e.1).
void problem(Domain& d, Interface& in, netmsg::Packet& p, const wire::Ipv6Header& h, std::uint8_t code,
    std::uint32_t pointer, std::atomic<std::uint64_t>& reason)
{
    p.l3 = p.data;
    std::uint8_t protocol = wire::next_none;
    p.pull(wire::find_ipv6_payload(p.data, p.size, h, protocol));
    icmp6_send_error(d, describe(h, in, p, protocol), p, wire::icmp6_parameter_problem, code, pointer);
    drop(p, reason);
}

// The extension headers, if there are any; false: the packet is gone.
bool take_chain(Domain& d, Interface& in, netmsg::Packet& p, const wire::Ipv6Header& h, wire::Ipv6Chain& chain)
{
    if (h.next_header == wire::protocol_tcp || h.next_header == wire::protocol_udp) {
        chain.protocol = h.next_header;
        return true;
    }
    (void)p.pullup(std::min(p.total(), linear_bytes));
    wire::ChainResult r = wire::walk_ipv6_chain(p.data, p.size, h, chain);
    switch (r.fault) {
    case wire::ChainFault::none:
        return true;
    case wire::ChainFault::problem:
        problem(d, in, p, h, r.code, r.pointer, d.counters.ip6_in_bad_chain);
        return false;
    default:
        drop(p, d.counters.ip6_in_bad_chain);
        return false;
    }
}

// RFC 7112, RFC 8200 4.5: a first fragment holds every header up to the transport's, so that whoever looks at it on the
// way knows what it is part of.
bool holds_all_headers(const netmsg::Packet& p, const wire::Ipv6Header& h, const wire::Ipv6Chain& chain)
{
    unsigned char copy[linear_bytes];
    std::uint32_t n = std::min(p.size, linear_bytes);
    std::memcpy(copy, p.data, n);
    base::store_be16(copy + chain.bytes - wire::ipv6_fragment_bytes + fragment_offset_at, 0); // as if it were whole
    wire::Ipv6Chain whole;
    if (wire::walk_ipv6_chain(copy, n, h, whole).fault == wire::ChainFault::truncated) {
        return false;
    }
    std::uint32_t transport = whole.protocol == wire::protocol_tcp     ? wire::tcp_header_min_bytes
                              : whole.protocol == wire::next_none      ? 0
                              : whole.protocol == wire::protocol_udp   ? 8
                              : whole.protocol == wire::protocol_icmp6 ? 8
                                                                       : 0;
    return p.total() >= whole.bytes + transport;
}

void take_fragment(Domain& d, Interface& in, netmsg::Packet& p, const wire::Ipv6Header& h, const wire::Ipv6Chain& chain)
{
    Fragment f;
    f.source = h.source;
    f.destination = h.destination;
    f.id = chain.part.id;
    f.protocol = chain.protocol;
    f.header_bytes = chain.bytes;
    f.offset = chain.part.offset;
    f.bytes = p.total() - chain.bytes;
    f.more = chain.part.more;
    std::uint32_t unfragmentable = chain.bytes - wire::ipv6_header_bytes - wire::ipv6_fragment_bytes;
    if (f.more && f.bytes % 8 != 0) {
        return problem(
            d, in, p, h, wire::parameter_bad_field, payload_length_at, d.counters.frag_malformed); // RFC 8200 4.5
    }
    if (unfragmentable + f.offset + f.bytes > wire::ipv6_payload_max) {
        std::uint32_t at = chain.bytes - wire::ipv6_fragment_bytes + fragment_offset_at;
        return problem(d, in, p, h, wire::parameter_bad_field, at, d.counters.frag_malformed);
    }
    if (f.offset == 0 && !holds_all_headers(p, h, chain)) {
        return problem(d, in, p, h, wire::parameter_incomplete_chain, 0, d.counters.frag_tiny);
    }
    netmsg::Packet* whole = reassemble(d, in, p, f);
    if (whole != nullptr) {
        auto header = wire::parse_ipv6_quote(whole->data, whole->size);
        INVARIANT(header.has_value());
        enter_zone(*header, in);
        steer(d, in, *whole, *header, Came::in_fragments); // again: now the ports are known
    }
}

// Data at the ICMPv6 header.
std::uint8_t icmp6_type(const netmsg::Packet& p)
{
    return p.size != 0 ? std::to_integer<std::uint8_t>(p.data[0]) : std::uint8_t{0};
}

bool is_neighbor_discovery(const netmsg::Packet& p)
{
    std::uint8_t type = icmp6_type(p);
    return type >= wire::nd_router_solicitation && type <= wire::nd_redirect;
}

// To a group whose members here want nothing of the sender, and no query. Data behind the chain.
bool unwanted(Domain& d, const Interface& in, const netmsg::Packet& p, const wire::Ipv6Header& h, std::uint8_t protocol)
{
    if (!h.destination.is_multicast_v6()) {
        return false;
    }
    bool query = protocol == wire::protocol_icmp6 && icmp6_type(p) == wire::mld_query;
    return !query && !wants_group(d, in, h);
}

// On the owner CPU: to the transport. Data at the IP header.
void deliver(
    Domain& d, Interface& in, netmsg::Packet& p, const wire::Ipv6Header& h, const wire::Ipv6Chain& chain, Came came)
{
    p.l3 = p.data;
    p.pull(chain.bytes);
    if (unwanted(d, in, p, h, chain.protocol)) {
        return drop(p, d.counters.ip_in_not_ours);
    }
    IpIn ip = describe(h, in, p, chain.protocol);
    switch (chain.protocol) {
    case wire::protocol_tcp:
        return tcp_input(d, ip, p);
    case wire::protocol_udp:
        return udp_input(d, ip, p);
    case wire::protocol_icmp6:
        if ((came == Came::in_fragments || chain.atomic) && is_neighbor_discovery(p)) { // RFC 6980 5
            return drop(p, d.counters.nd_in_malformed);
        }
        return icmp6_input(d, ip, p);
    case wire::next_none:
        return p.free(); // RFC 8200 4.7
    default:
        icmp6_send_error(
            d, ip, p, wire::icmp6_parameter_problem, wire::parameter_unknown_header, chain.next_at); // RFC 8200 4
        drop(p, d.counters.ip_in_unknown_protocol);
    }
}

// Which packets make room for which when they are forwarded to a CPU that cannot keep up.
lwkt::Shed shed_of(const netmsg::Packet& p, const wire::Ipv6Chain& chain)
{
    constexpr std::uint32_t flags_at = 13;
    if (chain.protocol != wire::protocol_tcp || chain.fragment) {
        return lwkt::Shed::early;
    }
    bool opens = p.size > chain.bytes + flags_at && (std::to_integer<unsigned>(p.data[chain.bytes + flags_at]) &
                                                        (wire::tcp_syn | wire::tcp_ack)) == wire::tcp_syn;
    return opens ? lwkt::Shed::late : lwkt::Shed::last;
}

void steer(Domain& d, Interface& in, netmsg::Packet& p, const wire::Ipv6Header& h, Came came)
{
    wire::Ipv6Chain chain;
    if (!take_chain(d, in, p, h, chain)) {
        return;
    }
    const netmsg::Steering& steering = d.stack.steering();
    bool ports = !chain.fragment && (chain.protocol == wire::protocol_tcp || chain.protocol == wire::protocol_udp);
    if (ports) {
        if (p.total() < chain.bytes + 8 || !p.pullup(chain.bytes + 8)) {
            return drop(p, d.counters.ip_in_short_transport);
        }
        const std::byte* at = p.data + chain.bytes;
        p.flow_hash = steering.hash({{h.destination, base::load_be16(at + 2)}, {h.source, base::load_be16(at)}});
    } else if (chain.fragment) {
        p.flow_hash = steering.hash_pair(h.destination, h.source);
    } else {
        return deliver(d, in, p, h, chain, came); // ICMPv6 and what nobody speaks: any CPU will do
    }
    base::CpuId owner = steering.cpu_of_hash(p.flow_hash);
    if (owner != d.id()) {
        forward_to_cpu(d, owner, p, resume, shed_of(p, chain));
        return;
    }
    if (chain.fragment) {
        return take_fragment(d, in, p, h, chain);
    }
    count(d.counters.steer_local);
    deliver(d, in, p, h, chain, came);
}

} // namespace

IpIn ipv6_describe(Domain& d, const netmsg::Packet& p, std::uint8_t protocol)
{
    auto h = wire::parse_ipv6_quote(p.l3, wire::ipv6_header_bytes);
    INVARIANT(h.has_value());
    Interface& in = received_on(d, p);
    enter_zone(*h, in);
    return describe(*h, in, p, protocol);
}

void ipv6_loop(Domain& d, const Route& route, const netmsg::Packet& p)
{
    ip_loop(d, route, p, resume);
}

void ipv6_input(Domain& d, Interface& in, netmsg::Packet& p)
{
    base::assert_on(d.cpu.owner());
    count(d.counters.ip6_in);
    (void)p.pullup(wire::ipv6_header_bytes); // the parser says what is missing
    wire::Ipv6Fault fault{};
    auto h = wire::parse_ipv6(p.data, p.size, p.total(), fault);
    if (!h) {
        return drop(p, fault_counter(d.counters, fault));
    }
    bool zones = h->source.zone() != 0 || h->destination.zone() != 0;
    bool strange = zones && !in.netif->info().loopback; // RFC 4291 2.5.6: zeros on the wire
    enter_zone(*h, in);
    if (strange || martian(d, in, *h)) {
        return drop(p, d.counters.ip_in_martian);
    }
    if (!is_ours(d, in, *h)) {
        return drop(p, d.counters.ip_in_not_ours);
    }
    if (p.broadcast && !h->destination.is_multicast_v6()) {
        return drop(p, d.counters.ip_in_link_mismatch); // a group's frame around a unicast packet
    }
    if (p.total() > h->total_bytes()) {
        p.truncate(h->total_bytes()); // Ethernet's padding
    }
    p.hops = 0;
    steer(d, in, p, *h);
}

} // namespace protocols
