// Clocks are arguments (design.md rule 17): a real clock for threads, a virtual one that only advance() moves.
#pragma once

#include "base/units.hpp"

namespace lwkt {

class Clock {
public:
    virtual ~Clock() = default;
    virtual base::Instant now() const = 0;
};

// CLOCK_MONOTONIC in microseconds. Any thread.
class RealClock final : public Clock {
public:
    base::Instant now() const override;
};

// Starts at 1 s (so that "0" never looks like a valid stamp). Only the thread that steps the set may use it.
class VirtualClock final : public Clock {
public:
    base::Instant now() const override { return now_; }
    void advance_to(base::Instant t);

private:
    base::Instant now_{base::seconds(1)};
};

} // namespace lwkt
