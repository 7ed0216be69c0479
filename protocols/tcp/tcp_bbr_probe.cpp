// See tcp_bbr.hpp: ProbeBW (4.3.3), the cycle of down, cruise, refill and up, and how losses in it bound what may be in
// flight (5.5.10).
#include <algorithm>

#include "protocols/tcp/tcp_bbr.hpp"

namespace protocols::tcp {

namespace {

constexpr double beta = 0.7;
constexpr std::uint32_t wait_base_us = 2'000'000; // 5.3.3.5.3: two to three seconds between probes
constexpr std::uint32_t wait_random_us = 1'000'000;
constexpr std::uint32_t reno_rounds_max = 63; // or as often as Reno would lose, at a moderate window
constexpr unsigned up_rounds_max = 30;

} // namespace

void Bbr::start_down()
{
    loss_in_round_ = false;
    bw_latest_ = 0;
    inflight_latest_ = 0;
    up_octets_ = none;
    rounds_since_probe_ = static_cast<std::uint16_t>(random_below(2));
    probe_wait_us_ = wait_base_us + random_below(wait_random_us);
    cycle_began_us_ = now_us_;
    ack_phase_ = AckPhase::stopping;
    start_round();
    phase_ = Phase::down;
}

void Bbr::start_cruise()
{
    phase_ = Phase::cruise;
}

// Fills the pipe to what it was seen to bear, so that losses of the probe that follows are the probe's.
void Bbr::start_refill()
{
    reset_lower_bounds();
    up_rounds_ = 0;
    up_acked_ = 0;
    ack_phase_ = AckPhase::refilling;
    start_round();
    phase_ = Phase::refill;
}

void Bbr::start_up(const RateSample& s)
{
    ack_phase_ = AckPhase::starting;
    start_round();
    reset_full_bw();
    full_bw_ = s.rate();
    cycle_began_us_ = now_us_;
    phase_ = Phase::up;
    raise_slope();
}

// 5.3.3.5.1: exponentially more in each round of the probe.
void Bbr::raise_slope()
{
    std::uint32_t segments = 1U << up_rounds_;
    up_rounds_ = static_cast<std::uint8_t>(std::min<unsigned>(up_rounds_ + 1U, up_rounds_max));
    up_octets_ = std::max(cwnd_ / segments, mss_);
}

void Bbr::grow_inflight_hi(const BbrAck& a)
{
    if (!a.limited || cwnd_ < inflight_hi_) {
        return; // it is not what bounds us
    }
    up_acked_ += a.acked;
    if (up_acked_ >= up_octets_) {
        std::uint32_t steps = up_acked_ / up_octets_;
        up_acked_ -= steps * up_octets_;
        inflight_hi_ += steps * mss_;
    }
    if (round_started_) {
        raise_slope();
    }
}

// 5.5.10.1
void Bbr::adapt_long_term(const RateSample& s, const BbrAck& a)
{
    if (ack_phase_ == AckPhase::starting && round_started_) {
        ack_phase_ = AckPhase::feedback;
    }
    if (ack_phase_ == AckPhase::stopping && round_started_) {
        probing_ = false;
        ack_phase_ = AckPhase::initial;
        if (in_probe_bw() && !s.app_limited) { // a cycle is over: the filter forgets the one before it
            max_bw_[1] = max_bw_[0];
            max_bw_[0] = 0;
        }
    }
    if (too_high(s) || inflight_hi_ == none) {
        return;
    }
    inflight_hi_ = std::max(inflight_hi_, s.tx_in_flight);
    if (phase_ == Phase::up) {
        grow_inflight_hi(a);
    }
}

void Bbr::inflight_too_high(const RateSample& s, std::uint32_t tx_in_flight)
{
    probing_ = false; // once a probe
    if (!s.app_limited) {
        auto least = static_cast<std::uint32_t>(beta * std::min(bdp(1.0), cwnd_));
        inflight_hi_ = std::max({tx_in_flight, least, min_window()});
    }
    if (phase_ == Phase::up) {
        start_down();
    }
}

bool Bbr::time_to_probe()
{
    std::uint32_t reno_rounds = std::min({std::max(bdp(1.0), min_window()) / mss_, cwnd_ / mss_, reno_rounds_max});
    bool waited = static_cast<std::int32_t>(now_us_ - cycle_began_us_ - probe_wait_us_) > 0;
    if (!waited && rounds_since_probe_ < reno_rounds) {
        return false;
    }
    start_refill();
    return true;
}

bool Bbr::time_to_cruise(std::uint32_t in_flight) const
{
    return in_flight <= with_headroom() && in_flight <= inflight(1.0);
}

bool Bbr::time_to_go_down(const RateSample& s, const BbrAck& a)
{
    if (a.limited && cwnd_ >= inflight_hi_) { // bandwidth cannot grow while inflight_hi holds it
        reset_full_bw();
        full_bw_ = s.rate();
        return false;
    }
    return full_bw_now_;
}

void Bbr::cycle(const RateSample& s, const BbrAck& a)
{
    if (!full_bw_reached_) {
        return;
    }
    adapt_long_term(s, a);
    switch (phase_) {
    case Phase::down:
        if (!time_to_probe() && time_to_cruise(a.in_flight)) {
            start_cruise();
        }
        break;
    case Phase::cruise:
        time_to_probe();
        break;
    case Phase::refill:
        if (round_started_) {
            probing_ = true;
            start_up(s);
        }
        break;
    case Phase::up:
        if (time_to_go_down(s, a)) {
            start_down();
        }
        break;
    default:
        break;
    }
}

} // namespace protocols::tcp
