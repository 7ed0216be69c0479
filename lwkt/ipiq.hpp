// The ring between an ordered pair of CPUs: single producer, single consumer, never blocks. Producer and consumer state
// on lines of their own (128 bytes apart: adjacent-line prefetch), each with a cached copy of the peer's index so that
// the shared lines are read once per batch and not once per element.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/check.hpp"

namespace lwkt {

template <typename T>
class Ipiq {
public:
    explicit Ipiq(std::uint32_t slots) : slots_(std::make_unique<T[]>(slots)), mask_(slots - 1)
    {
        INVARIANT(slots >= 2 && (slots & mask_) == 0);
    }

    // Producer only. False when full.
    bool push(T value)
    {
        if (producer_.tail - producer_.head_seen > mask_) {
            producer_.head_seen = consumer_.head.load(std::memory_order_acquire);
            if (producer_.tail - producer_.head_seen > mask_) {
                return false;
            }
        }
        slots_[producer_.tail & mask_] = value;
        ++producer_.tail;
        producer_.tail_shared.store(producer_.tail, std::memory_order_release);
        return true;
    }
    // Consumer only. Takes up to `max` elements into `out`, returns how many.
    std::uint32_t pop(T* out, std::uint32_t max)
    {
        if (consumer_.head_own == consumer_.tail_seen) {
            consumer_.tail_seen = producer_.tail_shared.load(std::memory_order_acquire);
        }
        std::uint32_t n = consumer_.tail_seen - consumer_.head_own;
        n = n < max ? n : max;
        for (std::uint32_t i = 0; i < n; ++i) {
            out[i] = slots_[(consumer_.head_own + i) & mask_];
        }
        if (n != 0) {
            consumer_.head_own += n;
            consumer_.head.store(consumer_.head_own, std::memory_order_release);
        }
        return n;
    }
    // Producer only: an upper bound of what waits; looks at the consumer only when the cached view is above `enough`.
    std::uint32_t waiting(std::uint32_t enough)
    {
        if (producer_.tail - producer_.head_seen > enough) {
            producer_.head_seen = consumer_.head.load(std::memory_order_acquire);
        }
        return producer_.tail - producer_.head_seen;
    }
    // Either side; exact for the consumer when it is asked after a sequentially consistent store of its own (sleeping).
    bool empty() const
    {
        return producer_.tail_shared.load(std::memory_order_seq_cst) == consumer_.head.load(std::memory_order_relaxed);
    }

private:
    struct alignas(128) Producer {
        std::uint32_t tail = 0;                    // p
        std::uint32_t head_seen = 0;               // p: last head read
        std::atomic<std::uint32_t> tail_shared{0}; // p: release; q acquires
    };
    struct alignas(128) Consumer {
        std::uint32_t head_own = 0;         // q
        std::uint32_t tail_seen = 0;        // q: last tail read
        std::atomic<std::uint32_t> head{0}; // q: release; p acquires
    };
    Producer producer_;
    std::unique_ptr<T[]> slots_; // c: between the two lines on purpose, read-only after construction
    std::uint32_t mask_;         // c
    Consumer consumer_;
};

} // namespace lwkt
