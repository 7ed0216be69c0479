// Hierarchical timer wheel, one per domain, run by its protocol thread in class clock. Arm, re-arm and cancel are O(1)
// and touch only the wheel's own memory. Owner: o, everything (the wheel belongs to one protocol thread). Invariants: a
// timer fires at or after its deadline, never before; in one run() timers fire in deadline order at the wheel's
// resolution (256 us per slot at the lowest level; 5 levels of 64 slots: about 76 hours, later ones are re-hung); a
// timer armed by a callback fires in a later run(), so one run always ends. A timer that is destroyed leaves its wheel.
#pragma once

#include <cstdint>

#include "base/list.hpp"
#include "base/units.hpp"
#include "lwkt/clock.hpp"

namespace lwkt {

class TimerWheel;

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
    base::ListLink link_;         // o
    Instant deadline_{};          // o
    TimerWheel* wheel_ = nullptr; // o: where it hangs while armed
    Callback callback_;           // c: runs on the owner with the timer disarmed; may re-arm or destroy it
    std::uint16_t slot_ = 0;      // o: level * 64 + index, or one of the lists after them
};

class TimerWheel {
public:
    explicit TimerWheel(Instant start);
    ~TimerWheel(); // disarms what still hangs in it
    TimerWheel(const TimerWheel&) = delete;
    TimerWheel& operator=(const TimerWheel&) = delete;

    // Arms or re-arms. A deadline in the past fires on the next run().
    void arm(Timer& t, Instant deadline);
    void cancel(Timer& t); // no-op when not armed

    // Fires at most `budget` timers whose deadline is <= now; returns how many. What is left carries over. Callbacks
    // may arm, cancel and destroy any timer of the wheel, but not call run().
    std::uint32_t run(Instant now, std::uint32_t budget);

    // A time at or before the earliest deadline (exact for the lowest level, else the slot's start); never when empty.
    Instant next_deadline() const;
    std::size_t armed_count() const { return count_; }

private:
    static constexpr unsigned levels = 5;
    static constexpr unsigned slots = 64;
    static constexpr unsigned slot_bits = 6;
    static constexpr std::int64_t tick_us = 256;
    // Lists beside the slots: due in this run and not yet fired; armed by a callback during the run.
    static constexpr unsigned due = levels * slots;
    static constexpr unsigned fresh = due + 1;
    using Slot = base::List<Timer, &Timer::link_>;

    std::uint64_t tick_of(Instant t) const;
    Instant time_of(std::uint64_t tick) const { return start_ + Micros{static_cast<std::int64_t>(tick) * tick_us}; }
    void hang(Timer& t);
    void put(Timer& t, unsigned slot);
    void take(Timer& t);
    std::uint64_t next_event_tick() const;
    bool block_begins(std::uint64_t tick) const;
    Instant earliest() const;
    void enter(std::uint64_t tick);
    void collect(Instant now);

    Slot wheel_[levels * slots + 2];     // o
    std::uint64_t occupied_[levels]{};   // o: a bit per slot
    std::uint64_t tick_ = 0;             // o: the tick being processed; earlier ones are done
    Instant start_;                      // c
    std::size_t count_ = 0;              // o
    bool running_ = false;               // o
    mutable Instant next_ = base::never; // o: cache of earliest()
    mutable bool next_known_ = true;     // o
};

} // namespace lwkt
