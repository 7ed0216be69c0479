// What to send, and when: retransmissions first (RFC 6675 4 (1)), then new text in super-segments, then FIN; Nagle
// and cork, silly windows (RFC 9293 3.8.6.2.1), persist. Runs at the roll-up, once per batch and connection,
// and from timers. Building is tcp_segment_out.cpp. Owner: the Tcb's.
#include "base/plant.hpp"
#include "protocols/tcp/tcp_var.hpp"

namespace protocols {

namespace tcp {
namespace {

constexpr base::Micros rollup_time{200};
constexpr unsigned turn_segments = 16; // a connection's in one go, then the others'; and between looks at the clock

// Segments that were cut in software, each in memory of its own: a round makes no more than the caches hold until a
// wire in memory gives them to their receiver.
constexpr unsigned cut_a_round = 32;

std::uint64_t cut_so_far(const Domain& d)
{
    return d.counters.gso_segments.load(std::memory_order_relaxed);
}

std::uint32_t cwnd_room(const Tcb& t)
{
    std::uint32_t pipe = t.board.pipe(t.mss);
    return t.cc.cwnd > pipe ? t.cc.cwnd - pipe : 0;
}

// Is it too early? Then the timer goes on.
bool waits_for_pace(Tcb& t)
{
    if (t.pacer.next <= t.domain.now() || pacing_rate(t) == 0) {
        return false;
    }
    set_deadline(t, Deadline::pace, t.pacer.next);
    return true;
}

void note_pace(Tcb& t, std::uint32_t len)
{
    if (may_be_paced(t) && !base::planted(base::Plant::pace_not_kept)) {
        if (std::uint64_t rate = pacing_rate(t); rate != 0) {
            t.pacer.sent(len, rate, t.domain.now());
        }
    }
}

// The largest segment to hand down: many full ones where they are cut on the way (TSO, GSO), else one; of a paced
// connection as much as goes at once.
std::uint32_t super_bytes(const Tcb& t)
{
    std::uint32_t most = std::min(netmsg::super_max(t.route.interface->netif->info(), netmsg::Gso::tcp4), 65535U);
    std::uint32_t headers = ip_header_bytes(t.flow.peer.addr) + wire::tcp_header_max_bytes;
    // A device would copy one urgent pointer into every segment; and clear CWR in all but the first, as the classic
    // feedback wants it (RFC 9768 3.3.4).
    // And where routers may fragment, each packet needs an identification that no other has (RFC 6864 4.1).
    if (in_urgent_mode(t) || may_fragment(t) ||
        (t.agreed.ecn == EcnMode::accurate && (t.accecn.ace_flags() & wire::tcp_cwr) != 0)) {
        return t.mss;
    }
    if (std::uint64_t rate = pacing_rate(t); rate != 0) {
        most = std::min(most, Pacer::burst(rate, t.mss) + headers);
    }
    if (most < headers + 2 * t.mss) {
        return t.mss;
    }
    return (most - headers) / t.mss * t.mss;
}

// Sends [start, start + len) of what was sent before, FIN included where it lies.
bool resend(Tcb& t, Seq start, std::uint32_t len)
{
    SegmentOut s;
    s.seq = start;
    s.flags = wire::tcp_ack;
    s.len = len;
    if (t.snd.fin_sent && start + len > t.snd.fin_seq) {
        s.len = static_cast<std::uint32_t>(t.snd.fin_seq - start);
        if (!base::planted(base::Plant::fin_not_sent_again)) {
            s.flags |= wire::tcp_fin;
        }
    }
    s.offset = t.offset_of(start);
    if (base::planted(base::Plant::sent_again_from_wrong_place) && s.offset != t.so->snd_acked) {
        --s.offset;
    }
    if (s.len != 0 && s.offset + s.len == t.so->snd_limit) {
        s.flags |= wire::tcp_psh;
    }
    t.last_sent = t.domain.now();
    t.timing = false; // Karn: its ACK would be ambiguous
    t.plpmtu.sent_again(start, start + len);
    t.retransmitted += s.len > t.mss ? (s.len + t.mss - 1) / t.mss : 1;
    t.bytes_retransmitted += s.len;
    count(t.domain.tcp->counters.retransmits);
    return send_segment(t, s);
}

// An ACK is due for text out of order, or that came twice. It goes alone: with text an ACK is no duplicate, which the
// peer counts (RFC 5681 2), and full segments have no room for SACK (RFC 2018 4).
bool has_order_to_tell(const Tcb& t)
{
    return t.ack_now && (!t.out_of_order.empty() || t.duplicate.start != t.duplicate.end);
}

// What is lost, from the first octet on, as far as cwnd lets it be; false when there is none or no room.
bool resend_lost(Tcb& t)
{
    Seq start;
    Seq end;
    if (!t.board.first_lost(start, end)) {
        t.board.force_one = false;
        return false;
    }
    std::uint32_t room = cwnd_room(t);
    bool by_timer = t.board.force_one &&
                    t.board.phase == Recovery::timeout; // or a smaller path: one segment waits for no pace, as on Linux
    auto hole = static_cast<std::uint32_t>(end - start);
    if ((!t.board.force_one && room < std::min(hole, t.mss)) || (!by_timer && waits_for_pace(t))) {
        return false;
    }
    std::uint32_t most = std::min(std::max(room / t.mss * t.mss, t.mss), super_bytes(t));
    std::uint32_t len = std::min(hole, most);
    if (!t.board.resend(len, clock_us(t))) {
        return false; // the list of runs is full: when an ACK has shortened it
    }
    t.board.force_one = false;
    t.prr.out += len;
    if (t.bbr != nullptr) {
        tell_sent(t, len);
    }
    note_pace(t, len);
    t.undo.retransmitted(len, t.agreed.timestamps, timestamp_now(t.domain.now(), t.ts.offset));
    resend(t, start, len);    // one that could not be built is lost like any other
    if (start == t.snd.una) { // as Linux: its ACK has a whole timeout (RFC 6298 5), not what its loss has left of one
        restart_retransmit(t);
    }
    return true;
}

void resend_all(Tcb& t)
{
    if (t.board.phase != Recovery::none) {
        while (resend_lost(t)) {
        }
    }
}

// A segment below one MSS that is all there is (RFC 9293 3.7.4 Nagle, in Minshall's form: held only while another small
// one is unacknowledged).
bool may_send_tail(const Tcb& t, bool fin_follows)
{
    const SocketOptions& o = t.so->options;
    if (fin_follows || t.push_small || in_urgent_mode(t)) {
        return true;
    }
    if (o.cork || t.so->more) {
        return false;
    }
    return o.no_delay || t.snd.nxt == t.snd.una || t.snd.small_end <= t.snd.una;
}

// How many octets of new text to send now; 0 = wait.
std::uint32_t new_text(Tcb& t, std::uint64_t available, bool fin_follows)
{
    std::uint32_t by_window = window_room(t);
    std::uint32_t by_cwnd = cwnd_room(t);
    auto wanted = static_cast<std::uint32_t>(std::min<std::uint64_t>(available, by_window));
    t.cwnd_limited |= by_cwnd < wanted;
    std::uint32_t len = std::min(wanted, by_cwnd);
    if (len > t.mss) { // one segment may always go
        len = std::min(len, super_bytes(t));
    }
    bool tail = len == available;
    if (len >= t.mss) {
        std::uint32_t odd = len % t.mss;
        return odd == 0 || (tail && may_send_tail(t, fin_follows)) ? len : len - odd;
    }
    if (tail) {
        return may_send_tail(t, fin_follows) ? len : 0;
    }
    if (len == by_window &&
        by_window <= by_cwnd) { // RFC 9293 3.8.6.2.1: half the largest window, or forced by the timer
        return t.push_small || len >= t.snd.wnd_max / 2 ? len : 0;
    }
    return 0;
}

// New text, and FIN, that went out at snd.nxt.
void note_sent(Tcb& t, Seq start, std::uint32_t len, bool fin)
{
    base::Instant now = t.domain.now();
    t.last_sent = now;
    if (t.board.flight() == 0) {
        t.rack.began(clock_us(t), start);
    }
    if (now - t.rcv.last_text < delayed_ack_time && t.rcv.last_text != base::Instant{}) {
        t.rcv.interactive = true;
    }
    if (!t.timing && len != 0) {
        t.timing = true;
        t.timed_end = start + len;
        t.timed_at = now;
    }
    if ((len < t.mss ? len : len % t.mss) != 0 && t.plpmtu.end != start + len) {
        t.snd.small_end = start + len;
    }
    t.snd.nxt += len;
    if (fin) {
        t.snd.fin_sent = true;
        t.snd.fin_seq = t.snd.nxt;
        t.snd.nxt += 1;
    }
    t.board.sent(t.snd.nxt, clock_us(t), min_rtt_us(t));
    if (base::planted(base::Plant::timeout_put_off)) {
        restart_retransmit(t);
    }
    t.prr.out += len;
    if (t.bbr != nullptr) {
        tell_sent(t, len);
    }
    note_pace(t, len);
    t.probe_due = true;
}

// RFC 5682 2.1 (2 b): the first ACK after a timeout asks for text that was not sent before, and none has gone yet.
bool asks_for_new(const Tcb& t)
{
    return t.undo.frto == Frto::wait_second && t.snd.nxt == t.board.recover && t.so != nullptr;
}

// Whatever Nagle says of it, as Linux; push_small is put back when it has gone (settle_asked).
[[gnu::noinline]] void ask_for_new(Tcb& t)
{
    t.push_small = t.push_small || t.so->snd_limit - t.offset_of(t.snd.nxt) <= window_room(t);
}

// In vain: the conventional way, or what is lost waits for another timeout.
[[gnu::noinline]] void settle_asked(Tcb& t, bool push_small)
{
    t.push_small = push_small;
    if (asks_for_new(t)) {
        t.undo.frto = Frto::off;
        resend_all(t);
    }
}

// Nothing went for longer than a timeout. Without text to begin with nothing begins, or an idle window would be halved
// again for each look at the ring.
[[gnu::noinline]] void begin_after_idle(Tcb& t, base::Micros idle)
{
    bool begins = t.so != nullptr && t.so->snd_limit != t.snd.una_offset && window_room(t) != 0;
    if (begins && t.bbr == nullptr) {
        congestion_after_idle(t.algorithm(), t.cc, idle, t.rtt.rto());
    }
}

// The last text is followed by it.
bool fin_follows_text(const Tcb& t)
{
    bool ends = t.so->snd_end != sockbuf::no_offset && t.so->snd_limit == t.so->snd_end;
    return ends && synchronized(t.state) && !may_send(t.state);
}

bool send_new(Tcb& t)
{
    // RFC 7413 4.2.2: behind a SYN-ACK that took a SYN's text goes text at once, but no FIN
    bool complete = synchronized(t.state);
    if (t.so == nullptr || t.snd.fin_sent || (!complete && !t.fast_passive)) {
        return false;
    }
    std::uint64_t offset = t.offset_of(t.snd.nxt);
    std::uint64_t available = t.so->snd_limit - offset;
    bool fin_follows = fin_follows_text(t);
    if ((available == 0 && !fin_follows) || waits_for_pace(t)) {
        return false;
    }
    SegmentOut s;
    s.seq = t.snd.nxt;
    s.flags = wire::tcp_ack;
    s.offset = offset;
    s.new_text = true;
    s.len = available != 0 ? new_text(t, available, fin_follows) : 0;
    if (t.plpmtu.on()) {
        std::uint32_t probe = plpmtu_probe_text(t, available, std::min(window_room(t), cwnd_room(t)));
        s.mtu_probe = probe != 0;
        s.len = s.mtu_probe ? probe : s.len;
    }
    bool all = s.len == available;
    bool fin = fin_follows && all && window_room(t) > s.len;
    if (s.len == 0 && !fin) {
        return false;
    }
    s.flags |= (all ? wire::tcp_psh : 0) | (fin ? wire::tcp_fin : 0);
    if (s.len == 0) {
        s.flags = wire::tcp_ack | wire::tcp_fin;
    }
    if (!send_segment(t, s)) {
        return false;
    }
    if (s.mtu_probe) {
        plpmtu_sent(t, s.len);
    }
    note_sent(t, s.seq, s.len, fin);
    return !fin && (!all || fin_follows); // there may be more
}

// RFC 8985 7.2: after new text or an acknowledgment.
void restart_probe(Tcb& t)
{
    t.probe_due = false;
    bool one = t.flight() <= t.mss;
    bool behind_rto = one && t.rtt.rto() <= tlp_max_ack_delay; // then the probe goes in its place (retransmit_timeout)
    if (behind_rto || !may_probe(t)) {
        clear_deadline(t, Deadline::probe);
        return;
    }
    base::Instant now = t.domain.now();
    base::Micros left = t.deadlines[static_cast<unsigned>(Deadline::retransmit)] - now;
    set_deadline(t, Deadline::probe, now + Tlp::timeout(t.rtt.srtt_of_probes(), one, left));
}

// RFC 6298 5.1: the timer runs while anything is unacknowledged; persist while nothing is and something waits, unless
// all it waits for in an open window is its pace.
void set_timers(Tcb& t)
{
    if (t.snd.nxt != t.snd.una) {
        clear_deadline(t, Deadline::persist);
        t.persist_probes = 0;
        if (!is_set(t, Deadline::retransmit)) {
            restart_retransmit(t);
        }
        if (t.probe_due) {
            restart_probe(t);
        }
        return;
    }
    clear_deadline(t, Deadline::probe);
    if (t.so == nullptr || !synchronized(t.state)) {
        return;
    }
    bool waiting = t.so->snd_limit != t.snd.una_offset || (!may_send(t.state) && !t.snd.fin_sent);
    bool open = window_room(t) != 0;
    if (!waiting || (open && is_set(t, Deadline::pace))) {
        clear_deadline(t, Deadline::persist);
    } else if (!base::planted(base::Plant::persist_not_armed)) {
        bool corked = (t.so->options.cork || t.so->more) && open;
        base::Instant due = t.domain.now() + (corked ? cork_time : t.rtt.rto());
        // What an open window holds back does not wait for as long as the next probe of a closed one would have.
        if (!is_set(t, Deadline::persist) || (open && t.deadlines[static_cast<unsigned>(Deadline::persist)] > due)) {
            set_deadline(t, Deadline::persist, due);
        }
    }
}

void link_pending(Tcb& t)
{
    if (!t.pending_link.linked()) {
        t.domain.tcp->pending.push_back(t);
    }
}

// A window update is due when the application has read this far (RFC 9293 3.8.6.2.2).
std::uint32_t update_threshold(const Tcb& t)
{
    std::uint32_t least = window_step(t, 2);
    // A peer that still sees two segments of window is not blocked: what it sends brings the next update.
    return t.window_open() < 2 * t.mss ? least : std::max(static_cast<std::uint32_t>(window_max(t) / 8), least);
}

// Tells the application when to ring; what it consumed before it could see that is looked at once more.
bool arm_window_update(Tcb& t)
{
    if (t.so == nullptr || fin_received(t.state) || t.so->rcv_ring.size() == 0) {
        return true;
    }
    std::uint64_t edge = t.rcv.nxt_offset + t.window_open();
    std::uint32_t step = update_threshold(t);
    // What a ring has beyond what can be said holds text that takes nothing from the window. Where no more can be said
    // than was, nothing is due before more text comes.
    std::uint64_t ring = t.window_open() + step <= window_said_max(t) ? t.so->rcv_ring.size() : window_max(t);
    std::uint64_t at = (edge > ring ? edge - ring : 0) + step;
    if (at == t.so->slot->owner.rcv_ring_at.load(std::memory_order_relaxed)) {
        return true; // it knows; what it consumed when it was told has been looked at
    }
    so_publish_ring_at(*t.so, at);
    if (!so_take_consumed(*t.so)) {
        return false;
    }
    if (t.so->rcv_consumed >= at) {
        tcp_usr_rcvd(t.domain, *t.so);
    }
    return true;
}

void flush(Tcb& t)
{
    bool had_ack = t.ack_now || t.output_due;
    if (t.so != nullptr && t.so->rcv_ring.size() != 0 && !so_take_consumed(*t.so)) {
        abort(t, base::Error::connection_aborted); // the client's fault
        return;
    }
    if (t.output_due) {
        output(t);
    }
    if (t.ack_now) {
        send_ack(t);
    }
    if (had_ack && !arm_window_update(t)) {
        abort(t, base::Error::connection_aborted);
    }
}

} // namespace

void output(Tcb& t)
{
    t.output_due = false;
    if (!synchronized(t.state) && !t.fast_passive) {
        return;
    }
    look_at_way(t); // before lengths are decided
    if (has_order_to_tell(t)) {
        send_ack(t);
    }
    base::Micros idle = t.domain.now() - t.last_sent;
    if (t.snd.nxt == t.snd.una && idle > t.rtt.rto() && t.last_sent != base::Instant{}) {
        begin_after_idle(t, idle);
    }
    bool asks = asks_for_new(t);
    bool pushes = t.push_small;
    if (asks) {
        ask_for_new(t);
    } else if (t.undo.frto != Frto::wait_second) {
        resend_all(t);
    }
    t.cwnd_limited = false;
    Seq before = t.snd.nxt;
    unsigned sent = 0;
    std::uint64_t cut_before = cut_so_far(t.domain);
    bool enough = false;
    while (!enough && send_new(t)) {
        enough = ++sent == turn_segments || cut_so_far(t.domain) - cut_before >= cut_a_round;
    }
    if (t.snd.nxt != before || t.cwnd_limited) {
        // The pipe is no more than the flight: hardly ever is it asked for.
        bool filled = t.cwnd_limited || (t.flight() + t.mss > t.cc.cwnd && cwnd_room(t) < t.mss);
        t.use.sent(t.snd.una, t.snd.nxt, filled);
    }
    if (asks) {
        settle_asked(t, pushes);
    }
    if (enough) {
        output_soon(t); // behind the others
    } else if (t.bbr != nullptr) {
        tell_idle(t);
    }
    set_timers(t);
}

std::uint64_t pacing_rate(const Tcb& t)
{
    std::uint64_t limit = t.so != nullptr ? t.so->options.max_pacing_rate : pacing_unlimited;
    if (t.bbr != nullptr) {
        return std::min(t.bbr->pacing_rate(), limit);
    }
    return limit == pacing_unlimited ? 0 : Pacer::rate(t.cc.cwnd, t.rtt.srtt(), t.cc.cwnd < t.cc.ssthresh, limit);
}

std::uint32_t window_room(const Tcb& t)
{
    std::int32_t room = (t.snd.una + t.snd.wnd) - t.snd.nxt;
    return room > 0 ? static_cast<std::uint32_t>(room) : 0;
}

// RFC 8985 7.3: new text if there is any, whatever cwnd says, else the last segment once more.
void send_tail_probe(Tcb& t)
{
    count(t.domain.tcp->counters.probes);
    look_at_way(t);
    SegmentOut s;
    s.seq = t.snd.nxt;
    s.flags = wire::tcp_ack;
    s.offset = t.offset_of(t.snd.nxt);
    std::uint64_t available = t.so == nullptr || t.snd.fin_sent ? 0 : t.so->snd_limit - s.offset;
    s.len = static_cast<std::uint32_t>(std::min<std::uint64_t>({available, window_room(t), t.mss}));
    if (s.len != 0) {
        s.new_text = true;
        bool last = s.len == available;
        bool fin = last && fin_follows_text(t) && window_room(t) > s.len; // else it would wait for the probe's ACK
        s.flags |= (fin ? wire::tcp_fin : 0) | (last ? wire::tcp_psh : 0);
        if (!send_segment(t, s)) {
            return;
        }
        note_sent(t, s.seq, s.len, fin);
        t.probe_due = false;
        t.tlp.sent(t.snd.nxt, false);
        return;
    }
    std::uint32_t len = std::min(t.mss, t.flight());
    t.board.probed(t.snd.nxt - len, clock_us(t));
    bool timing = t.timing;
    if (resend(t, t.snd.nxt - len, len)) {
        note_pace(t, len); // it waits for no pace; what follows does
        t.tlp.sent(t.snd.nxt, true);
    }
    t.timing = timing && t.board.resent_bytes() != 0; // the board knows what the probe makes ambiguous (tcp_ack.cpp)
}

void output_soon(Tcb& t)
{
    t.output_due = true;
    link_pending(t);
}

void ack_now(Tcb& t)
{
    t.ack_now = true;
    link_pending(t);
}

} // namespace tcp

// A connection may have a window of super-segments to hand down, and the driver may write them here and now: as much as
// a class may take of a round, and the clock is looked at again.
void TcpState::rollup()
{
    base::assert_on(domain.cpu.owner());
    base::Instant start = domain.now();
    std::uint64_t looked_at = counters.segments_out.load(std::memory_order_relaxed);
    std::uint64_t cut_before = tcp::cut_so_far(domain);
    while (Tcb* t = pending.pop_front()) {
        if (const Tcb* next = pending.front(); next != nullptr) {
            tcp::fetch(*next);
        }
        tcp::flush(*t);
        if (tcp::cut_so_far(domain) - cut_before >= tcp::cut_a_round) {
            break;
        }
        std::uint64_t sent = counters.segments_out.load(std::memory_order_relaxed);
        if (sent - looked_at >= tcp::turn_segments) {
            looked_at = sent;
            if (domain.cpu.refresh_now() - start >= tcp::rollup_time) {
                break;
            }
        }
    }
    if (!pending.empty() && !another_sent) {
        another_sent = true;
        another_round.dispatch = [](lwkt::Message& m) {
            static_cast<DomainPort*>(m.reply_port)->domain.tcp->another_sent = false;
        };
        another_round.reply_port = &domain.port;
        another_round.cls = lwkt::Class::net;
        domain.cpu.send(domain.id(), another_round);
    }
}

} // namespace protocols
