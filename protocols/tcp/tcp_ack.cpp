// Step 5: the ACK (RFC 9293 3.10.7.4 fifth, RFC 5961 5, RFC 5681, RFC 6675, RFC 6582): ack_in_range, finish_handshake,
// take_ack, update_window, close_by_state. Owner: the Tcb's.
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

// RFC 5961 5 (and RFC 9293): acceptable while SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT.
Verdict ack_in_range(const Tcb& t, const Segment& s)
{
    if (!s.has(wire::tcp_ack)) {
        return Verdict::drop;
    }
    if (t.state == State::syn_received) {
        return s.ack() > t.snd.una && s.ack() <= t.snd.nxt ? Verdict::next : Verdict::drop_and_reset;
    }
    if (s.ack() > t.snd.nxt || s.ack() < t.snd.una - t.snd.wnd_max) {
        return Verdict::challenge; // also an optimistic ACK of what was never sent
    }
    return Verdict::next;
}

void finish_handshake(Tcb& t, const Segment& s, Actions& a)
{
    t.state.apply(Event::handshake_acked);
    t.snd.una = t.snd.iss + 1;
    ++t.snd.una_offset; // the SYN has no offset
    t.snd.wl1 = s.seq;
    t.snd.wl2 = s.ack();
    t.snd.wnd = std::uint32_t{s.header.window} << t.agreed.snd_scale;
    t.snd.wnd_max = std::max(t.snd.wnd_max, t.snd.wnd);
    if (t.retries == 0 && t.timed_at != base::Instant{}) {
        t.rtt.sample(t.domain.now() - t.timed_at);
    } else if (t.retries != 0) {
        t.rtt.handshake_was_slow();
    }
    clear_deadline(t, Deadline::retransmit);
    t.retries = 0;
    a.connected = true;
    a.output = true;
    connection_opened(t);
}

// RFC 6298 3 (Karn) and RFC 7323 4: a timed segment gives microseconds; after a retransmission only the echoed
// timestamp tells.
void measure(Tcb& t, const Segment& s)
{
    base::Instant now = t.domain.now();
    if (t.timing && s.ack() >= t.timed_end) {
        t.timing = false;
        t.rtt.sample(now - t.timed_at);
        return;
    }
    const wire::TcpOptions& o = s.header.options;
    bool resent = t.board.phase != Recovery::none || t.retries != 0;
    if (resent && !t.timing && t.agreed.timestamps && o.has_timestamp && o.ts_ecr != 0) {
        auto elapsed_ms = static_cast<std::int32_t>(timestamp_now(now, t.ts.offset) - o.ts_ecr);
        if (elapsed_ms >= 0 && base::millis(elapsed_ms) < rto_max) {
            t.rtt.sample(base::millis(std::max(elapsed_ms, 1)));
        }
    }
}

// Fresh octets SACKed by this segment (RFC 2018, RFC 6675 4 Update). Blocks outside (una, nxt] are lies or D-SACKs.
std::uint32_t take_sack(Tcb& t, const Segment& s)
{
    if (!t.agreed.sack) {
        return 0;
    }
    std::uint32_t fresh = 0;
    const wire::TcpOptions& o = s.header.options;
    for (unsigned i = 0; i < o.sack_count; ++i) {
        const wire::SackBlock& b = o.sack[i];
        if (b.start < b.end && b.start > base::max(s.ack(), t.snd.una) && b.end <= t.snd.nxt) {
            fresh += t.board.sacked.add(b.start, b.end).fresh;
        }
    }
    return fresh;
}

void enter_recovery_if_lost(Tcb& t)
{
    if (t.board.phase != Recovery::none) {
        return;
    }
    bool lost = t.agreed.sack ? t.board.lost_edge(t.mss) > t.snd.una || t.board.duplicates >= duplicate_threshold
                              : t.board.duplicates >= duplicate_threshold;
    if (!lost) {
        return;
    }
    // RFC 6582 3.2 step 2: not again for losses of the window that a recovery just dealt with
    if (!t.agreed.sack && t.snd.una <= t.board.recover) {
        return;
    }
    count(t.domain.tcp->counters.fast_recoveries);
    congestion_on_loss(t.algorithm(), t.cc, t.flight());
    t.board.enter_fast(t.snd.una, t.snd.nxt, t.mss);
    t.timing = false;
}

// RFC 5681 2: a duplicate ACK says that something arrived above a hole.
void take_duplicate(Tcb& t, const Segment& s, std::uint32_t fresh_sacked, Actions& a)
{
    bool same_window = (std::uint32_t{s.header.window} << t.agreed.snd_scale) == t.snd.wnd;
    bool duplicate = t.flight() != 0 && s.len == 0 && !s.fin && s.ack() == t.snd.una &&
                     (t.agreed.sack ? fresh_sacked != 0 : same_window);
    if (!duplicate) {
        return;
    }
    ++t.board.duplicates;
    enter_recovery_if_lost(t);
    a.output = true; // limited transmit (RFC 3042) or recovery: the pipe has drained
}

