// Tail loss probes (RFC 8985 7): when to probe, and what the ACK after a probe says. Pure; owner: that of its Tcb.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/seq.hpp"
#include "base/units.hpp"

namespace protocols::tcp {

using base::Seq;

inline constexpr base::Micros tlp_max_ack_delay = base::millis(200); // RFC 8985 7.2, as Linux
inline constexpr base::Micros tlp_margin = base::millis(2);          // as Linux: not at every hiccup of a short path

struct TlpAck {
    Seq ack;
    bool dsack_of_probe = false;    // a D-SACK whose end is the probe's
    bool duplicate_no_sack = false; // a duplicate ACK without any SACK block
};

struct Tlp {
    Seq end_seq; // while in_progress: SND.NXT after the probe
    bool in_progress = false;
    bool is_retrans = false;

    // RFC 8985 7.2. `rto_left`: until the retransmission timer would expire.
    static base::Micros timeout(base::Micros srtt, bool one_segment, base::Micros rto_left)
    {
        base::Micros pto = base::seconds(1);
        if (srtt.count() != 0) {
            pto = 2 * srtt + (one_segment ? tlp_max_ack_delay : tlp_margin);
        }
        return std::max(std::min(pto, rto_left), base::Micros{0});
    }
    void sent(Seq nxt, bool retransmission)
    {
        in_progress = true;
        end_seq = nxt;
        is_retrans = retransmission;
    }
    // RFC 8985 7.4.2. True: the probe repaired a loss, which nothing else has noticed: a congestion event.
    bool acknowledged(const TlpAck& a)
    {
        if (!in_progress || a.ack < end_seq) {
            return false;
        }
        if (!is_retrans || a.dsack_of_probe) {
            in_progress = false; // new text arrived; or both the original and the probe did
            return false;
        }
        if (a.ack > end_seq) {
            in_progress = false;
            return true;
        }
        if (a.duplicate_no_sack) {
            in_progress = false; // the second of two arrivals, told by a receiver without D-SACK
        }
        return false;
    }
};

} // namespace protocols::tcp
