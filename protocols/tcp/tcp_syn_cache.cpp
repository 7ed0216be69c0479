// Half-open connections (RFC 4987): the SYN-ACK and its retransmission, what comes back, and the step from there to a
// Tcb. Owner: the domain's CPU.
#include "base/plant.hpp"
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

SynEntry::SynEntry(Domain& d, const base::FourTuple& f, Listener& l)
    : FlowNode(NodeKind::syn, f), lwkt::Timer(syn_cache_timer), domain(d), listener(&l)
{
}

namespace {

// Frees an entry that is no longer in the flow table.
void forget(SynEntry& e)
{
    e.link.unlink();
    e.listener->pending -= base::planted(base::Plant::credit_leaked) ? 0 : 1;
    if (!base::planted(base::Plant::half_open_leaked)) {
        e.domain.tcp->syn_cache.slab.destroy(e);
    }
}

} // namespace

void syn_cache_remove(SynEntry& e)
{
    e.domain.tcp->flows.remove(e);
    forget(e);
}

// No more than the ring that the connection will have: window that is offered is not taken back (RFC 9293 3.8.6).
std::uint16_t first_window(const Listener& l)
{
    std::uint32_t wanted = l.options.receive_ring_bytes;
    std::uint32_t ring = wanted != 0 ? wanted : l.user->socket_ring_default();
    ring = base::planted(base::Plant::first_window_too_large) ? window_unscaled_max : ring;
    return static_cast<std::uint16_t>(std::min<std::uint32_t>(ring, window_unscaled_max));
}

void send_syn_ack(SynEntry& e)
{
    const SocketOptions& o = e.listener->options;
    Reply r;
    r.flow = e.flow;
    r.route = &e.route;
    r.ttl = o.ttl_towards(e.flow.peer.addr);
    r.tos = o.tos;
    r.header.seq = e.iss;
    r.header.ack = e.irs + 1;
    r.header.flags = wire::tcp_syn | wire::tcp_ack | ecn_flags_of_syn_ack(e.agreed.ecn, e.ecn, e.retries);
    r.header.window = first_window(*e.listener);
    r.header.options = syn_options(
        e.agreed, mss_to_announce(e.domain, e.route, o), timestamp_now(e.domain.now(), e.ts_offset), e.ts_recent);
    FastOpenCookie cookie;
    if (e.give_cookie) {
        cookie = cookie_for(e.domain, o, e.flow);
        r.header.options.cookie = cookie.value.data();
        r.header.options.cookie_bytes = cookie.bytes;
    }
    if (e.agreed.ecn == EcnMode::accurate && !e.ecn.no_option && !e.give_cookie) { // beside a cookie is no room
        r.header.options.accecn = accecn_first_option();
    }
    send_reply(e.domain, r);
}

namespace {

constexpr unsigned timeouts_max = 255;

// After `timeouts` of them.
base::Micros syn_ack_wait(unsigned timeouts)
{
    constexpr unsigned shift_max = 7; // beyond rto_max
    return std::min(rto_initial * (1 << std::min(timeouts, shift_max)), rto_max);
}

} // namespace

unsigned timeouts_in(std::uint32_t seconds)
{
    if (seconds == 0) {
        return 0;
    }
    unsigned n = 1;
    for (base::Micros all = syn_ack_wait(0); all < base::seconds(seconds) && n < timeouts_max; ++n) {
        all += syn_ack_wait(n);
    }
    return n;
}

std::uint32_t seconds_of_timeouts(unsigned timeouts)
{
    base::Micros all{0};
    for (unsigned i = 0; i < timeouts; ++i) {
        all += syn_ack_wait(i);
    }
    return static_cast<std::uint32_t>(all / base::seconds(1));
}

// As syn_ack_recalc of Linux: while text is waited for behind the ACK nothing is sent again; the last SYN-ACK of that
// time gives the peer the chance to say with its ACK, or text, that it is still there.
void syn_cache_timer(lwkt::Timer& timer)
{
    auto& e = static_cast<SynEntry&>(timer);
    unsigned deferred = timeouts_in(e.listener->options.defer_accept_s);
    ++e.timeouts;
    if (e.timeouts > retries_syn_ack && (!e.acked || e.timeouts > deferred)) {
        syn_cache_remove(e);
        return;
    }
    if (!e.acked) {
        ++e.retries;
        e.ecn.no_option = true; // a middlebox may dislike it (RFC 9768 3.2.3.2.2)
    }
    if (!e.acked || e.timeouts >= deferred) {
        send_syn_ack(e);
    }
    e.domain.wheel.arm(e, e.domain.now() + syn_ack_wait(e.timeouts));
}

