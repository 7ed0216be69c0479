// When a call's timeout is over, by the clock that the session's host has too: known before there is a session.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>

#include "base/units.hpp"

namespace preload {

inline base::Instant monotonic_now()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return base::Instant{base::Micros{t.tv_sec * 1'000'000 + t.tv_nsec / 1000}};
}

inline bool is_zero(const timespec* timeout)
{
    return timeout != nullptr && timeout->tv_sec == 0 && timeout->tv_nsec == 0;
}

// The timeout of poll and epoll_wait; null: for ever.
inline const timespec* from_ms(int ms, timespec& out)
{
    out = {ms / 1000, ms % 1000 * 1'000'000L};
    return ms < 0 ? nullptr : &out;
}

// As the kernel's timespec64_valid.
inline bool is_time(const timespec* timeout)
{
    return timeout == nullptr || (timeout->tv_sec >= 0 && timeout->tv_nsec >= 0 && timeout->tv_nsec < 1'000'000'000);
}

// never: the call waits for ever, or not at all.
inline base::Instant deadline_of(const timespec* timeout)
{
    constexpr std::int64_t for_ever = 1'000'000'000; // seconds
    if (timeout == nullptr || is_zero(timeout) || timeout->tv_sec >= for_ever) {
        return base::never;
    }
    return monotonic_now() + base::Micros{timeout->tv_sec * 1'000'000 + (timeout->tv_nsec + 999) / 1000};
}

inline timespec left_until(base::Instant deadline)
{
    std::int64_t us = std::max<std::int64_t>((deadline - monotonic_now()).count(), 0);
    return {us / 1'000'000, us % 1'000'000 * 1000};
}

} // namespace preload
