// Pacing: when the next segment may go at a given rate. Pure: the caller keeps the clock and the timer. It is used
// where SO_MAX_PACING_RATE asks for it and by BBR; CUBIC alone is clocked by ACKs, as in Linux without fq. Owner: that
// of its Tcb.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/units.hpp"

namespace protocols::tcp {

struct Pacer {
    base::Instant next{}; // nothing goes before

    // As Linux: twice the window per round trip in slow start, a fifth more than the window afterwards, so that pacing
    // does not hold the window's growth back; never above `limit` (octets per second). A limit of 0 is none, as there.
    static std::uint64_t rate(std::uint32_t cwnd, base::Micros srtt, bool slow_start, std::uint64_t limit)
    {
        if (srtt.count() == 0) {
            return limit;
        }
        std::uint64_t factor_percent = slow_start ? 200 : 120;
        std::uint64_t by_window =
            std::uint64_t{cwnd} * factor_percent * 10000 / static_cast<std::uint64_t>(srtt.count());
        return std::min(std::max<std::uint64_t>(by_window, 1), limit); // std::clamp has no limit below 1
    }
    // What may go in one piece: a millisecond's worth, two segments at least.
    static std::uint32_t burst(std::uint64_t rate, std::uint32_t mss)
    {
        std::uint64_t octets = std::max<std::uint64_t>(rate / 1000 / mss, 2) * mss;
        return static_cast<std::uint32_t>(std::min<std::uint64_t>(octets, UINT32_MAX / 2));
    }
    // Time that was not used is no credit; what the timer comes late, a tick of the wheel and some work, is made up
    // for.
    static constexpr base::Micros late_max{500};
    void sent(std::uint32_t octets, std::uint64_t rate, base::Instant now)
    {
        auto takes = static_cast<std::int64_t>(std::uint64_t{octets} * 1'000'000 / std::max<std::uint64_t>(rate, 1));
        next = (next >= now - late_max ? next : now) + base::Micros{takes};
    }
};

} // namespace protocols::tcp
