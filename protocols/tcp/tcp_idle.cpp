// Falling asleep and waking up of idle connections: see idle_connection.hpp. Nothing that a peer or an application can
// see changes by it. Owner: the domain's CPU.
#include "protocols/tcp/idle_connection.hpp"

#include <bit>

#include "base/plant.hpp"
#include "protocols/tcp/tcp_var.hpp"

namespace protocols {

namespace tcp {

namespace {

constexpr unsigned options_looked_at = 16; // sets compared with before a new one is made

std::uint32_t seconds_of(base::Instant t, base::Micros round_up = base::Micros{0})
{
    return static_cast<std::uint32_t>((t.time_since_epoch() + round_up) / base::seconds(1));
}
base::Instant instant_of(std::uint32_t s)
{
    return base::Instant{} + base::seconds(s);
}
std::uint32_t micros_of(base::Micros m)
{
    return static_cast<std::uint32_t>(std::clamp<std::int64_t>(m.count(), 0, 0xffffffff));
}

std::uint8_t shift_of(const sockbuf::RingView& ring)
{
    return static_cast<std::uint8_t>(std::countr_zero(ring.size()));
}

// Everything said is acknowledged and read, nothing is under way or waits for a timer but keepalive.
bool is_quiet(const Tcb& t)
{
    const Socket& so = *t.so;
    for (unsigned i = 0; i < deadline_count; ++i) {
        if (t.deadlines[i] != base::never && i != static_cast<unsigned>(Deadline::keepalive)) {
            return false;
        }
    }
    bool sent = t.flight() == 0 && so.snd_limit == t.snd.una_offset && so.snd_acked == so.snd_limit && !t.output_due;
    bool read = so.rcv_consumed == t.rcv.nxt_offset && so.rcv_produced == t.rcv.nxt_offset && t.out_of_order.empty();
    bool told = !t.ack_now && !t.ack_soon && t.ts.last_ack_sent == t.rcv.nxt && t.duplicate.start == t.duplicate.end;
    bool marks = t.ecn.echo || t.ecn.cwr_due;
    bool calm = !marks && t.retries == 0 && t.persist_probes == 0 && t.keepalive_probes == 0 && t.rtt.shift() == 0 &&
                t.board.phase == Recovery::none && !t.timing && t.soft_error == base::Error::none;
    return sent && read && told && calm;
}

// What an IdleConnection has no place for.
bool is_plain(const Tcb& t)
{
    const Socket& so = *t.so;
    return t.state == State::established && t.joined == nullptr && t.bbr == nullptr && t.listener == nullptr &&
           t.agreed.ecn != EcnMode::accurate && // which counts
           (t.agreed.ecn == EcnMode::none || !t.accecn.handshake.plain) && !t.algorithm().stays_awake &&
           !t.pending_link.linked() && !t.app_closed && !t.read_shut && !t.rcv.fin_known &&
           t.rcv.urgent_mark <= t.rcv.nxt_offset && // else urgent text is announced and not here yet
           (!so.options.keepalive || is_set(t, Deadline::keepalive)) && // which is what the sleeper's timer waits for
           so.snd_end == sockbuf::no_offset && !so.bound_port && !so.app_closed && t.mss <= 0xffff &&
           t.rcv.mss_seen <= 0xffff && t.bytes_retransmitted <= 0xffffffff &&
           t.ttl == so.options.ttl_towards(t.flow.peer.addr) && t.tos == so.options.tos;
}

SharedOptions* share_options(TcpState& s, SocketUser* user, const SocketOptions& o)
{
    SharedOptions* found = nullptr;
    unsigned looked = 0;
    for (SharedOptions* e = s.shared_options.front(); e != nullptr && looked != options_looked_at; ++looked) {
        if (e->user == user && e->value == o) {
            found = e;
            found->link.unlink();
            break;
        }
        e = s.shared_options.next(*e);
    }
    if (found == nullptr) {
        found = s.shared_options_slab.make(user, o);
    }
    if (found != nullptr) {
        s.shared_options.push_front(*found);
        ++found->uses;
    }
    return found;
}

void unshare_options(TcpState& s, SharedOptions& o)
{
    if (--o.uses == 0) {
        o.link.unlink();
        s.shared_options_slab.destroy(o);
    }
}

SharedOptions& options_of(const IdleConnection& i)
{
    return i.keepalive ? *i.timer->options : *i.options;
}

void idle_timer_fired(lwkt::Timer& timer)
{
    IdleConnection& i = static_cast<IdleTimer&>(timer).idle;
    Domain& d = *static_cast<IdleTimer&>(timer).domain;
    if (tcp_wake(d, i) == nullptr) { // no memory: later
        d.wheel.arm(timer, d.now() + base::seconds(1));
    }
}

void free_idle(Domain& d, IdleConnection& i)
{
    TcpState& s = *d.tcp;
    unshare_options(s, options_of(i));
    if (i.keepalive) {
        i.timer->link.unlink();
        s.idle_timer_slab.destroy(*i.timer);
    }
    s.idle_slab.destroy(i);
}

void restore_socket(const IdleConnection& i, Socket& so)
{
    so.family = i.family;
    so.options = options_of(i).value;
    so.flow = i.flow;
    so.snd_ring = {nullptr, i.snd_ring_shift};
    so.rcv_ring = {nullptr, i.rcv_ring_shift};
    so.snd_acked = so.snd_limit = i.snd_offset;
    so.rcv_produced = so.rcv_consumed = i.rcv_offset;
}

void restore(const IdleConnection& i, Tcb& t)
{
    base::Instant now = t.domain.now();
    t.state.apply(Event::open_passive);
    t.state.apply(Event::got_syn);
    t.state.apply(Event::handshake_acked);
    t.agreed = {
        i.peer_mss, i.snd_scale, i.rcv_scale, i.scale, i.sack, i.timestamps, i.ecn ? EcnMode::classic : EcnMode::none};
    t.snd.una = t.snd.nxt = t.snd.small_end = t.snd.wl2 = i.snd_nxt;
    t.snd.iss = i.snd_nxt - (static_cast<std::uint32_t>(i.snd_offset) + 1);
    t.snd.wnd = i.snd_wnd;
    t.snd.wnd_max = i.snd_wnd_max;
    t.rcv.nxt = t.snd.wl1 = t.ts.last_ack_sent = i.rcv_nxt; // a segment from now on is newer than wl1, wl2
    t.rcv.irs = i.rcv_nxt - (static_cast<std::uint32_t>(i.rcv_offset) + 1);
    t.rcv.adv = i.rcv_adv;
    t.rcv.mss_seen = i.mss_seen;
    t.rcv.quick_acks = i.quick_acks;
    t.rcv.interactive = i.interactive;
    t.opened_at = t.rcv.last_text = t.last_received = instant_of(i.last_received_s);
    t.ts.offset = i.ts_offset;
    t.ts.recent = i.ts_recent;
    t.ts.recent_at = instant_of(i.ts_recent_at_s);
    t.board.reset(t.snd.una);
    t.board.recover = t.snd.una - 1;
    t.rack.reset(t.snd.una);
    t.board.use_sack = i.sack;
    t.congestion = algorithm_index(t.domain, t.so->options);
    congestion_start(t.algorithm(), t.cc, i.mss);
    t.mss = i.mss;
    t.cc.cwnd = i.cwnd;
    t.cc.ssthresh = i.ssthresh;
    if (&t.algorithm() == &cubic_algorithm) {
        t.cc.cubic.w_max = i.w_max;
    }
    t.rtt.restore(base::Micros{i.srtt_us}, base::Micros{i.rttvar_us}, base::Micros{i.rtt_min_us});
    adopt_model(t); // chosen while it slept
    t.last_sent = i.last_sent_s != 0 ? std::min(now, instant_of(i.last_sent_s)) : base::Instant{};
    t.bytes_acked = i.snd_offset;
    t.bytes_received = i.rcv_offset;
    t.segments_out = i.segments_out;
    t.segments_in = i.segments_in;
    t.fast_done = i.fast_done;
    t.data_segments_out = i.data_segments_out;
    t.bytes_retransmitted = i.bytes_retransmitted;
    t.retransmitted = i.retransmitted;
    plpmtu_resume(t);
    if (i.keepalive) { // woken by it, or before it is due
        t.last_received = i.timer->heard;
        set_deadline(t, Deadline::keepalive, i.timer->armed() ? i.timer->deadline() : now);
    }
}

} // namespace

IdleTimer::IdleTimer(Domain& d, IdleConnection& i, SharedOptions& o)
    : lwkt::Timer(idle_timer_fired), domain(&d), idle(i), options(&o)
{
}

} // namespace tcp

IdleConnection::IdleConnection(const Tcb& t, void* ref)
    : FlowNode(tcp::NodeKind::idle, t.flow), user_ref(ref), snd_offset(t.snd.una_offset), rcv_offset(t.rcv.nxt_offset),
      snd_nxt(t.snd.nxt), rcv_nxt(t.rcv.nxt), rcv_adv(t.rcv.adv), snd_wnd(t.snd.wnd), snd_wnd_max(t.snd.wnd_max),
      ts_recent(t.ts.recent), ts_offset(t.ts.offset), cwnd(t.cc.cwnd), ssthresh(t.cc.ssthresh),
      w_max(&t.algorithm() == &tcp::cubic_algorithm ? t.cc.cubic.w_max : 0), srtt_us(tcp::micros_of(t.rtt.srtt())),
      rttvar_us(tcp::micros_of(t.rtt.rttvar())), rtt_min_us(tcp::micros_of(t.rtt.min())),
      ts_recent_at_s(tcp::seconds_of(t.ts.recent_at)), last_received_s(tcp::seconds_of(t.last_received)),
      last_sent_s(tcp::seconds_of(t.last_sent, base::seconds(1) - base::Micros{1})),
      bytes_retransmitted(static_cast<std::uint32_t>(t.bytes_retransmitted)), segments_out(t.segments_out),
      data_segments_out(t.data_segments_out), segments_in(t.segments_in), retransmitted(t.retransmitted),
      slot_id(t.so->slot_id), mss(static_cast<std::uint16_t>(t.mss)),
      mss_seen(static_cast<std::uint16_t>(t.rcv.mss_seen)), peer_mss(t.agreed.peer_mss),
      snd_ring_shift(tcp::shift_of(t.so->snd_ring)), rcv_ring_shift(tcp::shift_of(t.so->rcv_ring)),
      snd_scale(t.agreed.snd_scale & 15), rcv_scale(t.agreed.rcv_scale & 15), family(t.so->family),
      scale(t.agreed.scale), sack(t.agreed.sack), timestamps(t.agreed.timestamps),
      ecn(t.agreed.ecn == tcp::EcnMode::classic), fast_done(t.fast_done), interactive(t.rcv.interactive),
      quick_acks(t.rcv.quick_acks)
{
}

bool tcp_sleeps_later(const Socket& so)
{
    if (so.tcb == nullptr) {
        return false;
    }
    const Tcb& t = *so.tcb;
    bool owes_pace = t.pacer.next > t.domain.now() && tcp::pacing_rate(t) != 0;
    bool narrow = t.route.narrow_until > t.domain.now(); // the table may lose that, who is awake does not
    return owes_pace || narrow;
}

bool tcp_may_sleep(const Socket& so)
{
    return so.tcb != nullptr && tcp::is_plain(*so.tcb) && tcp::is_quiet(*so.tcb) && !tcp_sleeps_later(so);
}

IdleConnection* tcp_sleep(Domain& d, Socket& so, void* user_ref)
{
    base::assert_on(d.cpu.owner());
    // Once more what the application wrote: the rings go.
    if (!tcp_may_sleep(so) || (!base::planted(base::Plant::asleep_with_text_unsent) && !so_take_send(so)) ||
        !so_take_consumed(so) || !tcp_may_sleep(so)) {
        return nullptr;
    }
    TcpState& s = *d.tcp;
    Tcb& t = *so.tcb;
    tcp::SharedOptions* options = tcp::share_options(s, so.user, so.options);
    IdleConnection* i = options != nullptr ? s.idle_slab.make(t, user_ref) : nullptr;
    if (i == nullptr) {
        if (options != nullptr) {
            tcp::unshare_options(s, *options);
        }
        return nullptr;
    }
    i->options = options;
    if (so.options.keepalive) {
        tcp::IdleTimer* timer = s.idle_timer_slab.make(d, *i, *options);
        if (timer == nullptr) {
            tcp::unshare_options(s, *options);
            s.idle_slab.destroy(*i);
            return nullptr;
        }
        i->keepalive = true;
        i->timer = timer;
        timer->heard = t.last_received;
        s.idle_timers.push_back(*timer);
        d.wheel.arm(*timer, t.deadlines[static_cast<unsigned>(tcp::Deadline::keepalive)]);
    }
    so.tcb = nullptr;
    tcp::free_tcb(t);
    s.flows.insert(*i);
    count(s.counters.slept);
    return i;
}

Tcb* tcp_wake(Domain& d, IdleConnection& i)
{
    base::assert_on(d.cpu.owner());
    TcpState& s = *d.tcp;
    Route route;
    bool has_way = route_lookup(d, i.flow.peer.addr, route, i.flow.local.addr) && is_local(d, i.flow.local.addr);
    if (!has_way) { // it cannot send now; its patience decides, not ours
        Interface& any = *d.stack.interfaces().front();
        route = Route{&any, i.flow.peer.addr, i.flow.local.addr, std::min(any.netif->info().mtu, 1500U)};
    }
    Tcb* t = s.tcbs.make(d, i.flow);
    Socket* so = t != nullptr ? tcp::options_of(i).user->socket_wakes(i.user_ref, i.slot_id) : nullptr;
    if (so == nullptr) {
        count(s.counters.no_memory);
        if (t != nullptr) {
            s.tcbs.destroy(*t);
        }
        return nullptr;
    }
    s.flows.remove(i);
    tcp::restore_socket(i, *so);
    tcp::adopt_tcb(*t, so);
    t->route = route;
    tcp::restore(i, *t);
    if (has_way) {
        tcp::fit_way(*t);
    }
    so->user->socket_rings(*so); // none: text waits until there are some
    tcp::free_idle(d, i);
    count(s.counters.woken);
    return t;
}

const base::FourTuple& tcp_idle_flow(const IdleConnection& i)
{
    return i.flow;
}

} // namespace protocols
