// Clocks are arguments, so that a run can be repeated: a real clock for threads, a virtual one that only advance()
// moves.
#pragma once

#include "base/units.hpp"

namespace lwkt {

using base::Instant;
using base::Micros;

class Clock {
public:
    virtual ~Clock() = default;
    virtual Instant now() const = 0;
    // The same in nanoseconds, for short spans.
    virtual std::int64_t now_ns() const { return now().time_since_epoch().count() * 1000; }
};

// CLOCK_MONOTONIC in microseconds. Any thread.
class RealClock final : public Clock {
public:
    Instant now() const override;
    std::int64_t now_ns() const override;
};

// Starts at 1 s (so that "0" never looks like a valid stamp). Only the thread that steps the set may use it.
class VirtualClock final : public Clock {
public:
    Instant now() const override { return now_; }
    void advance_to(Instant t);

private:
    Instant now_{base::seconds(1)};
};

} // namespace lwkt
