// Loss recovery on a connection: what an ACK, the reordering timer and the retransmission timer find lost or spurious,
// and what congestion control hears of it. RACK-TLP (RFC 8985), PRR (RFC 9937), NewReno without SACK (RFC 6582), F-RTO,
// Eifel and D-SACK (undo.hpp). The decisions are in the pure files; this one joins them. Owner: the Tcb's.
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

std::uint32_t micros(base::Micros m)
{
    return static_cast<std::uint32_t>(std::min<std::int64_t>(m.count(), INT32_MAX));
}

std::uint32_t reo_wnd(const Tcb& t)
{
    return t.rack.reo_wnd_us(
        t.board.phase != Recovery::none, t.board.many_sacked(t.mss), min_rtt_us(t), micros(t.rtt.srtt()));
}

// The last one that text of ours had; before any is acknowledged that of the handshake, else what we wait for it.
std::uint32_t round_trip(const Tcb& t)
{
    if (t.rack.rtt_us != 0) {
        return t.rack.rtt_us;
    }
    return micros(t.rtt.srtt().count() != 0 ? t.rtt.srtt() : t.rtt.rto_of_path());
}

// Octets newly found lost; the reordering timer waits for those that may still be late.
std::uint32_t find_losses(Tcb& t)
{
    if (!t.board.use_sack) {
        // RFC 6582 3.2 step 2: not again for losses of the window that a recovery just dealt with
        bool lost =
            t.board.phase == Recovery::none && t.board.duplicates >= duplicate_threshold && t.snd.una > t.board.recover;
        return lost ? t.board.mark_lost(t.snd.una, t.snd.una + t.mss) : 0;
    }
    std::uint32_t next_us = 0;
    std::uint32_t lost = t.board.detect(t.rack, clock_us(t), reo_wnd(t), next_us);
    if (lost != 0 && t.bbr != nullptr) {
        tell_lost(t, lost);
    }
    if (next_us != 0) {
        set_deadline(t, Deadline::reorder, t.domain.now() + base::Micros{next_us});
    } else {
        clear_deadline(t, Deadline::reorder);
    }
    return lost;
}

// What congestion control takes for FlightSize. Text above a hole that was sent again and again is no flight, and what
// limited transmit sent beyond the window is not either (RFC 5681 3.2 step 2, RFC 9438 4.6): the window bounds it, that
// of before the pipe ran empty. CUBIC takes from the window, which grows with its use alone (RFC 9438 4.6): the lost
// end of a message says nothing of the path that carried a longer one before.
std::uint32_t flight_size(const Tcb& t, std::uint32_t flight)
{
    std::uint32_t window = t.board.phase == Recovery::fast ? std::max(t.cc.cwnd, t.cc.ssthresh) : t.cc.cwnd;
    return t.algorithm().of_window ? window : std::min(flight, window);
}

void remember(Tcb& t)
{
    t.cc_before = t.cc;
    t.ecn_before = t.ecn;
    t.undo.begin(t.snd.nxt);
}

// RFC 3168 6.1.2: one reduction for losses and marks of one window.
void reduce(Tcb& t, std::uint32_t flight)
{
    if (!reduced_for_mark(t)) {
        congestion_on_loss(t.algorithm(), t.cc, flight_size(t, flight));
        ecn_reduced(t);
    }
}

void enter_fast(Tcb& t, const AckRound& r)
{
    count(t.domain.tcp->counters.fast_recoveries);
    remember(t);
    if (t.bbr != nullptr) {
        t.bbr->recovery_began(t.board.pipe(t.mss), r.d.octets);
        t.cc.cwnd = t.bbr->cwnd();
    } else {
        reduce(t, t.flight());
    }
    std::uint32_t counted = t.board.use_sack ? 0 : (t.board.duplicates - 1) * t.mss;
    t.prr.begin(std::max(r.flight_before, t.flight()), r.sacked_before + counted);
    t.board.enter_fast(t.snd.nxt);
    t.timing = t.tlp.in_progress = false; // RFC 8985 7.1: what the probe would tell is answered now
    clear_deadline(t, Deadline::probe);
}

void take_back(Tcb& t, std::atomic<std::uint64_t>& counter)
{
    count(counter);
    t.rack.reordering_seen |= t.board.phase != Recovery::timeout; // late, not lost: the next hole gets its time
    if (t.bbr != nullptr) {
        t.bbr->recovery_ended();
    } else {
        congestion_undo(t.cc, t.cc_before);
        ecn_undo(t);
    }
    t.undo.end();
    t.board.unmark_lost();
    t.board.leave();
    clear_deadline(t, Deadline::reorder);
}

