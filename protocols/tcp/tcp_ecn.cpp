// ECN on a connection (RFC 3168 6.1) and what DCTCP changes of it (RFC 8257 3): who asks for it, which segments carry
// ECT, how marks are echoed and answered. Owner: the Tcb's.
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {
constexpr std::uint8_t ecn_field = 3;
constexpr std::uint8_t ecn_ect0 = 2;
constexpr std::uint8_t ecn_ce = 3;
} // namespace

std::uint8_t algorithm_index(const Domain& d, const SocketOptions& o)
{
    return o.congestion != 0 ? static_cast<std::uint8_t>(o.congestion - 1) : d.stack.options().congestion;
}

bool asks_for_ecn(const Domain& d, const SocketOptions& o)
{
    return d.stack.options().ecn == Ecn::on || congestion_algorithm(algorithm_index(d, o)).needs_ecn;
}

// RFC 3168 6.1.1: an ECN-setup SYN has both flags.
bool accepts_ecn(const Domain& d, const SocketOptions& o, const Segment& syn)
{
    return syn.has(wire::tcp_ece) && syn.has(wire::tcp_cwr) &&
           (d.stack.options().ecn != Ecn::off || asks_for_ecn(d, o));
}

// The TOS octet of a segment. RFC 3168 6.1.4, 6.1.5: ECT on new text alone; RFC 8257 3.1: DCTCP on everything, since a
// queue that marks drops what cannot be marked.
std::uint8_t tos_of(const Tcb& t, bool new_text)
{
    if (!t.agreed.ecn || t.bbr != nullptr) { // BBR would not answer a mark, so it asks for none
        return t.tos;
    }
    bool capable = new_text || t.algorithm().needs_ecn;
    return static_cast<std::uint8_t>((t.tos & ~ecn_field) | (capable ? ecn_ect0 : 0));
}

// ECE and CWR of a segment that is no SYN.
std::uint8_t ecn_flags(Tcb& t, bool new_text)
{
    std::uint8_t flags = t.ecn.echo ? wire::tcp_ece : 0;
    if (new_text && t.ecn.cwr_due) {
        t.ecn.cwr_due = false; // RFC 3168 6.1.2: in the first new text after the reduction
        flags |= wire::tcp_cwr;
    }
    return flags;
}

// RFC 3168 6.1.3: ECE on every ACK from a mark until CWR. RFC 8257 3.2: ECE says whether the text that the ACK covers
// was marked; where that changes, what was received before is acknowledged first.
void take_mark(Tcb& t, const Segment& s)
{
    if (!t.agreed.ecn || (t.window_open() != 0 && !s.seq.in_window(t.rcv.nxt, t.window_open()))) {
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
        return;
    }
    if (s.has(wire::tcp_cwr)) {
        t.ecn.echo = false;
    }
    t.ecn.echo |= marked;
}

// RFC 3168 6.1.2: as to a loss, but nothing is sent again; once per window of text.
void take_echo(Tcb& t, const AckRound& r)
{
    if (t.ecn.reduced && t.snd.una <= t.ecn.high) {
        return; // what tells of CWR lies above
    }
    t.ecn.reduced = false;
    if (t.board.phase != Recovery::none || r.flight_before == 0 || t.bbr != nullptr) {
        return; // reduced for a loss of the same window
    }
    count(t.domain.tcp->counters.ecn_reductions);
    congestion_on_mark(t.algorithm(), t.cc, r.flight_before);
    t.ecn = {t.ecn.echo, true, true, t.snd.nxt};
    t.undo.end();
}

} // namespace protocols::tcp
