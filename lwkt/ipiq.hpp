// The ring between an ordered pair of CPUs: single producer, single consumer, never blocks. Each side keeps its own
// index and a cached copy of the peer's on a line that nobody else touches, and publishes its index on another: the
// peer's reads then take only the published line away, which costs the publisher a buffered store and no stall. The
// shared lines are read once per batch and not once per element.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>

#include "base/check.hpp"
#include "base/ownership.hpp"

namespace lwkt {

template <typename T>
class Ipiq {
    static_assert(std::is_trivially_copyable_v<T>);
    static constexpr std::align_val_t line{base::apart};
    static constexpr std::uint32_t prefetch_slots = 32; // two batches ahead

public:
    explicit Ipiq(std::uint32_t slots)
        : slots_(static_cast<T*>(operator new[](slots * sizeof(T), line))), mask_(slots - 1)
    {
        INVARIANT(slots >= 2 && (slots & mask_) == 0);
        std::uninitialized_value_construct_n(slots_.get(), slots);
    }

    // Producer only. False when full.
    bool push(T value) { return push(&value, 1) == 1; }
    // Producer only. Publishes as many of `n` elements as there is room for, at once; returns how many.
    std::uint32_t push(const T* values, std::uint32_t n)
    {
        std::uint32_t room = slots() - waiting(slots() - n);
        n = n < room ? n : room;
        for (std::uint32_t i = 0; i < n; ++i) {
            slots_[(producer_.tail + i) & mask_] = values[i];
            __builtin_prefetch(&slots_[(producer_.tail + i + prefetch_slots) & mask_], 1); // the consumer had it last
        }
        if (n != 0) {
            producer_.tail += n;
            tail_.store(producer_.tail, std::memory_order_release);
        }
        return n;
    }
    // Consumer only. Takes up to `max` elements into `out`, returns how many.
    std::uint32_t pop(T* out, std::uint32_t max)
    {
        if (consumer_.head == consumer_.tail_seen) {
            consumer_.tail_seen = tail_.load(std::memory_order_acquire);
        }
        std::uint32_t n = consumer_.tail_seen - consumer_.head;
        n = n < max ? n : max;
        for (std::uint32_t i = 0; i < n; ++i) {
            out[i] = slots_[(consumer_.head + i) & mask_];
        }
        if (n != 0) {
            consumer_.head += n;
            head_.store(consumer_.head, std::memory_order_release);
        }
        return n;
    }
    // Producer only: an upper bound of what waits; looks at the consumer only when the cached view is above `enough`.
    std::uint32_t waiting(std::uint32_t enough)
    {
        if (static_cast<std::int32_t>(producer_.tail - producer_.head_seen - enough) > 0) {
            producer_.head_seen = head_.load(std::memory_order_acquire);
        }
        return producer_.tail - producer_.head_seen;
    }
    // Consumer only: the opposite of empty(), and fetches the slot that comes next along with the index. A consumer
    // that polls by this has both lines under way at once when an element is published, and not one after the other.
    bool look() const
    {
        __builtin_prefetch(&slots_[consumer_.head & mask_]);
        return tail_.load(std::memory_order_acquire) != consumer_.head;
    }
    // Either side; exact for the consumer when it is asked after a sequentially consistent store of its own (sleeping).
    bool empty() const { return tail_.load(std::memory_order_seq_cst) == head_.load(std::memory_order_relaxed); }
    std::uint32_t slots() const { return mask_ + 1; }

private:
    struct Producer {
        std::uint32_t tail = 0;      // p
        std::uint32_t head_seen = 0; // p: last head read
    };
    struct Consumer {
        std::uint32_t head = 0;      // q
        std::uint32_t tail_seen = 0; // q: last tail read
    };
    struct Free {
        void operator()(T* slots) const { operator delete[](slots, line); }
    };
    std::unique_ptr<T[], Free> slots_;                        // c
    std::uint32_t mask_;                                      // c
    alignas(base::apart) Producer producer_;                  // p
    alignas(base::apart) std::atomic<std::uint32_t> tail_{0}; // p: release; q acquires
    alignas(base::apart) Consumer consumer_;                  // q
    alignas(base::apart) std::atomic<std::uint32_t> head_{0}; // q: release; p acquires
};

} // namespace lwkt
