// What the application asks for (the pru_* roles): connect, send, rcvd, shutdown, disconnect, abort. Owner: the
// socket's. After disconnect and abort the socket may be gone: callers must not touch it.
#include <sys/socket.h>

#include "protocols/home_port.hpp"
#include "protocols/port_table.hpp"
#include "protocols/tcp/tcp_var.hpp"

namespace protocols {

namespace tcp {

// A TIME-WAIT record with timestamps yields after a second (RFC 6191 3; as Linux tcp_tw_reuse): PAWS rejects what is
// left of the old one.
bool yields(const Domain& d, const FlowNode* n)
{
    if (n == nullptr) {
        return true;
    }
    if (n->kind != NodeKind::time_wait) {
        return false;
    }
    const auto& r = static_cast<const TimeWaitRecord&>(*n);
    return r.timestamps && d.now() - r.recent_at > base::seconds(1);
}

namespace {

// A port such that the flow is steered to this CPU and unused here, which decides it: the flow can be nowhere
// else. RFC 6056 3.3.3: a keyed start per destination, moving on. When the peer is this host the port is chosen so
// that its end is steered here as well if possible: then nothing of the connection crosses CPUs.
bool choose_port(Domain& d, base::FourTuple& flow, ConnectWay& way)
{
    const EphemeralPorts& ports = d.stack.ephemeral();
    flow.local.port = 0;
    std::uint32_t both_ends = is_local(d, flow.peer.addr) ? home_port_tries(d) : 0;
    auto start = static_cast<std::uint32_t>(base::siphash(d.tcp->isn_key, &flow, sizeof flow)) + d.tcp->ephemeral_next;
    const netmsg::Steering& steering = d.stack.steering();
    std::uint32_t hash = steering.hash(flow);
    std::uint16_t port = ports.nth(start);
    for (std::uint32_t i = 0; i < ports.count(); ++i, port = ports.after(port)) {
        flow.local.port = port;
        way.steering_hash = hash ^ steering.of_local_port(flow.local.port, flow);
        if (steering.cpu_of_hash(way.steering_hash) != d.id() || d.tcp_ports->any_on_port(flow.local.port)) {
            continue;
        }
        if (i < both_ends && !peer_end_at_home(d, flow)) {
            continue;
        }
        way.flow_hash = d.tcp->flows.hash_of(flow);
        if (yields(d, d.tcp->flows.find(flow, way.flow_hash))) {
            d.tcp->ephemeral_next = static_cast<std::uint16_t>(d.tcp->ephemeral_next + i + 1);
            return true;
        }
    }
    return false;
}

void name_flow(Domain& d, const base::FourTuple& flow, ConnectWay& way)
{
    way.flow_hash = d.tcp->flows.hash_of(flow);
    way.steering_hash = d.stack.steering().hash(flow);
}

// There is text, or there will be none: a SYN that waited for it goes.
void end_deferral(Tcb& t)
{
    if (t.deferred && (t.so->snd_limit > t.so->snd_acked || t.so->snd_end != sockbuf::no_offset)) {
        t.deferred = false;
        start_connect(t.domain, t);
    }
}

// The application has said where its stream ends.
void close_sending(Tcb& t)
{
    end_deferral(t);
    if (t.so->snd_end != sockbuf::no_offset && may_send(t.state)) {
        t.state.apply(Event::close);
    }
    output_soon(t);
}

// RFC 9293 3.10.5, as on Linux: behind both FINs there is nothing that a reset could tell the peer.
void forget(Tcb& t, base::Error why)
{
    if (fin_received(t.state) && t.snd.fin_sent) {
        kill(t, why);
    } else {
        abort(t, why);
    }
}

bool acceptable_peer(const base::Endpoint& peer)
{
    return !peer.addr.is_multicast() && peer.addr != base::IpAddr::v4(0xffffffff);
}

} // namespace

void start_connect(Domain& d, Tcb& t)
{
    t.agreed = offer(d, t.so->options);
    t.ts.offset = timestamp_offset(*d.tcp, t.flow);
    t.snd.una = t.snd.iss;
    --t.snd.una_offset; // the SYN stands before the first octet
    t.timed_at = d.now();
    t.state.apply(Event::open_active);
    count(d.tcp->counters.connects);
    send_syn(t);
    restart_retransmit(t);
}

} // namespace tcp

base::Error tcp_connect_owner(Domain& d, Socket& so, const base::Endpoint& peer, base::CpuId& owner, ConnectWay& way)
{
    base::assert_on(d.cpu.owner());
    base::FourTuple flow{so.flow.local, peer};
    const Route& route = way.route;
    if (!tcp::acceptable_peer(flow.peer) || !route_lookup(d, flow.peer.addr, way.route, flow.local.addr)) {
        return base::Error::network_unreachable;
    }
    bool by_route = flow.local.addr.is_any();
    if (by_route) {
        flow.local.addr = route.source;
    }
    // RFC 1122 3.2.1.3 (g): no such address outside of a host
    if (flow.local.addr.is_loopback() && !route.interface->netif->info().loopback) {
        return base::Error::invalid;
    }
    if (flow.local.port != 0) {
        tcp::name_flow(d, flow, way);
    } else if (!tcp::choose_port(d, flow, way)) {
        return base::Error::address_not_available;
    }
    so.local_by_route |= by_route;
    so.flow.local = flow.local;
    owner = d.stack.steering().cpu_of_hash(way.steering_hash);
    return base::Error::none;
}

bool tcp_port_in_use(Domain& d, std::uint16_t port)
{
    return d.tcp->flows.uses_of_port(port) != 0;
}

base::Error tcp_connect(Domain& d, Socket& so, const base::Endpoint& peer, const ConnectWay* way)
{
    base::assert_on(d.cpu.owner());
    if (so.listening) {
        return base::Error::is_connected;
    }
    if (so.tcb != nullptr) {
        return so.tcb->state == tcp::State::syn_sent ? base::Error::already : base::Error::is_connected;
    }
    bool fast = so.fast_connect != sockbuf::FastConnect::no;
    if (fast && (d.stack.options().fastopen & tcp::fastopen_client) == 0) {
        return base::Error::not_supported;
    }
    base::FourTuple flow{so.flow.local, peer};
    ConnectWay own;
    if (way == nullptr) {
        if (!route_lookup(d, flow.peer.addr, own.route, flow.local.addr)) {
            return base::Error::network_unreachable;
        }
        tcp::name_flow(d, flow, own);
        way = &own;
    }
    if (!is_local(d, flow.local.addr)) { // bound to it while it was
        return base::Error::address_not_available;
    }
    tcp::FlowNode* held = d.tcp->flows.find(flow, way->flow_hash);
    if (!tcp::yields(d, held)) {
        return base::Error::address_not_available;
    }
    tcp::Seq iss = held != nullptr ? tcp::number_behind(d, static_cast<tcp::TimeWaitRecord&>(*held))
                                   : tcp::initial_sequence(*d.tcp, flow, d.now());
    if (!so.snd_ring.valid() && !so.user->socket_rings(so)) {
        return base::Error::no_buffers;
    }
    Tcb* t = tcp::make_tcb(d, flow, &so, tcp::NodeKind::tcb, way->flow_hash);
    if (t == nullptr) {
        return base::Error::no_buffers;
    }
    tcp::time_wait_yield(d, held);
    d.tcp->flows.remember(*t, way->steering_hash); // its answer comes next
    t->route = way->route;
    t->snd.iss = iss;
    so_publish_addresses(so);
    // As Linux: the SYN goes with the first text.
    if (so.fast_connect == sockbuf::FastConnect::with_text && tcp::may_open_fast(d, so, flow.peer.addr)) {
        t->fast_active = t->deferred = true;
        so_publish_state(so, sockbuf::SlotState::connected);
        return base::Error::none;
    }
    t->fast_active = fast && tcp::wants_cookie(d, flow.peer.addr);
    so_publish_state(so, sockbuf::SlotState::connecting);
    tcp::start_connect(d, *t);
    return base::Error::in_progress;
}

namespace {

// What bind chose stays.
void forget_ends(Socket& so)
{
    so.flow.peer = {};
    if (!so.bound_port) {
        so.flow.local.port = 0;
    }
    if (so.local_by_route) {
        so.flow.local.addr = so.family == AF_INET ? base::IpAddr::any_v4() : base::IpAddr{};
        so.local_by_route = false;
    }
    so_publish_addresses(so);
}

} // namespace

bool tcp_drop_published(Socket& so)
{
    so.snd_end = sockbuf::no_offset;
    if (!so_take_send(so)) {
        return false;
    }
    so.snd_end = sockbuf::no_offset;    // the application has taken its own back, or does before it connects again
    if (so.snd_acked != so.snd_limit) { // no event for each connect
        so.snd_acked = so.snd_limit;
        so_publish_acked(so);
    }
    return true;
}

void tcp_connect_refused(Socket& so)
{
    forget_ends(so);
    so_publish_state(so, sockbuf::SlotState::open);
}

// As inet_stream_connect: a socket whose connect failed may try again, and with `any` every other, as tcp_disconnect;
// but no end of a joined pair: the other end may be in the middle of a write into what would be used anew.
base::Error tcp_unconnect(Domain& d, Socket& so, bool any)
{
    base::assert_on(d.cpu.owner());
    bool fresh = so.tcb == nullptr && so.flow.peer.port == 0;
    if (fresh && !so.connect_failed) {
        return base::Error::none;
    }
    bool joined = so.tcb != nullptr && so.tcb->joined != nullptr;
    if (joined || (!so.connect_failed && !any)) {
        return base::Error::not_supported;
    }
    if (so.tcb != nullptr) {
        tcp::forget(*so.tcb, base::Error::connection_reset);
    }
    if (!tcp_drop_published(so)) {
        return base::Error::invalid;
    }
    so.connect_failed = false;
    forget_ends(so);
    so_publish_as_new(so);
    return base::Error::none;
}

void tcp_usr_send(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    if (so.tcb != nullptr) {
        tcp::close_sending(*so.tcb);
    }
}

void tcp_joined_look(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    if (so.tcb != nullptr && so.tcb->joined != nullptr && !so.app_closed) {
        tcp::joined_look(*so.tcb);
    }
}

void tcp_usr_rcvd(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    Tcb* t = so.tcb;
    if (t == nullptr || !tcp::synchronized(t->state) || tcp::fin_received(t->state)) {
        return;
    }
    // An option read or a write is no reason for an ACK, though there may be more room than was ever offered: the
    // window of a SYN is at most 64 KiB, and the first ACKs with text behind them open it.
    if (so.rcv_consumed < so.slot->owner.rcv_ring_at.load(std::memory_order_relaxed)) {
        return;
    }
    tcp::look_at_way(*t); // before the ACK does, whose segments may be larger: it would tell nothing
    std::uint32_t could = tcp::receive_window(*t);
    std::uint32_t open = t->window_open();
    if (could > open && could - open >= tcp::window_step(*t, 2)) {
        tcp::ack_now(*t);
    }
}

base::Error tcp_usr_shutdown(Domain& d, Socket& so, int how)
{
    base::assert_on(d.cpu.owner());
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) {
        return base::Error::invalid;
    }
    Tcb* t = so.tcb;
    if (t == nullptr) {
        return base::Error::not_connected;
    }
    if (t->joined != nullptr) {
        tcp::joined_shutdown(*t, how != SHUT_WR, how != SHUT_RD);
        return base::Error::none;
    }
    // RFC 9293 3.10.4: the TCB goes. With Fast Open the application has a connection already, and has sent.
    if (t->state == tcp::State::syn_sent && !t->fast_active) {
        return tcp_unconnect(d, so, true);
    }
    if (how != SHUT_WR) {
        t->read_shut = true; // unless writing is shut too, later text is taken, as Linux does; the end moves behind it
        so_publish_end(so);
    }
    if (how != SHUT_RD) {
        if (!so_take_send(so)) {
            tcp::abort(*t, base::Error::connection_aborted);
            return base::Error::invalid;
        }
        tcp::close_sending(*t);
    }
    return base::Error::none;
}

