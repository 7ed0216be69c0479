// The counters of a CPU, or of several together, as plain numbers. Sums, but for what is named a maximum.
#pragma once

#include <cstdint>

#include "lwkt/cpu.hpp"

namespace lwkt {

struct Snapshot {
    std::uint64_t rounds = 0;      // of the loop; giant and striped: visits
    std::uint64_t busy_rounds = 0; // that found something to do
    std::uint64_t sleeps = 0;
    std::uint64_t operations = 0; // of applications, run by themselves (giant, striped)
    std::uint64_t messages_in = 0;
    std::uint64_t messages_out = 0;
    std::uint64_t passive_out = 0;
    std::uint64_t batch_max = 0; // most messages taken in by one round
    std::uint64_t doorbells_sent = 0;
    std::uint64_t doorbells_suppressed = 0;
    std::uint64_t spills = 0;
    std::uint64_t shed = 0;
    std::uint64_t items[class_count] = {};   // messages dispatched and items polled, per class
    std::uint64_t busy_us[class_count] = {}; // giant, striped: of the timed visits only
    std::uint64_t longest_handler_us = 0;    // a maximum: of a batch that was timed
    std::uint64_t timer_late_max_us = 0;     // a maximum
    std::uint64_t lock_waits = 0;            // operations that found the shard's lock taken
    std::uint64_t lock_wait_ns = 0;
    std::uint64_t holds_timed = 0; // visits whose time under the lock was taken: one in 64
    std::uint64_t hold_ns = 0;     // of those
    std::uint64_t left_to_holder = 0;

    Snapshot() = default;
    explicit Snapshot(const CpuCounters& c);
    Snapshot& operator+=(const Snapshot& other);
    // What was counted since `before` (maxima stay).
    Snapshot since(const Snapshot& before) const;

    // f(name, value) for each number, in the order above; classes as "items_net", "busy_us_net".
    template <typename F>
    void each(F f) const
    {
        static constexpr const char* item_names[] = {
            "items_clock", "items_net", "items_serial", "items_bio", "items_gen"};
        static constexpr const char* busy_names[] = {
            "busy_us_clock", "busy_us_net", "busy_us_serial", "busy_us_bio", "busy_us_gen"};
        for (const Sum& s : sums) {
            f(s.name, this->*s.field);
        }
        for (unsigned i = 0; i < class_count; ++i) {
            f(item_names[i], items[i]);
            f(busy_names[i], busy_us[i]);
        }
        for (const Sum& s : maxima) {
            f(s.name, this->*s.field);
        }
    }

private:
    struct Sum {
        const char* name;
        std::uint64_t Snapshot::*field;
        std::atomic<std::uint64_t> CpuCounters::*counter;
    };
    static const Sum sums[16];
    static const Sum maxima[3];
};

} // namespace lwkt