namespace {

void acknowledge(SynEntry& e)
{
    if (!may_challenge(e.domain)) {
        return;
    }
    count(e.domain.tcp->counters.challenge_acks);
    Reply r;
    r.flow = e.flow;
    r.route = &e.route;
    r.ttl = e.listener->options.ttl_towards(e.flow.peer.addr);
    r.tos = e.listener->options.tos;
    r.header.seq = e.iss + 1;
    r.header.ack = e.irs + 1;
    r.header.flags = wire::tcp_ack | (e.agreed.ecn == EcnMode::accurate ? AccEcn{}.ace_flags() : 0);
    r.header.window = static_cast<std::uint16_t>(first_window(*e.listener) >> e.agreed.rcv_scale);
    if (e.agreed.timestamps) {
        r.header.options.has_timestamp = true;
        r.header.options.ts_val = timestamp_now(e.domain.now(), e.ts_offset);
        r.header.options.ts_ecr = e.ts_recent;
    }
    send_reply(e.domain, r);
}

bool paws_rejects(const SynEntry& e, const Segment& s)
{
    return e.agreed.timestamps && is_older(s.header.options.ts_val, e.ts_recent);
}

// TCP_DEFER_ACCEPT: an ACK that brings nothing opens no connection yet. True: it was noted.
bool waits_for_text(SynEntry& e, const Segment& s)
{
    bool bare = s.seq + s.space() == e.irs + 1;
    if (!bare || e.timeouts >= timeouts_in(e.listener->options.defer_accept_s)) {
        return false;
    }
    if (!e.acked) {
        e.acked = true;
        e.rtt = e.domain.now() - e.sent_at;
    }
    if (e.agreed.timestamps) {
        e.ts_recent = s.header.options.ts_val;
    }
    return true;
}

// The ACK that completes the handshake: entry out, Tcb in, and the segment goes through the eight steps.
void promote(SynEntry& e, Segment& s)
{
    Domain& d = e.domain;
    Opening o{e.listener, e.iss, e.irs, e.agreed, e.ecn, e.ts_offset, e.ts_recent, e.route, e.hash};
    base::Instant sent_at = e.acked ? d.now() - e.rtt : e.sent_at;
    unsigned retries = e.retries;
    base::FourTuple flow = e.flow;
    d.tcp->flows.remove(e); // makes place for the Tcb
    Tcb* t = open_passive(d, flow, o);
    if (t == nullptr) {
        d.tcp->flows.insert(e); // refused: the peer sends its ACK, or text, again
        return;
    }
    d.tcp->flows.remember(*t, s.packet->flow_hash);
    forget(e);
    t->timed_at = sent_at;
    t->retries = retries;
    complete_handshake(*t, s);
}

} // namespace

Tcb* open_passive(Domain& d, const base::FourTuple& flow, const Opening& o)
{
    Socket* so = o.listener->user->socket_accepted(*o.listener, flow);
    if (so == nullptr) {
        count(d.tcp->counters.accept_refused);
        return nullptr;
    }
    Tcb* t = make_tcb(d, flow, so, NodeKind::tcb, o.flow_hash);
    if (t == nullptr) {
        so->user->socket_detached(*so);
        return nullptr;
    }
    t->listener = o.listener;
    ++o.listener->pending;
    t->agreed = o.agreed;
    t->route = o.route;
    t->ts.offset = o.ts_offset;
    t->ts.recent = o.ts_recent;
    t->ts.recent_at = d.now();
    t->snd.iss = t->snd.una = o.iss;
    t->snd.nxt = o.iss + 1;
    --t->snd.una_offset;
    t->rcv.irs = o.irs;
    t->rcv.nxt = t->ts.last_ack_sent = o.irs + 1;
    t->rcv.adv = t->rcv.nxt + first_window(*o.listener); // as the SYN-ACK says
    accecn_start(*t, o.ecn);
    t->state.apply(Event::open_passive);
    t->state.apply(Event::got_syn);
    return t;
}

void complete_handshake(Tcb& t, Segment& s)
{
    Domain& d = t.domain;
    Listener& l = *t.listener;
    base::FourTuple flow = t.flow;
    std::uint32_t pending = l.pending;
    segment_in_connection(t, s);
    if (l.pending != pending) {
        return; // it is open, or over
    }
    FlowNode* left = d.tcp->flows.find(flow);
    if (left != nullptr && left->kind == NodeKind::tcb) {
        kill(*static_cast<Tcb*>(left), base::Error::none);
    }
}

void segment_in_syn_cache(Domain& d, SynEntry& e, Segment& s)
{
    bool in_window = s.seq.in_window(e.irs + 1, first_window(*e.listener)) || s.seq == e.irs + 1;
    if (s.has(wire::tcp_rst)) { // RFC 5961 3; back to LISTEN
        if (s.seq == e.irs + 1) {
            count(d.tcp->counters.resets_in);
            syn_cache_remove(e);
        } else if (in_window) {
            acknowledge(e);
        }
        return;
    }
    if (s.has(wire::tcp_syn)) {
        if (s.seq == e.irs && !s.has(wire::tcp_ack)) {
            if (!ecn_syn_again(e.agreed.ecn, e.ecn, ecn_accepted(d, e.listener->options, s), s)) {
                send_reset_for(d, s);
                syn_cache_remove(e);
                return;
            }
            send_syn_ack(e); // our SYN-ACK was lost
        } else {
            acknowledge(e); // RFC 5961 4
        }
        return;
    }
    if (!s.has(wire::tcp_ack)) {
        return;
    }
    if (s.ack() != e.iss + 1) { // RFC 9293 3.10.7.4: SYN-RECEIVED, unacceptable ACK
        send_reset_for(d, s);
        return;
    }
    if (e.agreed.timestamps && !s.header.options.has_timestamp) {
        return; // RFC 7323 3.2
    }
    if (!in_window || paws_rejects(e, s)) {
        acknowledge(e);
        return;
    }
    if (!waits_for_text(e, s)) {
        promote(e, s);
    }
}

} // namespace protocols::tcp
