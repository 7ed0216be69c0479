// bind: a reservation on every CPU before it completes, explicit or of a port that we choose; and
// listen: a listener entry on every CPU. Runs on the owner, its walks on every CPU in turn.
#include <netinet/in.h>

#include "protocols/home_port.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/socket/so_message.hpp"

namespace protocols {

namespace {

// Ports chosen at random that were lost: to another CPU's bind, or because its connections use them. Then most of the
// range is taken, and what is left of it is looked for one port after another.
constexpr std::uint32_t random_ports_max = 32;
constexpr std::uint32_t close_waits_max = 1U << 12; // looks at a conflicting socket that its application has let go

PortReservation reservation(const Domain& d, const Socket& so)
{
    PortReservation r;
    r.local = so.flow.local;
    r.owner = &so;
    r.reuse_addr = so.options.reuse_addr;
    r.reuse_port = so.options.reuse_port;
    r.v6_only = so.options.v6_only;
    r.user_id = so.user_id;
    r.cpu = d.id();
    return r;
}

// Connections of a SO_REUSEPORT group do not keep a new member out (those of others are not told apart from them).
bool connections_keep_out(Domain& d, const Socket& so, std::uint16_t port)
{
    bool reuses = so.options.reuse_addr || so.options.reuse_port;
    return is_stream(so) && !reuses && tcp_port_in_use(d, port);
}

base::Error bind_visit(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    if (connections_keep_out(d, so, so.flow.local.port)) {
        return base::Error::address_in_use;
    }
    base::Error error = ports_of(d, so).reserve(reservation(*so.domain, so));
    if (error == base::Error::none && !is_stream(so)) {
        error = udp_attach_here(d, so);
        if (error != base::Error::none) {
            ports_of(d, so).release(&so);
        }
    }
    return error;
}

void bind_undo(Domain& d, SocketMsg& m)
{
    if (!is_stream(*m.socket)) {
        udp_detach_here(d, *m.socket);
    }
    ports_of(d, *m.socket).release(m.socket);
}

void bind_done(Domain& d, SocketMsg& m);
constexpr Walk bind_walk{bind_visit, bind_undo, bind_done};

// A free port of the ephemeral range as this CPU sees it, the first one from `first` on; 0 = none. With a peer (a
// datagram socket that connects) the first ports looked at must also steer the flow here, so that what the peer sends
// needs no other CPU.
std::uint16_t choose_port(Domain& d, const Socket& so, const base::Endpoint* peer, std::uint16_t first)
{
    const EphemeralPorts& ports = d.stack.ephemeral();
    Route route;
    bool choosy = peer != nullptr && route_lookup(d, peer->addr, route);
    std::uint32_t choosy_tries = choosy ? home_port_tries(d) : 0;
    bool here = choosy && is_local(d, peer->addr);
    auto at_home = [&](const base::FourTuple& flow) {
        return d.stack.steering().cpu_of(flow) == d.id() && (!here || peer_end_at_home(d, flow));
    };
    std::uint16_t port = first;
    for (std::uint32_t i = 0; i < ports.count(); ++i, port = ports.after(port)) {
        const base::IpAddr& local = so.flow.local.addr.is_any() ? route.source : so.flow.local.addr;
        if (i < choosy_tries && !at_home({{local, port}, *peer})) {
            continue;
        }
        if (!ports_of(d, so).any_on_port(port) && !connections_keep_out(d, so, port)) {
            return port;
        }
    }
    return 0;
}

void unbind(Socket& so)
{
    so.flow.local = {};
}

// What a completed bind was for.
void go_on(Domain& d, SocketMsg& m)
{
    switch (m.op) {
    case SocketOp::listen:
        so_listen_bound(d, m);
        return;
    case SocketOp::connect:
        so_connect_bound(d, m);
        return;
    case SocketOp::may_send:
        so_may_send_bound(d, m);
        return;
    default:
        so_complete(m, base::Error::none);
    }
}

// Waiting for a close that is on its way: the application closed a socket and binds its port again, and the two
// requests reached different CPUs. Runs where the conflicting socket lived when it bound.
void look_at_holder(lwkt::Message& msg)
{
    SocketMsg& m = as_socket_msg(msg);
    Domain& d = domain_here(m);
    base::CpuId cpu = base::no_cpu;
    const Socket* holder = ports_of(d, *m.socket).conflicting(reservation(d, *m.socket), cpu);
    // While its reservation stands on this CPU the socket lives: the close walk releases before it ends.
    bool let_go = holder == nullptr || (cpu == d.id() && holder->slot != nullptr &&
                                           holder->slot->share.holders.load(std::memory_order_relaxed) == 0);
    m.result = let_go ? 0 : EADDRINUSE;
    so_send(d, m.origin, m, [](lwkt::Message& back) {
        SocketMsg& mine = as_socket_msg(back);
        if (mine.result == 0) {
            so_walk(owner_domain(mine), mine, bind_walk);
        } else {
            unbind(*mine.socket);
            lwkt::reply(mine);
        }
    });
}

void bind_done(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    if (m.result == 0) {
        so.bound_port = true;
        so_publish_addresses(so);
        return go_on(d, m);
    }
    auto error = static_cast<base::Error>(m.result);
    bool chosen = m.op != SocketOp::bind || m.address.port == 0;
    if (error == base::Error::address_in_use && chosen && m.tries++ < random_ports_max + d.stack.ephemeral().count()) {
        return so_auto_bind(d, m);
    }
    base::CpuId cpu = base::no_cpu;
    if (error == base::Error::address_in_use && !chosen && m.tries++ < close_waits_max) {
        const Socket* holder = ports_of(d, so).conflicting(reservation(d, so), cpu);
        return so_send(d, holder != nullptr ? cpu : d.id(), m, look_at_holder);
    }
    unbind(so);
    so_complete(m, error);
}

base::Error check_address(Domain& d, const Socket& so, const base::IpAddr& a)
{
    // ipv6(7): no IPv4 with IPV6_V6ONLY, a zone where the address leaves the link open
    bool foreign = so.family == AF_INET ? !a.is_v4() : so.options.v6_only && a.is_v4();
    if (foreign || (a.is_link_scoped() && a.zone() == 0)) {
        return base::Error::invalid;
    }
    if (a.is_any() || is_local(d, a)) {
        return base::Error::none;
    }
    bool group = a.is_v4() ? ipv4_is_broadcast(d, a.v4()) : a.is_multicast_v6();
    return group && !is_stream(so) ? base::Error::none : base::Error::address_not_available;
}

base::Error listen_visit(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    base::Error error = d.tcp_ports->set_listening(&so);
    if (error == base::Error::none) {
        error = tcp_listen_here(d, so, m.value);
        if (error != base::Error::none && !so.listening) {
            d.tcp_ports->clear_listening(&so);
        }
    }
    return error;
}

void listen_undo(Domain& d, SocketMsg& m)
{
    if (!m.socket->listening) { // a second listen() that fails leaves the first as it was
        tcp_unlisten_here(d, *m.socket);
        d.tcp_ports->clear_listening(m.socket);
    }
}

void listen_done(Domain&, SocketMsg& m)
{
    if (m.result == 0) {
        m.socket->listening = true;
        so_publish_state(*m.socket, sockbuf::SlotState::listening);
    }
    lwkt::reply(m);
}

constexpr Walk listen_walk{listen_visit, listen_undo, listen_done};

} // namespace

void so_auto_bind(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    if (so.family == AF_INET && so.flow.local.addr == base::IpAddr{}) {
        so.flow.local.addr = base::IpAddr::any_v4();
    }
    bool connects = m.op == SocketOp::connect && !is_stream(so);
    const EphemeralPorts& ports = d.stack.ephemeral();
    std::uint16_t first =
        m.tries <= random_ports_max ? ports.nth(d.random.below(ports.count())) : ports.after(so.flow.local.port);
    so.flow.local.port = choose_port(d, so, connects ? &m.address : nullptr, first);
    if (so.flow.local.port == 0) {
        unbind(so);
        return so_complete(m, base::Error::address_in_use);
    }
    if (!is_stream(so) && !so.snd_ring.valid() && !so.user->socket_rings(so)) {
        unbind(so);
        return so_complete(m, base::Error::no_buffers);
    }
    so.reuse_key = d.random.next();
    so_walk(d, m, bind_walk);
}

void so_bind(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    m.tries = 0;
    if (so.flow.local.port != 0 || (is_stream(so) && so.tcb != nullptr)) {
        return so_complete(m, base::Error::invalid);
    }
    if (so.family == AF_INET && m.address.addr == base::IpAddr{}) {
        m.address.addr = base::IpAddr::any_v4();
    }
    if (base::Error error = check_address(d, so, m.address.addr); error != base::Error::none) {
        return so_complete(m, error);
    }
    so.flow.local = m.address;
    if (m.address.port == 0) {
        if (so.options.bind_no_port && is_stream(so)) { // connect chooses the port with its destination in view
            so_publish_addresses(so);
            return so_complete(m, base::Error::none);
        }
        return so_auto_bind(d, m);
    }
    if (!is_stream(so) && !so.snd_ring.valid() && !so.user->socket_rings(so)) {
        unbind(so);
        return so_complete(m, base::Error::no_buffers);
    }
    so.reuse_key = d.random.next();
    so_walk(d, m, bind_walk);
}

void so_listen(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    m.tries = 0;
    if (!is_stream(so)) {
        return so_complete(m, base::Error::not_supported);
    }
    if (so.tcb != nullptr) {
        return so_complete(m, base::Error::invalid);
    }
    if (so.flow.local.port == 0) {
        return so_auto_bind(d, m);
    }
    so_listen_bound(d, m);
}

void so_listen_bound(Domain& d, SocketMsg& m)
{
    so_walk(d, m, listen_walk);
}

} // namespace protocols
