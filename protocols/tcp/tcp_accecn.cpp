// Accurate ECN feedback on a connection (RFC 9768 3.2): the marks that arrive are counted and told in the ACE field and
// the AccECN option, those that the peer tells of are decoded and handed to congestion control; what a middlebox does
// to the fields is noticed. Who uses it is decided in tcp_ecn.cpp. Owner: the Tcb's.
#include <utility>

#include "base/plant.hpp"
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

constexpr std::uint32_t octets_mask = 0xffffff; // of a field of the option
constexpr unsigned ceb_at = 1;                  // the field of CE, in either order
constexpr std::uint32_t marks_an_ack = 2;       // 3.2.2.5.1: n, where text is not acknowledged yet
constexpr std::uint32_t marks_an_ack_of_acks = 3;
constexpr std::uint32_t marks_told_at_once = 6; // more, and the field comes round within a batch
constexpr std::uint32_t stands_still = 3;       // times in a row that a field has come round

// 3.2.3.2.4: the counters of ECT begin above zero.
bool zeroed(const wire::AccEcnOption& o)
{
    return (o.fields >= 1 && o.value[0] == 0) || (o.fields >= 3 && o.value[2] == 0);
}

void expect(Tcb& t)
{
    const AccEcn& e = t.accecn;
    auto ace = static_cast<std::uint16_t>(e.s_cep % ace_values << wire::tcp_ace_shift);
    t.predicted_flags = e.heard && !e.deaf ? wire::tcp_ack | ace : 0;
}

// A mark on a SYN or SYN-ACK of ours, which carry no text.
void reduce_first_window(Tcb& t)
{
    if (t.bbr == nullptr) {
        count(t.domain.tcp->counters.ecn_reductions);
        congestion_on_mark(t.algorithm(), t.cc, t.cc.cwnd);
    }
}

// 3.2.2.3: our SYN or SYN-ACK went out Not-ECT; how it arrived.
void take_handshake_code(Tcb& t, unsigned ace)
{
    t.accecn.mangled |= ace == handshake_ace(ecn_ect0) || ace == handshake_ace(ecn_ect1) || ace == ace_ce;
    if (ace == ace_ce) {
        reduce_first_window(t);
    }
}

// 3.2.2.1: a CE mark on the SYN-ACK is counted once, however many of them came.
void take_syn_ack_field(AccEcn& e, const Segment& s)
{
    e.handshake.peer_field = s.ip->tos & ecn_field;
    if (e.handshake.peer_field == ecn_ce && !e.syn_ack_marked) {
        e.syn_ack_marked = true;
        ++e.r_cep;
    }
}

bool is_pure_ack(const Segment& s)
{
    return s.len == 0 && !s.fin && s.header.options.sack_count == 0;
}

// 3.2.2.2, MAY: the client answers each SYN-ACK, those that were sent again or came late as well, by how it came. As a
// count this would be five marks and more of which no text was; a CE mark on the SYN-ACK is in its count, too.
bool repeats_handshake(const Tcb& t, const Segment& s)
{
    unsigned ace = s.header.ace();
    bool no_mark = ace == handshake_ace(0) || ace == handshake_ace(ecn_ect0) || ace == handshake_ace(ecn_ect1);
    return no_mark && t.snd.una == t.snd.iss + 1 && is_pure_ack(s);
}

// Appendix A.1: an ACK that says nothing new may have been overtaken.
bool is_news(const Tcb& t, const Segment& s, const AckRound& r)
{
    const wire::TcpOptions& o = s.header.options;
    bool later = t.agreed.timestamps && static_cast<std::int32_t>(o.ts_val - t.accecn.ts_seen) > 0;
    return r.advanced || r.d.sacked != 0 || later || t.snd.wl1 < s.seq;
}

void note_acked(Tcb& t)
{
    AccEcn& e = t.accecn;
    if (t.snd.una > e.una_noted) {
        std::uint64_t octets = static_cast<std::uint32_t>(t.snd.una - e.una_noted);
        e.una_noted = t.snd.una;
        e.octets_an_ack += e.octets_an_ack == 0 ? octets * ack_weight : octets - e.octets_an_ack / ack_weight;
    }
}

