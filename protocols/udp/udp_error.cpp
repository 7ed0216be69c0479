// ICMP errors about datagrams that we sent: matched on the CPU of the flow, taken to the socket's owner in a packet,
// told to connected sockets when they are final, to the error queue of those that have one always (ip(7), IP_RECVERR).
// Owner: the domain's CPU.
#include <ctime> // for the next one

#include <linux/errqueue.h>
#include <netinet/in.h>

#include <algorithm>

#include "protocols/icmp.hpp"
#include "protocols/ip.hpp"
#include "protocols/socket/so_dispatch.hpp"
#include "protocols/udp/udp_state.hpp"

namespace protocols {

namespace {

struct Verdict {
    base::Error error = base::Error::none;
    bool final = false; // else transient (RFC 1122 3.2.2.1): the application's own timeout decides
};

// The errno of each code of "destination unreachable", as Linux has it.
Verdict unreachable(const IcmpError& e)
{
    using base::Error;
    static constexpr Verdict verdicts[] = {
        {Error::network_unreachable, false}, // network
        {Error::host_unreachable, false},    // host
        {Error::no_protocol_option, true},   // protocol
        {Error::connection_refused, true},   // port
        {Error::message_size, false},        // fragmentation needed
        {Error::not_supported, false},       // source route failed
        {Error::network_unreachable, true},  // network unknown
        {Error::host_down, true},            // host unknown
        {Error::host_isolated, true},        // source isolated
        {Error::network_unreachable, true},  // network prohibited
        {Error::host_unreachable, true},     // host prohibited
        {Error::network_unreachable, false}, // network, for this class
        {Error::host_unreachable, false},    // host, for this class
        {Error::host_unreachable, true},     // filtered
        {Error::host_unreachable, true},     // precedence violation
        {Error::host_unreachable, true},     // precedence cut-off
    };
    if (e.code == wire::unreachable_filtered && !e.flow.peer.addr.is_v4()) {
        return {Error::access, true};
    }
    return e.code < std::size(verdicts) ? verdicts[e.code] : Verdict{Error::host_unreachable, false};
}

Verdict judge(const Socket& so, const IcmpError& e)
{
    if (e.type == wire::icmp_parameter_problem) {
        return {base::Error::protocol, true};
    }
    if (e.type != wire::icmp_unreachable) {
        return {base::Error::host_unreachable, false};
    }
    if (e.code == wire::unreachable_needfrag) {
        bool discovers = so.options.mtu_discover != IP_PMTUDISC_DONT;
        return {discovers ? base::Error::message_size : base::Error::none, discovers};
    }
    return unreachable(e);
}

bool has_error_queue(const Socket& so, const base::IpAddr& peer)
{
    return peer.is_v4() ? so.options.recv_error : so.options.recv_error6;
}

// sock_extended_err's ee_info.
std::uint32_t info_of(const IcmpError& e)
{
    if (!e.flow.peer.addr.is_v4()) {
        return e.rest;
    }
    return e.type == wire::icmp_parameter_problem ? e.rest >> 24 : e.mtu;
}

void queue(UdpPcb& pcb, const IcmpError& e, base::Error error)
{
    sockbuf::DatagramError entry{};
    entry.error = static_cast<std::uint32_t>(base::to_errno(error));
    entry.info = info_of(e);
    entry.origin = e.flow.peer.addr.is_v4() ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6;
    entry.type = e.wire_type;
    entry.code = e.wire_code;
    std::memcpy(entry.offender, e.offender.bytes(), sizeof entry.offender);
    udp_queue_error(pcb, e.flow.peer, entry, e.quote, e.quote_bytes);
}

// Who says that the path takes what its first link does, or more, teaches nothing. 0: who names none is older than RFC
// 1191.
bool narrows(Domain& d, const Socket& so, const IcmpError& e)
{
    Route way;
    bool has_way = udp_route(d, so, e.flow.peer.addr, e.flow.local.addr, way);
    return e.mtu == 0 || !has_way || e.mtu < route_device_mtu(d, way);
}

void tell(Domain& d, UdpPcb& pcb, const IcmpError& e)
{
    Socket& so = *pcb.socket;
    count(d.counters.udp_errors_in);
    bool believes = so.options.mtu_discover < IP_PMTUDISC_INTERFACE; // as Linux: such a socket cannot be deceived
    bool too_long = e.type == wire::icmp_unreachable && e.code == wire::unreachable_needfrag;
    if (believes && too_long && narrows(d, so, e)) {
        pmtu_learn(d, e.flow.peer.addr, e.mtu);
    }
    Verdict v = judge(so, e);
    if (v.error == base::Error::none || so.app_closed) {
        return;
    }
    if (has_error_queue(so, e.flow.peer.addr)) {
        queue(pcb, e, v.error);
    } else if (!v.final || so.flow.peer != e.flow.peer) {
        return;
    }
    so_publish_error(so, v.error);
}

void forwarded(lwkt::Message& m)
{
    Domain& d = forwarded_domain(m);
    auto& p = static_cast<netmsg::Packet&>(m);
    IcmpError e;
    std::memcpy(static_cast<void*>(&e), p.data, sizeof e);
    e.quote = p.data + sizeof e;
    UdpPcb* pcb = udp_lookup(d, e.flow, d.stack.steering().hash(e.flow));
    if (pcb != nullptr && pcb->owner == d.id()) {
        tell(d, *pcb, e);
    }
    p.free();
}

} // namespace

void udp_queue_error(UdpPcb& pcb, const base::Endpoint& to, const sockbuf::DatagramError& error,
    const std::byte* payload, std::uint32_t payload_bytes)
{
    UdpLane& lane = pcb.errors;
    std::uint64_t stride = sockbuf::datagram_stride(static_cast<std::uint32_t>(sizeof error) + payload_bytes);
    if (!lane.make_room(*pcb.socket, 1U << sockbuf::error_ring_shift, stride)) {
        return count(pcb.domain.counters.udp_errors_dropped);
    }
    sockbuf::DatagramHeader h{};
    h.size = static_cast<std::uint16_t>(payload_bytes);
    h.port = to.port;
    std::memcpy(h.addr, to.addr.bytes(), sizeof h.addr);
    lane.ring.copy_in(lane.produced, &h, sizeof h);
    lane.ring.copy_in(lane.produced + sizeof h, &error, sizeof error);
    lane.ring.copy_in(lane.produced + sizeof h + sizeof error, payload, payload_bytes);
    lane.append(stride);
    lane.publish();
}

void udp_icmp_error(Domain& d, const IcmpError& e)
{
    base::assert_on(d.cpu.owner());
    UdpPcb* pcb = udp_lookup(d, e.flow, d.stack.steering().hash(e.flow));
    if (pcb == nullptr) {
        return;
    }
    if (pcb->owner == d.id()) {
        return tell(d, *pcb, e);
    }
    netmsg::Packet* p = d.stack.pool().allocate();
    if (p == nullptr) {
        return count(d.counters.udp_forward_shed);
    }
    static_assert(std::is_trivially_copyable_v<IcmpError>);
    static_assert(
        sizeof e + sockbuf::datagram_error_payload_max <= netmsg::packet_buffer_bytes - netmsg::packet_headroom);
    std::memcpy(p->put(sizeof e), &e, sizeof e);
    if (e.quote_bytes != 0) {
        std::memcpy(p->put(e.quote_bytes), e.quote, e.quote_bytes);
    }
    count(d.counters.udp_forwarded);
    forward_to_cpu(d, pcb->owner, *p, forwarded);
}

} // namespace protocols
