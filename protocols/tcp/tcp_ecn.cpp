// ECN on a connection: who asks for which feedback and what the SYNs say of it (RFC 3168 6.1.1, RFC 9768 3.1); which
// segments carry ECT; how marks are echoed in the classic way and answered in any (RFC 3168 6.1, RFC 8257 3 for DCTCP).
// The accurate feedback is tcp_accecn.cpp. Owner: the Tcb's.
#include <algorithm>

#include "base/plant.hpp"
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

constexpr std::uint8_t quick_acks_of_mark = 2; // as Linux

} // namespace

std::uint8_t algorithm_index(const Domain& d, const SocketOptions& o)
{
    return o.congestion != 0 ? static_cast<std::uint8_t>(o.congestion - 1) : d.stack.options().congestion;
}

bool accepts_accurate_ecn(const Domain& d)
{
    return d.stack.options().ecn >= Ecn::accurate;
}

EcnMode ecn_asked(const Domain& d, const SocketOptions& o)
{
    Ecn way = d.stack.options().ecn;
    if (way == Ecn::accurate) {
        return EcnMode::accurate;
    }
    bool classic = way == Ecn::on || way == Ecn::accept_accurate_ask_classic ||
                   congestion_algorithm(algorithm_index(d, o)).needs_ecn;
    return classic ? EcnMode::classic : EcnMode::none;
}

bool accepts_ecn(const Domain& d, const SocketOptions& o)
{
    return d.stack.options().ecn != Ecn::off || ecn_asked(d, o) != EcnMode::none;
}

// RFC 3168 6.1.1: an ECN-setup SYN has ECE and CWR. RFC 9768 3.1.2, 3.1.3: to who knows the accurate feedback it is
// that alone; no flags are no ECN, and whatever else asks for the accurate feedback.
EcnMode ecn_accepted(const Domain& d, const SocketOptions& o, const Segment& s)
{
    constexpr unsigned classic_setup = 3;
    unsigned asked = s.header.ace();
    bool accurate = accepts_accurate_ecn(d);
    if (accurate && asked != 0 && asked != classic_setup) {
        return EcnMode::accurate;
    }
    bool setup = (asked & classic_setup) == classic_setup;
    return setup && accepts_ecn(d, o) ? EcnMode::classic : EcnMode::none;
}

// RFC 3168 6.1.1, RFC 9768 3.1.2 table 2
EcnMode ecn_answered(EcnMode asked, const Segment& syn_ack)
{
    unsigned said = syn_ack.header.ace();
    if (asked == EcnMode::accurate) {
        constexpr unsigned reflected = 7; // a broken peer's
        return said == 0 || said == reflected ? EcnMode::none : said == 1 ? EcnMode::classic : EcnMode::accurate;
    }
    bool agrees = syn_ack.has(wire::tcp_ece) && !syn_ack.has(wire::tcp_cwr);
    return asked == EcnMode::classic && agrees ? EcnMode::classic : EcnMode::none;
}

// RFC 3168 6.1.1.1: not in a SYN that goes again, for middleboxes that dislike it; RFC 9768 3.1.4.1: from the second
// on.
std::uint16_t ecn_flags_of_syn(EcnMode asked, unsigned retries)
{
    if (asked == EcnMode::accurate) {
        return retries <= 1 ? wire::tcp_ace : std::uint16_t{0};
    }
    return asked == EcnMode::classic && retries == 0 ? wire::tcp_ece | wire::tcp_cwr : std::uint16_t{0};
}

std::uint16_t ecn_flags_of_syn_ack(EcnMode m, EcnHandshake& h, unsigned retries)
{
    if (m != EcnMode::accurate) {
        return m == EcnMode::classic ? wire::tcp_ece : std::uint16_t{0};
    }
    if (retries > 1) { // RFC 9768 3.2.3.2.2
        h.plain = true;
        return 0;
    }
    return static_cast<std::uint16_t>(handshake_ace(h.peer_field) << wire::tcp_ace_shift);
}

bool ecn_syn_again(EcnMode m, EcnHandshake& h, EcnMode asked, const Segment& syn)
{
    if (m != EcnMode::none && asked != EcnMode::none && asked != m) {
        return false;
    }
    h.peer_field = syn.ip->tos & ecn_field;
    h.plain |= asked == EcnMode::none;
    h.no_option = true;
    return true;
}

