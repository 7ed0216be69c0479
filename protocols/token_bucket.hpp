// A rate limit: `burst` events at once, `per_second` over time. The owner passes the time. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/units.hpp"

namespace protocols {

class TokenBucket {
public:
    TokenBucket(std::uint32_t per_second, std::uint32_t burst)
        : interval_(1'000'000 / per_second), burst_(burst), tokens_(burst)
    {
    }

    // Takes a token; false when there is none.
    bool take(base::Instant now)
    {
        std::int64_t earned = (now - last_) / interval_;
        if (earned > 0) {
            tokens_ = static_cast<std::uint32_t>(std::min<std::int64_t>(burst_, tokens_ + earned));
            last_ = tokens_ == burst_ ? now : last_ + interval_ * earned;
        }
        if (tokens_ == 0) {
            return false;
        }
        --tokens_;
        return true;
    }

private:
    base::Micros interval_;
    std::uint32_t burst_;
    std::uint32_t tokens_;
    base::Instant last_{};
};

} // namespace protocols
