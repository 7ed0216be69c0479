// SYN-SENT (RFC 9293 3.10.7.3): ACK, RST, SYN in that order; a SYN without ACK is a simultaneous open (MUST-10).
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

bool ack_acceptable(const Tcb& t, const Segment& s)
{
    return s.ack() > t.snd.iss && s.ack() <= t.snd.nxt;
}

void take_options(Tcb& t, const Segment& s)
{
    const wire::TcpOptions& o = s.header.options;
    EcnMode asked = ecn_asked(t.domain, t.so->options);
    t.agreed = negotiate(o, t.agreed);
    t.agreed.ecn = s.has(wire::tcp_ack) ? ecn_answered(asked, s)
                                        : ecn_accepted(t.domain, t.so->options, s); // RFC 9768 3.1.2: as a listener
    EcnHandshake h{.peer_field = static_cast<std::uint8_t>(s.ip->tos & ecn_field)};
    // RFC 3168 6.1.1: a SYN of ours that said nothing forbids ECT; that to the first one came this answer is no excuse
    h.plain = t.agreed.ecn == EcnMode::classic && ecn_flags_of_syn(asked, t.retries) == 0;
    accecn_start(t, h);
    t.board.use_sack = t.agreed.sack;
    if (t.agreed.timestamps) {
        t.ts.recent = o.ts_val;
        t.ts.recent_at = t.domain.now();
    }
}

void synchronize(Tcb& t, const Segment& s)
{
    heard(t);
    t.rcv.irs = s.seq;
    t.rcv.nxt = s.seq + 1;
    // What our SYN offered, from the first octet on: the window of a SYN is never scaled (RFC 7323 2.2).
    t.rcv.adv = t.rcv.nxt + std::min<std::uint32_t>(receive_window(t), window_unscaled_max);
    t.ts.last_ack_sent = t.rcv.nxt;
    take_options(t, s);
    t.snd.wnd = s.header.window;
    t.snd.wnd_max = std::max(t.snd.wnd_max, t.snd.wnd);
    t.snd.wl1 = s.seq;
    t.snd.wl2 = s.ack();
}

void finish_open(Tcb& t, Segment& s)
{
    synchronize(t, s);
    bool measured = t.retries == 0;                                  // Karn
    auto text = static_cast<std::uint32_t>(s.ack() - t.snd.iss) - 1; // of ours that was taken with the SYN
    if (t.fast_active) {
        fastopen_answered(t, s, text);
    }
    t.snd.una = t.snd.nxt = s.ack(); // RFC 7413 4.2.2: what was not taken goes once more, as new
    t.snd.una_offset += 1 + text;    // the SYN has no offset
    t.bytes_acked += text;
    t.state.apply(Event::got_syn_ack);
    if (measured) {
        t.rtt.sample(t.domain.now() - t.timed_at);
    } else {
        t.rtt.handshake_was_slow();
    }
    clear_deadline(t, Deadline::retransmit);
    connection_opened(t);
    bool answered = t.agreed.ecn == EcnMode::accurate;
    if (answered) {
        accecn_syn_ack(t, s);
    }
    // What follows the SYN in the same segment (RFC 9293: continue at the sixth step).
    s.seq += 1;
    trim_back(s, t.rcv.nxt + t.window_open()); // nobody else does: the ring may hold less than a server says
    Actions a;
    a.ack_now = !answered || s.len != 0 || s.fin;
    a.output = !a.ack_now || !at_rest(t); // with the ACK goes what output() does without text
    a.acked = text != 0;
    Verdict v = check_urgent(t, s, a);
    if (v == Verdict::next) {
        v = take_text(t, s, a);
    }
    if (v == Verdict::next) {
        v = check_fin(t, s, a);
    }
    apply_actions(t, s, v, a);
}

} // namespace

void segment_in_syn_sent(Tcb& t, Segment& s)
{
    bool has_ack = s.has(wire::tcp_ack);
    if (has_ack && !ack_acceptable(t, s)) { // first
        if (!s.has(wire::tcp_rst)) {
            send_reset_for(t.domain, s);
            hurry_syn(t);
        }
        return;
    }
    if (s.has(wire::tcp_rst)) { // second
        if (has_ack) {
            count(t.domain.tcp->counters.resets_in);
            kill(t, base::Error::connection_refused);
        }
        return;
    }
    if (!s.has(wire::tcp_syn)) { // fourth (third, security, is absent: see check_security)
        return;
    }
    if (has_ack) {
        finish_open(t, s);
        return;
    }
    synchronize(t, s); // simultaneous open
    t.state.apply(Event::got_syn);
    t.snd.nxt = t.snd.iss + 1; // text of the SYN goes again
    send_syn(t);
    restart_retransmit(t);
}

} // namespace protocols::tcp