// F-RTO, Eifel, D-SACK. True: the reduction was taken back.
bool found_spurious(Tcb& t, const Segment& s, const AckRound& r)
{
    TcpCounters& c = t.domain.tcp->counters;
    const wire::TcpOptions& o = s.header.options;
    if (r.dsack.start != r.dsack.end && t.undo.dsack(r.dsack.start, r.dsack.end)) {
        take_back(t, c.undos_dsack);
        return true;
    }
    if (r.advanced && t.agreed.timestamps && o.has_timestamp && t.undo.eifel(o.ts_ecr)) {
        take_back(t, c.undos_eifel);
        return true;
    }
    if (t.board.phase == Recovery::timeout) {
        // Without SACK an ACK of both says nothing: what lay above the hole had arrived before.
        bool original = r.d.original && (t.board.use_sack || !r.d.resent);
        bool advanced = r.advanced && t.snd.una < t.board.recover;
        bool can_send_new =
            t.so != nullptr && !t.snd.fin_sent && window_room(t) != 0 && t.so->snd_limit > t.offset_of(t.snd.nxt);
        if (t.undo.frto_ack(advanced, original, r.duplicate, can_send_new) == FrtoVerdict::spurious) {
            take_back(t, c.undos_frto);
            return true;
        }
    }
    if (t.undo.expiring && t.snd.una >= t.undo.expires) {
        t.undo.end();
    }
    return false;
}

void recovery_over(Tcb& t, Recovery was)
{
    t.rack.recovery_ended();
    t.undo.expire_at(t.snd.nxt);
    if (t.bbr != nullptr) {
        t.bbr->recovery_ended();
    } else if (was == Recovery::fast) {
        t.cc.cwnd = t.cc.ssthresh; // RFC 9937 6.2
        if (!t.board.use_sack) {   // RFC 6582 3.2 step 3, option 1: no burst into an emptied network
            t.cc.cwnd = std::min(t.cc.ssthresh, std::max(t.flight(), t.mss) + t.mss);
        }
    }
}

// RFC 8985 7.4
void take_probe_ack(Tcb& t, const Segment& s, const AckRound& r)
{
    TlpAck a;
    a.ack = s.ack();
    a.dsack_of_probe = r.dsack.start != r.dsack.end && r.dsack.end == t.tlp.end_seq;
    a.duplicate_no_sack = !r.advanced && s.len == 0 && s.header.options.sack_count == 0;
    if (t.tlp.acknowledged(a)) {
        count(t.domain.tcp->counters.probe_repairs);
        if (t.board.phase == Recovery::none && t.bbr == nullptr) {
            reduce(t, r.flight_before);
        }
    }
}

// More duplicates than were ever sent again: the network makes them, they say nothing about us (RFC 3708 3).
void take_dsack(Tcb& t, AckRound& r)
{
    count(t.domain.tcp->counters.dsacks);
    ++t.dsacks;
    if (t.dsacks > t.retransmitted) {
        r.dsack = {};
        return;
    }
    t.rack.saw_dsack(t.snd.una, t.snd.nxt);
}

// RFC 9937 6.2 DeliveredData without SACK: each duplicate stands for a segment, and what they counted is not counted
// again when it is acknowledged.
std::uint32_t delivered(const Tcb& t, const AckRound& r, unsigned duplicates_before)
{
    if (t.board.use_sack) {
        return r.d.octets;
    }
    if (!r.advanced) {
        return r.duplicate ? t.mss : 0;
    }
    std::uint32_t counted = (duplicates_before - std::min(duplicates_before, t.board.duplicates)) * t.mss;
    return r.acked - std::min(r.acked, counted);
}

void set_recovery_window(Tcb& t, std::uint32_t octets, bool safe)
{
    if (t.bbr != nullptr) {
        return;
    }
    t.cc.cwnd = t.prr.window(octets, t.board.pipe(t.mss), t.cc.ssthresh, t.mss, safe);
}

AckFacts facts_of(const Tcb& t, const AckRound& r)
{
    AckFacts f;
    f.acked = r.acked;
    f.srtt = t.rtt.srtt();
    f.now = t.domain.now();
    f.after_timeout = t.board.phase == Recovery::timeout;
    f.rtt_us = r.d.octets != 0 && !r.d.resent ? std::max(r.d.ack.now_us - r.d.newest_sent_us, 1U) : 0;
    f.marked = r.marked;
    f.min_rtt_us = r.d.ack.min_rtt_us;
    f.sacked = t.board.sacked_bytes();
    f.ack = t.snd.una;
    f.nxt = t.snd.nxt;
    return f;
}

} // namespace

std::uint32_t min_rtt_us(const Tcb& t)
{
    return t.rtt.min() == base::Micros::max() ? 0 : micros(t.rtt.min());
}

RackAck rack_ack(const Tcb& t, const Segment& s)
{
    RackAck a;
    a.now_us = clock_us(t);
    a.min_rtt_us = min_rtt_us(t);
    const wire::TcpOptions& o = s.header.options;
    a.has_echo = t.board.resent_bytes() != 0 && t.agreed.timestamps && o.has_timestamp; // of retransmissions alone
    if (a.has_echo) { // the end of the millisecond that it names, on our clock
        std::uint32_t elapsed_ms = timestamp_now(t.domain.now(), t.ts.offset) - o.ts_ecr;
        auto ms = t.domain.now().time_since_epoch().count() / 1000 - static_cast<std::int32_t>(elapsed_ms) + 1;
        a.echo_end_us = static_cast<std::uint32_t>(ms * 1000);
    }
    return a;
}

