// See tcp_bbr.hpp: the model of the path (4.5), and what follows from it for window and rate (4.6).
#include "protocols/tcp/tcp_bbr.hpp"

#include <algorithm>

#include "protocols/tcp/tcp_cc.hpp"
#include "protocols/tcp/tcp_limits.hpp"

namespace protocols::tcp {

namespace {

constexpr double startup_pacing_gain = 2.773; // 4 ln 2
constexpr double startup_cwnd_gain = 2.0;
constexpr double drain_pacing_gain = 0.5;
constexpr double pacing_margin = 0.99; // 4.6.2: a little less, so that no queue is left standing
constexpr double loss_thresh = 0.02;
constexpr double beta = 0.7;
constexpr double headroom = 0.15;
constexpr double full_bw_growth = 1.25;
constexpr unsigned full_bw_rounds = 3;
constexpr unsigned startup_loss_events = 6;
constexpr std::uint32_t min_rtt_filter_us = 10'000'000;
constexpr std::uint32_t probe_rtt_interval_us = 5'000'000;
constexpr std::uint32_t probe_rtt_us = 200'000;
constexpr unsigned extra_acked_rounds = 5; // of each of two buckets
constexpr std::uint32_t quantum_max = 65536;
constexpr std::uint32_t cwnd_max = 1U << 30;

std::int32_t since(std::uint32_t later, std::uint32_t earlier)
{
    return static_cast<std::int32_t>(later - earlier);
}

std::uint32_t part(double share, std::uint32_t of)
{
    return static_cast<std::uint32_t>(share * of);
}

} // namespace

Bbr::Bbr(std::uint32_t random, std::uint32_t mss, std::uint32_t cwnd, std::uint32_t srtt_us, std::uint32_t now_us)
    : mss_(mss), cwnd_(std::max(cwnd, mss)), initial_cwnd_(initial_window_segments * mss),
      min_rtt_us_(srtt_us != 0 ? srtt_us : none), min_rtt_at_us_(now_us), probe_rtt_min_us_(min_rtt_us_),
      probe_rtt_min_at_us_(now_us), now_us_(now_us), extra_since_us_(now_us), cycle_began_us_(now_us),
      random_(random | 1U)
{
    // 4.6.2: until something was measured, the window in a round trip, or in a millisecond
    std::uint64_t nominal = std::uint64_t{cwnd_} * 1'000'000 / (srtt_us != 0 ? srtt_us : 1000U);
    pacing_rate_ =
        std::max<std::uint64_t>(static_cast<std::uint64_t>(startup_pacing_gain * static_cast<double>(nominal)), 1);
}

double Bbr::pacing_gain() const
{
    switch (phase_) {
    case Phase::startup:
        return startup_pacing_gain;
    case Phase::drain:
        return drain_pacing_gain;
    case Phase::down:
        return 0.9;
    case Phase::up:
        return 1.25;
    default:
        return 1.0;
    }
}

double Bbr::cwnd_gain() const
{
    return phase_ == Phase::up ? 2.25 : phase_ == Phase::probe_rtt ? 0.5 : startup_cwnd_gain;
}

std::uint32_t Bbr::random_below(std::uint32_t n) // xorshift: where probes of several flows lie must differ, no more
{
    random_ ^= random_ << 13;
    random_ ^= random_ >> 17;
    random_ ^= random_ << 5;
    return random_ % n;
}

// ---- rounds and signals ---------------------------------------------------------------------------------------------

void Bbr::start_round()
{
    round_end_ = rate_.total();
}

void Bbr::take_round(const RateSample& s)
{
    round_started_ = s.known && since(s.prior_delivered, round_end_) >= 0;
    if (round_started_) {
        start_round();
        rounds_since_probe_ = static_cast<std::uint16_t>(std::min(rounds_since_probe_ + 1, 1000));
        conserving_ = false; // 4.6.4.4: after one round the model alone decides
    }
}

// 5.5.2, 5.5.10.3: the largest bandwidth of two probing cycles; what came of the last round.
void Bbr::take_signals(const RateSample& s)
{
    bw_latest_ = std::max(bw_latest_, s.rate());
    inflight_latest_ = std::max(inflight_latest_, s.delivered);
    loss_round_started_ = s.known && since(s.prior_delivered, loss_round_end_) >= 0;
    if (loss_round_started_) {
        loss_round_end_ = rate_.total();
    }
    take_round(s);
    if (s.rate() != 0 && (!s.app_limited || s.rate() >= std::max(max_bw_[0], max_bw_[1]))) {
        max_bw_[0] = std::max(max_bw_[0], s.rate());
    }
    if (loss_round_started_) {
        if (loss_in_round_ && phase_ != Phase::startup && phase_ != Phase::refill && phase_ != Phase::up) {
            lower_bounds();
        }
        loss_in_round_ = false;
    }
}

// 5.5.10.3: a round with losses, though nothing was probed for: less, for now.
void Bbr::lower_bounds()
{
    if (bw_lo_ == UINT64_MAX) {
        bw_lo_ = std::max(max_bw_[0], max_bw_[1]);
    }
    if (inflight_lo_ == none) {
        inflight_lo_ = cwnd_;
    }
    bw_lo_ = std::max(bw_latest_, static_cast<std::uint64_t>(beta * static_cast<double>(bw_lo_)));
    inflight_lo_ = std::max(inflight_latest_, part(beta, inflight_lo_));
}

void Bbr::reset_lower_bounds()
{
    bw_lo_ = UINT64_MAX;
    inflight_lo_ = none;
}

// 5.5.9: how much more was acknowledged at once than the bandwidth explains.
void Bbr::take_aggregation(std::uint32_t acked)
{
    std::uint64_t expected = bw_ * (now_us_ - extra_since_us_) / 1'000'000;
    if (extra_octets_ <= expected) {
        extra_octets_ = 0;
        extra_since_us_ = now_us_;
        expected = 0;
    }
    extra_octets_ += acked;
    auto extra = static_cast<std::uint32_t>(std::min<std::uint64_t>(extra_octets_ - expected, cwnd_));
    if (round_started_ && ++extra_rounds_ >= (full_bw_reached_ ? extra_acked_rounds : 1U)) {
        extra_rounds_ = 0;
        extra_acked_[1] = extra_acked_[0];
        extra_acked_[0] = 0;
    }
    extra_acked_[0] = std::max(extra_acked_[0], extra);
}

bool Bbr::too_high(const RateSample& s)
{
    return s.lost > part(loss_thresh, s.tx_in_flight);
}

void Bbr::reset_full_bw()
{
    full_bw_ = 0;
    full_bw_rounds_ = 0;
    full_bw_now_ = false;
}

// 4.3.1.2: three rounds in which bandwidth did not grow by a quarter.
void Bbr::look_for_full_pipe(const RateSample& s)
{
    if (full_bw_now_ || !round_started_ || s.app_limited || s.rate() == 0) {
        return;
    }
    if (static_cast<double>(s.rate()) >= full_bw_growth * static_cast<double>(full_bw_)) {
        reset_full_bw();
        full_bw_ = s.rate();
        return;
    }
    full_bw_now_ = ++full_bw_rounds_ >= full_bw_rounds;
    full_bw_reached_ |= full_bw_now_;
}

// 4.3.1.3
void Bbr::look_for_loss_in_startup(const RateSample& s)
{
    if (phase_ == Phase::startup && !full_bw_reached_ && loss_round_started_ && recovering_ &&
        loss_events_ >= startup_loss_events && too_high(s)) {
        full_bw_reached_ = true;
        inflight_hi_ = std::max(bdp(1.0), inflight_latest_);
    }
    if (loss_round_started_) {
        loss_events_ = 0;
    }
}

// ---- round trip -----------------------------------------------------------------------------------------------------

// 5.5.7. Unsigned: a connection may have sent nothing for more than half of what the clock counts.
void Bbr::take_min_rtt(std::uint32_t rtt_us)
{
    probe_rtt_due_ = now_us_ - probe_rtt_min_at_us_ > probe_rtt_interval_us;
    if (rtt_us != 0 && (rtt_us < probe_rtt_min_us_ || probe_rtt_due_)) {
        probe_rtt_min_us_ = rtt_us;
        probe_rtt_min_at_us_ = now_us_;
    }
    bool expired = now_us_ - min_rtt_at_us_ > min_rtt_filter_us;
    if (probe_rtt_min_us_ != none && (probe_rtt_min_us_ < min_rtt_us_ || expired)) {
        min_rtt_us_ = probe_rtt_min_us_;
        min_rtt_at_us_ = probe_rtt_min_at_us_;
    }
}

std::uint32_t Bbr::probe_rtt_window() const
{
    return std::max(bdp(0.5), min_window());
}

// 4.3.4.3
void Bbr::look_for_probe_rtt(const BbrAck& a)
{
    if (phase_ != Phase::probe_rtt && probe_rtt_due_ && !idle_restart_) {
        prior_cwnd_ = recovering_ ? std::max(prior_cwnd_, cwnd_) : cwnd_;
        phase_ = Phase::probe_rtt;
        probe_rtt_timed_ = false;
        ack_phase_ = AckPhase::stopping;
        start_round();
    }
    if (phase_ == Phase::probe_rtt) {
        handle_probe_rtt(a.in_flight);
    }
    if (a.acked != 0) {
        idle_restart_ = false;
    }
}

void Bbr::handle_probe_rtt(std::uint32_t in_flight)
{
    rate_.app_limited(in_flight); // what is delivered meanwhile says nothing about bandwidth
    if (!probe_rtt_timed_) {
        if (in_flight <= probe_rtt_window()) {
            probe_rtt_timed_ = true;
            probe_rtt_round_done_ = false;
            probe_rtt_done_us_ = now_us_ + probe_rtt_us;
            start_round();
        }
        return;
    }
    probe_rtt_round_done_ |= round_started_;
    if (probe_rtt_round_done_ && since(now_us_, probe_rtt_done_us_) > 0) {
        probe_rtt_min_at_us_ = now_us_;
        cwnd_ = std::max(cwnd_, prior_cwnd_);
        reset_lower_bounds();
        if (full_bw_reached_) {
            start_down();
            start_cruise();
        } else {
            phase_ = Phase::startup;
        }
    }
}

// ---- what follows ---------------------------------------------------------------------------------------------------

std::uint32_t Bbr::bdp(double gain) const
{
    if (min_rtt_us_ == none) {
        return initial_cwnd_;
    }
    double octets = gain * static_cast<double>(bw_) * min_rtt_us_ / 1e6;
    return static_cast<std::uint32_t>(std::min(octets, static_cast<double>(cwnd_max)));
}

std::uint32_t Bbr::send_quantum() const // 4.6.3: a millisecond's worth
{
    // Two segments may be more than the most: no std::clamp.
    std::uint64_t octets = std::max<std::uint64_t>(pacing_rate_ / 1000, 2 * std::uint64_t{mss_});
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(octets, quantum_max));
}

