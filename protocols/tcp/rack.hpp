// RACK (RFC 8985 6): which segments are lost, by the time they were sent. Pure: fed with what an acknowledgment
// delivered, asked about one run of text at a time. Times are microseconds of the stack's clock modulo 2^32: a flight
// is never older than half of that. Owner: that of its Tcb.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/seq.hpp"

namespace protocols::tcp {

using base::Seq;

// RFC 8985 6.1: is (time, end) a later transmission than (other_time, other_end)?
constexpr bool rack_sent_after(std::uint32_t time_us, Seq end, std::uint32_t other_time_us, Seq other_end)
{
    auto d = static_cast<std::int32_t>(time_us - other_time_us);
    return d > 0 || (d == 0 && end > other_end);
}

// What is known when an ACK is processed.
struct RackAck {
    std::uint32_t now_us = 0;
    std::uint32_t min_rtt_us = 0; // 0: not known
    bool has_echo = false;
    std::uint32_t echo_end_us = 0; // what was sent from here on is younger than the timestamp the ACK echoes
};

struct Rack {
    std::uint32_t xmit_us = 0; // of the latest transmission that was delivered,
    Seq end_seq;               // its end,
    std::uint32_t rtt_us = 0;  // and its round trip; 0: nothing was delivered yet
    Seq fack;                  // highest octet delivered, one past
    Seq dsack_round;           // while in_dsack_round: a D-SACK counts again beyond this
    std::uint8_t reo_wnd_mult = 1;
    std::uint8_t reo_wnd_persist = 0;
    bool in_dsack_round = false;
    bool reordering_seen = false;

    void reset(Seq una);
    // Text from `start` on goes out, and nothing else is in flight: what was delivered before is older, however long
    // that is ago.
    void began(std::uint32_t time_us, Seq start);
    // A run of text, all sent at `time_us`, that ends at `end` was acknowledged or SACKed (6.2 steps 1 to 3).
    void delivered(const RackAck& ack, std::uint32_t time_us, Seq end, bool resent);
    // Step 4: the round trip of a D-SACK ends, before sequence numbers are too far apart to compare.
    void acked(Seq una) { in_dsack_round = in_dsack_round && una < dsack_round; }
    // Step 4: once per round trip a D-SACK widens the window.
    void saw_dsack(Seq una, Seq nxt);
    // Step 4: recoveries without D-SACK narrow it again.
    void recovery_ended();
    // The reordering window. `many_sacked`: DupThresh segments are SACKed.
    std::uint32_t reo_wnd_us(bool in_recovery, bool many_sacked, std::uint32_t min_rtt_us, std::uint32_t srtt_us) const;
    // Step 5, of a run that is in flight: lost (<= 0), lost in so many microseconds (> 0), or not to be judged yet.
    static constexpr std::int32_t not_judged = INT32_MAX;
    std::int32_t lost_in_us(std::uint32_t now_us, std::uint32_t reo_wnd, std::uint32_t time_us, Seq end) const
    {
        if (rtt_us == 0 || !rack_sent_after(xmit_us, end_seq, time_us, end)) {
            return not_judged;
        }
        return static_cast<std::int32_t>(time_us + rtt_us + reo_wnd - now_us);
    }
};

} // namespace protocols::tcp
