// Step 7: the text (RFC 9293 3.10.7.4 seventh). Octets are copied once, to their place in the receive ring, in order or
// not: the reassembly queue is only a bounded list of ranges (SACK blocks come from it, RFC 2018). Then the
// acknowledgment policy (RFC 5681 4.2, RFC 9293 3.8.6.3). Owner: the Tcb's.
#include "base/plant.hpp"
#include "protocols/socket/packet_to_ring.hpp"
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

constexpr unsigned sack_blocks_an_ack = 3;       // with timestamps
constexpr std::uint32_t full_segment_least = 88; // as Linux TCP_MIN_MSS

// Copies the segment's text into the ring at the absolute offset of its sequence number.
[[gnu::always_inline]] inline void place(Tcb& t, const Segment& s)
{
    std::uint64_t offset = t.rcv.nxt_offset + static_cast<std::uint64_t>(s.seq - t.rcv.nxt);
    INVARIANT(offset + s.len <= t.so->rcv_consumed + t.so->rcv_ring.size());
    packet_to_ring(*s.packet, s.text_at, s.len, t.so->rcv_ring, offset);
}

// Everything was read and nothing lies ahead: the text goes where the last text was, in warm lines. A liar's word is
// left to flush(), which aborts.
void restart_if_empty(Tcb& t, std::uint32_t bytes)
{
    Socket& so = *t.so;
    if (t.out_of_order.empty() && so_take_consumed(so) && so.rcv_consumed == t.rcv.nxt_offset &&
        so.rcv_produced == t.rcv.nxt_offset) {
        so_restart_receive(so, t.rcv.nxt_offset, bytes);
    }
}

void advance_to(Tcb& t, Seq end, Actions& a)
{
    auto octets = static_cast<std::uint32_t>(end - t.rcv.nxt);
    t.rcv.nxt = end;
    t.rcv.nxt_offset += octets;
    t.rcv.unacked += octets;
    t.bytes_received += octets;
    a.received = true;
}

// Out of order: remembered, reported at once (RFC 5681 4.2: SHOULD send an immediate duplicate ACK).
[[gnu::noinline]] void queue_text(Tcb& t, const Segment& s, Actions& a)
{
    count(t.domain.tcp->counters.out_of_order);
    a.ack_now = true;
    a.ack_full |= !t.agreed.sack; // the peer counts duplicates, so each brings one
    if (t.out_of_order.full() && t.long_ranges == nullptr) {
        t.long_ranges = t.domain.tcp->long_ranges.make();
        if (t.long_ranges != nullptr) {
            t.out_of_order.extend(t.long_ranges->ranges);
        }
    }
    auto added = t.out_of_order.add(s.seq, s.text_end());
    if (!added.stored) {
        count(t.domain.tcp->counters.reassembly_full);
        return; // dropped: it will come again
    }
    if (added.fresh == 0) {
        t.duplicate = {s.seq, s.text_end(), 0};
    }
    place(t, s);
    if (s.seq != t.rcv.text_end_late || t.rcv.sack_news == 0) {
        ++t.rcv.sack_news;
    }
    t.rcv.text_end_late = s.text_end();
    unsigned blocks = t.rcv.sack_news + (t.duplicate.start != t.duplicate.end ? 1U : 0U);
    a.ack_full |= t.agreed.sack && blocks >= sack_blocks_an_ack;
}

// What had come before, behind the text that came now.
[[gnu::noinline]] void take_queued(Tcb& t, Actions& a)
{
    t.out_of_order.trim_below(t.rcv.nxt); // a long segment covers several ranges, and ends within one
    if (!t.out_of_order.empty() && (t.out_of_order[0].start == t.rcv.nxt || base::planted(base::Plant::hole_skipped))) {
        const SeqRange& first = t.out_of_order[0];
        advance_to(t, t.rcv.fin_known ? base::min(first.end, t.rcv.fin_seq) : first.end, a); // a FIN is no text
    }
    drop_queued(t);
}

