// SYN-RECEIVED and later: the steps of RFC 9293 3.10.7.4 in its order, with RFC 7323 5.3 in front and RFC 5961 inside;
// then what they asked for, done once. Step 5 is tcp_ack.cpp, step 7 tcp_reass.cpp. Owner: the Tcb's.
#include "base/plant.hpp"
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

// Two SYNs crossed (RFC 9293 3.5, figure 8), and this is the peer's SYN again, now with the ACK of ours: that completes
// the handshake. By its number alone it would be an old duplicate.
bool answers_crossed_syn(const Tcb& t, const Segment& s)
{
    return t.state == State::syn_received && s.has(wire::tcp_syn) && s.has(wire::tcp_ack) && s.seq == t.rcv.irs &&
           s.ack() == t.snd.nxt;
}

} // namespace

// RFC 7323 5.3 R1-R3. RST is exempt (5.2); so is a connection that was silent for 24 days (5.5).
Verdict check_paws(Tcb& t, Segment& s, Actions&)
{
    if (!t.agreed.timestamps || s.has(wire::tcp_rst)) {
        return Verdict::next;
    }
    if (!s.header.options.has_timestamp) {
        // RFC 7323 3.2: once negotiated, a segment without it is dropped in silence. Not a SYN: a peer that has begun
        // again, and uses none now, learns from the answer to it that we know of a connection (RFC 5961 4).
        if (!s.has(wire::tcp_syn) || answers_crossed_syn(t, s)) {
            return Verdict::drop;
        }
        return t.fast_passive ? Verdict::next : Verdict::challenge; // its text is none of this connection's
    }
    base::Instant now = t.domain.now();
    if (is_older(s.header.options.ts_val, t.ts.recent) && now - t.ts.recent_at < paws_idle) {
        count(t.domain.tcp->counters.paws_drops);
        return Verdict::drop_and_ack;
    }
    return Verdict::next;
}

// R3, after R2 (the sequence number is acceptable) and after what RFC 5961 5 asks of the ACK, as on Linux, or who
// guesses one number makes all that the peer sends old: taken only from the segment that spans what we acknowledged
// last, so that delayed ACKs do not shorten the peer's RTT. Where check_paws() let an older one pass, what was kept is
// out of date (5.5): it gives way, or nothing would be compared until the peer's clock has passed it.
void keep_timestamp(Tcb& t, const Segment& s)
{
    const wire::TcpOptions& o = s.header.options;
    if (t.agreed.timestamps && o.has_timestamp && s.header.seq <= t.ts.last_ack_sent) {
        t.ts.recent = o.ts_val;
        t.ts.recent_at = t.domain.now();
    }
}

namespace {

// Text and SYN below the window go; true when something of the segment is left or its ACK may still be used.
void trim_front(Tcb& t, Segment& s)
{
    auto old = static_cast<std::uint32_t>(t.rcv.nxt - s.seq);
    if (s.has(wire::tcp_syn)) { // a SYN of the past; what it carries is not
        s.seq += 1;
        --old;
        s.header.flags = static_cast<std::uint16_t>(s.header.flags & ~wire::tcp_syn);
        s.was_syn = true;
    }
    std::uint32_t cut = std::min(old, s.len);
    if (cut != 0) {
        t.duplicate = {s.seq, s.seq + cut, 0}; // D-SACK (RFC 2883 4)
    }
    s.seq += cut;
    s.len -= cut;
    s.text_at += base::planted(base::Plant::old_text_not_trimmed) ? 0 : cut;
}

// What the peer sent last may be here and a hole before it: a reset behind that is one, too, as on Linux. A challenge
// would be answered by nobody where a middlebox has forgotten the connection with the reset.
bool resets_behind_hole(const Tcb& t, const Segment& s)
{
    return t.agreed.sack && !t.out_of_order.empty() && s.seq == t.out_of_order.highest();
}

// Behind the peer's FIN a reset with the FIN's own number is one, too, as on Linux: macOS and middleboxes send it so.
bool resets_at_fin(const Tcb& t, const Segment& s)
{
    bool behind_fin = fin_received(t.state) && t.state != State::time_wait;
    return behind_fin && s.has(wire::tcp_rst) && s.seq + 1 == t.rcv.nxt;
}

} // namespace

void trim_back(Segment& s, Seq edge)
{
    if (s.text_end() > edge) {
        s.len = edge > s.seq ? static_cast<std::uint32_t>(edge - s.seq) : 0;
        s.fin = false;
    }
}

