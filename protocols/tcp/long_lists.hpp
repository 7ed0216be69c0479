// Memory for what does not fit into a Tcb: a connection that lost more than some fifty segments at once, on either
// side, borrows it until that is repaired. Bounded per CPU; where there is none the short lists do, at the price of
// text that is sent again although it arrived. Owner: the domain's CPU.
#pragma once

#include <array>

#include "protocols/tcp/seq_ranges.hpp"
#include "protocols/tcp/tcp_scoreboard.hpp"

namespace protocols::tcp {

struct LongRuns {
    std::array<SentRun, 4096> runs;
};

struct LongRanges {
    std::array<SeqRange, 2048> ranges;
};

inline constexpr std::size_t long_lists_max = 64; // of each kind, per CPU: 3.6 MB

} // namespace protocols::tcp