void grow_window(Tcb& t, std::uint32_t acked, std::uint32_t flight_before)
{
    if (t.board.phase == Recovery::fast) {
        return; // RFC 6675 5: cwnd stays at ssthresh
    }
    // RFC 7661 / RFC 2861: what the application did not use is not proven
    bool used = t.cwnd_limited || (t.cc.cwnd < t.cc.ssthresh && flight_before >= t.cc.cwnd / 2);
    if (used) {
        congestion_on_ack(
            t.algorithm(), t.cc, {acked, t.rtt.srtt(), t.domain.now(), t.board.phase == Recovery::timeout});
    }
}

void leave_recovery(Tcb& t)
{
    // RFC 6582 3.2 step 3, option 1: no burst into an emptied network
    t.cc.cwnd = std::max(std::min(t.cc.ssthresh, t.flight() + t.mss), t.mss);
}

// ACK of something new.
void take_ack(Tcb& t, const Segment& s, Actions& a)
{
    std::uint32_t flight_before = t.flight();
    auto acked = static_cast<std::uint32_t>(s.ack() - t.snd.una);
    measure(t, s);
    bool fin_acked = t.snd.fin_sent && s.ack() > t.snd.fin_seq;
    std::uint32_t octets = acked - (fin_acked ? 1U : 0U);
    Recovery before = t.board.phase;
    bool partial = before == Recovery::fast && s.ack() < t.board.recover;
    t.snd.una = s.ack();
    t.snd.una_offset += octets;
    t.bytes_acked += octets;
    t.board.advance(t.snd.una, acked, t.mss);
    if (before == Recovery::fast && t.board.phase == Recovery::none) {
        leave_recovery(t);
    } else if (!partial) {
        grow_window(t, octets, flight_before);
    }
    t.rtt.clear_back_off();
    t.retries = 0;
    t.persist_probes = 0;
    t.soft_error = base::Error::none;
    if (t.snd.una == t.snd.nxt) { // RFC 6298 5.2
        clear_deadline(t, Deadline::retransmit);
    } else { // RFC 6298 5.3
        restart_retransmit(t);
    }
    a.acked = octets != 0;
    a.output = true;
    a.fin_acked = fin_acked;
}

Verdict close_by_state(Tcb& t, Actions& a)
{
    if (!a.fin_acked) {
        return Verdict::next;
    }
    if (t.state == State::fin_wait_1) {
        t.state.apply(Event::fin_acked);
        if (t.app_closed) {
            std::int32_t linger_s = t.so != nullptr ? t.so->options.linger2_s : 60;
            set_deadline(t, Deadline::fin_wait_2, t.domain.now() + base::seconds(std::max(linger_s, 1)));
        }
    } else if (t.state == State::closing) {
        t.state.apply(Event::fin_acked);
        a.time_wait = true;
        return Verdict::drop;
    } else if (t.state == State::last_ack) {
        return Verdict::closed; // RFC 9293: delete the TCB (kill applies the event)
    }
    return Verdict::next;
}

} // namespace

// RFC 9293 3.10.7.4: only a newer segment moves the window (WL1, WL2).
void update_window(Tcb& t, const Segment& s)
{
    bool newer = t.snd.wl1 < s.seq || (t.snd.wl1 == s.seq && t.snd.wl2 <= s.ack());
    if (!newer) {
        return;
    }
    t.snd.wnd = std::uint32_t{s.header.window} << t.agreed.snd_scale;
    t.snd.wnd_max = std::max(t.snd.wnd_max, t.snd.wnd);
    t.snd.wl1 = s.seq;
    t.snd.wl2 = s.ack();
}

Verdict check_ack(Tcb& t, Segment& s, Actions& a)
{
    if (Verdict v = ack_in_range(t, s); v != Verdict::next) {
        return v;
    }
    if (t.state == State::syn_received) {
        finish_handshake(t, s, a);
    }
    std::uint32_t window_before = t.snd.wnd;
    std::uint32_t fresh = take_sack(t, s);
    if (s.ack() > t.snd.una) {
        take_ack(t, s, a);
        enter_recovery_if_lost(t);
    } else {
        take_duplicate(t, s, fresh, a);
    }
    update_window(t, s);
    if (t.snd.wnd > window_before) {
        a.output = true;
    }
    return close_by_state(t, a);
}

} // namespace protocols::tcp
