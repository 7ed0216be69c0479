// CUBIC (RFC 9438). The curve is in segments and seconds, as the RFC writes it.
#include <algorithm>
#include <cmath>

#include "protocols/tcp/tcp_cc.hpp"

namespace protocols::tcp {

namespace {

constexpr double cubic_c = 0.4;                                               // 5.1
constexpr double cubic_beta = 0.7;                                            // 4.6
constexpr double cubic_alpha = 3.0 * (1.0 - cubic_beta) / (1.0 + cubic_beta); // 4.3

double segments(const CongestionState& c)
{
    return (static_cast<double>(c.cwnd) + static_cast<double>(c.cubic.fraction)) / c.mss;
}

void start(CongestionState& c)
{
    c.cubic = {};
}

void begin_epoch(CongestionState& c, base::Instant now)
{
    CubicState& q = c.cubic;
    q.epoch = now;
    q.fraction = 0;
    double cwnd = segments(c);
    q.w_est = cwnd; // 4.3
    if (cwnd < static_cast<double>(q.w_max)) {
        q.k_s = static_cast<float>(std::cbrt((static_cast<double>(q.w_max) - cwnd) / cubic_c)); // equation 2
    } else { // 4.2, 4.8, 4.10: no maximum is known above; the curve begins at its plateau
        q.k_s = 0;
        q.w_max = static_cast<float>(cwnd);
        q.cwnd_prior = std::max(q.cwnd_prior, q.w_max);
    }
}

// 4.2: time in which the application left the window unused does not count.
void stand_still(CubicState& q, const AckFacts& ack)
{
    if (!ack.limited) {
        q.unused_since = std::min(q.unused_since, ack.now);
    } else if (q.unused_since != base::never) {
        if (q.epoch != base::never) {
            q.epoch += ack.now - q.unused_since;
        }
        q.unused_since = base::never;
    }
}

void observe(CongestionState& c, const AckFacts& ack)
{
    stand_still(c.cubic, ack);
}

void avoid(CongestionState& c, const AckFacts& ack)
{
    CubicState& q = c.cubic;
    if (q.epoch == base::never) {
        begin_epoch(c, ack.now);
    }
    double cwnd = segments(c);
    double acked = static_cast<double>(ack.acked) / c.mss;
    double t = std::chrono::duration<double>(ack.now - q.epoch).count();
    double rtt = std::chrono::duration<double>(ack.srtt).count();
    double k = static_cast<double>(q.k_s);
    double w_max = static_cast<double>(q.w_max);
    // 4.3 equation 4: what Reno would have; its full slope once past the window that the last loss ended
    q.w_est += (q.w_est < static_cast<double>(q.cwnd_prior) ? cubic_alpha : 1.0) * acked / cwnd;
    double next = cwnd;
    if (cubic_window(t, k, w_max) < q.w_est) { // Reno-friendly region
        next = std::max(cwnd, q.w_est);
    } else { // 4.4, 4.5: concave below w_max, convex above; the target is where the curve is a round trip on
        double target = std::clamp(cubic_window(t + rtt, k, w_max), cwnd, 1.5 * cwnd);
        next = cwnd + (target - cwnd) / cwnd * acked;
    }
    double octets = std::max((next - cwnd) * c.mss, 0.0) + static_cast<double>(q.fraction);
    double whole = std::floor(octets);
    q.fraction = static_cast<float>(octets - whole);
    congestion_grow(c, static_cast<std::uint32_t>(std::min(whole, 1e9)));
}

std::uint32_t reduce(CongestionState& c, std::uint32_t flight)
{
    CubicState& q = c.cubic;
    auto cwnd = static_cast<float>(segments(c));
    q.cwnd_prior = cwnd;
    q.w_max = cwnd < q.w_max ? cwnd * static_cast<float>((1.0 + cubic_beta) / 2.0) : cwnd; // 4.7, fast convergence
    q.epoch = base::never;
    q.fraction = 0;
    return std::max(static_cast<std::uint32_t>(std::uint64_t{flight} * 7 / 10), 2 * c.mss); // 4.6
}

// A new epoch, from the smaller window towards the maximum that is still known.
void after_idle(CongestionState& c)
{
    c.cubic.epoch = base::never;
    c.cubic.unused_since = base::never;
}

// 4.8: the next curve begins at its plateau.
void after_timeout(CongestionState& c)
{
    c.cubic.w_max = 0;
}

} // namespace

double cubic_window(double t_s, double k_s, double w_max)
{
    double d = t_s - k_s;
    return cubic_c * d * d * d + w_max;
}

constinit const CongestionAlgorithm cubic_algorithm{.name = "cubic",
    .of_window = true,
    .start = start,
    .avoid = avoid,
    .reduce = reduce,
    .observe = observe,
    .after_idle = after_idle,
    .after_timeout = after_timeout};

} // namespace protocols::tcp
