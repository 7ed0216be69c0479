// Received ICMPv6 (RFC 4443): echo requests are answered on the CPU of arrival, neighbour discovery, MLD and errors go
// to their files. Transports know errors by ICMPv4's numbers; this is where ICMPv6's become those. Nothing in an error
// is believed here but its form; TCP and UDP judge it (RFC 5927).
#include "base/endian.hpp"
#include "protocols/icmp.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/mld.hpp"

namespace protocols {

namespace {

constexpr std::uint32_t headers_below = 58; // IPv6, Ethernet and a VLAN tag

void drop(netmsg::Packet& p, std::atomic<std::uint64_t>& reason)
{
    count(reason);
    p.free();
}

// The reply is the request with another type, in the same packet (RFC 4443 4.2).
void answer_echo(Domain& d, const IpIn& ip, const wire::IcmpHeader& h, netmsg::Packet& request)
{
    netmsg::Packet* p = &request;
    if (p->headroom() < headers_below) { // a driver without headroom, or a long way up
        p = d.stack.pool().clone(request);
        request.free();
        if (p == nullptr) {
            return count(d.counters.ip_out_no_memory);
        }
    }
    Route route;
    if (!ipv6_route_lookup(d, ip.source, route)) {
        return drop(*p, d.counters.ip_out_no_route);
    }
    IpOut out;
    out.source = ip.destination.is_multicast_v6() ? route.source : ip.destination;
    out.destination = ip.source;
    out.protocol = wire::protocol_icmp6;
    out.tos = ip.tos;
    out.dont_fragment = false;
    wire::IcmpHeader reply = h;
    reply.type = wire::icmp6_echo_reply;
    reply.checksum = wire::pseudo_header(out.source, out.destination, wire::protocol_icmp6, p->total()).folded();
    wire::emit_icmp(p->data, reply);
    p->csum = netmsg::Csum::partial;
    p->csum_start = 0;
    p->csum_offset = 2;
    p->gso = netmsg::Gso::none;
    count(d.counters.icmp_echo_replies);
    ip_output(d, route, out, *p);
}

// False: nothing that a transport knows.
bool translate(const wire::IcmpHeader& h, IcmpError& e)
{
    e.type = wire::icmp_unreachable;
    switch (h.type) {
    case wire::icmp6_too_big:
        e.code = wire::unreachable_needfrag;
        return e.mtu >= wire::ipv6_mtu_min; // RFC 8201 4: less is not believed
    case wire::icmp6_time_exceeded:
        e.type = wire::icmp_time_exceeded;
        e.code = h.code;
        return true;
    case wire::icmp6_parameter_problem:
        e.type = wire::icmp_parameter_problem;
        return true;
    default:
        break;
    }
    switch (h.code) {
    case wire::unreachable6_no_route:
        e.code = wire::unreachable_net;
        return true;
    case wire::unreachable6_prohibited:
    case wire::unreachable6_policy:
    case wire::unreachable6_reject:
        e.code = wire::unreachable_filtered;
        return true;
    case wire::unreachable6_port:
        e.code = wire::unreachable_port;
        return true;
    default:
        e.code = wire::unreachable_host;
        return true;
    }
}

} // namespace

std::atomic<std::uint64_t>* icmp6_read_error(
    Domain& d, const wire::IcmpHeader& h, const netmsg::Packet& p, IcmpError& e, std::uint32_t& quote_headers)
{
    auto q = wire::parse_icmp6_quote(h, p.data + wire::icmp_header_bytes, p.size - wire::icmp_header_bytes);
    const Interface& in = received_on(d, p);
    bool loops = in.netif->info().loopback; // with its zones
    auto entered = [&](const base::IpAddr& a) { return loops ? a : a.in_zone(in.index); };
    if (!q || !ipv6_is_local(d, entered(q->source))) {
        return &d.counters.icmp_in_bad_quote; // not about anything we sent
    }
    e.flow.local = {entered(q->source), q->source_port};
    e.flow.peer = {entered(q->destination), q->destination_port};
    e.protocol = q->protocol;
    e.mtu = q->mtu;
    e.tcp_seq = q->tcp_seq;
    e.offender = entered(base::IpAddr::v6(p.l3 + 8));
    quote_headers = q->header_bytes;
    return translate(h, e) ? nullptr : &d.counters.icmp_in_ignored;
}

void icmp6_input(Domain& d, const IpIn& ip, netmsg::Packet& p)
{
    base::assert_on(d.cpu.owner());
    count(d.counters.icmp_in);
    auto h = p.pullup(wire::icmp_header_bytes) ? wire::parse_icmp(p.data, p.size) : std::nullopt;
    if (!h) {
        return drop(p, d.counters.icmp_in_malformed);
    }
    if (p.csum != netmsg::Csum::valid && !checksum_correct(ip, wire::protocol_icmp6, p)) {
        return drop(p, d.counters.icmp_in_bad_checksum);
    }
    switch (h->type) {
    case wire::icmp6_unreachable:
    case wire::icmp6_too_big:
    case wire::icmp6_time_exceeded:
    case wire::icmp6_parameter_problem:
        return icmp_take_error(d, *h, p);
    case wire::icmp6_echo:
        return h->code == 0 && !ip.source.is_any() ? answer_echo(d, ip, *h, p) : drop(p, d.counters.icmp_in_ignored);
    case wire::nd_router_advertisement:
    case wire::nd_neighbor_solicitation:
    case wire::nd_neighbor_advertisement:
    case wire::nd_redirect:
        return nd_input(d, ip, p);
    case wire::mld_query:
        return mld_input(d, ip, p);
    default:
        return drop(p, d.counters.icmp_in_ignored); // RFC 4443 2.4 b; router solicitations are not for hosts
    }
}

} // namespace protocols
