// Time as types. Microseconds are the resolution of every protocol timer; an Instant counts from its clock's own epoch
// (real: CLOCK_MONOTONIC; virtual: 0 at creation), so Instants of different clocks must not be mixed.
#pragma once

#include <chrono>
#include <cstdint>

namespace base {

using Micros = std::chrono::duration<std::int64_t, std::micro>;

struct StackTime {
    using rep = std::int64_t;
    using period = std::micro;
    using duration = Micros;
    using time_point = std::chrono::time_point<StackTime, Micros>;
    static constexpr bool is_steady = true;
};
using Instant = StackTime::time_point;

inline constexpr Instant never = Instant::max();

constexpr Micros millis(std::int64_t n)
{
    return Micros{n * 1000};
}
constexpr Micros seconds(std::int64_t n)
{
    return Micros{n * 1'000'000};
}

} // namespace base
