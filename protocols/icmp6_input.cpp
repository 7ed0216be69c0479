// Received ICMPv6 (RFC 4443): echo requests are answered on the CPU of arrival, neighbour discovery, MLD and errors go
// to their files. Transports know errors by ICMPv4's numbers; this is where ICMPv6's become those. Nothing in an error
// is believed here but its form; TCP and UDP judge it (RFC 5927).
#include <algorithm>
#include <optional>

#include "base/endian.hpp"
#include "protocols/icmp.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/mld.hpp"

namespace protocols {

namespace {

constexpr std::uint32_t headers_below = 58; // IPv6, Ethernet and a VLAN tag

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
    base::IpAddr own = ip.destination.is_multicast_v6() ? base::IpAddr{} : ip.destination;
    if (!ipv6_route_lookup(d, ip.source, route, own)) {
        return drop(*p, d.counters.ip_out_no_route);
    }
    IpOut out;
    out.source = own.is_any() ? route.source : own;
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

// RFC 8201 4: the path of an echo reply that was too big, which no transport hears of. Believed if we may have sent
// it: it is from here, fits the link there, and does not fit what is said. False: we cannot have.
bool learn_from_reply(Domain& d, const Interface& in, const wire::Icmp6Quote& q)
{
    base::IpAddr peer = q.destination.in_zone(in.index);
    Route route;
    bool ours = q.icmp_type == wire::icmp6_echo_reply && ipv6_is_local(d, q.source.in_zone(in.index)) &&
                ipv6_route_lookup(d, peer, route) && !route.interface->netif->info().loopback;
    if (!ours || q.mtu < wire::ipv6_mtu_min || q.mtu >= q.total_bytes || q.total_bytes > route_device_mtu(d, route)) {
        return false;
    }
    (void)pmtu_learn(d, peer, q.mtu);
    return true;
}

std::optional<wire::Icmp6Quote> quote_of(const wire::IcmpHeader& h, netmsg::Packet& p)
{
    (void)p.pullup(std::min(p.total(), wire::icmp_header_bytes + wire::ipv6_chain_max + 8));
    return wire::parse_icmp6_quote(h, p.data + wire::icmp_header_bytes, p.size - wire::icmp_header_bytes);
}

void too_big_dispatch(lwkt::Message& m)
{
    Domain& d = forwarded_domain(m);
    auto& p = static_cast<netmsg::Packet&>(m);
    auto h = wire::parse_icmp(p.data, p.size);
    INVARIANT(h.has_value());
    if (auto q = quote_of(*h, p)) {
        learn_from_reply(d, received_on(d, p), *q);
    }
    p.free();
}

// Every CPU answers echo, so every CPU hears of it, also where this one knew: of its TCP, or of an earlier one.
void take_too_big(Domain& d, const wire::IcmpHeader& h, netmsg::Packet& p)
{
    auto q = quote_of(h, p);
    if (!q || q->protocol != wire::protocol_icmp6) {
        return icmp_take_error(d, h, p);
    }
    if (!learn_from_reply(d, received_on(d, p), *q)) {
        return drop(p, d.counters.icmp_in_bad_quote);
    }
    count(d.counters.icmp_in_errors);
    if (d.icmp->paths_told.take(d.now())) {
        (void)tell_all_cpus(d, p, too_big_dispatch); // who does not hear of it now will be told by the router
    }
    p.free();
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
    if (!q || q->protocol == wire::protocol_icmp6 || !ipv6_is_local(d, entered(q->source))) {
        return &d.counters.icmp_in_bad_quote; // not about anything that a transport of ours sent
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
    case wire::icmp6_too_big:
        return take_too_big(d, *h, p);
    case wire::icmp6_unreachable:
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
