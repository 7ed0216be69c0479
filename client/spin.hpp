// How long to poll before a sleep: longer while it pays, shorter and then not at all while it does not, with a new try
// now and then. One thread at a time. Internal to client/.
#pragma once

#include <algorithm>

#include "client/session.hpp"

namespace client {

class SpinLimit {
public:
    SpinLimit() = default;
    explicit SpinLimit(const Session& s) : rounds_(std::min(first, s.spin_max)) {}

    unsigned rounds(const Session& s) const { return std::max(rounds_, s.spin_min); }
    void result(const Session& s, bool paid) { rounds_ = paid ? std::min(rounds_ * 2, s.spin_max) : rounds_ / 2; }
    void before_sleep(const Session& s)
    {
        if (rounds_ == 0 && s.spin_max != 0 && ++unpaid_ >= retry_after) {
            unpaid_ = 0;
            rounds_ = std::min(first / 4, s.spin_max);
        }
    }

private:
    static constexpr unsigned first = 64; // pauses
    static constexpr unsigned retry_after = 64;
    unsigned rounds_ = 0;
    unsigned unpaid_ = 0; // sleeps since polling was given up
};

} // namespace client
