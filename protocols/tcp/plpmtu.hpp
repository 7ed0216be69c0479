// Packetization layer path MTU discovery (RFC 4821, RFC 8899) as a search between what passes and what might: sizes are
// those of IP packets. Pure; owner: that of its Tcb.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/seq.hpp"
#include "base/units.hpp"

namespace protocols::tcp {

using base::Seq;

inline constexpr std::uint32_t plpmtu_base_mss = 1024;      // as Linux's tcp_base_mss: passes nearly everywhere
inline constexpr std::uint32_t plpmtu_close_enough = 8;     // bytes: the search is over (as tcp_probe_threshold)
inline constexpr std::uint32_t plpmtu_spare_segments = 4;   // behind a probe, so that its loss shows by what follows
inline constexpr std::uint32_t plpmtu_window_segments = 11; // of cwnd, as Linux: a probe must not be all of it
inline constexpr unsigned plpmtu_retries = 3;               // timeouts that make a black hole (R1)
inline constexpr base::Micros plpmtu_raise_time = base::seconds(600); // RFC 8899 5.1.1 PMTU_RAISE_TIMER

struct Plpmtu {
    std::uint32_t low = 0;   // passes; 0 = no search
    std::uint32_t high = 0;  // might
    std::uint32_t probe = 0; // in flight, 0 = none
    Seq start;               // ... its text
    Seq end;
    base::Instant raise_at{}; // when a search that is over begins anew

    bool on() const { return low != 0; }
    void begin(std::uint32_t at, std::uint32_t most) { *this = {std::min(at, most), most, 0, {}, {}, {}}; }
    // The size to try next; 0: none now.
    std::uint32_t next(base::Instant now, std::uint32_t most)
    {
        if (probe != 0) {
            return 0;
        }
        std::uint32_t top = std::min(high, most); // TCP_MAXSEG may have changed
        if (top < low + plpmtu_close_enough) {
            if (raise_at == base::Instant{}) {
                raise_at = now + plpmtu_raise_time;
            }
            if (now < raise_at) {
                return 0;
            }
            raise_at = {};
            top = high = std::max(low, most); // the path may have changed
            if (high - low < plpmtu_close_enough) {
                return 0;
            }
        }
        return (low + top) / 2;
    }
    void sent(std::uint32_t size, Seq from, Seq to)
    {
        probe = size;
        start = from;
        end = to;
    }
    // RFC 4821 7.6.4: what was lost beside others, and goes again in segments that pass, says nothing when it is
    // acknowledged.
    void sent_again(Seq from, Seq to)
    {
        if (from < end && start < to) {
            probe = 0;
        }
    }
    void passed()
    {
        low = std::min(probe, high);
        probe = 0;
    }
    void failed()
    {
        high = std::max(low, std::min(high, probe - 1)); // a router may have said less meanwhile
        probe = 0;
    }
    void limit(std::uint32_t most) // a router's word
    {
        high = std::min(high, most);
        low = std::min(low, most);
    }
    // RFC 4821 7.7: what was thought to pass does not.
    void black_hole(std::uint32_t floor)
    {
        probe = 0;
        high = std::max(low, floor);
        low = std::max(floor, low / 2);
    }
};

} // namespace protocols::tcp
