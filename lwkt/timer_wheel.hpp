// Hierarchical timer wheel, one per domain, run by its protocol thread in class clock. Arm, re-arm and cancel are O(1)
// and touch only the wheel's own memory. Owner: o, everything (the wheel belongs to one protocol thread). Invariants: a
// timer fires at or after its deadline, never before; in one run() timers fire in deadline order at the wheel's
// resolution (256 us per slot at the lowest level; 5 levels of 64 slots: about 76 hours, later ones are re-hung).
#pragma once

#include <cstdint>

#include "base/list.hpp"
#include "base/units.hpp"
#include "lwkt/clock.hpp"

namespace lwkt {

class Timer {
public:
    using Callback = void (*)(Timer&);
    explicit Timer(Callback callback) : callback_(callback) {}
    ~Timer();
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

    bool armed() const { return link_.linked(); }
    Instant deadline() const { return deadline_; }

private:
    friend class TimerWheel;
    base::ListLink link_;    // o
    Instant deadline_{};     // o
    Callback callback_;      // c: runs on the owner with the timer disarmed; may re-arm or destroy it
    std::uint16_t slot_ = 0; // o: level * 64 + index
};

class TimerWheel {
public:
    explicit TimerWheel(Instant start);
    ~TimerWheel();
    TimerWheel(const TimerWheel&) = delete;
    TimerWheel& operator=(const TimerWheel&) = delete;

    // Arms or re-arms. A deadline in the past fires on the next run().
    void arm(Timer& t, Instant deadline);
    void cancel(Timer& t); // no-op when not armed

    // Fires at most `budget` timers whose deadline is <= now; returns how many. What is left carries over.
    std::uint32_t run(Instant now, std::uint32_t budget);

    // A time at or before the earliest deadline (exact for the lowest level, else the slot's start); never when empty.
    Instant next_deadline() const;
    std::size_t armed_count() const { return count_; }

private:
    static constexpr unsigned levels = 5;
    static constexpr unsigned slots = 64;
    using Slot = base::List<Timer, &Timer::link_>;
    Slot wheel_[levels * slots];       // o
    std::uint64_t occupied_[levels]{}; // o: a bit per slot
    std::uint64_t tick_ = 0;           // o: ticks of 256 us processed so far
    Instant start_;                    // c
    std::size_t count_ = 0;            // o
};

} // namespace lwkt
