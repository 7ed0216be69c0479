// How much of cwnd was used by the text that is being acknowledged (RFC 7661 4.2, as Linux): a flight proves its path
// until the last of it is acknowledged, though little is left of it by then. Pure; owner: that of its Tcb.
#pragma once

#include <cstdint>

#include "base/seq.hpp"

namespace protocols::tcp {

using base::Seq;

struct WindowUse {
    Seq end;                  // a round of text: until this is acknowledged
    std::uint32_t flight = 0; // the most that was under way in it
    bool full = false;        // cwnd let no more out

    // New text went, or waits for cwnd.
    void sent(Seq una, Seq nxt, bool all_used)
    {
        auto now = static_cast<std::uint32_t>(nxt - una);
        if (una >= end || all_used || (!full && now > flight)) {
            *this = {nxt, now, all_used};
        }
    }
    // RFC 5681 3.1, RFC 9438 5.8: may cwnd grow? In slow start to twice what was used.
    bool lets_grow(std::uint32_t cwnd, bool slow_start) const { return full || (slow_start && cwnd / 2 < flight); }
};

} // namespace protocols::tcp
