// Westwood+ on CUBIC (decision 0036): what a loss leaves of the window is what the path delivered lately in its
// shortest round trip (Mascolo, Grieco et al. 2004), where that is more than CUBIC would leave (RFC 9438 4.6); CUBIC
// grows it. So a loss without a queue costs nothing, and one with a queue of three sevenths of the path or more is
// CUBIC's.
#include <algorithm>

#include "protocols/tcp/tcp_cc.hpp"

namespace protocols::tcp {

namespace {

constexpr base::Micros sample_least = base::millis(50); // as Linux: shorter ones tell how ACKs are bunched
constexpr float gain = 1.0F / 8;

void start(CongestionState& c)
{
    cubic_algorithm.start(c);
    c.westwood = {};
}

void open_interval(WestwoodState& w, base::Instant now, Seq delivered)
{
    w.since = now;
    w.delivered = delivered;
}

// The filter is for a rate that is steady. In the first slow start it doubles every round trip, and would be forgotten
// by the filter until the first loss is long over.
void take_sample(CongestionState& c, float sample)
{
    WestwoodState& w = c.westwood;
    if (w.rate == 0 || (c.first_slow_start() && sample > w.rate)) {
        w.fresh = w.rate = sample;
        return;
    }
    w.fresh += (sample - w.fresh) * gain;
    w.rate += (w.fresh - w.rate) * gain;
}

// Once a round trip, what was delivered since the last time. Octets count as of where the ACK stands and what is SACKed
// above it, so that an ACK which is not told of is missed by no sample.
void measure(CongestionState& c, const AckFacts& ack)
{
    WestwoodState& w = c.westwood;
    w.min_rtt_us = ack.min_rtt_us;
    Seq delivered = ack.ack + ack.sacked;
    if (w.since == base::never) {
        open_interval(w, ack.now, delivered);
        return;
    }
    base::Micros interval = ack.now - w.since;
    if (interval < std::max(ack.srtt, sample_least)) {
        return;
    }
    delivered = base::max(delivered, w.delivered); // a timeout may have forgotten SACKs
    take_sample(c, static_cast<float>(delivered - w.delivered) * 1e6F / static_cast<float>(interval.count()));
    open_interval(w, ack.now, delivered);
}

void observe(CongestionState& c, const AckFacts& ack)
{
    cubic_algorithm.observe(c, ack);
    measure(c, ack);
}

void avoid(CongestionState& c, const AckFacts& ack)
{
    cubic_algorithm.avoid(c, ack);
}

// Octets that the path holds without a queue.
std::uint32_t held_by_path(const WestwoodState& w)
{
    return static_cast<std::uint32_t>(std::min(w.rate * static_cast<float>(w.min_rtt_us) / 1e6F, 1e9F));
}

std::uint32_t reduce(CongestionState& c, std::uint32_t flight)
{
    return std::max(cubic_algorithm.reduce(c, flight), std::min(held_by_path(c.westwood), flight));
}

void after_idle(CongestionState& c)
{
    cubic_algorithm.after_idle(c);
    c.westwood.since = base::never; // nothing was delivered since nothing was sent
}

void after_timeout(CongestionState& c)
{
    cubic_algorithm.after_timeout(c);
}

} // namespace

constinit const CongestionAlgorithm westwood_algorithm{.name = "westwood",
    .every_ack = true,
    .stays_awake = true,
    .start = start,
    .avoid = avoid,
    .reduce = reduce,
    .observe = observe,
    .observe_recovery = measure,
    .after_idle = after_idle,
    .after_timeout = after_timeout};

} // namespace protocols::tcp
