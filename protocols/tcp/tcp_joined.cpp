// Joined pairs (joined_end.hpp): how a loopback connect becomes one, and how one ends. The connect message itself goes
// to the CPU that owns the other direction and back, so while the two are tied together nobody else touches either; the
// passive end is shown to its application after both are joined. Whatever refuses on the way leaves an ordinary
// connect. Owner: that of the Tcb at hand.
#include "protocols/tcp/joined_end.hpp"

#include "protocols/tcp/tcp_var.hpp"

namespace protocols {

namespace tcp {
namespace {

constexpr base::Micros round_trip{20}; // what TCP_INFO says of a connection that measures none

// A Tcb in state CLOSED that holds the flow; null: no memory.
Tcb* make_end(Domain& d, const base::FourTuple& flow, Socket& so, const Route& route)
{
    Tcb* t = make_tcb(d, flow, &so, NodeKind::joined);
    if (t == nullptr) {
        return nullptr;
    }
    t->route = route;
    t->joined = d.tcp->joined_ends.make(*t);
    if (t->joined == nullptr) {
        count(d.tcp->counters.no_memory);
        so.tcb = nullptr;
        free_tcb(*t);
        return nullptr;
    }
    return t;
}

void drop_end(Tcb& t)
{
    t.so->tcb = nullptr;
    t.domain.tcp->joined_ends.destroy(*t.joined);
    free_tcb(t);
}

void established(Tcb& t)
{
    t.agreed.scale = t.agreed.sack = t.agreed.timestamps = true;
    t.agreed.snd_scale = t.agreed.rcv_scale = default_rcv_scale;
    t.agreed.peer_mss = mss_to_announce(t.domain, t.route, t.so->options);
    set_mss(t);
    congestion_start(t.algorithm(), t.cc, t.mss);
    t.rtt.sample(round_trip);
    t.snd.wnd = t.snd.wnd_max = static_cast<std::uint32_t>(t.so->rcv_ring.size());
    t.rcv.adv = t.rcv.nxt + static_cast<std::uint32_t>(t.so->rcv_ring.size());
    so_publish_addresses(*t.so);
    so_publish_state(*t.so, sockbuf::SlotState::connected);
    count(t.domain.tcp->counters.joins);
}

// Takes the offsets as the applications left them. They decide what is unread and where the end stands, nothing else:
// a family that writes nonsense misleads itself.
void settle(Tcb& t)
{
    Socket& so = *t.so;
    so.snd_limit = so.slot->app.snd_produced.load(std::memory_order_seq_cst);
    so.rcv_consumed = so.slot->app.rcv_consumed.load(std::memory_order_seq_cst);
    so.rcv_produced = t.joined->other_slot->app.snd_produced.load(std::memory_order_seq_cst);
}

// The stream of the other end is complete: what a sender died over is published, then EOF (or the error).
void publish_received(Tcb& t)
{
    settle(t);
    t.so->slot->owner.rcv_start.store(
        t.joined->other_slot->app.snd_start.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
    t.so->slot->owner.rcv_produced.store(t.so->rcv_produced, std::memory_order_seq_cst);
}

void over(Tcb& t, base::Error why)
{
    if (t.state == State::closed) {
        return;
    }
    if (why != base::Error::none) {
        count(t.domain.tcp->counters.drops);
    }
    t.state.apply(Event::dead);
    if (!t.app_closed) {
        publish_received(t);
        publish_over(*t.so, why);
    }
}

// As check_reset: an application that was told of the end gets EPIPE.
base::Error reset_error(const Tcb& t)
{
    return t.state == State::close_wait ? base::Error::broken_pipe : base::Error::connection_reset;
}

void take_fin(Tcb& t)
{
    if (t.state == State::closed || fin_received(t.state)) {
        return;
    }
    t.state.apply(Event::got_fin);
    if (t.state == State::time_wait) {
        t.joined->time_wait = true; // for the port's sake, once the end itself goes: no segment can come late
        over(t, base::Error::none);
    } else if (!t.app_closed) {
        publish_received(t);
        so_publish_fin(*t.so);
    }
}

void fin_arrived(lwkt::Message& m)
{
    Tcb& t = static_cast<PairMessage&>(m).to->tcb;
    base::assert_on(t.domain.cpu.owner());
    take_fin(t);
}

void release_if_both(Tcb& t)
{
    if (!t.app_closed || !t.joined->peer_gone) {
        return;
    }
    Socket& so = *t.so;
    Domain& d = t.domain;
    base::FourTuple flow = t.flow;
    bool waits = t.joined->time_wait;
    drop_end(t);
    if (waits) {
        TimeWaitRecord& r = time_wait_make(d, flow);
        r.joined = r.timestamps = true; // yields to a new connection as RFC 6191 says
        r.recent_at = d.now();
        time_wait_insert(d, r);
    }
    so.user->socket_detached(so);
}

} // namespace

// Text that nobody will read is answered by RST.
void joined_look(Tcb& t)
{
    if (!t.joined->peer_gone || t.app_closed || t.state == State::closed) {
        return;
    }
    std::uint64_t read = t.joined->other_slot->app.rcv_consumed.load(std::memory_order_seq_cst);
    if (t.so->slot->app.snd_produced.load(std::memory_order_seq_cst) > read) {
        over(t, reset_error(t));
    }
}

namespace {

void end_arrived(lwkt::Message& msg)
{
    auto& m = static_cast<PairMessage&>(msg);
    Tcb& t = m.to->tcb;
    base::assert_on(t.domain.cpu.owner());
    t.joined->peer_gone = true;
    // From here on our application marks what it sends; what it published before it saw that is looked at below.
    t.so->slot->app.partner.store(0, std::memory_order_seq_cst);
    if (m.reset) {
        over(t, reset_error(t));
    } else {
        take_fin(t);
        joined_look(t);
    }
    release_if_both(t);
}

void tell(Tcb& t, PairMessage& m, lwkt::Message::Dispatch dispatch)
{
    m.to = t.joined->other;
    m.cls = lwkt::Class::serial;
    m.dispatch = dispatch;
    t.domain.cpu.send(m.to->tcb.domain.id(), m);
}

// Our stream ends where the application said. The other end has taken every byte: acknowledged at once.
void send_fin(Tcb& t)
{
    if (!may_send(t.state)) {
        return;
    }
    t.state.apply(Event::close);
    if (t.state == State::fin_wait_1) {
        t.state.apply(Event::fin_acked);
    } else {
        over(t, base::Error::none);
    }
    if (!t.joined->fin_told && !t.joined->peer_gone) {
        t.joined->fin_told = true;
        tell(t, t.joined->other->fin, fin_arrived);
    }
}

void let_go(Tcb& t, bool reset)
{
    if (t.app_closed || t.joined->other == nullptr) {
        return; // an abort behind a close: all is said; or not tied yet: the connect that is on its way has the end
    }
    t.app_closed = t.so->app_closed = true;
    if (reset) {
        over(t, base::Error::none);
    } else {
        send_fin(t);
    }
    t.joined->other->end.reset = reset;
    tell(t, t.joined->other->end, end_arrived);
    so_publish_state(*t.so, sockbuf::SlotState::closed); // a close that lingers waits for nothing more
    t.so->user->socket_event(*t.so, so_closed);
    release_if_both(t);
}

} // namespace

void joined_shutdown(Tcb& t, bool read, bool write)
{
    if (t.state == State::closed) {
        return;
    }
    if (read) {
        t.read_shut = true;
        settle(t);
        so_publish_end(*t.so);
    }
    if (write) {
        send_fin(t);
    }
}

void joined_disconnect(Tcb& t)
{
    settle(t);
    bool unread = t.so->rcv_consumed < t.so->rcv_produced && t.state != State::closed;
    bool no_linger = t.so->options.linger && t.so->options.linger_s == 0;
    let_go(t, unread || no_linger);
}

void joined_abort(Tcb& t)
{
    let_go(t, true);
}

void joined_bytes(const Tcb& t, std::uint64_t& sent, std::uint64_t& received)
{
    sent = t.so->slot->app.snd_produced.load(std::memory_order_relaxed);
    received = t.joined->other_slot->app.snd_produced.load(std::memory_order_relaxed);
}

} // namespace tcp

bool tcp_join_begin(Domain& d, Socket& so, const base::Endpoint& peer)
{
    base::assert_on(d.cpu.owner());
    // The offsets of a pair are the same at both ends, from 0; those of a socket that had a connection go on.
    bool fresh = so.tcb == nullptr && !so.listening && so.snd_limit == 0 && so.rcv_produced == 0 &&
                 so.snd_end == sockbuf::no_offset;
    if (!fresh || !so.user->socket_may_join(so, nullptr) || !is_local(d, peer.addr)) {
        return false;
    }
    base::FourTuple flow{so.flow.local, peer};
    Route route;
    tcp::FlowNode* held = d.tcp->flows.find(flow);
    if (!tcp::yields(d, held) || !route_lookup(d, peer.addr, route)) {
        return false;
    }
    if (tcp::make_end(d, flow, so, route) == nullptr) {
        return false;
    }
    tcp::time_wait_yield(d, held);
    so_publish_addresses(so);
    so_publish_state(so, sockbuf::SlotState::connecting);
    return true;
}

bool tcp_join_accept(Domain& d, Socket& active)
{
    base::assert_on(d.cpu.owner());
    base::FourTuple flow{active.flow.peer, active.flow.local};
    Listener* l = d.tcp->listeners.find(flow.local, d.tcp->flows.hash_of(flow));
    Route route;
    tcp::FlowNode* held = d.tcp->flows.find(flow);
    bool free = held == nullptr || held->kind == tcp::NodeKind::time_wait;
    bool waits_for_text = l != nullptr && l->options.defer_accept_s != 0; // as the SYN cache does
    if (l == nullptr || waits_for_text || l->user != active.user || !active.user->socket_may_join(active, l) || !free ||
        !route_lookup(d, flow.peer.addr, route)) {
        return false;
    }
    Socket* so = l->user->socket_accepted(*l, flow);
    if (so == nullptr) {
        return false;
    }
    Tcb* t = tcp::make_end(d, flow, *so, route);
    if (t == nullptr) {
        so->user->socket_detached(*so);
        return false;
    }
    tcp::time_wait_yield(d, held); // what is left of it on the wire is no segment of the new connection, which has none
    tcp::JoinedEnd& there = *active.tcb->joined;
    t->joined->other = &there;
    t->joined->other_slot = active.slot;
    there.other = t->joined;
    there.other_slot = so->slot;
    so->user->socket_joined(active, *so);
    t->state.apply(tcp::Event::open_passive);
    t->state.apply(tcp::Event::got_syn);
    t->state.apply(tcp::Event::handshake_acked);
    tcp::established(*t);
    count(d.tcp->counters.accepts);
    l->user->socket_ready(*l, *so);
    return true;
}

void tcp_join_done(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    Tcb& t = *so.tcb;
    t.state.apply(tcp::Event::open_active);
    t.state.apply(tcp::Event::got_syn_ack);
    tcp::established(t);
    count(d.tcp->counters.connects);
    so.user->socket_event(so, so_connected | so_writable);
}

void tcp_join_undo(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    tcp::drop_end(*so.tcb);
}

} // namespace protocols
