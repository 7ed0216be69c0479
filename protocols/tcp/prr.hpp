// Proportional Rate Reduction (RFC 9937, which replaces RFC 6937): how much each ACK of a fast recovery lets out. Pure;
// octets. Owner: that of its Tcb.
#pragma once

#include <algorithm>
#include <cstdint>

namespace protocols::tcp {

struct Prr {
    std::uint32_t delivered = 0;  // during this recovery
    std::uint32_t out = 0;        // sent during this recovery
    std::uint32_t recover_fs = 1; // flight when it began

    // RFC 9937 6.1. `flight`: una to nxt before the ACK that begins it; `sacked_before`: SACKed by earlier ACKs.
    void begin(std::uint32_t flight, std::uint32_t sacked_before)
    {
        delivered = out = 0;
        recover_fs = std::max(flight > sacked_before ? flight - sacked_before : 0U, 1U);
    }

    // RFC 9937 6.2: the congestion window after an ACK. `safe`: una advanced and no further loss was found.
    std::uint32_t window(
        std::uint32_t newly_delivered, std::uint32_t in_flight, std::uint32_t ssthresh, std::uint32_t mss, bool safe)
    {
        delivered += newly_delivered;
        std::uint32_t count = 0;
        if (in_flight > ssthresh) { // proportional
            std::uint64_t due = (std::uint64_t{delivered} * ssthresh + recover_fs - 1) / recover_fs;
            count = due > out ? static_cast<std::uint32_t>(due - out) : 0;
        } else {
            // CRB: no more than was delivered; SSRB where recovery goes well: one segment more
            std::uint32_t lag = delivered > out ? delivered - out : 0;
            count = std::max(lag, newly_delivered) + (safe ? mss : 0);
            count = std::min(count, ssthresh - in_flight);
        }
        if (out == 0 && count == 0) {
            count = mss; // the fast retransmit itself
        }
        return in_flight + count;
    }
};

} // namespace protocols::tcp