std::uint32_t Bbr::quantized(std::uint64_t octets) const // 4.6.4.2
{
    octets = std::max<std::uint64_t>({octets, 3 * std::uint64_t{send_quantum()}, min_window()});
    if (phase_ == Phase::up) {
        octets += 2 * mss_;
    }
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(octets, cwnd_max));
}

std::uint32_t Bbr::inflight(double gain) const
{
    return quantized(bdp(gain));
}

// 4.3.3.3: room for others in what the path was seen to bear.
std::uint32_t Bbr::with_headroom() const
{
    if (inflight_hi_ == none) {
        return none;
    }
    std::uint32_t room = std::max(part(headroom, inflight_hi_), mss_);
    return std::max(inflight_hi_ - std::min(inflight_hi_, room), min_window());
}

void Bbr::set_pacing_rate()
{
    auto rate = static_cast<std::uint64_t>(pacing_gain() * pacing_margin * static_cast<double>(bw_));
    if (bw_ != 0 && (full_bw_reached_ || rate > pacing_rate_)) {
        pacing_rate_ = std::max<std::uint64_t>(rate, 1);
    }
}

// 4.6.4.6
void Bbr::set_window(const BbrAck& a)
{
    std::uint32_t most = quantized(std::uint64_t{bdp(cwnd_gain())} + std::max(extra_acked_[0], extra_acked_[1]));
    if (conserving_) {
        cwnd_ = std::max(cwnd_, a.in_flight + a.acked);
    } else if (full_bw_reached_) {
        cwnd_ = std::min(cwnd_ + a.acked, most);
    } else if (cwnd_ < most || rate_.total() < initial_cwnd_) {
        cwnd_ = std::min(cwnd_ + a.acked, cwnd_max);
    }
    cwnd_ = std::max(cwnd_, min_window());
    if (phase_ == Phase::probe_rtt) {
        cwnd_ = std::min(cwnd_, probe_rtt_window());
    }
    std::uint32_t cap = none;
    if (phase_ == Phase::cruise || phase_ == Phase::probe_rtt) {
        cap = with_headroom();
    } else if (in_probe_bw()) {
        cap = inflight_hi_;
    }
    cap = std::max(std::min(cap, inflight_lo_), min_window());
    cwnd_ = std::min(cwnd_, cap);
}

