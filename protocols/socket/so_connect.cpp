// connect: a stream goes to the CPU that owns the flow, handing over a socket that was bound first; a datagram socket
// stays where it is and tells every CPU its peer. And what a datagram socket asks before it sends without one.
#include <netinet/in.h>

#include "protocols/ipv4.hpp"
#include "protocols/socket/so_message.hpp"

namespace protocols {

namespace {

void peer_done(Domain&, SocketMsg& m)
{
    Socket& so = *m.socket;
    so_publish_addresses(so);
    bool connected = so.flow.peer.port != 0;
    so_publish_state(so, connected ? sockbuf::SlotState::connected : sockbuf::SlotState::open);
    lwkt::reply(m);
}

constexpr Walk peer_walk{so_update_visit, nullptr, peer_done};

// A connect that was refused, and has no TCB, leaves nothing of what it chose.
void complete(SocketMsg& m, base::Error result)
{
    Socket& so = *m.socket;
    bool refused = result != base::Error::none && result != base::Error::in_progress;
    if (refused && so.tcb == nullptr && !so.listening) {
        tcp_connect_refused(so);
    }
    so_complete(m, result);
}

// Both ends on this host: the message looks whether they can be joined, on the CPU of the other direction.
void join_back(lwkt::Message& msg)
{
    SocketMsg& m = as_socket_msg(msg);
    Domain& d = owner_domain(m);
    if (m.result == 0) {
        tcp_join_done(d, *m.socket);
        return so_complete(m, base::Error::in_progress); // as an ordinary connect; the state says that it is over
    }
    tcp_join_undo(d, *m.socket);
    complete(m, tcp_connect(d, *m.socket, m.address));
}

void join_visit(lwkt::Message& msg)
{
    SocketMsg& m = as_socket_msg(msg);
    Domain& d = domain_here(m);
    m.result = tcp_join_accept(d, *m.socket) ? 0 : ECONNREFUSED;
    so_send(d, m.origin, m, join_back);
}

// On the owner of the flow: the rings, then SYN.
void start(Domain& d, SocketMsg& m, const ConnectWay* way = nullptr)
{
    Socket& so = *m.socket;
    if (!so.snd_ring.valid() && !so.user->socket_rings(so)) {
        return complete(m, base::Error::no_buffers);
    }
    if (tcp_join_begin(d, so, m.address)) {
        m.origin = d.id();
        return so_send(d, d.stack.steering().cpu_of({m.address, so.flow.local}), m, join_visit);
    }
    complete(m, tcp_connect(d, so, m.address, way));
}

void moved(lwkt::Message& msg)
{
    SocketMsg& m = as_socket_msg(msg);
    Domain& d = owner_domain(m);
    m.socket->user->socket_moved(*m.socket);
    start(d, m);
}

base::Error check_peer(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    base::IpAddr& a = m.address.addr;
    a = so_destination(so, a);
    if (base::Error error = so_check_family(so, a); error != base::Error::none) {
        return error;
    }
    if (!a.is_v4()) {
        return is_stream(so) && a.is_multicast_v6() ? base::Error::network_unreachable : base::Error::none;
    }
    if (!ipv4_is_broadcast(d, a.v4())) {
        return base::Error::none;
    }
    if (is_stream(so)) {
        return base::Error::network_unreachable;
    }
    return so.options.broadcast || a.is_multicast_v4() ? base::Error::none : base::Error::access;
}

void connect_stream(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    if (so.listening) {
        return so_complete(m, base::Error::is_connected);
    }
    if (so.tcb != nullptr) {
        return so_complete(m, tcp_connect(d, so, m.address)); // already, or connected
    }
    // What was said before is none of this connection's. What makes no sense meets the next look.
    (void)tcp_drop_published(so);
    (void)so_take_consumed(so);
    base::CpuId owner = d.id();
    ConnectWay way;
    base::Error error = tcp_connect_owner(d, so, m.address, owner, way);
    if (error != base::Error::none) {
        return complete(m, error);
    }
    if (owner == d.id()) {
        return start(d, m, &way);
    }
    so.user->socket_leaves(so);
    so.domain = &d.stack.domain(owner);
    so_send(d, owner, m, moved);
}

} // namespace

base::IpAddr so_destination(const Socket& so, const base::IpAddr& a)
{
    if (!a.is_any()) {
        return a;
    }
    // An IPv6 socket bound to an IPv4 address talks IPv4.
    bool v4 = so.family == AF_INET || a.is_v4() || (so.flow.local.addr.is_v4() && !so.flow.local.addr.is_any());
    return v4 ? base::IpAddr::v4(INADDR_LOOPBACK) : base::IpAddr::loopback_v6();
}

base::Error so_check_family(const Socket& so, const base::IpAddr& peer)
{
    const base::IpAddr& local = so.flow.local.addr;
    bool foreign = so.family == AF_INET ? !peer.is_v4() : so.options.v6_only && peer.is_v4();
    bool mixed = !local.is_any() && !so.local_by_route && local.is_v4() != peer.is_v4();
    if (foreign || mixed) {
        return base::Error::network_unreachable;
    }
    // ipv6(7): sin6_scope_id is needed where the address does not say which link
    return peer.is_link_local_v6() && peer.zone() == 0 ? base::Error::invalid : base::Error::none;
}

void so_connect(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    if (so_sends_first(d, m)) { // to the peer that it was written for
        return;
    }
    m.tries = 0;
    if (base::Error error = check_peer(d, m); error != base::Error::none) {
        return so_complete(m, error);
    }
    if (is_stream(so) && m.address.port == 0) {
        return so_complete(m, base::Error::address_not_available);
    }
    if (is_stream(so)) {
        so.fast_connect = static_cast<sockbuf::FastConnect>(m.value);
        return connect_stream(d, m);
    }
    if (so.flow.local.port == 0) {
        return so_auto_bind(d, m);
    }
    so_connect_bound(d, m);
}

void so_connect_bound(Domain& d, SocketMsg& m)
{
    if (base::Error error = udp_connect(d, *m.socket, m.address); error != base::Error::none) {
        return so_complete(m, error);
    }
    so_walk(d, m, peer_walk);
}

void so_may_send(Domain& d, SocketMsg& m)
{
    m.tries = 0;
    if (is_stream(*m.socket)) {
        return so_complete(m, base::Error::not_supported);
    }
    if (m.socket->flow.local.port == 0) {
        return so_auto_bind(d, m);
    }
    so_may_send_bound(d, m);
}

void so_may_send_bound(Domain& d, SocketMsg& m)
{
    so_complete(m, udp_may_send(d, *m.socket, m.option));
}

void so_unconnect(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    if (so_sends_first(d, m)) { // while there is a peer
        return;
    }
    if (is_stream(so) && so.listening) {
        return m.value != 0 ? so_unlisten(d, m) : so_complete(m, base::Error::not_supported);
    }
    if (is_stream(so)) {
        return so_complete(m, tcp_unconnect(d, so, m.value != 0));
    }
    base::Error error = udp_unconnect(d, so);
    if (error != base::Error::none || so.flow.local.port == 0) {
        return so_complete(m, error);
    }
    so_walk(d, m, peer_walk);
}

} // namespace protocols