// The octets with CE that the segment's option tells of beyond those we know; false: it has none to be believed. What
// has changed is never left out (3.2.3.3), so an option that ends before their field says that there are no more.
bool counted_marks(const Tcb& t, const Segment& s, std::uint32_t& risen)
{
    const wire::AccEcnOption& o = s.header.options.accecn;
    risen = o.fields > ceb_at ? (o.value[ceb_at] - t.accecn.s_ceb) & octets_mask : 0;
    return o.kind != 0 && !t.accecn.options_zeroed;
}

// 3.2.3.2.5: where octets were marked and no packet seems to have been, the field has come round, of segments so small
// that octets do not show it; or it is mangled, where fewer were under way than it has values, or it stands still.
void compare_counters(Tcb& t, std::uint32_t octets_risen, std::uint32_t& marks)
{
    AccEcn& e = t.accecn;
    if (octets_risen != 0) {
        bool round = e.s_cep + marks == e.cep_at_option;
        e.came_round = round ? std::min(e.came_round + 1, stands_still) : 0;
        bool mangled = round && (t.segments_out - e.segments_at_rest < ace_values || e.came_round == stands_still);
        e.mangled |= mangled;
        marks = !round ? marks : mangled ? 0 : ace_values;
    }
    e.s_ceb += octets_risen;
    e.cep_at_option = e.s_cep + marks;
    e.segments_at_rest = t.flight() == 0 ? t.segments_out : e.segments_at_rest;
}

void take_counters(Tcb& t, const Segment& s, AckRound& r)
{
    AccEcn& e = t.accecn;
    std::uint32_t octets = 0;
    bool counted = counted_marks(t, s, octets);
    note_acked(t);
    bool certain = counted || !e.acks_cover_many(t.mss); // else it has hardly come round
    std::uint32_t packets = certain ? (std::max(r.d.octets, r.acked) + t.mss - 1) / t.mss : 0;
    std::uint32_t marks = marks_risen(s.header.ace(), e.s_cep, packets, counted, octets, t.mss);
    if (counted) {
        compare_counters(t, octets, marks);
    }
    e.s_cep += marks;
    e.marked += counted ? octets : marks * t.mss;
    r.ece = marks != 0;
    if (r.advanced) {
        r.marked = std::min(e.marked, r.acked);
        e.marked = 0;
    }
}

} // namespace

void accecn_start(Tcb& t, const EcnHandshake& h)
{
    t.accecn.handshake = h;
    if (t.agreed.ecn == EcnMode::accurate) {
        t.accecn.una_noted = t.snd.iss + 1;
        expect(t);
    }
}

void accecn_syn_ack(Tcb& t, const Segment& s)
{
    AccEcn& e = t.accecn;
    take_syn_ack_field(e, s);
    take_handshake_code(t, s.header.ace());
    e.marked_last = e.syn_ack_marked;
    e.options_zeroed = zeroed(s.header.options.accecn);
    e.option_due = e.text_option_due = true; // 3.2.3.2.1
    send_ack(t, AckForm::handshake);         // 3.2.2.1: before any text
}

// 3.2.2.1: each one that confirms the mode is answered so.
bool accecn_syn_ack_again(Tcb& t, const Segment& s)
{
    bool confirms = s.has(wire::tcp_syn) && s.has(wire::tcp_ack) && s.seq == t.rcv.irs && s.ack() > t.snd.iss &&
                    s.ack() <= t.snd.nxt && ecn_answered(EcnMode::accurate, s) == EcnMode::accurate;
    if (confirms) {
        take_syn_ack_field(t.accecn, s);
        send_ack(t, AckForm::handshake);
    }
    return confirms;
}

void accecn_feedback(Tcb& t, const Segment& s, AckRound& r, bool completes)
{
    AccEcn& e = t.accecn;
    if (s.has(wire::tcp_syn)) { // 3.2.2: the flags of a SYN-ACK are no count
        return;
    }
    unsigned ace = s.header.ace();
    if (!e.heard) {
        e.heard = true;
        e.options_zeroed |= zeroed(s.header.options.accecn);
        e.deaf = ace == 0; // 3.2.2.1 note 1, 3.2.2.4
        e.ts_seen = s.header.options.ts_val - 1;
    }
    if (completes && is_pure_ack(s)) { // 3.2.2.1 table 4
        take_handshake_code(t, ace);
        e.s_cep += ace == ace_ce ? 1 : 0;
        e.cep_at_option = e.s_cep;
    } else if (!e.deaf && is_news(t, s, r) && !repeats_handshake(t, s)) {
        take_counters(t, s, r);
        e.ts_seen = s.header.options.ts_val;
    }
    expect(t);
}

