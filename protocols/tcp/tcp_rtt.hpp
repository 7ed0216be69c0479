// Round-trip time and retransmission timeout (RFC 6298). Pure; owner: that of its Tcb.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/units.hpp"
#include "protocols/tcp/tcp_limits.hpp"

namespace protocols::tcp {

class RttEstimator {
public:
    void sample(base::Micros rtt)
    {
        rtt = std::max(rtt, base::Micros{1});
        min_ = std::min(min_, rtt);
        if (srtt_.count() == 0) { // RFC 6298 2.2
            srtt_ = rtt;
            rttvar_ = rtt / 2;
        } else { // RFC 6298 2.3: alpha 1/8, beta 1/4
            base::Micros error = srtt_ > rtt ? srtt_ - rtt : rtt - srtt_;
            rttvar_ += (error - rttvar_) / 4;
            srtt_ += (rtt - srtt_) / 8;
        }
        set_rto();
        shift_ = probes_ = 0;
    }
    // What an estimator that has these figures would be, its back-off over.
    void restore(base::Micros srtt, base::Micros rttvar, base::Micros min)
    {
        if (srtt.count() != 0) {
            srtt_ = srtt;
            rttvar_ = rttvar;
            min_ = min;
            set_rto();
        }
    }
    // RFC 6298 5.5: each expiry doubles, up to the maximum. Until the next sample (RFC 6298 3, Karn): an ACK of what
    // was sent again says nothing of the path, whose round trip may have grown beyond the timeout.
    void back_off() { shift_ = std::min(shift_ + 1, rto_shift_max); }
    // A probe took the timeout's place, and the ACK tells no sample: the next one waits longer, or there never is one.
    void back_off_probes()
    {
        back_off();
        probes_ = std::min(probes_ + 1, rto_shift_max);
    }
    // RFC 6298 5.7: the SYN was lost and there is no sample.
    void handshake_was_slow()
    {
        if (srtt_.count() == 0) {
            rto_ = rto_after_syn_loss;
        }
        shift_ = probes_ = 0;
    }

    // ... doubled `times` more, for what counts by itself.
    base::Micros rto_doubled(unsigned times) const
    {
        return std::min(rto() * (std::int64_t{1} << std::min(times, rto_shift_max)), rto_max);
    }
    base::Micros rto_of_path() const { return rto_; } // as if nothing had been sent again
    base::Micros rto() const { return std::min(rto_ * (std::int64_t{1} << shift_), rto_max); }
    base::Micros srtt() const { return srtt_; }
    base::Micros rttvar() const { return rttvar_; }
    base::Micros min() const { return min_; }
    unsigned shift() const { return shift_; }
    base::Micros srtt_of_probes() const { return srtt_ * (std::int64_t{1} << probes_); }

private:
    // K = 4. As Linux, the minimum is one of the variance: the round trip comes on top of it.
    void set_rto() { rto_ = std::min(srtt_ + std::max(rto_min, 4 * rttvar_), rto_max); }

    base::Micros srtt_{0}; // 0 = no sample yet
    base::Micros rttvar_{0};
    base::Micros rto_ = rto_initial;
    base::Micros min_ = base::Micros::max();
    unsigned shift_ = 0;
    unsigned probes_ = 0; // of these, by back_off_probes
};

} // namespace protocols::tcp
