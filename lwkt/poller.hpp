// What a protocol thread runs besides messages: drivers (net), gateways (serial), wheels (clock), chores (gen).
#pragma once

#include <cstdint>

#include "base/units.hpp"

namespace lwkt {

// Owner: the CPU it is added to; every call is made there.
class Poller {
public:
    virtual ~Poller() = default;
    // Does at most `budget` items of work, returns how many were done (0 = idle).
    virtual std::uint32_t poll(std::uint32_t budget) = 0;
    // Looked at after the CPU has announced that it sleeps (its sleep word is stored sequentially consistent before):
    // must see everything published before the publisher read that word. True = do not sleep.
    virtual bool pending() const = 0;
    // The next time at which poll() must run without anything else happening.
    virtual base::Instant deadline() const { return base::never; }
    // A descriptor whose readability means "poll me", watched while asleep; -1 = none.
    virtual int wait_fd() const { return -1; }
};

// Work done once after each batch and before sleep: ACKs merged, transmits handed over, wakeups merged.
class Rollup {
public:
    virtual ~Rollup() = default;
    virtual void rollup() = 0;
};

} // namespace lwkt
