// What the sender knows about losses (RFC 6675 with the NewReno of RFC 6582 where the peer has no SACK). Pure: fed with
// ACK facts, asked for the next hole and for the pipe. Owner: that of its Tcb.
//
// One engine for three recoveries. Every octet in [una, nxt) that is not SACKed and lies below lost_edge() is lost; of
// these, [una, high_rxt) have been sent again. Fast recovery with SACK takes the edge from the ranges (IsLost of RFC
// 6675 4 is monotone: below a lost octet every octet that is not SACKed is lost); without SACK the edge is one segment
// above una, moved by partial ACKs; after a timeout it is the recovery point.
#pragma once

#include <cstdint>

#include "protocols/tcp/seq_ranges.hpp"

namespace protocols::tcp {

inline constexpr unsigned scoreboard_ranges_max = 64; // more holes than that wait until earlier ones are filled

enum class Recovery : std::uint8_t { none, fast, timeout };

struct Scoreboard {
    SeqRanges<scoreboard_ranges_max> sacked;
    Recovery phase = Recovery::none;
    Seq recover;             // recovery ends when this is acknowledged
    Seq high_rxt;            // retransmission has proceeded up to here
    Seq lost_below;          // lost by decree: a timeout, or NewReno's first segment
    unsigned duplicates = 0; // duplicate ACKs (without SACK each stands for one segment that arrived)
    bool force_one = false;  // the next retransmission goes out whatever the pipe holds
    bool rescued = false;    // the rescue retransmission of RFC 6675 4 (4) is spent
    bool use_sack = false;

    // Everything below is lost unless SACKed.
    Seq lost_edge(std::uint32_t mss) const;
    // Octets in the network (RFC 6675 4, SetPipe).
    std::uint32_t pipe(Seq una, Seq nxt, std::uint32_t mss) const;
    // The next run of octets to send again, at or above `from` and below `edge`; false if there is none.
    bool next_hole(Seq from, Seq edge, Seq& start, Seq& end) const;
    // Octets in [from, to) that are not SACKed.
    std::uint32_t unsacked(Seq from, Seq to) const;

    void enter_fast(Seq una, Seq nxt, std::uint32_t mss);
    void enter_timeout(Seq una, Seq nxt);
    // `una` moved forward by `acked` octets to `una`.
    void advance(Seq una, std::uint32_t acked, std::uint32_t mss);
    void reset(Seq una);
};

} // namespace protocols::tcp
