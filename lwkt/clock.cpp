#include "lwkt/clock.hpp"

#include <ctime>

#include "base/check.hpp"

namespace lwkt {

Instant RealClock::now() const
{
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return Instant{Micros{std::int64_t{t.tv_sec} * 1'000'000 + t.tv_nsec / 1000}};
}

std::int64_t RealClock::now_ns() const
{
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

void VirtualClock::advance_to(Instant t)
{
    INVARIANT(t >= now_ && t != base::never);
    now_ = t;
}

} // namespace lwkt
