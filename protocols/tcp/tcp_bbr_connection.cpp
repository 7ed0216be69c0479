// BBR on a connection: where its state comes from and goes to, and what of the connection it hears. A connection that
// does not use it has a null pointer, and one branch where it sends and where it is acknowledged. Owner: the Tcb's.
#include <linux/inet_diag.h>

#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

std::uint32_t pipe(const Tcb& t)
{
    return t.board.pipe(t.mss);
}

} // namespace

// After the choice of an algorithm. CUBIC takes the place of a BBR that finds no memory.
void adopt_model(Tcb& t)
{
    drop_model(t);
    if (!t.algorithm().models) {
        return;
    }
    auto srtt_us = static_cast<std::uint32_t>(t.rtt.srtt().count());
    auto random = static_cast<std::uint32_t>(t.domain.random.next());
    t.bbr = t.domain.tcp->bbrs.make(random, t.mss, t.cc.cwnd, srtt_us, clock_us(t));
    if (t.bbr == nullptr) {
        t.congestion = 0;
        congestion_change(t.algorithm(), t.cc);
    }
}

void drop_model(Tcb& t)
{
    if (t.bbr != nullptr) {
        t.domain.tcp->bbrs.destroy(*t.bbr);
        t.bbr = nullptr;
    }
}

void tell_sent(Tcb& t, std::uint32_t octets)
{
    std::uint32_t now = pipe(t);
    std::uint32_t before = now - std::min(now, octets);
    t.bbr->sent(clock_us(t), before, now, static_cast<std::uint32_t>(t.rtt.srtt().count()));
}

void tell_lost(Tcb& t, std::uint32_t octets)
{
    t.bbr->lost(octets, t.board.newest_lost_us());
    t.cc.cwnd = t.bbr->cwnd();
}

void tell_acked(Tcb& t, const AckRound& r)
{
    BbrAck a;
    a.now_us = clock_us(t);
    a.acked = r.d.octets;
    a.sent_us = r.d.newest_sent_us;
    a.rtt_us = r.d.octets != 0 && !r.d.resent ? std::max(a.now_us - r.d.newest_sent_us, 1U) : 0;
    a.in_flight = pipe(t);
    // A paced flight never quite fills its window: what the next burst would not fit into is full.
    a.limited = t.cwnd_limited || a.in_flight + a.acked + Pacer::burst(t.bbr->pacing_rate(), t.mss) >= t.cc.cwnd;
    t.bbr->acked(a);
    t.cc.cwnd = t.bbr->cwnd();
}

// After an output that nothing but a lack of text ended.
void tell_idle(Tcb& t)
{
    bool waiting = t.so != nullptr && t.so->snd_limit > t.offset_of(t.snd.nxt);
    if (!waiting && !t.cwnd_limited && t.board.lost_bytes() == 0) {
        t.bbr->app_limited(pipe(t));
    }
}

// TCP_CC_INFO of <linux/inet_diag.h>; gains in 256ths. False: this algorithm has none.
bool model_info(const Tcb& t, tcp_bbr_info& info)
{
    if (t.bbr == nullptr) {
        return false;
    }
    info.bbr_bw_lo = static_cast<std::uint32_t>(t.bbr->bandwidth());
    info.bbr_bw_hi = static_cast<std::uint32_t>(t.bbr->bandwidth() >> 32);
    info.bbr_min_rtt = t.bbr->min_rtt_us() != 0 ? t.bbr->min_rtt_us() : ~0U;
    info.bbr_pacing_gain = static_cast<std::uint32_t>(t.bbr->pacing_gain() * 256);
    info.bbr_cwnd_gain = static_cast<std::uint32_t>(t.bbr->cwnd_gain() * 256);
    return true;
}

} // namespace protocols::tcp
