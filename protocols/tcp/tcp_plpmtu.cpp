// Path MTU discovery by probing (RFC 4821) on a connection: when it begins, which segment is a probe, and what its fate
// says. Its loss alone is no congestion. StackOptions::mtu_probing chooses, as net.ipv4.tcp_mtu_probing of Linux.
// Owner: the Tcb's.
#include "protocols/tcp/plpmtu.hpp"

#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

std::uint32_t headers(const Tcb& t)
{
    return ip_header_bytes(t.flow.peer.addr) + wire::tcp_header_min_bytes;
}

// What the peer, the interface and TCP_MAXSEG let be.
std::uint32_t most(const Tcb& t)
{
    const base::IpAddr& to = t.flow.peer.addr;
    std::uint32_t peer = t.agreed.peer_mss != 0 ? t.agreed.peer_mss : to.is_v4() ? mss_default : mss_default_v6;
    bool limited = t.so != nullptr && t.so->options.max_segment != 0;
    std::uint32_t most_mss = limited ? std::min<std::uint32_t>(peer, t.so->options.max_segment) : peer;
    return std::min(t.route.mtu, std::max(most_mss, mss_floor) + headers(t));
}

// RFC 8200 5: IPv6 has no path below 1280.
std::uint32_t least(const Tcb& t)
{
    constexpr std::uint32_t least_v6 = 1280;
    return t.flow.peer.addr.is_v4() ? mss_floor + headers(t) : least_v6;
}

void begin(Tcb& t)
{
    t.plpmtu.begin(std::max(plpmtu_base_mss + headers(t), least(t)), most(t));
}

std::uint32_t options_bytes(const Tcb& t)
{
    return t.agreed.timestamps ? timestamp_bytes : 0;
}

} // namespace

void plpmtu_start(Tcb& t)
{
    if (t.domain.stack.options().mtu_probing == MtuProbing::always) {
        begin(t);
    }
}

// An idle connection that woke remembers its MSS alone.
void plpmtu_resume(Tcb& t)
{
    std::uint32_t used = t.mss + options_bytes(t) + headers(t);
    if (t.domain.stack.options().mtu_probing != MtuProbing::off && used < most(t)) {
        t.plpmtu.begin(used, most(t));
    }
}

// Timeouts in a row: large segments may vanish without a word (RFC 4821 7.7, RFC 2923 2.1).
void plpmtu_timeout(Tcb& t)
{
    if (t.plpmtu.probe != 0 && t.snd.una == t.plpmtu.start) {
        t.plpmtu.failed();
    }
    t.plpmtu.probe = 0;
    if (t.retries <= plpmtu_retries || t.domain.stack.options().mtu_probing == MtuProbing::off) {
        return;
    }
    count(t.domain.tcp->counters.black_holes);
    if (t.plpmtu.on()) {
        t.plpmtu.black_hole(least(t));
    } else {
        begin(t);
    }
    set_mss(t);
}

// The text of a probe that goes now in place of a segment; 0: none.
std::uint32_t plpmtu_probe_text(Tcb& t, std::uint64_t available, std::uint32_t room)
{
    bool calm = t.board.plain() && t.retries == 0 && t.cc.cwnd >= plpmtu_window_segments * t.mss;
    std::uint32_t size = calm ? t.plpmtu.next(t.domain.now(), most(t)) : 0;
    if (size == 0) {
        return 0;
    }
    std::uint32_t text = size - headers(t) - options_bytes(t);
    std::uint32_t needed = text + plpmtu_spare_segments * t.mss;
    return available >= needed && room >= needed ? text : 0;
}

void plpmtu_sent(Tcb& t, std::uint32_t text)
{
    count(t.domain.tcp->counters.mtu_probes);
    t.plpmtu.sent(text + headers(t) + options_bytes(t), t.snd.nxt, t.snd.nxt + text);
}

void plpmtu_acked(Tcb& t)
{
    if (t.snd.una < t.plpmtu.end) {
        return;
    }
    t.plpmtu.passed();
    set_mss(t);
}

// RFC 4821 7.6.2: the loss of the probe alone lowers the search, not cwnd. What it carried goes again in segments that
// pass. True: that is all that was lost.
bool plpmtu_lost(Tcb& t)
{
    Seq from;
    Seq to;
    Plpmtu& p = t.plpmtu;
    if (p.probe == 0 || t.snd.una != p.start || !t.board.first_lost(from, to) || from != p.start || to > p.end ||
        t.board.lost_bytes() > static_cast<std::uint32_t>(p.end - p.start)) {
        return false;
    }
    t.board.mark_lost(p.start, p.end);
    p.failed();
    t.board.resend_quietly();
    t.timing = t.tlp.in_progress = false;
    return true;
}

} // namespace protocols::tcp
