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
