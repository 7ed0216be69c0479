// NewReno (RFC 5681, RFC 6582), counting octets (RFC 3465).
#include <algorithm>

#include "protocols/tcp/tcp_cc.hpp"

namespace protocols::tcp {

namespace {

void start(CongestionState& c)
{
    c.acked = 0;
}

// RFC 5681 3.1 (3): about one segment per round trip.
void avoid(CongestionState& c, const AckFacts& ack)
{
    c.acked += ack.acked;
    if (c.acked >= c.cwnd) {
        c.acked -= c.cwnd;
        congestion_grow(c, c.mss);
    }
}

// RFC 5681 3.1 (4)
std::uint32_t reduce(CongestionState& c, std::uint32_t flight)
{
    return std::max(flight / 2, 2 * c.mss);
}

} // namespace

constinit const CongestionAlgorithm reno_algorithm{.name = "reno", .start = start, .avoid = avoid, .reduce = reduce};

} // namespace protocols::tcp
