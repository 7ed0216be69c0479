// TCP input: validate, demultiplex, dispatch on state (RFC 9293 3.10.7). One lookup finds a connection, a half-open
// entry or a TIME-WAIT record; else a listener, else the segment belongs to nothing. The packet is freed here and
// nowhere else. Owner: the CPU of the flow (steering has brought the packet here).
#include "base/plant.hpp"
#include "protocols/ip.hpp"
#include "protocols/tcp/idle_connection.hpp"
#include "protocols/tcp/tcp_var.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/ipv4.hpp"

namespace protocols {

namespace tcp {
namespace {

// RFC 9293 3.1 (MUST-3): the checksum is verified unless a layer below did.
bool verify(const IpIn& ip, const netmsg::Packet& p)
{
    return p.csum != netmsg::Csum::unknown || base::planted(base::Plant::checksum_ignored) ||
           checksum_correct(ip, wire::protocol_tcp, p);
}

// Fills the segment; false (counted) when it must be dropped in silence.
bool validate(TcpState& state, const IpIn& ip, netmsg::Packet& p, Segment& s)
{
    // RFC 9293 3.9.2.3 (MUST-57, MUST-63): nothing that is not unicast both ways
    bool unicast = !ip.broadcast && !ip.destination.is_no_host() && !ip.source.is_no_host();
    std::uint32_t linear = std::min<std::uint32_t>(p.total(), wire::tcp_header_max_bytes);
    if (!unicast || !p.pullup(linear) || !wire::tcp_parse(p.data, p.size, s.header)) {
        count(state.counters.bad_header);
        return false;
    }
    if (!verify(ip, p)) {
        count(state.counters.bad_checksum);
        return false;
    }
    s.flow = {{ip.destination, s.header.destination_port}, {ip.source, s.header.source_port}};
    s.seq = s.header.seq;
    s.len = p.total() - s.header.header_bytes;
    s.text_at = s.header.header_bytes;
    s.fin = s.has(wire::tcp_fin);
    s.ip = &ip;
    s.packet = &p;
    return true;
}

void to_listener_or_nobody(Domain& d, const Segment& s)
{
    Listener* l = d.tcp->listeners.find(s.flow.local, s.flow_hash);
    if (l != nullptr) {
        segment_in_listen(d, *l, s);
    } else {
        segment_in_closed(d, s);
    }
}

FlowNode* look_up(FlowTable& flows, Segment& s)
{
    if (FlowNode* n = flows.recent(s.flow, s.packet->flow_hash); n != nullptr) {
        if (n->kind == NodeKind::tcb) {
            fetch(static_cast<Tcb&>(*n));
        }
        s.flow_hash = n->hash;
        return n;
    }
    s.flow_hash = flows.hash_of(s.flow);
    FlowNode* n = flows.find(s.flow, s.flow_hash);
    if (n != nullptr) {
        flows.remember(*n, s.packet->flow_hash);
    }
    return n;
}

void demultiplex(Domain& d, Segment& s)
{
    FlowNode* n = look_up(d.tcp->flows, s);
    if (n == nullptr) {
        to_listener_or_nobody(d, s);
        return;
    }
    switch (n->kind) {
    case NodeKind::tcb: {
        auto& t = static_cast<Tcb&>(*n);
        t.segments_in += s.on_wire();
        if (t.state == State::syn_sent) {
            segment_in_syn_sent(t, s);
        } else if (t.deferred) { // its SYN was not sent yet
            segment_in_closed(d, s);
        } else {
            segment_in_connection(t, s);
        }
        return;
    }
    case NodeKind::idle:
        if (Tcb* t = tcp_wake(d, static_cast<IdleConnection&>(*n))) { // else dropped: the peer sends it again
            t->segments_in += s.on_wire();
            segment_in_connection(*t, s);
        }
        return;
    case NodeKind::syn:
        segment_in_syn_cache(d, static_cast<SynEntry&>(*n), s);
        return;
    case NodeKind::joined: // nobody honest sends any
        count(d.tcp->counters.joined_ignored);
        return;
    case NodeKind::time_wait:
        segment_in_time_wait(d, static_cast<TimeWaitRecord&>(*n), s);
        return;
    }
}

} // namespace
} // namespace tcp

void tcp_input(Domain& d, const IpIn& ip, netmsg::Packet& p)
{
    base::assert_on(d.cpu.owner());
    count(d.tcp->counters.segments_in);
    tcp::Segment s;
    if (tcp::validate(*d.tcp, ip, p, s)) {
        tcp::demultiplex(d, s);
    }
    p.free();
}

} // namespace protocols