// An ACK that answers what carries no text may itself be no better to the peer, which then answers it, and so on for
// ever (where a forged segment moved both ends' numbers apart): one now and then is enough for a peer that asks.
bool may_spare_ack(base::Instant& last, base::Instant now)
{
    if (last != base::Instant{} && now - last < spare_ack_time) {
        return false;
    }
    last = now;
    return true;
}

// Text and FIN make no such loop, and whoever sends them waits for the answer.
bool must_be_answered(const Segment& s)
{
    return s.space() != 0 && !s.has(wire::tcp_syn);
}

// First: the four-case table of RFC 9293 3.10.7.4 (SEG.LEN and RCV.WND zero or not), then the segment is trimmed to the
// window.
Verdict check_sequence(Tcb& t, Segment& s, Actions& a)
{
    if (answers_crossed_syn(t, s)) {
        if (t.agreed.ecn == EcnMode::accurate && ecn_answered(EcnMode::accurate, s) == EcnMode::classic) {
            a.error = base::Error::connection_reset; // RFC 9768 3.1.5
            return Verdict::abort;
        }
        trim_front(t, s);
        a.ack_now = true;
    }
    std::uint32_t window = t.window_open();
    std::uint32_t space = s.space();
    bool old = space != 0 ? s.seq + space <= t.rcv.nxt : s.seq < t.rcv.nxt;
    bool beyond = window != 0 ? s.seq >= t.rcv.nxt + window : s.seq > t.rcv.nxt;
    if (space == 0 && s.seq == t.rcv.nxt + window) {
        beyond = false; // a pure ACK at the right edge: the peer has filled the window we offered
    }
    if (resets_at_fin(t, s)) {
        return Verdict::next;
    }
    if (old || beyond) {
        if (t.fast_passive && s.has(wire::tcp_syn) && s.seq == t.rcv.irs && !s.has(wire::tcp_ack)) {
            EcnMode asked = ecn_accepted(t.domain, t.so->options, s);
            if (!ecn_syn_again(t.agreed.ecn, t.accecn.handshake, asked, s)) {
                a.error = base::Error::connection_reset;
                return Verdict::abort;
            }
            send_syn(t); // our SYN-ACK was lost
            return Verdict::drop;
        }
        if (t.agreed.ecn == EcnMode::accurate && accecn_syn_ack_again(t, s)) {
            return Verdict::drop;
        }
        count(t.domain.tcp->counters.out_of_window);
        if (old && s.len + s.fin != 0) {
            t.duplicate = {s.seq, s.text_end() + s.fin, 0};
        }
        // RFC 9293 (MUST-4 and below): an acknowledgment in reply, unless RST
        return s.has(wire::tcp_rst) ? Verdict::drop : Verdict::drop_and_ack;
    }
    if (s.has(wire::tcp_rst) || (s.has(wire::tcp_syn) && s.seq < t.rcv.nxt)) {
        return Verdict::next; // judged by its exact number; challenged with all it carries (RFC 5961 4.2)
    }
    if (s.seq < t.rcv.nxt) {
        trim_front(t, s);
        a.ack_now = true;
    }
    if (s.text_end() > t.rcv.nxt + window) {
        trim_back(s, t.rcv.nxt + window);
        a.ack_now = true; // zero window: ACK, URG and RST are still looked at
    }
    return Verdict::next;
}

// Second: RST (RFC 5961 3). Only the exact next number (or the FIN's) resets; elsewhere in the window it is challenged.
Verdict check_reset(Tcb& t, Segment& s, Actions& a)
{
    if (!s.has(wire::tcp_rst)) {
        return Verdict::next;
    }
    if (s.seq != t.rcv.nxt && !resets_at_fin(t, s) && !resets_behind_hole(t, s)) {
        return Verdict::challenge;
    }
    count(t.domain.tcp->counters.resets_in);
    switch (t.state) {
    case State::syn_received:
        a.error = base::Error::connection_refused; // a passive open goes back to LISTEN: no socket hears of it
        if (t.fast_passive) {                      // but of this one
            a.error = base::Error::connection_reset;
            if (t.listener != nullptr) {
                t.listener->fast_resets.add(t.domain.now());
            }
        }
        break;
    case State::close_wait:
        a.error = base::Error::broken_pipe; // as Linux: the peer had already said that it sends no more
        break;
    case State::time_wait:
        a.error = base::Error::none;
        break;
    default: // in CLOSING and LAST-ACK, too, what was written may be lost, and the application waits to hear (as Linux)
        a.error = base::Error::connection_reset;
        break;
    }
    return Verdict::closed;
}

