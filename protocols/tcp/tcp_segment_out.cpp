// Building segments: header and options in the packet's own buffer, text as pieces of the socket's send ring (in place,
// no copy, unless it is short), the window with silly-window avoidance on the receiver's side, the checksum left to the
// device. Owner: the Tcb's.
#include "base/endian.hpp"
#include "base/plant.hpp"
#include "protocols/tcp/tcp_var.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/ipv4.hpp"

namespace protocols::tcp {

namespace {

constexpr std::uint32_t text_copied_max = 256;

// RFC 9293 3.8.6.2.2: the right edge moves by at least min(window / 2, MSS) or not at all; it never moves back (MUST-34
// for the peer). Updates rcv.adv; returns the field.
[[gnu::always_inline]] inline std::uint16_t window_to_advertise(Tcb& t, bool syn)
{
    std::uint8_t scale = syn ? 0 : t.agreed.rcv_scale; // RFC 7323 2.2: never in a SYN
    std::uint32_t open = t.window_open();
    std::uint32_t could = receive_window(t) + (base::planted(base::Plant::window_edge_too_far) ? t.mss : 0);
    if (t.so != nullptr && t.so->rcv_ring.size() != 0 && could > open) {
        if (could - open >= window_step(t, 1) || t.rcv.adv == t.rcv.irs) {
            open = could;
        }
    }
    std::uint32_t field = std::min<std::uint32_t>(open >> scale, window_unscaled_max);
    if ((field << scale) < t.window_open() && ((field + 1) << scale) <= could && field < window_unscaled_max) {
        ++field; // rounding must not pull the edge back
    }
    t.rcv.adv = base::max(t.rcv.adv, t.rcv.nxt + (field << scale));
    return static_cast<std::uint16_t>(field);
}

// RFC 2018 4: the range with the newest segment first, the others behind it; RFC 2883 4: a duplicate before all.
void add_sack(Tcb& t, wire::TcpOptions& o)
{
    if (!t.agreed.sack) {
        t.duplicate = {}; // the ACK says all there is to say of it
        return;
    }
    unsigned room = o.has_timestamp ? 3 : 4;
    unsigned n = 0;
    if (t.duplicate.start != t.duplicate.end) {
        o.sack[n++] = {t.duplicate.start, t.duplicate.end};
        t.duplicate = {};
    }
    std::uint32_t below = ~std::uint32_t{0};
    while (n < room) { // ranges by falling stamp: at most 4 passes over a short list
        const SeqRange* newest = nullptr;
        for (unsigned i = 0; i < t.out_of_order.count(); ++i) {
            const SeqRange& r = t.out_of_order[i];
            if (r.stamp < below && (newest == nullptr || r.stamp > newest->stamp)) {
                newest = &r;
            }
        }
        if (newest == nullptr) {
            break;
        }
        below = newest->stamp;
        o.sack[n++] = {newest->start, newest->end};
    }
    o.sack_count = static_cast<std::uint8_t>(n);
}

struct Way {
    const base::FourTuple& flow;
    Route& route; // kept; decided again here when what it was decided by has changed
    std::uint8_t ttl;
    std::uint8_t tos;
    bool may_fragment = false;
    std::uint32_t ts_offset = 0; // of the connection: a keyed hash of the flow (tcp_negotiate.cpp)
    std::uint16_t pseudo_sum;    // pseudo_header_part() of the flow
};

// Header in front, checksum prepared, on to IP.
[[gnu::always_inline]] inline void launch(Domain& d, const Way& way, const wire::TcpHeader& h, netmsg::Packet& p)
{
    if (!route_holds(d, way.route) && !route_renew(d, way.flow.local.addr, way.flow.peer.addr, way.route)) {
        count(d.counters.ip_out_no_route); // as lost on the way: the way, or the address, may come back
        return p.free();
    }
    wire::tcp_emit(h, p.data, h.header_bytes);
    base::store_be16(p.data + wire::tcp_checksum_at, wire::pseudo_header_sum(way.pseudo_sum, p.total()));
    p.csum = netmsg::Csum::partial;
    p.csum_start = 0;
    p.csum_offset = wire::tcp_checksum_at;
    IpOut ip;
    ip.source = way.flow.local.addr;
    ip.destination = way.flow.peer.addr;
    ip.protocol = 6;
    ip.ttl = way.ttl;
    ip.tos = way.tos;
    ip.dont_fragment = !way.may_fragment;
    ip.flow_label = way.ts_offset >> 12; // RFC 6437 3: one a flow, and says no more than the timestamps do
    count(d.tcp->counters.segments_out);
    ip_output(d, way.route, ip, p); // errors are counted there; a lost segment is TCP's daily bread
}

netmsg::Packet* new_packet(Domain& d, wire::TcpHeader& h)
{
    netmsg::Packet* p = d.stack.pool().allocate();
    if (p == nullptr) {
        count(d.tcp->counters.no_packet);
        return nullptr;
    }
    h.header_bytes = static_cast<std::uint8_t>(wire::tcp_emit_bytes(h));
    p->put(h.header_bytes);
    return p;
}

void note_acknowledged(Tcb& t)
{
    t.ack_now = t.ack_soon = false;
    t.rcv.unacked = 0;
    t.rcv.sack_news = 0;
    t.ts.last_ack_sent = t.rcv.nxt;
    if (!base::planted(base::Plant::ack_sent_twice)) {
        clear_deadline(t, Deadline::delayed_ack);
    }
}

[[gnu::always_inline]] inline wire::TcpHeader header_of(Tcb& t, Seq seq, std::uint16_t flags)
{
    wire::TcpHeader h;
    h.source_port = t.flow.local.port;
    h.destination_port = t.flow.peer.port;
    h.seq = seq;
    h.flags = flags;
    if ((flags & wire::tcp_ack) != 0) {
        h.ack = t.rcv.nxt;
    }
    if ((flags & wire::tcp_rst) == 0) {
        h.window = window_to_advertise(t, (flags & wire::tcp_syn) != 0);
    }
    if (t.agreed.timestamps) {
        h.options.has_timestamp = true;
        h.options.ts_val = timestamp_now(t.domain.now(), t.ts.offset);
        h.options.ts_ecr = (flags & wire::tcp_ack) != 0 ? t.ts.recent : 0;
    }
    return h;
}

// Pieces of the ring; of a few octets a copy is cheaper than what they cost from here to the device.
void add_text(const Tcb& t, std::uint64_t offset, std::uint32_t len, netmsg::Packet& p)
{
    INVARIANT(t.so != nullptr && offset >= t.so->snd_acked && offset + len <= t.so->snd_limit);
    if (len <= text_copied_max) {
        t.so->snd_ring.copy_out(offset, p.put(len), len);
        return;
    }
    iovec pieces[sockbuf::RingView::pieces_max];
    unsigned n = t.so->snd_ring.pieces(offset, len, pieces);
    for (unsigned i = 0; i < n; ++i) {
        p.add_piece(pieces[i].iov_base, pieces[i].iov_len);
    }
}

// RFC 9293 3.8.5 with the pointer behind the urgent octet, as everybody has it (RFC 6093 3.1); far ahead it says what a
// field of 16 bits can.
void mark_urgent(const Tcb& t, wire::TcpHeader& h)
{
    auto ahead = static_cast<std::int64_t>(t.so->snd_urgent - t.snd.una_offset) - (h.seq - t.snd.una);
    if (ahead > 0) {
        h.flags |= wire::tcp_urg;
        h.urgent = static_cast<std::uint16_t>(std::min<std::int64_t>(ahead, 0xffff));
    }
}

// RFC 9768 3.2.2.2: always the latest count. The option goes with ACKs, and with text that leaves room for it.
void add_accurate_ecn(Tcb& t, const SegmentOut& s, bool several, wire::TcpHeader& h)
{
    std::uint16_t shaken =
        static_cast<std::uint16_t>(handshake_ace(t.accecn.handshake.peer_field) << wire::tcp_ace_shift);
    h.flags |= s.handshake ? shaken : t.accecn.ace_flags();
    t.accecn.told_cep = t.accecn.r_cep;
    constexpr std::uint32_t all = wire::tcp_header_max_bytes - wire::tcp_header_min_bytes;
    std::uint32_t room = all - (t.agreed.timestamps ? timestamp_bytes : 0U);
    if (s.len == 0) {
        accecn_add_option(t, true, room, h.options);
    } else if (s.new_text && !several && s.len < t.mss) {
        accecn_add_option(t, false, std::min(room, t.mss - s.len), h.options);
    }
}

} // namespace

bool send_segment(Tcb& t, const SegmentOut& s)
{
    look_at_way(t);
    bool several = s.len > t.mss && !s.mtu_probe; // segments, which the device cuts
    wire::TcpHeader h = header_of(t, s.seq, s.flags);
    if (in_urgent_mode(t)) {
        mark_urgent(t, h);
    }
    if (several) {
        h.flags |= wire::tcp_psh; // as Linux: a burst handed down as one need not wait for what follows it
    }
    if (t.agreed.ecn == EcnMode::classic) {
        h.flags |= ecn_flags(t, s.new_text && s.len != 0);
    }
    if ((s.len == 0 || t.duplicate.start != t.duplicate.end) && !s.plain) {
        add_sack(t, h.options);
        if (s.len != 0 && s.len + h.options.sack_count * 8U + 4 > t.mss) {
            h.options.sack_count = 0; // a full segment has no room for it; the next pure ACK says it
        }
    }
    if (t.agreed.ecn == EcnMode::accurate) {
        add_accurate_ecn(t, s, several, h);
    }
    netmsg::Packet* p = new_packet(t.domain, h);
    if (p == nullptr) {
        return false;
    }
    if (s.len != 0) {
        add_text(t, s.offset, s.len, *p);
        if (several) {
            p->gso = t.flow.peer.addr.is_v4() ? netmsg::Gso::tcp4 : netmsg::Gso::tcp6;
            p->gso_size = static_cast<std::uint16_t>(t.mss);
        }
    }
    std::uint32_t segments = several ? (s.len + t.mss - 1) / t.mss : 1;
    t.segments_out += segments;
    t.data_segments_out += s.len != 0 ? segments : 0;
    bool fragments = may_fragment(t) && !s.mtu_probe;
    launch(t.domain,
        {t.flow, t.route, t.ttl, tos_of(t, s.new_text && s.len != 0), fragments, t.ts.offset, t.pseudo_sum}, h, *p);
    note_acknowledged(t);
    return true;
}

bool send_ack(Tcb& t, AckForm form)
{
    SegmentOut s;
    s.plain = form != AckForm::full;
    s.handshake = form == AckForm::handshake;
    s.seq = t.snd.nxt;
    Seq edge = t.snd.una + t.snd.wnd;
    // A peer that took window back takes no number beyond it, nor the ACK with it. Less than a unit of its scale is
    // only how it rounds (RFC 7323 2.4): it has all of that, and takes nothing below SND.NXT; as Linux.
    if (synchronized(t.state) && t.snd.nxt - edge >= std::int32_t{1} << t.agreed.snd_scale) {
        s.seq = edge;
    }
    s.flags = wire::tcp_ack;
    if (send_segment(t, s)) {
        return true;
    }
    t.ack_now = false; // no packet: try again shortly
    t.ack_soon = true;
    set_deadline(t, Deadline::delayed_ack, t.domain.now() + delayed_ack_time);
    return false;
}

namespace {

// The option of RFC 7413 in our SYN or SYN-ACK; returns how much text goes with it: none in a SYN that is sent again
// (4.2.1), so that a middlebox that dislikes it costs one timeout.
std::uint32_t add_fastopen(Tcb& t, bool answer, wire::TcpOptions& o, FastOpenCookie& cookie)
{
    if (answer ? !t.fast_cookie : !t.fast_active || t.retries != 0) {
        return 0;
    }
    o.cookie = cookie.value.data();
    if (answer) {
        cookie = cookie_for(t.domain, t.so->options, t.flow);
        o.cookie_bytes = cookie.bytes;
        return 0;
    }
    const FastOpenPeer* p = t.domain.tcp->fastopen.find(t.flow.peer.addr, t.domain.now());
    if (p != nullptr) {
        cookie = p->cookie;
        o.cookie_bytes = cookie.bytes;
    }
    return may_open_fast(t.domain, *t.so, t.flow.peer.addr) ? fastopen_text(t, p) : 0;
}

} // namespace

void send_syn(Tcb& t)
{
    if (t.fast_passive) { // it may have text behind it
        look_at_way(t);
    }
    bool answer = t.state == State::syn_received;
    wire::TcpHeader h = header_of(t, t.snd.iss, answer ? wire::tcp_syn | wire::tcp_ack : wire::tcp_syn);
    const SocketOptions& o = t.so->options;
    h.flags |= answer ? ecn_flags_of_syn_ack(t.agreed.ecn, t.accecn.handshake, t.retries)
                      : ecn_flags_of_syn(ecn_asked(t.domain, o), t.retries);
    h.options = syn_options(t.agreed, mss_to_announce(t.domain, t.route, o), timestamp_now(t.domain.now(), t.ts.offset),
        answer ? t.ts.recent : 0);
    FastOpenCookie cookie;
    std::uint32_t text = add_fastopen(t, answer, h.options, cookie);
    t.accecn.handshake.no_option |= t.retries != 0;
    if (answer && t.agreed.ecn == EcnMode::accurate && !t.accecn.handshake.no_option && h.options.cookie == nullptr) {
        h.options.accecn = accecn_first_option();
    }
    if (netmsg::Packet* p = new_packet(t.domain, h); p != nullptr) {
        ++t.segments_out;
        if (text != 0) {
            ++t.data_segments_out;
            add_text(t, t.so->snd_acked, text, *p);
        }
        launch(t.domain, {t.flow, t.route, t.ttl, t.tos, may_fragment(t), t.ts.offset, t.pseudo_sum}, h, *p);
        note_acknowledged(t);
    }
    if (t.retries == 0 && !t.fast_passive) {
        t.snd.nxt = t.snd.iss + 1 + text;
    }
}

void send_reset(Tcb& t)
{
    wire::TcpHeader h = header_of(t, t.snd.nxt, wire::tcp_rst | wire::tcp_ack);
    if (netmsg::Packet* p = new_packet(t.domain, h); p != nullptr) {
        launch(t.domain, {t.flow, t.route, t.ttl, t.tos, may_fragment(t), t.ts.offset, t.pseudo_sum}, h, *p);
        count(t.domain.tcp->counters.resets_out);
    }
}

// One octet below the window, with no text, as Linux does: always answered by an ACK (RFC 9293 3.8.4, 3.8.6.1).
void send_probe(Tcb& t)
{
    SegmentOut s;
    s.seq = t.snd.una - 1;
    s.flags = wire::tcp_ack;
    send_segment(t, s);
}

void send_reply(Domain& d, Reply& r)
{
    Route route;
    if (r.route == nullptr) {
        if (!route_lookup(d, r.flow.peer.addr, route, r.flow.local.addr)) {
            return;
        }
        r.route = &route;
    }
    r.header.source_port = r.flow.local.port;
    r.header.destination_port = r.flow.peer.port;
    if (netmsg::Packet* p = new_packet(d, r.header); p != nullptr) {
        std::uint32_t label_of = r.flow.peer.addr.is_v4() ? 0 : timestamp_offset(*d.tcp, r.flow);
        std::uint16_t pseudo = wire::pseudo_header_part(r.flow.local.addr, r.flow.peer.addr, wire::protocol_tcp);
        launch(d, {r.flow, *r.route, r.ttl, r.tos, false, label_of, pseudo}, r.header, *p);
    }
}

namespace {

void new_second(Domain& d)
{
    TcpState& s = *d.tcp;
    if (d.now() - s.limit_second >= base::seconds(1) || s.limit_second == base::Instant{}) {
        s.limit_second = d.now();
        s.resets_left = resets_per_second;
        // RFC 5961 7 with a random share, so that the budget is no side channel (CVE-2016-5696)
        s.challenge_left = challenge_acks_per_second / 2 + d.random.below(challenge_acks_per_second);
    }
}

} // namespace

void send_reset_for(Domain& d, const Segment& s)
{
    new_second(d);
    if (s.has(wire::tcp_rst) || d.tcp->resets_left == 0) {
        return;
    }
    --d.tcp->resets_left;
    Reply r;
    r.flow = s.flow;
    if (s.has(wire::tcp_ack)) { // <SEQ=SEG.ACK><CTL=RST>
        r.header.seq = s.ack();
        r.header.flags = wire::tcp_rst;
    } else { // <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>
        r.header.ack = s.seq + s.space();
        r.header.flags = wire::tcp_rst | wire::tcp_ack;
    }
    count(d.tcp->counters.resets_out);
    send_reply(d, r);
}

bool may_challenge(Domain& d)
{
    new_second(d);
    if (d.tcp->challenge_left == 0) {
        return false;
    }
    --d.tcp->challenge_left;
    return true;
}

} // namespace protocols::tcp
