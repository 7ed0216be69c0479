// Congestion control: algorithms behind one interface, as pure functions on a CongestionState (no clock, no Tcb).
// Octets everywhere, CUBIC's curve in segments. Slow start, HyStart++, the initial and the restart window are common
// (RFC 5681, 9406, 6928, 2861); avoidance and the answer to loss and marks are the algorithm's: tcp_cc_cubic.cpp,
// tcp_cc_reno.cpp, tcp_cc_dctcp.cpp, tcp_cc_westwood.cpp.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/units.hpp"
#include "protocols/tcp/hystart.hpp"

namespace protocols::tcp {

// RFC 9438 4.1.2, in segments
struct CubicState {
    double w_est = 0;
    float w_max = 0;
    float k_s = 0;
    float cwnd_prior = 0; // cwnd when ssthresh was set last
    float fraction = 0;   // of an octet of cwnd, not yet grown by
    base::Instant epoch = base::never;
    base::Instant unused_since = base::never; // the application left cwnd unused: time stands still (4.2)
};

// RFC 8257 3.3
struct DctcpState {
    std::uint32_t acked = 0;  // in this observation window
    std::uint32_t marked = 0; // of these, that met congestion
    Seq window_end;
    float alpha = 1; // of the octets, estimated share that was marked
    bool open = false;
};

// Beside CubicState, which grows the window.
struct WestwoodState {
    base::Instant since = base::never; // this sample's interval began; never: with the next ACK
    Seq delivered;                     // then, as octets of the sequence space
    float fresh = 0;                   // octets per second, filtered once
    float rate = 0;                    // ... and twice: the estimate; 0 = none
    std::uint32_t min_rtt_us = 0;      // 0 = none
};

struct CongestionState {
    std::uint32_t cwnd = 0;
    std::uint32_t ssthresh = 0x7fffffff;
    std::uint32_t mss = 536;
    std::uint32_t acked = 0; // octets acknowledged since cwnd last grew (Reno's avoidance)
    HyStart hystart;
    WestwoodState westwood;
    union {
        CubicState cubic;
        DctcpState dctcp;
    };

    CongestionState() : cubic{} {}
    bool first_slow_start() const { return ssthresh == 0x7fffffff; }
};

struct AckFacts {
    std::uint32_t acked = 0; // octets newly acknowledged
    base::Micros srtt{};
    base::Instant now{};
    bool after_timeout = false; // slow start after a loss: RFC 3465 2.3, L = 1
    bool limited = true;        // cwnd, not the application, bounded what was sent (RFC 9438 5.8, RFC 7661)
    std::uint32_t marked = 0;   // octets of these that met congestion (DCTCP)
    std::uint32_t rtt_us = 0;   // measured by this ACK, 0 = not
    std::uint32_t min_rtt_us = 0;
    std::uint32_t sacked = 0; // above `ack`
    Seq ack;
    Seq nxt;
};

struct CongestionAlgorithm {
    std::string_view name;
    bool needs_ecn = false;   // RFC 8257: ECT on every segment, CE told exactly
    bool models = false;      // window and rate are a model's, in recovery too (tcp_bbr.hpp): nothing below is asked
    bool every_ack = false;   // `observe` wants also ACKs that find the window unused, not just the first of them
    bool of_window = false;   // a loss takes from cwnd, not from the flight (RFC 9438 4.6, as Linux)
    bool stays_awake = false; // it knows more of the path than a sleeping connection remembers (idle_connection.hpp)
    void (*start)(CongestionState&) = nullptr;
    // Congestion avoidance: an ACK arrived while cwnd >= ssthresh and the flight had filled cwnd.
    void (*avoid)(CongestionState&, const AckFacts&) = nullptr;
    // A congestion event; returns the new ssthresh. `flight` = octets outstanding, or cwnd (`of_window`).
    std::uint32_t (*reduce)(CongestionState&, std::uint32_t flight) = nullptr;
    // ACKs, whatever the window does with them. Null: not wanted.
    void (*observe)(CongestionState&, const AckFacts&) = nullptr;
    // ACKs of a fast recovery, in which the window is PRR's. Null: not wanted.
    void (*observe_recovery)(CongestionState&, const AckFacts&) = nullptr;
    // ECE told of a mark, once per window: the new ssthresh, which cwnd follows. Null: as a loss.
    std::uint32_t (*reduce_marked)(CongestionState&) = nullptr;
    void (*after_idle)(CongestionState&) = nullptr;
    void (*after_timeout)(CongestionState&) = nullptr; // behind `reduce`
};

extern const CongestionAlgorithm cubic_algorithm;
extern const CongestionAlgorithm reno_algorithm;
extern const CongestionAlgorithm dctcp_algorithm;
extern const CongestionAlgorithm bbr_algorithm;
extern const CongestionAlgorithm westwood_algorithm;

// TCP_CONGESTION by name: the index for SocketOptions::congestion, -1 if unknown. 0 is CUBIC.
int congestion_by_name(std::string_view name);
std::vector<std::string_view> congestion_names();
const CongestionAlgorithm& congestion_algorithm(unsigned index);

void congestion_start(const CongestionAlgorithm& a, CongestionState& c, std::uint32_t mss);
// Another algorithm for a connection that lives: cwnd and ssthresh stay.
void congestion_change(const CongestionAlgorithm& a, CongestionState& c);
void congestion_on_ack(const CongestionAlgorithm& a, CongestionState& c, const AckFacts& ack);
void congestion_on_loss(const CongestionAlgorithm& a, CongestionState& c, std::uint32_t flight);
void congestion_on_mark(const CongestionAlgorithm& a, CongestionState& c, std::uint32_t flight);
void congestion_on_timeout(const CongestionAlgorithm& a, CongestionState& c, std::uint32_t flight, bool first);
// The congestion event after `before` was none (RFC 4015 3.2, RFC 9438 4.9): back to it, unless cwnd is larger by now.
void congestion_undo(CongestionState& c, const CongestionState& before);
// Segments of another size from now on; where they grow cwnd holds two of them, or the one that it held, and ssthresh,
// to which it may fall, two (RFC 5681 3.1). Below one nothing would be sent, so nothing acknowledged, and cwnd would
// never grow. (Linux counts segments: all stay.)
void congestion_set_mss(CongestionState& c, std::uint32_t mss);
// RFC 2861 / RFC 7661: nothing was sent for `idle`.
void congestion_after_idle(const CongestionAlgorithm& a, CongestionState& c, base::Micros idle, base::Micros rto);
// Of every algorithm: cwnd grows by `octets`, to a gigabyte at most.
void congestion_grow(CongestionState& c, std::uint32_t octets);

// RFC 9438 4.2 equation 1: W_cubic(t) in segments.
double cubic_window(double t_s, double k_s, double w_max);

} // namespace protocols::tcp