void tcp_usr_disconnect(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    so.app_closed = true;
    Tcb* t = so.tcb;
    if (t == nullptr) {
        so.user->socket_detached(so);
        return;
    }
    if (t->joined != nullptr) {
        tcp::joined_disconnect(*t);
        return;
    }
    t->app_closed = true;
    bool honest = so_take_send(so) && so_take_consumed(so);
    if (t->state <= tcp::State::syn_sent || !honest) {
        tcp::abort(*t, base::Error::none);
        return;
    }
    // RFC 9293 3.6.1 (SHLD-3), as Linux: text that nobody will read, or linger 0, ends in RST
    bool unread = so.rcv_consumed < t->rcv.nxt_offset;
    bool no_linger = so.options.linger && so.options.linger_s == 0;
    if (unread) {
        tcp::abort(*t, base::Error::none);
        return;
    }
    if (no_linger) {
        tcp::forget(*t, base::Error::none);
        return;
    }
    if (so.snd_end == sockbuf::no_offset) {
        so.snd_end = so.snd_limit; // what was published is sent, then FIN
    }
    if (t->state == tcp::State::fin_wait_2 && so.options.linger2_s < 0) {
        tcp::abort(*t, base::Error::none);
        return;
    }
    if (t->state == tcp::State::fin_wait_2) {
        tcp::set_deadline(*t, tcp::Deadline::fin_wait_2, d.now() + base::seconds(std::max(so.options.linger2_s, 1)));
    }
    tcp::close_sending(*t);
    tcp::release_if_done(*t);
}

void tcp_usr_abort(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    so.app_closed = true;
    Tcb* t = so.tcb;
    if (t == nullptr) {
        so.user->socket_detached(so);
        return;
    }
    if (t->joined != nullptr) {
        tcp::joined_abort(*t);
        return;
    }
    t->app_closed = true;
    tcp::abort(*t, base::Error::none);
}

} // namespace protocols
