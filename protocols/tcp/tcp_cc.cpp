// See tcp_cc.hpp: what all algorithms have in common.
#include "protocols/tcp/tcp_cc.hpp"

#include <algorithm>
#include <array>

#include "protocols/tcp/tcp_limits.hpp"

namespace protocols::tcp {

namespace {

constexpr std::uint32_t cwnd_max = 1U << 30;

constexpr std::array<const CongestionAlgorithm*, 5> algorithms{
    &cubic_algorithm, &reno_algorithm, &dctcp_algorithm, &bbr_algorithm, &westwood_algorithm};

// By how much slow start grows for `acked` octets; ends the first one when HyStart++ says so.
std::uint32_t slow_start(CongestionState& c, const AckFacts& ack)
{
    // Octets count, not ACKs (RFC 3465): dividing ACKs gains nothing (RFC 5681 3.1). A merged ACK of a super-frame
    // counts in full, except after a timeout.
    if (ack.after_timeout) {
        return std::min(ack.acked, c.mss);
    }
    if (!c.first_slow_start()) {
        return ack.acked;
    }
    switch (c.hystart.on_ack(ack.ack, ack.nxt, ack.rtt_us)) {
    case HyStart::Verdict::leave:
        c.ssthresh = c.cwnd; // RFC 9406 4.2
        return 0;
    case HyStart::Verdict::grow_less:
        return ack.acked / HyStart::css_growth_divisor;
    case HyStart::Verdict::grow:
        break;
    }
    return ack.acked;
}

} // namespace

void congestion_grow(CongestionState& c, std::uint32_t octets)
{
    c.cwnd = std::min(c.cwnd + octets, cwnd_max);
}

int congestion_by_name(std::string_view name)
{
    for (unsigned i = 0; i < algorithms.size(); ++i) {
        if (algorithms[i]->name == name) {
            return static_cast<int>(i);
        }
    }
    return -1;
}

std::vector<std::string_view> congestion_names()
{
    std::vector<std::string_view> names;
    for (const CongestionAlgorithm* a : algorithms) {
        names.push_back(a->name);
    }
    return names;
}

const CongestionAlgorithm& congestion_algorithm(unsigned index)
{
    return *algorithms[index < algorithms.size() ? index : 0];
}

void congestion_start(const CongestionAlgorithm& a, CongestionState& c, std::uint32_t mss)
{
    c = {};
    c.mss = mss;
    // RFC 6928 2: min(10 * MSS, max(2 * MSS, 14600)), where Linux, like us, takes ten segments of any size
    c.cwnd = initial_window_segments * mss;
    a.start(c);
}

void congestion_change(const CongestionAlgorithm& a, CongestionState& c)
{
    a.start(c);
}

void congestion_on_ack(const CongestionAlgorithm& a, CongestionState& c, const AckFacts& ack)
{
    if (a.observe != nullptr) {
        a.observe(c, ack);
    }
    if (!ack.limited) {
        return;
    }
    AckFacts left = ack;
    if (c.cwnd < c.ssthresh) {
        std::uint32_t step = slow_start(c, ack);
        std::uint32_t room = c.ssthresh - c.cwnd;
        congestion_grow(c, std::min(step, room));
        if (step <= room) {
            return;
        }
        left.acked = step - room;
    }
    a.avoid(c, left);
}

void congestion_on_loss(const CongestionAlgorithm& a, CongestionState& c, std::uint32_t flight)
{
    c.ssthresh = a.reduce(c, flight);
    c.cwnd = c.ssthresh;
    c.acked = 0;
}

void congestion_on_mark(const CongestionAlgorithm& a, CongestionState& c, std::uint32_t flight)
{
    if (a.reduce_marked == nullptr) {
        // RFC 3168 6.1.2; what is SACKed is in `flight` too
        congestion_on_loss(a, c, a.of_window ? c.cwnd : std::min(flight, c.cwnd));
        return;
    }
    c.cwnd = c.ssthresh = a.reduce_marked(c);
    c.acked = 0;
}

void congestion_on_timeout(const CongestionAlgorithm& a, CongestionState& c, std::uint32_t flight, bool first)
{
    if (first) { // RFC 5681 3.1: not again for a segment that was already sent again by the timer
        c.ssthresh = a.reduce(c, flight);
    }
    if (a.after_timeout != nullptr) {
        a.after_timeout(c);
    }
    c.cwnd = c.mss;
    c.acked = 0;
}

void congestion_undo(CongestionState& c, const CongestionState& before)
{
    std::uint32_t cwnd = std::max(c.cwnd, before.cwnd);
    std::uint32_t mss = c.mss;
    c = before;
    c.cwnd = cwnd;
    congestion_set_mss(c, mss);
}

void congestion_set_mss(CongestionState& c, std::uint32_t mss)
{
    if (mss > c.mss) {
        c.cwnd = std::max(c.cwnd, std::clamp(c.cwnd / c.mss, 1U, 2U) * mss);
        c.ssthresh = std::max(c.ssthresh, 2 * mss);
    }
    c.mss = mss;
}

void congestion_after_idle(const CongestionAlgorithm& a, CongestionState& c, base::Micros idle, base::Micros rto)
{
    // RFC 2861 3: ssthresh remembers three quarters of what was used, cwnd halves per RTO down to the restart window.
    std::uint32_t restart = std::min(c.cwnd, initial_window_segments * c.mss);
    c.ssthresh = std::max(c.ssthresh, c.cwnd / 4 * 3);
    for (; idle > rto && c.cwnd > restart; idle -= rto) {
        c.cwnd /= 2;
    }
    c.cwnd = std::max(c.cwnd, restart);
    c.acked = 0;
    if (a.after_idle != nullptr) {
        a.after_idle(c);
    }
}

} // namespace protocols::tcp
