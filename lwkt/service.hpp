// A service thread of the disciplines giant and striped: visits its shards when their timers or drivers are due, and
// when a caller leaves it one. It sleeps until the earliest deadline; whoever arms an earlier one rings it (after
// releasing its lock). Private to lwkt.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <vector>

#include "lwkt/cpu.hpp"

namespace lwkt {

class Service {
public:
    static constexpr std::int64_t never_us = std::numeric_limits<std::int64_t>::max();

    explicit Service(Clock& clock) : clock_(clock) {}

    void add(Cpu& cpu) { cpus_.push_back(&cpu); } // before it runs
    void run();                                   // until stop()
    void stop();                                  // any thread
    void reset() { stop_.store(false, std::memory_order_relaxed); }

    // A shard's next deadline moved to `at_us`, stored sequentially consistent before. Any thread, without a lock.
    void deadline_moved(std::int64_t at_us)
    {
        if (at_us < wake_at_us_.load(std::memory_order_seq_cst)) {
            ring();
        }
    }
    // A shard's `for_service` was set, sequentially consistent.
    void asked()
    {
        if (wake_at_us_.load(std::memory_order_seq_cst) != awake) {
            ring();
        }
    }
    void ring();

private:
    void visit_due();
    std::int64_t plan() const;
    bool overtaken(std::int64_t wake_at_us) const;

    static constexpr std::int64_t awake = std::numeric_limits<std::int64_t>::min();

    Clock& clock_;                  // c
    std::vector<Cpu*> cpus_;        // c
    std::atomic<bool> stop_{false}; // any thread sets
    // p: this thread, before it looks again; q: ringers
    alignas(base::apart) std::atomic<std::int64_t> wake_at_us_{awake};
    std::atomic<std::uint32_t> bell_{0}; // ringers exchange for 1, this thread for 0
};

} // namespace lwkt
