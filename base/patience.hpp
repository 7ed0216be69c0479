// How long somebody who waits should look before he sleeps: longer while it pays, shorter and then not at all while it
// does not, and not for a while where a program computes on the same CPU. Pure arithmetic; belongs to one thread.
#pragma once

#include <algorithm>

#include "base/units.hpp"

namespace base {

class Patience {
public:
    constexpr Patience() = default; // begins with a short look
    explicit constexpr Patience(Micros begin) : limit_(begin) {}

    // For how long to look now, at most `most`; 0 = sleep at once.
    constexpr Micros limit(Instant now, Micros most) const
    {
        if (now < again_at_) {
            return Micros{0};
        }
        return short_of_ >= retry_after ? most : std::min(limit_, most);
    }
    // A wait is over that lasted so long: a look of that length meets its end, or it is too long to look for.
    constexpr void waited(Micros lasted, Micros most)
    {
        if (lasted < most) {
            limit_ = std::min(most, std::max({least, limit_ * 2, lasted * 2}));
        } else {
            unpaid();
        }
        // Where every hop of a conversation sleeps, the wake-ups alone can make it too slow to be worth looking for.
        // So one whole look now and then, however it went lately.
        short_of_ = limit_ < most && short_of_ < retry_after ? short_of_ + 1 : 0;
    }
    // The same of one that ended asleep: without the wake-up, which a look does not have.
    constexpr void slept(Micros lasted, Micros most) { waited(std::max(lasted - wake_up, Micros{0}), most); }
    // A look met nothing, and a longer one would not have either.
    constexpr void unpaid() { limit_ /= 2; }
    // A yield between two looks is over. Who yields stays runnable, so no wake-up brings the CPU back before the
    // other's turn is over, and the turns of programs that compute are milliseconds. Who sleeps preempts such a
    // program.
    constexpr void yielded(Instant now, Micros took)
    {
        if (took >= long_turn) {
            pause_ = std::clamp(pause_ * 2, pause_min, pause_max);
            again_at_ = now + pause_;
        } else {
            pause_ = Micros{0};
        }
    }

    static constexpr Micros least{4};              // where a look that was shortened to nothing starts again
    static constexpr Micros wake_up{20};           // of a thread on a CPU that had nothing to do
    static constexpr Micros long_turn{400};        // a yield that took this long met a program that computes
    static constexpr Micros pause_min = millis(8); // after that: no looking, twice as long each time
    static constexpr Micros pause_max = seconds(1);
    static constexpr unsigned retry_after = 64; // waits

private:
    Micros limit_{least};
    Micros pause_{0};
    Instant again_at_ = Instant::min();
    unsigned short_of_ = 0; // waits since the last whole look
};

} // namespace base
