// BBR version 3 (draft-ietf-ccwg-bbr): a model of the path, its bandwidth and its shortest round trip, from which
// window and pacing rate follow; losses bound what it dares. Pure: no clock, no Tcb; fed with what was sent, delivered
// and lost. Octets, octets per second, microseconds modulo 2^32. tcp_bbr.cpp is the model and the window,
// tcp_bbr_probe.cpp the cycle in which bandwidth is looked for. Section numbers are those of its version 05. Owner:
// that of its Tcb.
#pragma once

#include <cstdint>

#include "protocols/tcp/delivery_rate.hpp"

namespace protocols::tcp {

struct BbrAck {
    std::uint32_t now_us = 0;
    std::uint32_t acked = 0;     // octets delivered
    std::uint32_t sent_us = 0;   // of the latest of them
    std::uint32_t rtt_us = 0;    // measured by this ACK, 0 = not
    std::uint32_t in_flight = 0; // after it
    bool limited = false;        // the window stopped the last output
};

class Bbr {
public:
    enum class Phase : std::uint8_t { startup, drain, down, cruise, refill, up, probe_rtt }; // down to up: ProbeBW

    // `cwnd`: the window so far. `srtt_us` 0: not known.
    Bbr(std::uint32_t random, std::uint32_t mss, std::uint32_t cwnd, std::uint32_t srtt_us, std::uint32_t now_us);

    void sent(std::uint32_t now_us, std::uint32_t before, std::uint32_t in_flight, std::uint32_t srtt_us);
    void lost(std::uint32_t octets, std::uint32_t sent_us); // before acked() of the same ACK
    void acked(const BbrAck& a);
    void app_limited(std::uint32_t in_flight) { rate_.app_limited(in_flight); }
    void recovery_began(std::uint32_t in_flight, std::uint32_t acked); // 4.6.4.4
    void recovery_ended();
    void timed_out(std::uint32_t in_flight);
    void set_mss(std::uint32_t mss, std::uint32_t cwnd); // `cwnd`: at least

    std::uint32_t cwnd() const { return cwnd_; }
    std::uint64_t pacing_rate() const { return pacing_rate_; }
    std::uint64_t bandwidth() const { return bw_; }
    std::uint32_t min_rtt_us() const { return min_rtt_us_ == none ? 0 : min_rtt_us_; }
    double pacing_gain() const;
    double cwnd_gain() const;
    std::uint64_t delivery_rate() const { return last_rate_; } // of the last sample
    std::uint32_t delivered() const { return rate_.total(); }  // modulo 2^32
    bool is_app_limited() const { return rate_.is_app_limited(); }
    Phase phase() const { return phase_; }

private:
    static constexpr std::uint32_t none = UINT32_MAX;
    enum class AckPhase : std::uint8_t { initial, starting, feedback, stopping, refilling }; // of a probe, 4.3.3.6

    void start_round();
    void take_round(const RateSample& s);
    void take_signals(const RateSample& s);
    void lower_bounds();
    void reset_lower_bounds();
    void take_aggregation(std::uint32_t acked);
    void look_for_full_pipe(const RateSample& s);
    void look_for_loss_in_startup(const RateSample& s);
    void reset_full_bw();
    void take_min_rtt(std::uint32_t rtt_us);
    void look_for_probe_rtt(const BbrAck& a);
    void handle_probe_rtt(std::uint32_t in_flight);
    void set_pacing_rate();
    void set_window(const BbrAck& a);
    std::uint32_t bdp(double gain) const;
    std::uint32_t inflight(double gain) const;
    std::uint32_t quantized(std::uint64_t octets) const;
    std::uint32_t send_quantum() const;
    std::uint32_t min_window() const { return 4 * mss_; }
    std::uint32_t probe_rtt_window() const;
    std::uint32_t with_headroom() const;
    std::uint32_t random_below(std::uint32_t n);
    bool in_probe_bw() const { return phase_ >= Phase::down && phase_ <= Phase::up; }
    static bool too_high(const RateSample& s);

    void cycle(const RateSample& s, const BbrAck& a); // tcp_bbr_probe.cpp
    void adapt_long_term(const RateSample& s, const BbrAck& a);
    void inflight_too_high(const RateSample& s, std::uint32_t tx_in_flight);
    void raise_slope();
    void grow_inflight_hi(const BbrAck& a);
    bool time_to_probe();
    bool time_to_cruise(std::uint32_t in_flight) const;
    bool time_to_go_down(const RateSample& s, const BbrAck& a);
    void start_down();
    void start_cruise();
    void start_refill();
    void start_up(const RateSample& s);

    DeliveryRate rate_;
    std::uint32_t mss_;
    std::uint32_t cwnd_;
    std::uint32_t initial_cwnd_;
    std::uint32_t prior_cwnd_ = 0; // before recovery or ProbeRTT
    std::uint64_t pacing_rate_ = 0;
    std::uint64_t bw_ = 0;
    std::uint64_t last_rate_ = 0;
    std::uint64_t max_bw_[2] = {0, 0}; // of this probing cycle and of the one before
    std::uint64_t bw_lo_ = UINT64_MAX;
    std::uint64_t bw_latest_ = 0;
    std::uint64_t full_bw_ = 0;
    std::uint32_t inflight_hi_ = none;
    std::uint32_t inflight_lo_ = none;
    std::uint32_t inflight_latest_ = 0;
    std::uint32_t min_rtt_us_ = none;
    std::uint32_t min_rtt_at_us_;
    std::uint32_t probe_rtt_min_us_ = none;
    std::uint32_t probe_rtt_min_at_us_;
    std::uint32_t probe_rtt_done_us_ = 0;
    std::uint32_t now_us_;
    std::uint32_t round_end_ = 0;      // in octets delivered
    std::uint32_t loss_round_end_ = 0; // likewise
    std::uint32_t extra_acked_[2] = {0, 0};
    std::uint32_t extra_since_us_;
    std::uint32_t extra_octets_ = 0;
    std::uint32_t cycle_began_us_;
    std::uint32_t probe_wait_us_ = 0;
    std::uint32_t up_acked_ = 0;     // octets towards the next step of inflight_hi
    std::uint32_t up_octets_ = none; // of a step
    std::uint32_t random_;
    std::uint16_t rounds_since_probe_ = 0;
    std::uint8_t up_rounds_ = 0;
    std::uint8_t extra_rounds_ = 0;
    std::uint8_t full_bw_rounds_ = 0;
    std::uint8_t loss_events_ = 0; // in this loss round
    Phase phase_ = Phase::startup;
    AckPhase ack_phase_ = AckPhase::initial;
    bool round_started_ = false;
    bool loss_round_started_ = false;
    bool loss_in_round_ = false;
    bool full_bw_now_ = false;
    bool full_bw_reached_ = false;
    bool probing_ = false; // samples of a probe: losses tell how much is too much
    bool probe_rtt_timed_ = false;
    bool probe_rtt_round_done_ = false;
    bool probe_rtt_due_ = false;
    bool idle_restart_ = false;
    bool recovering_ = false;
    bool conserving_ = false; // the first round of a recovery
};

} // namespace protocols::tcp