// ---- what happens ---------------------------------------------------------------------------------------------------

void Bbr::sent(std::uint32_t now_us, std::uint32_t before, std::uint32_t in_flight, std::uint32_t srtt_us)
{
    now_us_ = now_us;
    if (before == 0 && rate_.is_app_limited()) { // 4.4.3: after a pause at the rate of before, and no faster
        idle_restart_ = true;
        extra_since_us_ = now_us;
        extra_octets_ = 0;
        if (in_probe_bw() && bw_ != 0) {
            pacing_rate_ =
                std::max<std::uint64_t>(static_cast<std::uint64_t>(pacing_margin * static_cast<double>(bw_)), 1);
        } else if (phase_ == Phase::probe_rtt) {
            handle_probe_rtt(0);
        }
    }
    rate_.sent(now_us, before, in_flight, srtt_us);
}

void Bbr::lost(std::uint32_t octets, std::uint32_t sent_us)
{
    loss_in_round_ = true;
    loss_events_ = static_cast<std::uint8_t>(std::min(loss_events_ + 1, 255));
    RateSample s = rate_.lost(octets, sent_us);
    cwnd_ = recovering_ ? std::max(cwnd_ - std::min(cwnd_, octets), mss_) : cwnd_; // 4.6.4.4
    if (!probing_ || !s.known || !too_high(s)) {
        return;
    }
    // 5.5.10.2: how much was in flight when the share of losses went over the threshold
    std::uint32_t before = s.tx_in_flight - std::min(s.tx_in_flight, octets);
    std::uint32_t lost_before = s.lost - std::min(s.lost, octets);
    double prefix = (loss_thresh * before - lost_before) / (1.0 - loss_thresh);
    inflight_too_high(s, before + static_cast<std::uint32_t>(std::max(prefix, 0.0)));
}

