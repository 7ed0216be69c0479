// DCTCP (RFC 8257): the window shrinks by the share of octets that the network marked, estimated once a round trip.
// Loss, timeouts and growth are NewReno's (3.5, 3.4). For networks of one owner: it yields to marks gently.
#include <algorithm>

#include "protocols/tcp/tcp_cc.hpp"

namespace protocols::tcp {

namespace {

constexpr float gain = 1.0F / 16; // 3.3: g

void start(CongestionState& c)
{
    c.acked = 0;
    c.dctcp = {}; // 3.3: alpha is 1 at first, so that the first mark halves
}

// 3.3 steps 1 to 6
void observe(CongestionState& c, const AckFacts& ack)
{
    DctcpState& d = c.dctcp;
    if (!d.open) {
        d.open = true;
        d.window_end = ack.nxt;
    }
    d.acked += ack.acked;
    d.marked += std::min(ack.marked, ack.acked);
    if (ack.ack < d.window_end || d.acked == 0) {
        return;
    }
    float share = static_cast<float>(d.marked) / static_cast<float>(d.acked);
    d.alpha = d.alpha * (1 - gain) + gain * share;
    d.acked = d.marked = 0;
    d.window_end = ack.nxt;
}

std::uint32_t reduce_marked(CongestionState& c)
{
    float kept = 1 - c.dctcp.alpha / 2; // 3.3 step 8
    return std::max(static_cast<std::uint32_t>(static_cast<float>(c.cwnd) * kept), 2 * c.mss);
}

void avoid(CongestionState& c, const AckFacts& ack)
{
    reno_algorithm.avoid(c, ack);
}

std::uint32_t reduce(CongestionState& c, std::uint32_t flight)
{
    return reno_algorithm.reduce(c, flight); // 3.5
}

} // namespace

constinit const CongestionAlgorithm dctcp_algorithm{.name = "dctcp",
    .needs_ecn = true,
    .every_ack = true,
    .start = start,
    .avoid = avoid,
    .reduce = reduce,
    .observe = observe,
    .reduce_marked = reduce_marked};

} // namespace protocols::tcp
