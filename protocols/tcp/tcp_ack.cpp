// Step 5: the ACK (RFC 9293 3.10.7.4 fifth, RFC 5961 5): ack_in_range, finish_handshake, take_ack, take_sack,
// update_window, close_by_state. What follows when something is lost is tcp_recovery.cpp. Owner: the Tcb's.
#include <algorithm>

#include "base/plant.hpp"
#include "protocols/neighbor.hpp"
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

// RFC 7323 2.2: the window of a SYN is never scaled.
std::uint32_t window_of(const Tcb& t, const Segment& s)
{
    return std::uint32_t{s.header.window} << (s.was_syn ? 0 : t.agreed.snd_scale);
}

// How far below SND.UNA an ACK may lie (RFC 5961 5): the largest window, but, as on Linux, never below what was sent at
// all: on a young connection that would let guesses through.
std::uint32_t oldest_ack(const Tcb& t)
{
    bool fin = t.snd.fin_sent && t.snd.una > t.snd.fin_seq;
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(t.snd.wnd_max, t.bytes_acked + (fin ? 1 : 0)));
}

// RFC 5961 5 (and RFC 9293): acceptable while SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT.
Verdict ack_in_range(const Tcb& t, const Segment& s)
{
    if (!s.has(wire::tcp_ack)) {
        return Verdict::drop;
    }
    if (t.state == State::syn_received) {
        return s.ack() > t.snd.una && s.ack() <= t.snd.nxt ? Verdict::next : Verdict::drop_and_reset;
    }
    if (s.ack() > t.snd.nxt || s.ack() < t.snd.una - oldest_ack(t)) {
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
    t.snd.wnd = window_of(t, s);
    t.snd.wnd_max = std::max(t.snd.wnd_max, t.snd.wnd);
    t.timing = false;
    if (t.retries == 0 && t.timed_at != base::Instant{}) {
        t.rtt.sample(t.domain.now() - t.timed_at);
    } else if (t.retries != 0) {
        t.rtt.handshake_was_slow();
    }
    clear_deadline(t, Deadline::retransmit);
    a.connected = true;
    a.output = true;
    connection_opened(t);
}

// RFC 6298 3 (Karn) and RFC 7323 4: a timed segment gives microseconds; of text that was sent again only the echoed
// timestamp tells. `resent`: the ACK is of such text, too.
void measure(Tcb& t, const Segment& s, bool resent)
{
    base::Instant now = t.domain.now();
    bool recovers = t.board.phase != Recovery::none || t.retries != 0;
    if (t.timing && s.ack() >= t.timed_end) {
        t.timing = false;
        if (!resent) {
            t.rtt.sample(now - t.timed_at);
            return;
        }
        bool probed = t.tlp.in_progress && t.tlp.is_retrans;
        if (probed && !recovers && !t.agreed.timestamps) {
            t.rtt.back_off_probes(); // for the probe, which took a timeout's place: else each flight has one, and no
                                     // sample
        }
    }
    const wire::TcpOptions& o = s.header.options;
    if ((resent || recovers) && !t.timing && t.agreed.timestamps && o.has_timestamp && o.ts_ecr != 0) {
        auto elapsed_ms = static_cast<std::int32_t>(timestamp_now(now, t.ts.offset) - o.ts_ecr);
        if (elapsed_ms >= 0 && base::millis(elapsed_ms) < rto_max) {
            t.rtt.sample(base::millis(std::max(elapsed_ms, 1)));
        }
    }
}

// RFC 2883 4: the first block is a duplicate when it lies below the ACK or within the second.
void take_dsack(const Tcb& t, const Segment& s, AckRound& r)
{
    const wire::TcpOptions& o = s.header.options;
    const wire::SackBlock& b = o.sack[0];
    bool below = b.end <= s.ack();
    bool inside = o.sack_count >= 2 && b.start >= o.sack[1].start && b.end <= o.sack[1].end;
    bool sound = b.start < b.end && b.end <= t.snd.nxt && b.start >= t.snd.una - r.acked - t.snd.wnd_max;
    if (sound && (below || inside)) {
        r.dsack = {b.start, b.end, 0};
    }
}

// RFC 2018, in rising order, so that a gap between two blocks of one ACK is no reordering. Blocks outside (una, nxt]
// are lies or D-SACKs.
void take_sack(Tcb& t, const Segment& s, AckRound& r)
{
    const wire::TcpOptions& o = s.header.options;
    if (!t.agreed.sack || o.sack_count == 0) {
        return;
    }
    take_dsack(t, s, r);
    r.d.ack.has_echo = false; // RFC 7323 4.3: behind a hole it is what came in order last, not what is SACKed
    wire::SackBlock blocks[wire::tcp_sack_blocks_max];
    unsigned n = 0;
    for (unsigned i = 0; i < o.sack_count; ++i) {
        const wire::SackBlock& b = o.sack[i];
        if (b.start < b.end && b.start > base::max(s.ack(), t.snd.una) && b.end <= t.snd.nxt) {
            unsigned at = n++;
            for (; at > 0 && b.start < blocks[at - 1].start; --at) {
                blocks[at] = blocks[at - 1];
            }
            blocks[at] = b;
        }
    }
    if (n != 0 && t.long_runs == nullptr && t.board.fills()) {
        t.long_runs = t.domain.tcp->long_runs.make();
        if (t.long_runs != nullptr) {
            t.board.extend(t.long_runs->runs);
        }
    }
    for (unsigned i = 0; i < n; ++i) {
        t.board.sack(blocks[i].start, blocks[i].end, t.rack, r.d);
    }
    if (t.rtt.srtt().count() == 0 && r.d.sacked != 0 && !r.d.resent) {
        t.rtt.sample(
            base::Micros{r.d.ack.now_us - r.d.newest_sent_us}); // as Linux: a timed segment may lie in the hole
    }
}

// RFC 5681 2: a duplicate ACK says that something arrived above a hole; with SACK it says what.
bool is_duplicate(const Tcb& t, const Segment& s, const AckRound& r)
{
    if (t.flight() == 0 || s.ack() != t.snd.una || r.advanced) {
        return false;
    }
    bool same_window = window_of(t, s) == t.snd.wnd;
    return t.agreed.sack ? r.d.sacked != 0 : s.len == 0 && !s.fin && same_window;
}

// What output() does where nothing is to be sent: so a request that was acknowledged by its answer asks for no roll-up.
void rest(Tcb& t)
{
    clear_deadline(t, Deadline::probe);
    clear_deadline(t, Deadline::persist);
}

// ACK of something new.
void take_ack(Tcb& t, const Segment& s, AckRound& r, Actions& a)
{
    r.advanced = true;
    r.acked = static_cast<std::uint32_t>(s.ack() - t.snd.una);
    bool fin_acked = t.snd.fin_sent && s.ack() > t.snd.fin_seq;
    std::uint32_t octets = r.acked - (fin_acked && !base::planted(base::Plant::fin_counted_as_text) ? 1U : 0U);
    t.snd.una = s.ack();
    t.snd.una_offset += octets;
    t.bytes_acked += octets;
    t.board.acked(t.snd.una, t.rack, r.d);
    measure(t, s, r.d.resent);
    t.snd.small_end = base::max(t.snd.small_end, t.snd.una);  // never half the number space behind
    t.ecn.reduced = t.ecn.reduced && t.snd.una <= t.ecn.high; // what tells of CWR lies above
    if (t.plpmtu.probe != 0) {
        plpmtu_acked(t);
    }
    t.retries = 0;
    t.soft_error = base::Error::none;
    t.probe_due = true;
    if (t.so != nullptr) {
        t.so->more = false; // as Linux: what MSG_MORE held back goes with the next ACK, as Nagle's text
    }
    if (t.domain.neighbors_in_doubt != 0) { // few, and not for long
        neighbor_confirm(t.domain, t.route.interface->index, t.route.next_hop);
    }
    if (t.snd.una == t.snd.nxt) { // RFC 6298 5.2
        clear_deadline(t, Deadline::retransmit);
    } else { // RFC 6298 5.3
        restart_retransmit(t);
    }
    a.acked = octets != 0;
    a.fin_acked = fin_acked;
    if (at_rest(t)) {
        rest(t);
    } else {
        a.output = true;
    }
}

[[gnu::noinline]] void shorten_list(Tcb& t)
{
    if (t.board.plain() && t.board.runs() < sent_runs_max / 2) {
        t.board.come_back();
        give_back_runs(t);
    }
}

bool has_model_or_lists(const Tcb& t)
{
    return t.bbr != nullptr || t.long_runs != nullptr;
}

// What few connections have.
[[gnu::noinline]] void tell_model_and_lists(Tcb& t, const AckRound& r, Actions& a)
{
    if (t.bbr != nullptr) {
        std::uint32_t before = t.cc.cwnd;
        tell_acked(t, r);
        a.output = a.output || t.cc.cwnd > before; // by an ACK that acknowledges nothing, too
    }
    if (t.long_runs != nullptr) {
        shorten_list(t);
    }
}

Verdict close_by_state(Tcb& t, Actions& a)
{
    if (!a.fin_acked) {
        return Verdict::next;
    }
    if (t.state == State::fin_wait_1) {
        t.state.apply(Event::fin_acked);
        if (t.app_closed) {
            std::int32_t linger_s = t.so != nullptr ? t.so->options.linger2_s : t.linger2_s;
            if (linger_s < 0) {
                return Verdict::abort; // as Linux: nothing waits for the peer's FIN
            }
            bool cut = base::planted(base::Plant::fin_wait_2_short);
            base::Micros wait = cut ? base::millis(50) : base::seconds(std::max(linger_s, 1));
            set_deadline(t, Deadline::fin_wait_2, t.domain.now() + wait);
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

// RFC 9293 3.10.7.4: only a newer segment moves the window (WL1, WL2). What acknowledges more is newer too, whatever
// was sent again in it: an older window behind the new SND.UNA would reach beyond what was ever offered. As Linux.
void update_window(Tcb& t, const Segment& s)
{
    bool newer = t.snd.wl1 < s.seq || t.snd.wl2 < s.ack() || (t.snd.wl1 == s.seq && t.snd.wl2 == s.ack());
    if (!newer) {
        return;
    }
    std::uint32_t window = window_of(t, s);
    if (t.snd.wnd == 0 && window != 0) { // its probes are over, and the patience with them
        t.persist_probes = 0;
    }
    t.snd.wnd = window;
    t.snd.wnd_max = std::max(t.snd.wnd_max, t.snd.wnd);
    t.snd.wl1 = base::max(t.snd.wl1, s.seq);
    t.snd.wl2 = base::max(t.snd.wl2, s.ack());
}

void heard(Tcb& t)
{
    t.last_received = t.domain.now();
    t.unanswered = 0;
    t.keepalive_probes = 0; // its timer finds last_received moved when it fires
}

Verdict check_ack(Tcb& t, Segment& s, Actions& a)
{
    if (Verdict v = ack_in_range(t, s); v != Verdict::next) {
        return v;
    }
    heard(t);
    keep_timestamp(t, s);
    bool completes = t.state == State::syn_received;
    if (completes) {
        finish_handshake(t, s, a);
    }
    std::uint32_t window_before = t.snd.wnd;
    AckRound r;
    r.flight_before = t.flight();
    r.sacked_before = t.board.sacked_bytes();
    r.d.ack = rack_ack(t, s);
    if (s.ack() > t.snd.una) {
        take_ack(t, s, r, a);
    }
    take_sack(t, s, r);
    r.duplicate = is_duplicate(t, s, r);
    if (t.agreed.ecn == EcnMode::accurate) {
        accecn_feedback(t, s, r, completes);
    } else if (t.agreed.ecn == EcnMode::classic && s.has(wire::tcp_ece)) {
        r.ece = true;
        r.marked = r.acked;
    }
    if (in_order(t, r)) {
        if (r.advanced) {
            grow_window(t, r);
        }
    } else {
        recover(t, s, r, a);
    }
    if (has_model_or_lists(t)) {
        tell_model_and_lists(t, r, a);
    }
    if (r.ece) {
        take_echo(t, r);
    }
    update_window(t, s);
    if (t.snd.wnd > window_before && !at_rest(t) && !base::planted(base::Plant::window_growth_ignored)) {
        a.output = true;
    }
    return close_by_state(t, a);
}

// Established, in range, no SACK, no ECE, nothing lost and no duplicate: what is left of check_ack().
void take_expected_ack(Tcb& t, const Segment& s, Actions& a)
{
    std::uint32_t window_before = t.snd.wnd;
    AckRound r;
    if (s.ack() != t.snd.una) {
        r.flight_before = t.flight();
        r.d.ack = rack_ack(t, s);
        take_ack(t, s, r, a);
        grow_window(t, r);
    }
    if (has_model_or_lists(t)) {
        tell_model_and_lists(t, r, a);
    }
    update_window(t, s);
    if (t.snd.wnd > window_before && !at_rest(t) && !base::planted(base::Plant::window_growth_ignored)) {
        a.output = true;
    }
}

} // namespace protocols::tcp
