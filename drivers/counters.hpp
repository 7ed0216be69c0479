// Helpers of drivers for s-keyed counters: the owner adds without an atomic read-modify-write.
#pragma once

#include <atomic>
#include <cstdint>

namespace drivers {

[[gnu::always_inline]] inline void add(std::atomic<std::uint64_t>& counter, std::uint64_t n = 1)
{
    counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

} // namespace drivers
