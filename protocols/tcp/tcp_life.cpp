// Birth and death of a connection: making a Tcb, opening, killing, releasing its socket, turning into a TIME-WAIT
// record. These are the only places that free a Tcb; a caller must not touch it afterwards. Owner: the Tcb's.
#include "base/plant.hpp"
#include "protocols/tcp/tcp_var.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/ipv4.hpp"

namespace protocols {

Tcb::Tcb(Domain& d, const base::FourTuple& f)
    : FlowNode(tcp::NodeKind::tcb, f), lwkt::Timer(tcp::timer_fired), domain(d),
      pseudo_sum(wire::pseudo_header_part(f.local.addr, f.peer.addr, wire::protocol_tcp))
{
    deadlines.fill(base::never);
}

namespace tcp {

// Into the table and the lists, with its socket.
void adopt_tcb(Tcb& t, Socket* so)
{
    Domain& d = t.domain;
    d.tcp->flows.insert(t);
    d.tcp->all.push_back(t);
    t.opened_at = d.now();
    t.so = so;
    if (so != nullptr) {
        so->tcb = &t;
        so->domain = &d;
        so->flow = t.flow;
        t.ttl = so->options.ttl_towards(t.flow.peer.addr);
        t.tos = so->options.tos;
        t.mtu_discover = so->options.mtu_discover;
        t.snd.una_offset = so->snd_acked;
        t.rcv.nxt_offset = so->rcv_produced;
    }
}

Tcb* make_tcb(Domain& d, const base::FourTuple& flow, Socket* so, NodeKind kind, std::uint64_t flow_hash)
{
    // Whoever sleeps can wake: together they stay within the limit.
    bool full = d.tcp->tcbs.in_use() + d.tcp->idle_slab.in_use() >= d.stack.options().connections_per_cpu;
    Tcb* t = full ? nullptr : d.tcp->tcbs.make(d, flow);
    if (t == nullptr) {
        count(d.tcp->counters.no_memory);
        return nullptr;
    }
    t->kind = kind;
    t->hash = flow_hash;
    adopt_tcb(*t, so);
    t->last_received = d.now();
    return t;
}

void give_back_runs(Tcb& t)
{
    if (t.long_runs != nullptr) {
        t.domain.tcp->long_runs.destroy(*t.long_runs);
        t.long_runs = nullptr;
    }
}

void give_back_ranges(Tcb& t)
{
    if (t.long_ranges != nullptr) {
        t.domain.tcp->long_ranges.destroy(*t.long_ranges);
        t.long_ranges = nullptr;
    }
}

void free_tcb(Tcb& t)
{
    TcpState& s = *t.domain.tcp;
    if (t.listener != nullptr) {
        --t.listener->pending;
    }
    fastopen_ended(t);
    give_back_runs(t);
    give_back_ranges(t);
    drop_model(t);
    s.flows.remove(t);
    t.all_link.unlink();
    if (t.pending_link.linked()) {
        t.pending_link.unlink();
    }
    s.tcbs.destroy(t); // the timer leaves its wheel
}

// The socket stays with its application, without a connection.
void publish_over(Socket& so, base::Error why)
{
    if (why != base::Error::none) {
        so_publish_error(so, why);
    }
    so_publish_end(so);
    so_publish_broken(so);
    so_publish_state(so, sockbuf::SlotState::closed);
    so.user->socket_event(so, so_closed | so_readable | so_writable | (why != base::Error::none ? so_error_event : 0));
}

void kill(Tcb& t, base::Error why)
{
    if (why != base::Error::none) {
        count(t.domain.tcp->counters.drops);
    }
    bool opening = t.state <= State::syn_received && !t.fast_passive;
    t.state.apply(t.state == State::last_ack ? Event::fin_acked : Event::dead);
    Socket* so = t.so;
    bool release = t.app_closed || (t.listener != nullptr && !t.fast_passive); // closed, or never shown
    free_tcb(t);
    if (so == nullptr) {
        return;
    }
    if (release) {
        so->tcb = nullptr;
        so->user->socket_detached(*so);
    } else {
        so->tcb = nullptr;
        so->connect_failed = opening;
        publish_over(*so, why);
    }
}

void abort(Tcb& t, base::Error why)
{
    if (t.state > State::syn_sent) {
        send_reset(t);
    }
    kill(t, why);
}

void release_socket(Tcb& t)
{
    Socket* so = t.so;
    t.linger2_s = static_cast<std::int8_t>(so->options.linger2_s);
    t.user_timeout_ms = so->options.user_timeout_ms;
    t.so = nullptr;
    so->tcb = nullptr;
    so->user->socket_detached(*so);
}

void release_if_done(Tcb& t)
{
    if (!t.app_closed || t.so == nullptr || !t.snd.fin_sent) {
        return;
    }
    // A close that lingers ends with the FIN's acknowledgement (socket(7), SO_LINGER): the application waits for the
    // slot.
    bool lingers = t.so->options.linger && t.snd.una <= t.snd.fin_seq;
    if ((t.snd.una_offset >= t.so->snd_end && !lingers) || base::planted(base::Plant::ring_freed_early)) {
        release_socket(t);
    }
}

void enter_time_wait(Tcb& t)
{
    Domain& d = t.domain;
    d.tcp->flows.fetch_resting(t.hash); // until it is inserted below
    if (t.ack_now) {
        send_ack(t);
    }
    TimeWaitRecord& r = time_wait_make(d, t.flow);
    r.hash = t.hash;
    r.snd_nxt = t.snd.nxt;
    r.rcv_nxt = t.rcv.nxt;
    r.window = t.window_open();
    r.rcv_scale = t.agreed.rcv_scale;
    r.timestamps = t.agreed.timestamps;
    r.ts_recent = t.ts.recent;
    r.ts_offset = t.ts.offset;
    r.recent_at = t.ts.recent_at;
    r.ace_flags = t.agreed.ecn == EcnMode::accurate ? t.accecn.ace_flags() : std::uint16_t{0};
    r.ttl = t.ttl;
    kill(t, base::Error::none);
    time_wait_insert(d, r);
}

void begin_sending(Tcb& t, Seq first)
{
    plpmtu_start(t);
    set_mss(t);
    t.congestion = algorithm_index(t.domain, t.so->options);
    congestion_start(t.algorithm(), t.cc, t.mss);
    if (t.retries > 1) { // RFC 5681 3.1: a lost SYN or SYN-ACK
        t.cc.cwnd = t.mss;
    }
    adopt_model(t);
    t.board.reset(first);
    t.board.recover = t.snd.iss;
    t.rack.reset(first);
    t.board.use_sack = t.agreed.sack;
    t.snd.small_end = base::min(first, t.snd.una); // a SYN in flight holds nothing back
    t.rcv.quick_acks = quick_acks_max;
}

void connection_opened(Tcb& t)
{
    Domain& d = t.domain;
    bool shown = t.fast_passive; // to its application, with the SYN
    if (shown) {
        fastopen_ended(t);
    } else {
        begin_sending(t, t.snd.una);
    }
    t.retries = 0;
    t.opened_at = d.now();
    restart_keepalive(t, d.now());
    if (t.so->snd_end != sockbuf::no_offset) {
        t.state.apply(Event::close); // closed during the handshake
    }
    if (shown && t.listener != nullptr) {
        --t.listener->pending;
        t.listener = nullptr;
    }
    if (shown || t.app_closed) {
        return;
    }
    so_publish_addresses(*t.so);
    so_publish_state(*t.so, sockbuf::SlotState::connected);
    if (t.listener != nullptr) {
        Listener& l = *t.listener;
        t.listener = nullptr;
        --l.pending;
        count(d.tcp->counters.accepts);
        t.so->user->socket_ready(l, *t.so);
    } else {
        t.so->user->socket_event(*t.so, so_connected | so_writable);
    }
}

} // namespace tcp
} // namespace protocols