void Bbr::acked(const BbrAck& a)
{
    now_us_ = a.now_us;
    RateSample s;
    if (a.acked != 0) {
        s = rate_.delivered(a.now_us, a.acked, a.sent_us, min_rtt_us());
        last_rate_ = s.rate() != 0 ? s.rate() : last_rate_;
    }
    take_signals(s);
    take_aggregation(a.acked);
    look_for_full_pipe(s);
    look_for_loss_in_startup(s);
    if (phase_ == Phase::startup && full_bw_reached_) {
        phase_ = Phase::drain;
    }
    if (phase_ == Phase::drain && a.in_flight <= inflight(1.0)) {
        start_down();
    }
    cycle(s, a);
    take_min_rtt(a.rtt_us);
    look_for_probe_rtt(a);
    if (loss_round_started_) {
        bw_latest_ = s.rate();
        inflight_latest_ = s.delivered;
    }
    bw_ = std::min(std::max(max_bw_[0], max_bw_[1]), bw_lo_);
    set_pacing_rate();
    set_window(a);
}

void Bbr::recovery_began(std::uint32_t in_flight, std::uint32_t acked)
{
    if (phase_ != Phase::probe_rtt) {
        prior_cwnd_ = cwnd_;
    }
    recovering_ = conserving_ = true;
    cwnd_ = in_flight + std::max(acked, mss_);
    start_round();
}

void Bbr::recovery_ended()
{
    if (recovering_) {
        recovering_ = conserving_ = false;
        cwnd_ = std::max(cwnd_, prior_cwnd_);
    }
}

void Bbr::set_mss(std::uint32_t mss, std::uint32_t cwnd)
{
    mss_ = mss;
    cwnd_ = std::max(cwnd_, cwnd);
}

namespace {

void nothing(CongestionState&)
{
}
void nothing_on_ack(CongestionState&, const AckFacts&)
{
}
std::uint32_t same_threshold(CongestionState& c, std::uint32_t)
{
    return c.ssthresh;
}

} // namespace

constinit const CongestionAlgorithm bbr_algorithm{
    .name = "bbr", .models = true, .start = nothing, .avoid = nothing_on_ack, .reduce = same_threshold};

void Bbr::timed_out(std::uint32_t in_flight)
{
    if (!recovering_) {
        prior_cwnd_ = cwnd_;
    }
    recovering_ = true;
    conserving_ = false;
    cwnd_ = in_flight + mss_;
}

} // namespace protocols::tcp
