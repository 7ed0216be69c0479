// Congestion control: algorithms behind one interface, as pure functions on a CongestionState (no clock, no Tcb). Bytes
// everywhere. Slow start and the initial window are common (RFC 5681, RFC 6928), the rest is the algorithm's.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/units.hpp"

namespace protocols::tcp {

struct CongestionState {
    std::uint32_t cwnd = 0;
    std::uint32_t ssthresh = 0x7fffffff;
    std::uint32_t mss = 536;
    std::uint32_t acked = 0; // octets acknowledged since cwnd last grew (congestion avoidance)
    // CUBIC (RFC 9438 4.1), in segments and seconds
    double w_max = 0;
    double w_est = 0;
    double k = 0;
    double cwnd_segments = 0; // cwnd with its fraction, valid while in an epoch
    base::Instant epoch = base::never;
};

struct AckFacts {
    std::uint32_t acked = 0; // octets newly acknowledged
    base::Micros srtt{};
    base::Instant now{};
    bool after_timeout = false; // slow start after a loss: RFC 3465 2.3, L = 1
};

struct CongestionAlgorithm {
    std::string_view name;
    // Congestion avoidance: an ACK arrived while cwnd >= ssthresh and the flight had filled cwnd.
    void (*avoid)(CongestionState&, const AckFacts&);
    // A congestion event; returns the new ssthresh. `flight` = octets outstanding.
    std::uint32_t (*reduce)(CongestionState&, std::uint32_t flight);
};

// TCP_CONGESTION by name: the index for SocketOptions::congestion, -1 if unknown. 0 is the default, CUBIC.
int congestion_by_name(std::string_view name);
const CongestionAlgorithm& congestion_algorithm(unsigned index);

void congestion_start(CongestionState& c, std::uint32_t mss);
void congestion_on_ack(const CongestionAlgorithm& a, CongestionState& c, const AckFacts& ack);
void congestion_on_loss(const CongestionAlgorithm& a, CongestionState& c, std::uint32_t flight);
void congestion_on_timeout(const CongestionAlgorithm& a, CongestionState& c, std::uint32_t flight, bool first);
// The congestion event after `before` was none (RFC 4015 3.2, RFC 9438 4.9): back to it, unless cwnd is larger by now.
void congestion_undo(CongestionState& c, const CongestionState& before);
// RFC 2861 / RFC 7661: nothing was sent for `idle`.
void congestion_after_idle(CongestionState& c, base::Micros idle, base::Micros rto);

// RFC 9438 4.2: W_cubic(t) in segments.
double cubic_window(double t_s, double k_s, double w_max);

} // namespace protocols::tcp
