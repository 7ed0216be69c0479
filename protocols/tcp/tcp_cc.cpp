// See tcp_cc.hpp.
#include "protocols/tcp/tcp_cc.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "protocols/tcp/tcp_limits.hpp"

namespace protocols::tcp {

namespace {

constexpr double cubic_c = 0.4;                                               // RFC 9438 5.1
constexpr double cubic_beta = 0.7;                                            // RFC 9438 4.6
constexpr double cubic_alpha = 3.0 * (1.0 - cubic_beta) / (1.0 + cubic_beta); // RFC 9438 4.3
constexpr std::uint32_t cwnd_max = 1U << 30;

void grow(CongestionState& c, std::uint32_t bytes)
{
    c.cwnd = std::min(c.cwnd + bytes, cwnd_max);
}

// RFC 5681 3.1 (3): about one segment per round trip, by counting octets (RFC 3465).
void reno_avoid(CongestionState& c, const AckFacts& ack)
{
    c.acked += ack.acked;
    if (c.acked >= c.cwnd) {
        c.acked -= c.cwnd;
        grow(c, c.mss);
    }
}

// RFC 5681 3.1 (4)
std::uint32_t reno_reduce(CongestionState& c, std::uint32_t flight)
{
    return std::max(flight / 2, 2 * c.mss);
}

void cubic_begin_epoch(CongestionState& c, base::Instant now)
{
    c.epoch = now;
    c.cwnd_segments = static_cast<double>(c.cwnd) / c.mss;
    c.w_est = c.cwnd_segments;
    if (c.cwnd_segments < c.w_max) {
        c.k = std::cbrt((c.w_max - c.cwnd_segments) / cubic_c); // RFC 9438 4.2, figure 2
    } else {
        c.k = 0;
        c.w_max = c.cwnd_segments;
    }
}

void cubic_avoid(CongestionState& c, const AckFacts& ack)
{
    if (c.epoch == base::never) {
        cubic_begin_epoch(c, ack.now);
    }
    double acked = static_cast<double>(ack.acked) / c.mss;
    double t = std::chrono::duration<double>(ack.now - c.epoch).count();
    double rtt = std::chrono::duration<double>(ack.srtt).count();
    // RFC 9438 4.3: never slower than Reno would be; its full slope once past the old maximum
    c.w_est += (c.w_est < c.w_max ? cubic_alpha : 1.0) * acked / c.cwnd_segments;
    if (cubic_window(t, c.k, c.w_max) < c.w_est) {
        c.cwnd_segments = std::max(c.cwnd_segments, c.w_est);
    } else {
        double target = std::clamp(cubic_window(t + rtt, c.k, c.w_max), c.cwnd_segments, 1.5 * c.cwnd_segments);
        c.cwnd_segments += (target - c.cwnd_segments) / c.cwnd_segments * acked; // RFC 9438 4.4
    }
    double bytes = std::min(c.cwnd_segments * c.mss, static_cast<double>(cwnd_max));
    c.cwnd = std::max(c.cwnd, static_cast<std::uint32_t>(bytes));
}

std::uint32_t cubic_reduce(CongestionState& c, std::uint32_t flight)
{
    double cwnd = static_cast<double>(c.cwnd) / c.mss;
    c.w_max = cwnd < c.w_max ? cwnd * (1.0 + cubic_beta) / 2.0 : cwnd; // RFC 9438 4.7, fast convergence
    c.epoch = base::never;
    return std::max(static_cast<std::uint32_t>(std::uint64_t{flight} * 7 / 10), 2 * c.mss); // RFC 9438 4.6
}

constexpr std::array<CongestionAlgorithm, 2> algorithms{{
    {"cubic", cubic_avoid, cubic_reduce},
    {"reno", reno_avoid, reno_reduce},
}};

} // namespace

double cubic_window(double t_s, double k_s, double w_max)
{
    double d = t_s - k_s;
    return cubic_c * d * d * d + w_max;
}

int congestion_by_name(std::string_view name)
{
    for (unsigned i = 0; i < algorithms.size(); ++i) {
        if (algorithms[i].name == name) {
            return static_cast<int>(i);
        }
    }
    return -1;
}

const CongestionAlgorithm& congestion_algorithm(unsigned index)
{
    return algorithms[index < algorithms.size() ? index : 0];
}

void congestion_start(CongestionState& c, std::uint32_t mss)
{
    c = {};
    c.mss = mss;
    // RFC 6928 2: min(10 * MSS, max(2 * MSS, 14600)), where Linux, like us, takes ten segments of any size
    c.cwnd = initial_window_segments * mss;
}

void congestion_on_ack(const CongestionAlgorithm& a, CongestionState& c, const AckFacts& ack)
{
    AckFacts left = ack;
    if (c.cwnd < c.ssthresh) {
        // Octets count, not ACKs (RFC 3465): dividing ACKs gains nothing (RFC 5681 3.1). A merged ACK of a super-frame
        // counts in full, except after a timeout.
        std::uint32_t step = ack.after_timeout ? std::min(ack.acked, c.mss) : ack.acked;
        std::uint32_t room = c.ssthresh - c.cwnd;
        grow(c, std::min(step, room));
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

void congestion_on_timeout(const CongestionAlgorithm& a, CongestionState& c, std::uint32_t flight, bool first)
{
    if (first) { // RFC 5681 3.1: not again for a segment that was already sent again by the timer
        c.ssthresh = a.reduce(c, flight);
    }
    c.cwnd = c.mss;
    c.acked = 0;
}

void congestion_undo(CongestionState& c, const CongestionState& before)
{
    std::uint32_t cwnd = std::max(c.cwnd, before.cwnd);
    std::uint32_t ssthresh = std::max(c.ssthresh, before.ssthresh);
    std::uint32_t mss = c.mss;
    c = before;
    c.cwnd = cwnd;
    c.ssthresh = ssthresh;
    c.mss = mss;
}

void congestion_after_idle(CongestionState& c, base::Micros idle, base::Micros rto)
{
    // RFC 2861 3: ssthresh remembers three quarters of what was used, cwnd halves per RTO down to the restart window.
    std::uint32_t restart = std::min(c.cwnd, initial_window_segments * c.mss);
    c.ssthresh = std::max(c.ssthresh, c.cwnd / 4 * 3);
    for (; idle > rto && c.cwnd > restart; idle -= rto) {
        c.cwnd /= 2;
    }
    c.cwnd = std::max(c.cwnd, restart);
    c.acked = 0;
    c.epoch = base::never;
}

} // namespace protocols::tcp