bool accecn_expected(const Tcb& t, const Segment& s, std::uint32_t acked)
{
    std::uint32_t risen = 0;
    bool marked = counted_marks(t, s, risen) && risen != 0;
    return !marked && acked <= (ace_values - 1) * t.mss;
}

void accecn_received(Tcb& t, const Segment& s, Actions& a)
{
    AccEcn& e = t.accecn;
    if (s.has(wire::tcp_syn)) {
        return;
    }
    note_acked(t); // those that were predicted
    std::uint8_t field = s.ip->tos & ecn_field;
    std::uint32_t text = s.packet->total() - s.header.header_bytes; // all of it, what was trimmed as well
    bool was_marked = e.marked_last;
    e.marked_last = field == ecn_ce;
    if (field != ecn_ce) {
        e.r_e0b += field == ecn_ect0 ? text : 0;
        e.r_e1b += field == ecn_ect1 ? text : 0;
        return;
    }
    e.r_cep += base::planted(base::Plant::ace_off_by_one) ? s.on_wire() + 1 : s.on_wire();
    e.r_ceb += text;
    std::uint32_t untold = e.r_cep - e.told_cep;
    bool unacknowledged = text != 0 || t.rcv.nxt != t.ts.last_ack_sent;
    if (unacknowledged) { // 3.2.2.5.1: at a change, and each n of them
        a.ack_now |= (text != 0 && !was_marked) || untold >= marks_an_ack;
        a.ack_full |= untold >= marks_told_at_once;
    } else if (untold >= marks_an_ack_of_acks) {
        send_ack(t, AckForm::plain);
    }
}

wire::AccEcnOption accecn_first_option()
{
    AccEcn first;
    return {wire::tcp_kind_accecn0, 3, {first.r_e0b, first.r_ceb, first.r_e1b}};
}

// 3.2.3.3: with every ACK after which a counter has risen, all that ever rose, or at least those that did since; two
// SACK blocks go first.
void accecn_add_option(Tcb& t, bool pure, std::uint32_t room, wire::TcpOptions& o)
{
    AccEcn& e = t.accecn;
    bool& due = pure ? e.option_due : e.text_option_due;
    bool first_due = std::exchange(due, false);
    bool risen = e.r_ceb != e.told_ceb || e.r_e0b != e.told_e0b || e.r_e1b != e.told_e1b;
    if (e.handshake.no_option || (!first_due && !risen)) {
        return;
    }
    AccEcn none;
    bool reversed = e.r_e0b == none.r_e0b && e.r_e1b != none.r_e1b;
    std::uint32_t now[] = {e.r_e0b, e.r_ceb, e.r_e1b};
    std::uint32_t told[] = {e.told_e0b, e.told_ceb, e.told_e1b};
    std::uint32_t initial[] = {none.r_e0b, none.r_ceb, none.r_e1b};
    wire::AccEcnOption option;
    option.kind = reversed ? wire::tcp_kind_accecn1 : wire::tcp_kind_accecn0;
    unsigned wanted = 1;
    unsigned needed = 1;
    for (unsigned i = 0; i < wire::tcp_accecn_fields_max; ++i) {
        unsigned from = reversed ? wire::tcp_accecn_fields_max - 1 - i : i;
        option.value[i] = now[from] & octets_mask;
        wanted = first_due || now[from] != initial[from] ? i + 1 : wanted;
        needed = now[from] != told[from] ? i + 1 : needed;
    }
    for (unsigned fields = wanted; fields >= needed; --fields) {
        option.fields = static_cast<std::uint8_t>(fields);
        std::uint32_t left = room - std::min(room, option.bytes());
        std::uint32_t blocks = std::min<std::uint32_t>(o.sack_count, (left - std::min(left, 4U)) / 8);
        if (option.bytes() <= room && blocks >= std::min<unsigned>(o.sack_count, 2)) {
            o.accecn = option;
            o.sack_count = static_cast<std::uint8_t>(blocks);
            e.told_ceb = e.r_ceb;
            e.told_e0b = e.r_e0b;
            e.told_e1b = e.r_e1b;
            return;
        }
    }
}

} // namespace protocols::tcp