// Third: security and compartment. Absent by decision: RFC 9293 3.10.7.4 keeps it for networks that label segments
// (appendix A.1).
Verdict check_security(Tcb&, Segment&, Actions&)
{
    return Verdict::next;
}

// Fourth: SYN in a synchronized state (RFC 5961 4): a challenge, wherever it lies.
Verdict check_syn(Tcb& t, Segment& s, Actions&)
{
    if (!s.has(wire::tcp_syn)) {
        return Verdict::next;
    }
    if (t.state == State::syn_received && s.seq == t.rcv.irs && s.has(wire::tcp_ack)) {
        return Verdict::next; // simultaneous open: the peer's SYN-ACK
    }
    return Verdict::challenge;
}

// Sixth (RFC 9293 3.8.5; RFC 6093: the pointer names the octet after the urgent one in practice, as in Linux and BSD).
Verdict check_urgent(Tcb& t, Segment& s, Actions&)
{
    if (!s.has(wire::tcp_urg) || fin_received(t.state) || t.so == nullptr) {
        return Verdict::next;
    }
    Seq up = s.header.seq + s.header.urgent;
    if (up <= t.rcv.nxt) {
        return Verdict::next;
    }
    std::uint64_t mark = t.rcv.nxt_offset + static_cast<std::uint64_t>(up - t.rcv.nxt);
    if (mark > t.rcv.urgent_mark) {
        t.rcv.urgent_mark = mark;
        t.so->slot->owner.urgent_mark.store(mark, std::memory_order_release);
        t.so->user->socket_event(*t.so, so_readable);
    }
    return Verdict::next;
}

namespace {

// Behind a hole it is told like text (RFC 2018, as Linux), or the peer would look for its loss later.
void note_fin(Tcb& t, const Segment& s, Actions& a)
{
    if (!t.rcv.fin_known) {
        t.rcv.fin_known = true;
        t.rcv.fin_seq = s.text_end();
    }
    if (t.rcv.fin_seq > t.rcv.nxt) {
        auto added = t.out_of_order.add(t.rcv.fin_seq, t.rcv.fin_seq + 1);
        if (added.stored && added.fresh == 0) {
            bool with_text = t.duplicate.start != t.duplicate.end && t.duplicate.end == t.rcv.fin_seq;
            t.duplicate = {with_text ? t.duplicate.start : t.rcv.fin_seq, t.rcv.fin_seq + 1, 0};
        }
    }
    a.ack_now = true; // each time (RFC 5681 4.2)
}

} // namespace

// Eighth: the FIN counts once everything before it is here.
Verdict check_fin(Tcb& t, Segment& s, Actions& a)
{
    if (fin_received(t.state)) {
        return Verdict::next;
    }
    if (s.fin) {
        note_fin(t, s, a);
    }
    if (!t.rcv.fin_known || t.rcv.nxt != t.rcv.fin_seq) {
        return Verdict::next;
    }
    t.rcv.nxt += 1;
    drop_queued(t);
    t.rcv.adv = base::max(t.rcv.adv, t.rcv.nxt);
    t.ack_soon = false;
    a.ack_now = true;
    a.eof = true;
    a.output = a.output || !at_rest(t);
    if (t.state == State::fin_wait_2) {
        a.time_wait = true;
    }
    t.state.apply(Event::got_fin);
    return Verdict::next;
}

