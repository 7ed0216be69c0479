// The backlog of a listener as one pool of credits (decision 0007): a credit stands for a connection that waits to
// be accepted. A CPU borrows some at a time, so that a connection costs no shared write; when the pool is empty it
// takes what another CPU holds and does not use. ListenCredits: s (reset: the listener's owner; take: any CPU for
// itself).
//
// The sum of the pool and of what the CPUs hold is the backlog. A CPU that takes a connection while its credit is taken
// from it may put the total over it, by one per CPU at most.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

#include "base/ownership.hpp"

namespace gateway {

class ListenCredits {
public:
    explicit ListenCredits(std::uint32_t cpus) : held_(std::make_unique<Held[]>(cpus)), cpus_(cpus) {}

    // A new backlog. `waiting_on(i)`: connections that wait in the lane of CPU i; they have their credits at once.
    template <typename WaitingOn>
    void reset(std::uint32_t backlog, WaitingOn waiting_on)
    {
        std::uint32_t left = backlog;
        for (std::uint32_t i = 0; i < cpus_; ++i) {
            std::uint32_t used = std::min(waiting_on(i), left);
            held_[i].credits.store(used, std::memory_order_relaxed);
            left -= used;
        }
        step_.store(std::clamp(backlog / (4 * cpus_), 1U, 64U), std::memory_order_relaxed);
        pool_.store(left, std::memory_order_relaxed);
    }

    // May CPU `me`, in whose lane `waiting` connections wait, put one more there?
    template <typename WaitingOn>
    bool take(std::uint32_t me, std::uint32_t waiting, WaitingOn waiting_on)
    {
        auto& mine = held_[me].credits;
        std::uint32_t held = mine.load(std::memory_order_relaxed);
        if (waiting < held) {
            return true;
        }
        std::uint32_t wanted = std::max(waiting - held + 1, step_.load(std::memory_order_relaxed));
        mine.fetch_add(withdraw(pool_, wanted, 0), std::memory_order_relaxed);
        for (std::uint32_t i = 1; i < cpus_ && waiting >= mine.load(std::memory_order_relaxed); ++i) {
            std::uint32_t other = (me + i) % cpus_;
            // Half of what it has to spare: it was the one that needed them.
            std::uint32_t used = waiting_on(other);
            std::uint32_t has = held_[other].credits.load(std::memory_order_relaxed);
            if (has > used) {
                mine.fetch_add(withdraw(held_[other].credits, (has - used + 1) / 2, used), std::memory_order_relaxed);
            }
        }
        return waiting < mine.load(std::memory_order_relaxed);
    }

private:
    struct alignas(base::apart) Held {
        std::atomic<std::uint32_t> credits{0}; // s: its CPU borrows, others take what is to spare
    };

    // Takes up to `wanted` from `from` and leaves at least `keep`; returns how many.
    static std::uint32_t withdraw(std::atomic<std::uint32_t>& from, std::uint32_t wanted, std::uint32_t keep)
    {
        std::uint32_t has = from.load(std::memory_order_relaxed);
        std::uint32_t got = 0;
        do {
            got = has > keep ? std::min(wanted, has - keep) : 0;
        } while (got != 0 && !from.compare_exchange_weak(has, has - got, std::memory_order_relaxed));
        return got;
    }

    std::unique_ptr<Held[]> held_;       // c; element i: CPU i's
    std::uint32_t cpus_;                 // c
    std::atomic<std::uint32_t> step_{1}; // credits borrowed at a time
    alignas(64) std::atomic<std::uint32_t> pool_{0};
};

} // namespace gateway
