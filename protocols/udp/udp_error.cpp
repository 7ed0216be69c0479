// ICMP errors about datagrams that we sent: matched on the CPU of the flow, taken to the socket's owner in a packet,
// told to connected sockets when they are final (as Linux without IP_RECVERR). Owner: the domain's CPU.
#include <netinet/in.h>

#include "protocols/icmp.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/socket/so_dispatch.hpp"
#include "protocols/udp/udp_state.hpp"

namespace protocols {

namespace {

// RFC 1122 3.2.2.1: what is final, as errno; none = transient, the application's own timeout decides.
base::Error final_error(const IcmpError& e)
{
    if (e.type != wire::icmp_unreachable) {
        return base::Error::none;
    }
    switch (e.code) {
    case wire::unreachable_protocol:
        return base::Error::no_protocol_option;
    case wire::unreachable_port:
        return base::Error::connection_refused;
    case 6: // network unknown
    case 9: // network prohibited
        return base::Error::network_unreachable;
    case 7: // host unknown
    case 8: // source isolated
    case wire::unreachable_filtered:
        return e.flow.peer.addr.is_v4() ? base::Error::host_unreachable : base::Error::access; // as Linux
    case 10:                                                                                   // host prohibited
    case 14:                                                                                   // precedence violation
    case 15:                                                                                   // precedence cut-off
        return base::Error::host_unreachable;
    default:
        return base::Error::none;
    }
}

void tell(Domain& d, Socket& so, const IcmpError& e)
{
    count(d.counters.udp_errors_in);
    bool connected = so.flow.peer == e.flow.peer;
    base::Error error = final_error(e);
    if (e.type == wire::icmp_unreachable && e.code == wire::unreachable_needfrag) {
        pmtu_learn(d, e.flow.peer.addr, e.mtu);
        error = so.options.transparent_df ? base::Error::message_size : base::Error::none;
    }
    if (connected && error != base::Error::none && !so.app_closed) {
        so_publish_error(so, error);
    }
}

void forwarded(lwkt::Message& m)
{
    Domain& d = forwarded_domain(m);
    auto& p = static_cast<netmsg::Packet&>(m);
    IcmpError e;
    std::memcpy(static_cast<void*>(&e), p.data, sizeof e);
    p.free();
    UdpPcb* pcb = udp_lookup(d, e.flow, d.stack.steering().hash(e.flow));
    if (pcb != nullptr && pcb->owner == d.id()) {
        tell(d, *pcb->socket, e);
    }
}

} // namespace

void udp_icmp_error(Domain& d, const IcmpError& e)
{
    base::assert_on(d.cpu.owner());
    UdpPcb* pcb = udp_lookup(d, e.flow, d.stack.steering().hash(e.flow));
    if (pcb == nullptr) {
        return;
    }
    if (pcb->owner == d.id()) {
        return tell(d, *pcb->socket, e);
    }
    netmsg::Packet* p = d.stack.pool().allocate();
    if (p == nullptr) {
        return count(d.counters.udp_forward_shed);
    }
    static_assert(std::is_trivially_copyable_v<IcmpError>);
    std::memcpy(p->put(sizeof e), &e, sizeof e);
    count(d.counters.udp_forwarded);
    ipv4_forward(d, pcb->owner, *p, forwarded);
}

} // namespace protocols