namespace {

// The segment is acceptable (RFC 9768 1.3), so its mark counts.
Verdict count_marks(Tcb& t, Segment& s, Actions& a)
{
    if (t.agreed.ecn == EcnMode::accurate) {
        accecn_received(t, s, a);
    }
    return Verdict::next;
}

using Step = Verdict (*)(Tcb&, Segment&, Actions&);

// Until one says otherwise; known when compiled, so that the small ones are no calls.
template <Step... steps>
Verdict take_steps(Tcb& t, Segment& s, Actions& a)
{
    Verdict v = Verdict::next;
    (void)(((v = steps(t, s, a)) == Verdict::next) && ...);
    return v;
}

void challenge(Tcb& t)
{
    if (may_spare_ack(t.spare_ack_at, t.domain.now()) && may_challenge(t.domain)) {
        count(t.domain.tcp->counters.challenge_acks);
        send_ack(t);
    }
}

// Publishes what the steps changed; the socket may go back to its user here.
void publish(Tcb& t, const Actions& a)
{
    if (t.so == nullptr) {
        return;
    }
    if (a.acked) {
        t.so->snd_acked = base::planted(base::Plant::space_before_ack) ? t.so->snd_limit
                                                                       : std::min(t.snd.una_offset, t.so->snd_limit);
        so_publish_acked(*t.so);
    }
    if (a.received) {
        t.so->rcv_produced = t.rcv.nxt_offset;
        so_publish_received(*t.so);
    }
    bool early = base::planted(base::Plant::end_before_last_byte) && t.rcv.fin_known;
    if (a.eof) {
        so_publish_fin(*t.so);
    } else if ((a.received && t.read_shut) || early) {
        so_publish_end(*t.so);
    }
}

void acknowledge(Tcb& t, const Actions& a)
{
    if (a.ack_now) {
        if (a.ack_full) {
            send_ack(t);
        } else {
            ack_now(t);
        }
    }
}

} // namespace

void apply_actions(Tcb& t, const Segment& s, Verdict v, const Actions& a)
{
    publish(t, a);
    switch (v) {
    case Verdict::closed:
        kill(t, a.error);
        return;
    case Verdict::abort: // RFC 9293 3.5.2: what the segment acknowledges is the number of the reset
        send_reset_for(t.domain, s);
        kill(t, a.error);
        return;
    case Verdict::drop_and_reset:
        send_reset_for(t.domain, s);
        return;
    case Verdict::challenge:
        challenge(t);
        break;
    case Verdict::drop_and_ack:
        if (must_be_answered(s) || may_spare_ack(t.spare_ack_at, t.domain.now())) {
            ack_now(t);
        }
        break;
    case Verdict::next:
    case Verdict::drop:
        break;
    }
    acknowledge(t, a);
    if (a.output) {
        output_soon(t);
    }
    if (a.time_wait) {
        enter_time_wait(t);
        return;
    }
    release_if_done(t);
}

namespace {

// Header prediction (Jacobson 1990; RFC 7323 5.6): the next segment in order of an established connection, that carries
// text or acknowledges, or both, and asks for nothing else, while nothing is lost. Each line is a step that would find
// nothing to do.
bool expected(const Tcb& t, const Segment& s)
{
    const wire::TcpOptions& o = s.header.options;
    auto flags = static_cast<std::uint16_t>(s.header.flags & ~wire::tcp_psh);
    std::uint32_t acked = static_cast<std::uint32_t>(s.ack() - t.snd.una);
    return t.state == State::established && flags == t.predicted_flags && // RST, SYN, URG, FIN; marks
           o.has_timestamp == t.agreed.timestamps &&                      // RFC 7323 5.3 R1
           static_cast<std::int32_t>(o.ts_val - t.ts.recent) >= 0 &&      // (without them both are 0)
           s.seq == t.rcv.nxt && s.len <= t.window_open() &&              // first step; trimming
           acked <= t.flight() && o.sack_count == 0 && calm(t) &&         // fifth: recovery
           (acked != 0 || s.len != 0 || t.flight() == 0) &&               // no duplicate ACK
           !t.rcv.fin_known && !t.app_closed &&                           // seventh, eighth
           (t.agreed.ecn != EcnMode::accurate || accecn_expected(t, s, acked));
}

// What the steps do with such a segment, in their order. tests/tcp/test_tcp_prediction.cpp compares.
void take_expected(Tcb& t, Segment& s)
{
    count(t.domain.tcp->counters.predicted);
    heard(t);
    Actions a;
    keep_timestamp(t, s);
    take_expected_ack(t, s, a);
    count_marks(t, s, a);
    take_text(t, s, a); // Verdict::next: what would say otherwise is excluded above
    publish(t, a);
    acknowledge(t, a);
    if (a.output) {
        output_soon(t);
    }
}

} // namespace

void segment_in_connection(Tcb& t, Segment& s)
{
    if (t.agreed.ecn == EcnMode::classic) {
        take_mark(t, s);
    }
    if (expected(t, s) && t.domain.stack.options().tcp_prediction) {
        return take_expected(t, s);
    }
    Actions a;
    Verdict v = take_steps<check_paws, check_sequence, check_reset, check_security, check_syn, check_ack, count_marks,
        check_urgent, take_text, check_fin>(t, s, a);
    apply_actions(t, s, v, a);
}

} // namespace protocols::tcp