// As tcp_measure_rcv_mss of Linux: the path of the peer may have become narrower. Two in a row of one size are full
// ones if they are not small, or do not end what the peer's application wrote.
void note_segment_size(Tcb& t, const Segment& s)
{
    std::uint32_t size = std::min<std::uint32_t>(s.packet->gso_size != 0 ? s.packet->gso_size : s.len, t.route.mtu);
    bool goes_on = size >= full_segment_least && !s.has(wire::tcp_psh | wire::tcp_fin | wire::tcp_urg);
    bool full = size >= mss_default || goes_on;
    if (size >= t.rcv.mss_seen || (full && size == t.rcv.last_full)) {
        t.rcv.mss_seen = size;
        t.rcv.last_full = 0;
    } else {
        t.rcv.last_full = static_cast<std::uint16_t>(full ? size : 0);
    }
}

void acknowledge_in_order(Tcb& t, const Segment& s, bool filled_hole, Actions& a)
{
    base::Instant now = t.domain.now();
    note_segment_size(t, s);
    // As Linux: a sender whose timer has expired begins with a window of one. One that has just repaired a loss has a
    // small window, too: its last odd segment would wait for the timer here, and of few ACKs each that is lost counts.
    if (filled_hole || now - t.rcv.last_text >= rto_min) {
        t.rcv.quick_acks = quick_acks_max;
    }
    t.rcv.last_text = now;
    // RFC 9293 3.8.6.3 (SHLD-19): at least every second full-sized segment; RFC 5681 4.2: at once when a hole is filled
    unsigned segments = base::planted(base::Plant::ack_of_two_kept) ? 4 : 2;
    bool second = t.rcv.unacked >= segments * t.rcv.mss_seen;
    bool quick = t.rcv.quick_acks != 0 || (t.so != nullptr && t.so->options.quick_ack);
    if (filled_hole || second || (quick && !t.rcv.interactive)) {
        if (t.rcv.quick_acks != 0) {
            --t.rcv.quick_acks;
        }
        a.ack_now = true;
        return;
    }
    if (!t.ack_soon || base::planted(base::Plant::delayed_ack_put_off)) {
        t.ack_soon = true;
        if (!base::planted(base::Plant::delayed_ack_never_sent)) {
            set_deadline(t, Deadline::delayed_ack, now + delayed_ack_time);
        }
    }
}

// The application closed, or shut down both ways as good as did. shutdown(SHUT_RD) alone refuses nothing, as on Linux.
bool nobody_reads(const Tcb& t)
{
    return t.app_closed || (t.read_shut && (t.state == State::fin_wait_1 || t.state == State::fin_wait_2));
}

} // namespace

void drop_queued(Tcb& t)
{
    t.out_of_order.trim_below(t.rcv.nxt);
    if (t.long_ranges != nullptr && t.out_of_order.empty()) {
        t.out_of_order.come_back();
        give_back_ranges(t);
    }
}

Verdict take_text(Tcb& t, Segment& s, Actions& a)
{
    if (s.len == 0) {
        return Verdict::next;
    }
    if (fin_received(t.state)) { // RFC 9293: should not occur; ignored
        s.len = 0;
        return Verdict::next;
    }
    if (nobody_reads(t)) { // RFC 9293 3.6.1 (SHLD-3): so the peer must hear that it is lost
        a.error = base::Error::connection_reset;
        return Verdict::abort;
    }
    if (t.rcv.fin_known && s.text_end() > t.rcv.fin_seq) { // nothing lies behind a FIN
        s.len = t.rcv.fin_seq > s.seq ? static_cast<std::uint32_t>(t.rcv.fin_seq - s.seq) : 0;
        if (s.len == 0) {
            a.ack_now = true;
            return Verdict::next;
        }
    }
    if (!t.so->rcv_ring.valid() && !t.so->user->socket_rings(*t.so)) {
        count(t.domain.tcp->counters.no_ring); // dropped: it will come again, and a FIN with it
        s.len = 0;
        s.fin = false;
        return Verdict::next;
    }
    if (s.seq != t.rcv.nxt) {
        queue_text(t, s, a);
        return Verdict::next;
    }
    restart_if_empty(t, s.len);
    place(t, s);
    advance_to(t, s.text_end(), a);
    bool filled_hole = !t.out_of_order.empty();
    if (filled_hole) {
        take_queued(t, a);
    }
    acknowledge_in_order(t, s, filled_hole, a);
    return Verdict::next;
}

} // namespace protocols::tcp