bool in_order(const Tcb& t, const AckRound& r)
{
    return calm(t) && !r.duplicate && r.d.sacked == 0 && r.dsack.start == r.dsack.end && !r.d.resent;
}

namespace {

[[gnu::noinline]] void tell_algorithm(Tcb& t, const AckRound& r, bool limited)
{
    AckFacts f = facts_of(t, r);
    f.limited = limited;
    congestion_on_ack(t.algorithm(), t.cc, f);
}

} // namespace

void grow_window(Tcb& t, const AckRound& r)
{
    if (t.board.phase == Recovery::fast || t.bbr != nullptr) {
        return; // PRR's, or the model's
    }
    if (r.ece && !t.algorithm().needs_ecn) {
        return; // RFC 3168 6.1.2
    }
    // RFC 7661 / RFC 2861: what the application did not use is not proven
    bool limited = t.use.lets_grow(t.cc.cwnd, t.cc.cwnd < t.cc.ssthresh);
    if (!limited && t.window_unused && !t.algorithm().every_ack) {
        return;
    }
    t.window_unused = !limited;
    tell_algorithm(t, r, limited);
}

void recover(Tcb& t, const Segment& s, AckRound& r, Actions& a)
{
    a.output = a.output || r.duplicate || r.d.octets != 0; // limited transmit (RFC 3042): the pipe has drained
    Recovery before = t.board.phase;
    unsigned duplicates_before = t.board.duplicates;
    take_probe_ack(t, s, r);
    if (r.dsack.start != r.dsack.end) {
        take_dsack(t, r);
    }
    bool taken_back = found_spurious(t, s, r);
    if (r.advanced) {
        t.board.settle(r.acked, t.mss);
    } else if (r.duplicate) {
        ++t.board.duplicates;
    }
    if (before != Recovery::none && t.board.phase == Recovery::none && !taken_back) {
        recovery_over(t, before);
    }
    std::uint32_t lost = find_losses(t);
    // What was lost above the recovery point, and found before that was acknowledged, begins a recovery of its own.
    bool entered = t.board.lost_bytes() != 0 && t.board.phase == Recovery::none && !plpmtu_lost(t);
    if (entered) {
        enter_fast(t, r);
    }
    a.output = a.output || lost != 0 || entered || taken_back; // an ACK that delivers nothing, too
    if (t.board.phase != Recovery::fast) {
        if (r.advanced && before != Recovery::fast) {
            grow_window(t, r);
        }
        return;
    }
    if (const CongestionAlgorithm& algorithm = t.algorithm(); algorithm.observe_recovery != nullptr) {
        algorithm.observe_recovery(t.cc, facts_of(t, r));
    }
    std::uint32_t octets = delivered(t, r, duplicates_before);
    if (octets != 0 || entered) {
        set_recovery_window(t, octets, r.advanced && lost == 0);
    }
}

void begin_timeout(Tcb& t)
{
    bool first = t.retries == 1;
    bool calm = t.board.phase == Recovery::none;
    if (first && calm) {
        remember(t);
        t.undo.frto = Frto::wait_first; // RFC 5682 2.1: not when this text is in recovery already
    } else if (first) {
        t.undo.end();
    } else {
        t.undo.frto = Frto::off;
    }
    if (t.bbr == nullptr) {
        congestion_on_timeout(t.algorithm(), t.cc, flight_size(t, t.flight()), first);
        if (first) {
            ecn_reduced(t);
        }
    }
    t.board.enter_timeout(round_trip(t), clock_us(t), reo_wnd(t), t.mss);
    if (t.bbr != nullptr) {
        t.bbr->timed_out(t.board.pipe(t.mss));
        t.cc.cwnd = t.bbr->cwnd();
    }
    t.timing = t.tlp.in_progress = false;
    clear_deadline(t, Deadline::reorder);
    clear_deadline(t, Deadline::probe);
}

bool reorder_timeout(Tcb& t)
{
    if (find_losses(t) == 0) {
        return true;
    }
    if (t.board.phase == Recovery::none && !plpmtu_lost(t)) {
        AckRound r;
        r.sacked_before = t.board.sacked_bytes();
        enter_fast(t, r);
        set_recovery_window(t, 0, false); // later ACKs alone move it: what they let out may be what is lost now
    }
    output(t);
    return true;
}

bool may_probe(const Tcb& t)
{
    return t.board.use_sack && t.board.phase == Recovery::none && t.board.sacked_bytes() == 0 && t.flight() != 0 &&
           !t.tlp.in_progress && synchronized(t.state) && t.domain.stack.options().tcp_tail_probes;
}

} // namespace protocols::tcp
