// See tcp_scoreboard.hpp.
#include "protocols/tcp/tcp_scoreboard.hpp"

#include "protocols/tcp/tcp_limits.hpp"

namespace protocols::tcp {

Seq Scoreboard::lost_edge(std::uint32_t mss) const
{
    // RFC 6675 4 IsLost: DupThresh discontiguous ranges or more than (DupThresh - 1) * SMSS octets SACKed above.
    std::uint32_t octets = 0;
    for (unsigned above = 1; above <= sacked.count(); ++above) {
        const SeqRange& r = sacked[sacked.count() - above];
        octets += r.bytes();
        if (above >= duplicate_threshold || octets > (duplicate_threshold - 1) * mss) {
            return base::max(r.start, lost_below);
        }
    }
    return lost_below;
}

std::uint32_t Scoreboard::unsacked(Seq from, Seq to) const
{
    if (to <= from) {
        return 0;
    }
    auto octets = static_cast<std::uint32_t>(to - from);
    for (unsigned i = 0; i < sacked.count(); ++i) {
        Seq start = base::max(sacked[i].start, from);
        Seq end = base::min(sacked[i].end, to);
        if (start < end) {
            octets -= static_cast<std::uint32_t>(end - start);
        }
    }
    return octets;
}

std::uint32_t Scoreboard::pipe(Seq una, Seq nxt, std::uint32_t mss) const
{
    auto flight = static_cast<std::uint32_t>(nxt - una);
    std::uint32_t gone = unsacked(base::max(high_rxt, una), base::min(lost_edge(mss), nxt)); // lost, not yet sent again
    if (use_sack) {
        gone += sacked.bytes();
    } else {
        gone += duplicates * mss;
    }
    return gone < flight ? flight - gone : 0;
}

bool Scoreboard::next_hole(Seq from, Seq edge, Seq& start, Seq& end) const
{
    start = from;
    for (unsigned i = 0; i < sacked.count() && start < edge; ++i) {
        if (start < sacked[i].start) {
            end = base::min(sacked[i].start, edge);
            return true;
        }
        start = base::max(start, sacked[i].end);
    }
    end = edge;
    return start < edge;
}

void Scoreboard::enter_fast(Seq una, Seq nxt, std::uint32_t mss)
{
    phase = Recovery::fast;
    recover = nxt;
    high_rxt = una;
    // RFC 6675 5 (4.3), RFC 6582 3.2: the first segment is taken as lost, however little is SACKed above it.
    lost_below = base::min(una + mss, nxt);
    force_one = true;
    rescued = false;
}

void Scoreboard::enter_timeout(Seq una, Seq nxt)
{
    // RFC 2018 8: after a timeout the receiver may have reneged; the second one in a row trusts no SACK any more, and
    // neither does one whose first octet is SACKed.
    bool reneged = !sacked.empty() && sacked[0].start <= una;
    if (phase == Recovery::timeout || reneged) {
        sacked.clear();
    }
    phase = Recovery::timeout;
    recover = nxt;
    high_rxt = una;
    lost_below = nxt;
    duplicates = 0;
    force_one = true;
    rescued = true;
}

void Scoreboard::advance(Seq una, std::uint32_t acked, std::uint32_t mss)
{
    sacked.trim_below(una);
    high_rxt = base::max(high_rxt, una);
    lost_below = base::max(lost_below, una);
    recover = base::max(recover, una - 1); // keeps up, so that it never falls half the number space behind
    if (phase == Recovery::none) {
        duplicates = 0;
        return;
    }
    if (una >= recover) {
        phase = Recovery::none;
        duplicates = 0;
        force_one = false;
        return;
    }
    if (phase == Recovery::fast && !use_sack) {
        // RFC 6582 3.2 step 3: a partial ACK shows the next hole; what it covers had been counted as arrived.
        unsigned covered = (acked + mss - 1) / mss;
        duplicates = covered > 1 ? duplicates - std::min(duplicates, covered - 1) : duplicates;
        high_rxt = una;
        lost_below = base::min(una + mss, recover);
        force_one = true;
    }
}

void Scoreboard::reset(Seq una)
{
    sacked.clear();
    phase = Recovery::none;
    recover = high_rxt = lost_below = una;
    duplicates = 0;
    force_one = rescued = false;
}

} // namespace protocols::tcp