// The TOS octet of a segment. RFC 3168 6.1.4, 6.1.5: ECT on new text alone; RFC 8257 3.1: DCTCP on everything, since a
// queue that marks drops what cannot be marked; but ACKs of marked ACKs look like duplicates where there is no SACK
// (RFC 9768 3.2.2.5.1).
std::uint8_t tos_of(const Tcb& t, bool new_text)
{
    if (t.agreed.ecn == EcnMode::none) {
        return t.tos;
    }
    bool accurate = t.agreed.ecn == EcnMode::accurate;
    bool forbidden = accurate ? !t.accecn.may_set_ect() : t.accecn.handshake.plain; // RFC 3168 6.1.1
    bool answers = t.bbr == nullptr; // BBR would not answer a mark, so it asks for none
    if (forbidden || !answers) {
        return t.tos;
    }
    bool capable = new_text || (t.algorithm().needs_ecn && (!accurate || t.agreed.sack));
    return static_cast<std::uint8_t>((t.tos & ~ecn_field) | (capable ? ecn_ect0 : 0));
}

// ECE and CWR of a segment that is no SYN.
std::uint16_t ecn_flags(Tcb& t, bool new_text)
{
    std::uint16_t flags = t.ecn.echo ? wire::tcp_ece : 0;
    if (new_text && t.ecn.cwr_due) {
        t.ecn.cwr_due = false; // RFC 3168 6.1.2: in the first new text after the reduction
        flags |= wire::tcp_cwr;
    }
    return flags;
}

namespace {

// As Linux: who is told of a mark, or has answered one, may have a window so small that a late ACK stalls it.
void acknowledge_at_once(Tcb& t)
{
    t.rcv.quick_acks = std::max(t.rcv.quick_acks, quick_acks_of_mark);
    t.rcv.interactive = false;
}

} // namespace

// RFC 3168 6.1.3: ECE on every ACK from a mark until CWR. RFC 8257 3.2: ECE says whether the text that the ACK covers
// was marked; where that changes, what was received before is acknowledged first, and this at once.
void take_mark(Tcb& t, const Segment& s)
{
    if (t.window_open() != 0 && !s.seq.in_window(t.rcv.nxt, t.window_open())) {
        return;
    }
    bool marked = s.len != 0 && (s.ip->tos & ecn_field) == ecn_ce;
    if (t.algorithm().needs_ecn) {
        if (s.len == 0 || marked == t.ecn.echo) {
            return;
        }
        if (t.rcv.unacked != 0) {
            send_ack(t);
        }
        t.ecn.echo = marked;
        acknowledge_at_once(t);
        return;
    }
    if (s.has(wire::tcp_cwr)) {
        t.ecn.echo = false;
    }
    if (s.len != 0 && (s.has(wire::tcp_cwr) || (marked && !t.ecn.echo))) {
        acknowledge_at_once(t);
    }
    t.ecn.echo |= marked && !base::planted(base::Plant::mark_not_echoed);
}

namespace {

// The loss that a reduction was for may turn out to be none; the mark that it answers as well was one. While losses are
// repaired cwnd is what PRR lets go at the moment, perhaps nothing; where it leads to is ssthresh.
void keep_reduction(Tcb& t)
{
    std::uint32_t goal = t.board.phase != Recovery::none ? std::min(t.cc.ssthresh, t.cc_before.cwnd) : 0;
    t.cc_before = t.cc;
    t.cc_before.cwnd = std::max(t.cc.cwnd, goal);
    t.ecn_before = t.ecn;
}

} // namespace

// RFC 3168 6.1.2: as to a loss, but nothing is sent again; once per window of text.
void take_echo(Tcb& t, const AckRound& r)
{
    if (t.ecn.reduced) {
        keep_reduction(t);
        return;
    }
    if (t.board.phase != Recovery::none || r.flight_before == 0 || t.bbr != nullptr) {
        return; // losses of that window are being repaired
    }
    count(t.domain.tcp->counters.ecn_reductions);
    congestion_on_mark(t.algorithm(), t.cc, r.flight_before);
    ecn_reduced(t);
    t.undo.end();
}

bool reduced_for_mark(const Tcb& t)
{
    return t.ecn.reduced && t.snd.una < t.ecn.high && t.algorithm().reduce_marked == nullptr;
}

void ecn_reduced(Tcb& t)
{
    if (t.agreed.ecn != EcnMode::none) {
        t.ecn.cwr_due = t.agreed.ecn == EcnMode::classic;
        t.ecn.reduced = true;
        t.ecn.high = t.snd.nxt;
    }
}

void ecn_undo(Tcb& t)
{
    t.ecn.reduced = t.ecn_before.reduced && t.snd.una <= t.ecn_before.high;
    t.ecn.high = t.ecn_before.high;
    t.ecn.cwr_due = t.ecn.cwr_due && t.ecn_before.cwr_due;
}

} // namespace protocols::tcp
