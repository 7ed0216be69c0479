// Received ICMP: echo requests are answered on the CPU of arrival; an error (of ICMPv6 too) goes to the CPU that owns
// the flow which it quotes, and there to the transport. Nothing in an error is believed here but its form; TCP and UDP
// judge it (RFC 5927).
#include "base/endian.hpp"
#include "protocols/icmp.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/wire/checksum.hpp"

namespace protocols {

namespace {

constexpr std::uint32_t transport_quote = 8; // what we look at of the transport header; all there is of UDP's
constexpr std::uint32_t quote_max = transport_quote + sockbuf::datagram_error_payload_max; // behind IP headers
constexpr std::uint32_t ipv4_header_max = 60;
constexpr std::uint32_t link_headers_max = 38; // IPv4, Ethernet and a VLAN tag

bool checksum_correct(const netmsg::Packet& p)
{
    iovec pieces[netmsg::packet_pieces_max + 1];
    wire::Checksum sum;
    sum.add(pieces, p.span(0, p.total(), pieces));
    return sum.correct();
}

// The reply is the request with another type (RFC 1122 3.2.2.6: same data, in the same packet).
void answer_echo(Domain& d, const IpIn& ip, const wire::IcmpHeader& h, netmsg::Packet& request)
{
    netmsg::Packet* p = &request;
    if (p->headroom() < link_headers_max) { // a driver without headroom, or a long way up
        p = d.stack.pool().clone(request);
        request.free();
        if (p == nullptr) {
            count(d.counters.ip_out_no_memory);
            return;
        }
    }
    Route route;
    if (!route_lookup(d, ip.source, route)) {
        return drop(*p, d.counters.ip_out_no_route);
    }
    wire::IcmpHeader reply = h;
    reply.type = wire::icmp_echo_reply;
    reply.checksum = wire::checksum_update16(h.checksum, wire::icmp_echo << 8, wire::icmp_echo_reply << 8);
    wire::emit_icmp(p->data, reply);
    p->csum = netmsg::Csum::valid;
    p->gso = netmsg::Gso::none;
    count(d.counters.icmp_echo_replies);
    IpOut out;
    out.source = ip.destination;
    out.destination = ip.source;
    out.protocol = wire::protocol_icmp;
    out.tos = ip.tos;
    out.dont_fragment = false;
    ip_output(d, route, out, *p);
}

void error_dispatch(lwkt::Message& m)
{
    Domain& d = forwarded_domain(m);
    auto& p = static_cast<netmsg::Packet&>(m);
    auto h = wire::parse_icmp(p.data, p.size);
    INVARIANT(h.has_value());
    icmp_take_error(d, *h, p);
}

// As icmp6_read_error.
std::atomic<std::uint64_t>* read_error(
    Domain& d, const wire::IcmpHeader& h, const netmsg::Packet& p, IcmpError& e, std::uint32_t& quote_headers)
{
    auto q = wire::parse_icmp_quote(h, p.data + wire::icmp_header_bytes, p.size - wire::icmp_header_bytes);
    if (!q || !ipv4_is_local(d, q->ip.source)) {
        return &d.counters.icmp_in_bad_quote; // not about anything we sent
    }
    e.flow.local = {base::IpAddr::v4(q->ip.source), q->source_port};
    e.flow.peer = {base::IpAddr::v4(q->ip.destination), q->destination_port};
    e.protocol = q->ip.protocol;
    e.type = h.type;
    e.code = h.code;
    e.mtu = q->mtu;
    e.tcp_seq = q->tcp_seq;
    e.offender = base::IpAddr::v4(base::load_be32(p.l3 + 12));
    quote_headers = q->ip.header_bytes;
    return nullptr;
}

// The payload that an error quotes, behind `headers` bytes.
void note_payload(const netmsg::Packet& p, std::uint32_t headers, IcmpError& e)
{
    e.quote = p.data + headers;
    e.quote_bytes = std::min(p.size - headers, sockbuf::datagram_error_payload_max);
}

} // namespace

void icmp_input(Domain& d, const IpIn& ip, netmsg::Packet& p)
{
    base::assert_on(d.cpu.owner());
    count(d.counters.icmp_in);
    auto h = p.pullup(wire::icmp_header_bytes) ? wire::parse_icmp(p.data, p.size) : std::nullopt;
    if (!h) {
        return drop(p, d.counters.icmp_in_malformed);
    }
    if (p.csum != netmsg::Csum::valid && !checksum_correct(p)) {
        return drop(p, d.counters.icmp_in_bad_checksum);
    }
    if (ip.broadcast) {
        return drop(p, d.counters.icmp_in_broadcast); // RFC 1122 3.2.2.6: no amplifier; errors are never broadcast
    }
    if (h->type == wire::icmp_echo && h->code == 0) {
        return answer_echo(d, ip, *h, p);
    }
    bool believed = h->type == wire::icmp_unreachable || h->type == wire::icmp_time_exceeded ||
                    h->type == wire::icmp_parameter_problem;
    if (!believed) {
        return drop(p, d.counters.icmp_in_ignored); // redirects and source quench too (RFC 6633)
    }
    icmp_take_error(d, *h, p);
}

void icmp_take_error(Domain& d, const wire::IcmpHeader& h, netmsg::Packet& p)
{
    base::assert_on(d.cpu.owner());
    bool v6 = std::to_integer<unsigned>(p.l3[0]) >> 4 == 6;
    std::uint32_t chain_max = v6 ? wire::ipv6_chain_max : ipv4_header_max;
    (void)p.pullup(std::min(p.total(), wire::icmp_header_bytes + chain_max + quote_max));
    IcmpError e;
    e.wire_type = h.type;
    e.wire_code = h.code;
    e.rest = h.rest;
    std::uint32_t headers = 0;
    auto* refused = v6 ? icmp6_read_error(d, h, p, e, headers) : read_error(d, h, p, e, headers);
    if (refused != nullptr) {
        return drop(p, *refused);
    }
    note_payload(p, wire::icmp_header_bytes + headers + transport_quote, e);
    base::CpuId owner = d.stack.steering().cpu_of(e.flow);
    if (owner != d.id()) {
        forward_to_cpu(d, owner, p, error_dispatch);
        return;
    }
    icmp_to_transport(d, e);
    p.free();
}

void icmp_to_transport(Domain& d, const IcmpError& e)
{
    count(d.counters.icmp_in_errors);
    if (e.protocol == wire::protocol_tcp) {
        tcp_icmp_error(d, e);
    } else {
        udp_icmp_error(d, e);
    }
}

void icmp_local_unreachable(Domain& d, const netmsg::Packet& p, std::uint8_t code)
{
    IcmpError e;
    e.type = e.wire_type = wire::icmp_unreachable;
    e.code = e.wire_code = code;
    std::uint32_t headers = 0;
    if (auto q = wire::parse_icmp_quote({wire::icmp_unreachable, code, 0, 0}, p.data, p.size)) {
        e.flow.local = {base::IpAddr::v4(q->ip.source), q->source_port};
        e.flow.peer = {base::IpAddr::v4(q->ip.destination), q->destination_port};
        e.protocol = q->ip.protocol;
        e.tcp_seq = q->tcp_seq;
        headers = q->ip.header_bytes;
    } else if (auto q6 = wire::parse_icmp6_quote({wire::icmp6_unreachable, 0, 0, 0}, p.data, p.size);
               q6 && q6->protocol != wire::protocol_icmp6) {
        std::uint32_t zone = p.netif != nullptr ? p.netif->info().index : 0;
        e.flow.local = {q6->source.in_zone(zone), q6->source_port};
        e.flow.peer = {q6->destination.in_zone(zone), q6->destination_port};
        e.protocol = q6->protocol;
        e.tcp_seq = q6->tcp_seq;
        e.wire_type = wire::icmp6_unreachable; // as Linux, to error queues: no router said so, this host did
        e.wire_code = wire::unreachable6_address;
        headers = q6->header_bytes;
    } else {
        return;
    }
    e.offender = e.flow.local.addr.on_wire();
    std::byte payload[sockbuf::datagram_error_payload_max];
    std::uint32_t at = headers + transport_quote;
    e.quote = payload;
    e.quote_bytes = std::min(p.total() - at, sockbuf::datagram_error_payload_max);
    p.copy_out(at, payload, e.quote_bytes);
    icmp_to_transport(d, e); // its sender owns the flow, and runs here
}

} // namespace protocols
