// LISTEN (RFC 9293 3.10.7.2): RST, ACK, SYN are looked at in that order. A SYN becomes a SYN cache entry; an ACK may
// bring back a cookie. Text in a SYN is not kept, the peer sends it again, but with TCP Fast Open (tcp_fastopen.cpp).
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

// A cookie cannot choose its number: behind a TIME-WAIT record it may lie below those of before (RFC 9293 3.6.1). In a
// flood a connection that only the peer's own checks protect from old segments is better than none.
void answer_with_cookie(Domain& d, const Listener& l, const Segment& s, const Negotiated& n, Route& route)
{
    TcpState& state = *d.tcp;
    Cookie cookie = make_cookie(state, s, n);
    Negotiated said = n;
    said.rcv_scale = default_rcv_scale;
    said.scale &= n.timestamps; // without a timestamp nothing carries these back
    said.sack &= n.timestamps;
    if (said.ecn == EcnMode::classic && !n.timestamps) {
        said.ecn = EcnMode::none;
    }
    EcnHandshake ecn{.peer_field = static_cast<std::uint8_t>(s.ip->tos & ecn_field)};
    Reply r;
    r.flow = s.flow;
    r.route = &route;
    r.ttl = l.options.ttl_towards(s.flow.peer.addr);
    r.tos = l.options.tos;
    r.header.seq = cookie.iss;
    r.header.ack = s.seq + 1;
    r.header.flags = wire::tcp_syn | wire::tcp_ack | ecn_flags_of_syn_ack(said.ecn, ecn, 0);
    r.header.window = first_window(l);
    r.header.options = syn_options(said, mss_to_announce(d, route, l.options), cookie.ts_val, s.header.options.ts_val);
    send_reply(d, r);
    count(state.counters.cookies_sent);
    state.syn_cache.cookies_until = d.now() + cookie_life;
}

// Makes room when cookies are off: the oldest half-open connection goes.
bool make_room(Domain& d)
{
    SynEntry* oldest = d.tcp->syn_cache.entries.front();
    if (oldest == nullptr) {
        return false;
    }
    syn_cache_remove(*oldest);
    return true;
}

} // namespace

void take_syn(Domain& d, Listener& l, const Segment& s, Seq iss)
{
    TcpState& state = *d.tcp;
    Route route;
    if (!route_lookup(d, s.flow.peer.addr, route, s.flow.local.addr)) {
        return;
    }
    if (!l.user->socket_has_place(l)) { // as tcp_conn_request of Linux: whoever connects waits, and tries again
        count(state.counters.accept_refused);
        return;
    }
    Negotiated n = negotiate(s.header.options, offer(d, l.options));
    n.ecn = ecn_accepted(d, l.options, s);
    EcnHandshake ecn{.peer_field = static_cast<std::uint8_t>(s.ip->tos & ecn_field)};
    FastOpenVerdict fast = judge_fastopen(d, l, s);
    Opening o{&l, iss, s.seq, n, ecn, timestamp_offset(state, s.flow), s.header.options.ts_val, route};
    if (fast.take && open_fast(d, s, o, fast.give_cookie)) {
        return;
    }
    bool queue_full = l.pending >= l.half_open_max; // as inet_csk_reqsk_queue_is_full of Linux
    SynEntry* e = queue_full ? nullptr : state.syn_cache.slab.make(d, s.flow, l);
    if (e == nullptr) {
        count(queue_full ? state.counters.half_open_full : state.counters.syn_cache_full);
        if (d.stack.options().syn_cookies) {
            answer_with_cookie(d, l, s, n, route);
            return;
        }
        if (queue_full) {
            return; // the peer tries again
        }
        e = make_room(d) ? state.syn_cache.slab.make(d, s.flow, l) : nullptr;
        if (e == nullptr) {
            return;
        }
    }
    e->agreed = n;
    e->ecn = ecn;
    e->route = route;
    e->irs = s.seq;
    e->iss = o.iss;
    e->ts_offset = o.ts_offset;
    e->ts_recent = o.ts_recent;
    e->give_cookie = fast.give_cookie;
    e->sent_at = d.now();
    e->hash = s.flow_hash;
    state.flows.insert(*e);
    state.flows.remember(*e, s.packet->flow_hash);
    state.syn_cache.entries.push_back(*e);
    ++l.pending;
    send_syn_ack(*e);
    d.wheel.arm(*e, d.now() + rto_initial);
}

namespace {

// At once, whatever TCP_DEFER_ACCEPT says, as Linux: nothing is kept here that could wait for text.
void take_ack(Domain& d, Listener& l, Segment s)
{
    Opening o;
    if (d.now() >= d.tcp->syn_cache.cookies_until || !open_cookie(*d.tcp, l.options, s, o.agreed)) {
        send_reset_for(d, s);
        return;
    }
    o.listener = &l;
    o.iss = s.ack() - 1;
    o.irs = s.seq - 1;
    o.ts_offset = timestamp_offset(*d.tcp, s.flow);
    o.ts_recent = s.header.options.ts_val;
    if (!route_lookup(d, s.flow.peer.addr, o.route, s.flow.local.addr)) {
        return;
    }
    if (Tcb* t = open_passive(d, s.flow, o); t != nullptr) {
        complete_handshake(*t, s);
    }
}

} // namespace

void segment_in_listen(Domain& d, Listener& l, const Segment& s)
{
    if (s.has(wire::tcp_rst)) { // first: ignored
        return;
    }
    if (s.has(wire::tcp_ack)) { // second: nothing is outstanding but, perhaps, a cookie
        if (s.has(wire::tcp_syn)) {
            send_reset_for(d, s);
        } else {
            take_ack(d, l, s);
        }
        return;
    }
    if (s.has(wire::tcp_syn) && !s.fin) { // third; SYN with FIN is nobody's handshake
        take_syn(d, l, s, initial_sequence(*d.tcp, s.flow, d.now()));
    }
}

} // namespace protocols::tcp
