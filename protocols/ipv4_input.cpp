// IPv4 input (RFC 1122 3.2, 3.3.6): validation and addressing on the CPU of arrival, then steering to the CPU that owns
// the flow and delivery there. Forwarding between interfaces is off: what is not for us is dropped and counted. Input
// never nests: a packet for another CPU is a message, one for this CPU is a direct call.
#include "base/endian.hpp"
#include "base/plant.hpp"
#include "protocols/icmp.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/multicast/groups.hpp"
#include "protocols/reassembly.hpp"
#include "protocols/wire/dhcp.hpp"
#include "protocols/wire/igmp.hpp"
#include "protocols/wire/tcp_wire.hpp"
#include "protocols/wire/udp.hpp"

namespace protocols {

namespace {

constexpr std::uint32_t local_groups = 0xe00000; // 224.0.0.0/24

std::atomic<std::uint64_t>& fault_counter(StackCounters& c, wire::Ipv4Fault fault)
{
    switch (fault) {
    case wire::Ipv4Fault::version:
        return c.ip_in_bad_version;
    case wire::Ipv4Fault::length:
        return c.ip_in_bad_length;
    case wire::Ipv4Fault::checksum:
        return c.ip_in_bad_checksum;
    case wire::Ipv4Fault::options:
        return c.ip_in_bad_options;
    case wire::Ipv4Fault::fragment:
        return c.ip_in_bad_fragment;
    default:
        return c.ip_in_truncated;
    }
}

// RFC 1122 3.2.1.3: a host that has no address yet says 0.0.0.0. It is heard by everyone on the link (DHCP), as on
// Linux; RFC 4541 2.1.1: switches may speak IGMP that way.
bool needs_no_source(const wire::Ipv4Header& h)
{
    bool igmp = h.protocol == wire::protocol_igmp && h.destination >> 28 == 0xe;
    return h.destination == limited_broadcast || h.destination >> 8 == local_groups || igmp;
}

// RFC 1122 3.2.1.3: addresses that must not be seen as a source, or not on a link.
bool martian(const Domain& d, const Interface& in, const wire::Ipv4Header& h)
{
    bool source_bad = (h.source == 0 && !needs_no_source(h)) || ipv4_is_broadcast(d, h.source);
    if (in.netif->info().loopback) {
        return source_bad;
    }
    bool loops = h.source >> 24 == 127 || h.destination >> 24 == 127;
    return source_bad || loops || ipv4_is_local(d, h.source);
}

// What the packet says about its destination: for us, and if so as a single host.
enum class Destination { other, host, broadcast };

Destination classify(const Domain& d, std::uint32_t address)
{
    if (ipv4_is_local(d, address)) {
        return Destination::host; // weak host model, as Linux
    }
    return ipv4_is_broadcast(d, address) ? Destination::broadcast : Destination::other;
}

// Some servers and relays send to the address that they offer, which nobody has yet, though they are asked for
// broadcasts (RFC 2131 4.1). Clients that read the link hear that; so does ours, which looks at all it gets.
bool offers_address(const Interface& in, netmsg::Packet& p, const wire::Ipv4Header& h)
{
    bool datagram = in.dhcp && h.protocol == wire::protocol_udp && !h.fragment() &&
                    h.payload_bytes() >= wire::udp_header_bytes && p.pullup(h.header_bytes + wire::udp_header_bytes);
    const std::byte* ports = p.data + h.header_bytes;
    return datagram && base::load_be16(ports) == wire::dhcp_server_port &&
           base::load_be16(ports + 2) == wire::dhcp_client_port;
}

// Reads and validates the header; counts and frees when there is none: false.
bool take_header(Domain& d, const Interface& in, netmsg::Packet& p, wire::Ipv4Header& h)
{
    std::uint32_t header = wire::ipv4_header_bytes;
    if (p.pullup(header)) {
        header = (std::to_integer<std::uint32_t>(p.data[0]) & 0xf) * 4;
        (void)p.pullup(std::max(header, wire::ipv4_header_bytes)); // the parser says what is missing
    }
    bool check_sum = !in.netif->info().loopback || p.csum == netmsg::Csum::unknown;
    wire::Ipv4Fault fault = wire::read_ipv4(p.data, p.size, p.total(), check_sum, h);
    if (fault != wire::Ipv4Fault::none) {
        drop(p, fault_counter(d.counters, fault));
        return false;
    }
    if (h.source_route) {
        drop(p, d.counters.ip_in_source_route); // RFC 1122 3.3.5: a host may refuse; it is a way around filters
        return false;
    }
    return true;
}

void resume(lwkt::Message& m)
{
    Domain& d = forwarded_domain(m);
    auto& p = static_cast<netmsg::Packet&>(m);
    wire::Ipv4Fault fault{};
    auto h = wire::parse_ipv4(p.data, p.size, p.total(), false, fault);
    INVARIANT(h.has_value()); // it was validated on the CPU of arrival
    count(d.counters.steer_received);
    if (!p.broadcast && !ipv4_is_local(d, h->destination)) { // the address went meanwhile
        return drop(p, d.counters.ip_in_not_ours);
    }
    ipv4_steer(d, received_on(d, p), p, *h);
}

// Which packets make room for which when they are forwarded to a CPU that cannot keep up.
lwkt::Shed shed_of(const netmsg::Packet& p, const wire::Ipv4Header& h)
{
    constexpr std::uint32_t flags_at = 13;
    if (h.protocol != wire::protocol_tcp || h.fragment()) {
        return lwkt::Shed::early;
    }
    bool opens = p.size > h.header_bytes + flags_at && (std::to_integer<unsigned>(p.data[h.header_bytes + flags_at]) &
                                                           (wire::tcp_syn | wire::tcp_ack)) == wire::tcp_syn;
    return opens ? lwkt::Shed::late : lwkt::Shed::last;
}

IpIn describe(const wire::Ipv4Header& h, Interface& in, const netmsg::Packet& p)
{
    IpIn ip;
    ip.source = base::IpAddr::v4(h.source);
    ip.destination = base::IpAddr::v4(h.destination);
    ip.interface = &in;
    ip.protocol = h.protocol;
    ip.ttl = h.ttl;
    ip.tos = h.tos;
    ip.broadcast = p.broadcast;
    return ip;
}

// On the owner CPU: to the transport. Data at the IP header.
[[gnu::always_inline]] inline void deliver(Domain& d, Interface& in, netmsg::Packet& p, const wire::Ipv4Header& h)
{
    p.l3 = p.data;
    p.pull(h.header_bytes);
    IpIn ip = describe(h, in, p);
    switch (h.protocol) {
    case wire::protocol_tcp:
        tcp_input(d, ip, p);
        return;
    case wire::protocol_udp:
        udp_input(d, ip, p);
        return;
    case wire::protocol_icmp:
        icmp_input(d, ip, p);
        return;
    case wire::protocol_igmp:
        igmp_input(d, ip, p);
        return;
    default:
        icmp_send_unreachable(d, ip, p, wire::unreachable_protocol);
        drop(p, d.counters.ip_in_unknown_protocol);
    }
}

// A whole datagram of a transport with ports: to the CPU that owns its flow, which mostly is this one.
[[gnu::always_inline]] inline void steer_flow(Domain& d, Interface& in, netmsg::Packet& p, const wire::Ipv4Header& h)
{
    if (h.payload_bytes() < 8 || !p.pullup(h.header_bytes + 8U)) {
        return drop(p, d.counters.ip_in_short_transport);
    }
    const netmsg::Steering& steering = d.stack.steering();
    const std::byte* at = p.data + h.header_bytes;
    p.flow_hash = steering.hash_v4(h.source, h.destination, base::load_be16(at), base::load_be16(at + 2));
    base::CpuId owner = steering.cpu_of_hash(p.flow_hash);
    if (owner != d.id() && !(base::planted(base::Plant::wrong_owner) && p.hops == 0)) {
        forward_to_cpu(d, owner, p, resume, shed_of(p, h));
        return;
    }
    count(d.counters.steer_local);
    deliver(d, in, p, h);
}

// To the CPU that puts the datagrams of the pair together.
void steer_fragment(Domain& d, Interface& in, netmsg::Packet& p, const wire::Ipv4Header& h)
{
    const netmsg::Steering& steering = d.stack.steering();
    base::IpAddr local = base::IpAddr::v4(h.destination);
    base::IpAddr peer = base::IpAddr::v4(h.source);
    p.flow_hash = steering.hash_pair(local, peer);
    base::CpuId owner = steering.cpu_of_hash(p.flow_hash);
    if (owner != d.id() && !(base::planted(base::Plant::wrong_owner) && p.hops == 0)) {
        forward_to_cpu(d, owner, p, resume, shed_of(p, h));
        return;
    }
    Fragment f{peer, local, h.id, h.protocol, h.header_bytes, h.fragment_offset, h.payload_bytes(), h.more_fragments};
    netmsg::Packet* whole = reassemble(d, in, p, f);
    if (whole != nullptr) {
        wire::Ipv4Fault fault{};
        auto header = wire::parse_ipv4(whole->data, whole->size, whole->total(), false, fault);
        INVARIANT(header.has_value() && !header->fragment());
        ipv4_steer(d, in, *whole, *header); // again: now the ports are known
    }
}

bool has_ports(const wire::Ipv4Header& h)
{
    return !h.fragment() && (h.protocol == wire::protocol_tcp || h.protocol == wire::protocol_udp);
}

} // namespace

IpIn ipv4_describe(Domain& d, const netmsg::Packet& p)
{
    auto h = wire::parse_ipv4_quote(p.l3, static_cast<std::uint32_t>(p.data + p.size - p.l3));
    INVARIANT(h.has_value());
    return describe(*h, received_on(d, p), p);
}

void ipv4_input(Domain& d, Interface& in, netmsg::Packet& p)
{
    base::assert_on(d.cpu.owner());
    count(d.counters.ip_in);
    wire::Ipv4Header h;
    if (!take_header(d, in, p, h)) {
        return;
    }
    if (martian(d, in, h)) {
        return drop(p, d.counters.ip_in_martian);
    }
    Destination to = classify(d, h.destination);
    if (to == Destination::other && offers_address(in, p, h)) {
        to = Destination::broadcast;
    }
    if (to == Destination::other) {
        return drop(p, d.counters.ip_in_not_ours);
    }
    if (to == Destination::host && p.broadcast) {
        return drop(p, d.counters.ip_in_link_mismatch); // RFC 1122 3.3.6: a broadcast frame around a unicast datagram
    }
    p.broadcast = to == Destination::broadcast;
    if (p.total() > h.total_bytes) {
        p.truncate(h.total_bytes); // Ethernet's padding
    }
    p.hops = 0;
    if (has_ports(h)) { // nearly all there is
        return steer_flow(d, in, p, h);
    }
    ipv4_steer(d, in, p, h);
}

void ipv4_loop(Domain& d, const Route& route, const netmsg::Packet& p)
{
    ip_loop(d, route, p, resume);
}

void ipv4_steer(Domain& d, Interface& in, netmsg::Packet& p, const wire::Ipv4Header& h)
{
    if (has_ports(h)) {
        steer_flow(d, in, p, h);
    } else if (h.fragment()) {
        steer_fragment(d, in, p, h);
    } else {
        deliver(d, in, p, h); // ICMP and what nobody speaks: any CPU will do
    }
}

} // namespace protocols
