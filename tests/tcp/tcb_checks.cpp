// See tcb_checks.hpp.
#include "tests/tcp/tcb_checks.hpp"

#include <algorithm>
#include <iterator>

namespace tcp_test {

namespace {

using protocols::Tcb;

const char* wrong_with_scoreboard(const Tcb& t)
{
    std::uint32_t sacked = 0;
    std::uint32_t lost = 0;
    for (unsigned i = 0; i < t.board.runs(); ++i) {
        const protocols::tcp::SentRun& r = t.board.at(i);
        auto start = t.board.start_of(i);
        if (r.end <= start || start < t.snd.una || r.end > t.snd.nxt) {
            return "a run of the scoreboard is empty or lies outside of the flight";
        }
        auto bytes = static_cast<std::uint32_t>(r.end - start);
        sacked += r.fate() == protocols::tcp::Fate::sacked ? bytes : 0;
        lost += r.fate() == protocols::tcp::Fate::lost ? bytes : 0;
    }
    if (sacked != t.board.sacked_bytes() || lost != t.board.lost_bytes()) {
        return "the scoreboard has lost count";
    }
    return nullptr;
}

const char* wrong_with_sender(const Tcb& t)
{
    std::uint32_t flight = t.flight();
    if (t.snd.nxt < t.snd.una) {
        return "snd.nxt lies before snd.una";
    }
    if (protocols::tcp::synchronized(t.state) && flight > t.snd.wnd_max + 1) {
        return "more is in flight than the largest window ever offered";
    }
    if (const char* wrong = wrong_with_scoreboard(t)) {
        return wrong;
    }
    if (t.so == nullptr || t.joined != nullptr || !protocols::tcp::synchronized(t.state)) {
        return nullptr;
    }
    const protocols::Socket& so = *t.so;
    std::uint64_t sent = t.offset_of(t.snd.nxt) - (t.snd.fin_sent ? 1 : 0);
    if (t.snd.fin_sent && t.snd.una > t.snd.fin_seq) {
        sent = so.snd_limit;
    }
    if (so.snd_acked > so.snd_limit || t.snd.una_offset > so.snd_limit || sent > so.snd_limit) {
        return "offsets of the sender are out of order";
    }
    if (so.snd_end != sockbuf::no_offset && so.snd_end < so.snd_limit) {
        return "more is to be sent than the end allows";
    }
    if (t.snd.fin_sent && so.snd_limit != so.snd_end) {
        return "FIN was sent before the end was known";
    }
    return nullptr;
}

const char* wrong_with_receiver(const Tcb& t)
{
    if (t.so == nullptr || t.joined != nullptr || !protocols::tcp::synchronized(t.state)) {
        return nullptr;
    }
    const protocols::Socket& so = *t.so;
    if (so.rcv_consumed > so.rcv_produced || so.rcv_produced > t.rcv.nxt_offset) {
        return "offsets of the receiver are out of order";
    }
    std::uint64_t ring = so.rcv_ring.size();
    std::uint64_t edge = t.rcv.nxt_offset + t.window_open();
    if (ring != 0 && !protocols::tcp::fin_received(t.state) && edge > so.rcv_consumed + ring) {
        return "the window offered is larger than the ring";
    }
    for (unsigned i = 0; i < t.out_of_order.count(); ++i) {
        const auto& r = t.out_of_order[i];
        if (r.end <= r.start || r.start <= t.rcv.nxt || r.end > t.rcv.nxt + t.window_open() ||
            (i > 0 && r.start <= t.out_of_order[i - 1].end)) {
            return "a range of text out of order lies outside of the window, or in another";
        }
    }
    return nullptr;
}

const char* wrong_with_timers(const Tcb& t)
{
    base::Instant first = *std::min_element(t.deadlines.begin(), t.deadlines.end());
    if (first != base::never && (!t.armed() || static_cast<const lwkt::Timer&>(t).deadline() > first)) {
        return "a deadline is set and the timer is not armed for it";
    }
    auto set = [&](protocols::tcp::Deadline d) { return t.deadlines[static_cast<unsigned>(d)] != base::never; };
    using protocols::tcp::Deadline;
    bool due = t.pending_link.linked() || t.output_due || t.ack_now;
    if (t.joined != nullptr || due) {
        return nullptr;
    }
    bool other = false;
    for (unsigned i = 0; i < t.deadlines.size(); ++i) {
        bool of_sender = i != static_cast<unsigned>(Deadline::keepalive) &&
                         i != static_cast<unsigned>(Deadline::delayed_ack) &&
                         i != static_cast<unsigned>(Deadline::fin_wait_2);
        other |= of_sender && t.deadlines[i] != base::never;
    }
    if (t.flight() != 0 && !other) {
        return "text is in flight and no timer watches over it";
    }
    if (t.so != nullptr && protocols::tcp::synchronized(t.state) && t.flight() == 0 && !other &&
        t.so->snd_limit != t.snd.una_offset) {
        return "text waits and no timer watches over it";
    }
    if (t.ack_soon && !set(Deadline::delayed_ack)) {
        return "an ACK is owed and no timer watches over it";
    }
    return nullptr;
}

} // namespace

const char* wrong_with_connection(const Tcb& t)
{
    const char* wrong = wrong_with_sender(t);
    wrong = wrong != nullptr ? wrong : wrong_with_receiver(t);
    return wrong != nullptr ? wrong : wrong_with_timers(t);
}

namespace {

// What the peer waits for (RFC 9293 3.8.6.3, 3.8.6.2.2): beyond two full segments at once, else within the delay.
const char* wrong_with_acknowledging(const Tcb& t)
{
    base::Instant due = t.deadlines[static_cast<unsigned>(protocols::tcp::Deadline::delayed_ack)];
    if (t.rcv.unacked >= 2 * t.rcv.mss_seen) {
        return "the ACK of two full segments waits";
    }
    if (t.rcv.unacked != 0 && !t.ack_soon) {
        return "text was taken and no ACK is owed";
    }
    if (t.ack_soon && due > t.rcv.last_text + protocols::tcp::delayed_ack_time) {
        return "an ACK is put off for longer than text may wait for it";
    }
    return nullptr;
}

// A segment below one MSS that is all there is: does Nagle, a cork or more that is announced hold it?
bool tail_is_held(const Tcb& t)
{
    const protocols::SocketOptions& o = t.so->options;
    bool small_in_flight = t.snd.nxt != t.snd.una && t.snd.small_end > t.snd.una;
    return o.cork || t.so->more || (small_in_flight && !o.no_delay);
}

// The largest segment that a way may have had before, or may have again: what was less than that when it became
// narrower, for a while or to stay, asks for no new look before the next ACK.
std::uint32_t full_segment(const Tcb& t)
{
    std::uint32_t options = t.agreed.timestamps ? protocols::tcp::timestamp_bytes : 0;
    return std::max(t.mss + options, std::uint32_t{t.agreed.peer_mss}) - options;
}

const char* wrong_with_sending(const Tcb& t)
{
    std::uint32_t full = full_segment(t);
    std::uint32_t pipe = t.board.pipe(t.mss);
    std::uint32_t by_cwnd = t.cc.cwnd > pipe ? t.cc.cwnd - pipe : 0;
    // RFC 5682 2.1 (2 b): new text was sent, and tells whether anything is lost
    bool new_text_tells = t.undo.frto == protocols::tcp::Frto::wait_second && t.snd.nxt > t.board.recover;
    bool full_list = t.board.runs() >= protocols::tcp::sent_runs_max;
    if (t.board.lost_bytes() != 0 && !new_text_tells && !full_list) {
        if (t.board.phase == protocols::tcp::Recovery::none) {
            return "text is lost and nobody sends it again";
        }
        protocols::tcp::Seq start;
        protocols::tcp::Seq end;
        t.board.first_lost(start, end);
        if (t.board.force_one || by_cwnd >= std::min(full, static_cast<std::uint32_t>(end - start))) {
            return "lost text waits though cwnd lets it go";
        }
    }
    if (t.snd.fin_sent) {
        return nullptr;
    }
    std::uint64_t waiting = t.so->snd_limit - t.offset_of(t.snd.nxt);
    std::int32_t edge = (t.snd.una + t.snd.wnd) - t.snd.nxt;
    std::uint32_t by_window = edge > 0 ? static_cast<std::uint32_t>(edge) : 0;
    std::uint64_t room = std::min(by_window, by_cwnd);
    bool end = t.so->snd_end == t.so->snd_limit && !protocols::tcp::may_send(t.state);
    if (waiting == 0) {
        return end && by_window != 0 ? "a FIN waits though the window lets it go" : nullptr;
    }
    if (std::min(waiting, room) >= full) {
        return "a full segment waits though windows and pace let it go";
    }
    if (waiting <= room && (end || !tail_is_held(t))) {
        return "the last text waits though windows, pace and Nagle let it go";
    }
    bool by_half = by_window != 0 && by_window <= by_cwnd && by_window < waiting && by_window >= t.snd.wnd_max / 2;
    return by_half ? "text waits though half of the largest window is open" : nullptr;
}

} // namespace

const char* waits_needlessly(const Tcb& t)
{
    bool due = t.pending_link.linked() || t.output_due || t.ack_now;
    if (due || t.so == nullptr || t.joined != nullptr || !protocols::tcp::synchronized(t.state)) {
        return nullptr;
    }
    if (const char* wrong = wrong_with_acknowledging(t)) {
        return wrong;
    }
    bool paced = t.deadlines[static_cast<unsigned>(protocols::tcp::Deadline::pace)] != base::never;
    return paced ? nullptr : wrong_with_sending(t);
}

const char* wrong_with_listeners(protocols::TcpState& tcp)
{
    struct Seen {
        const protocols::Listener* listener;
        std::uint32_t pending;
    } seen[16] = {};
    std::size_t count = 0;
    auto add = [&](const protocols::Listener* l) {
        std::size_t i = 0;
        while (i < count && seen[i].listener != l) {
            ++i;
        }
        if (i == count && count < std::size(seen)) {
            seen[count++] = {l, 0};
        }
        seen[std::min(i, std::size(seen) - 1)].pending += 1;
    };
    for (auto* e = tcp.syn_cache.entries.front(); e != nullptr; e = tcp.syn_cache.entries.next(*e)) {
        add(e->listener);
    }
    for (Tcb* t = tcp.all.front(); t != nullptr; t = tcp.all.next(*t)) {
        if (t->listener != nullptr) {
            add(t->listener);
        }
    }
    for (std::size_t i = 0; i < count && count < std::size(seen); ++i) {
        if (seen[i].listener->pending != seen[i].pending) {
            return "a listener has lost count of what is half open";
        }
    }
    return nullptr;
}

} // namespace tcp_test
