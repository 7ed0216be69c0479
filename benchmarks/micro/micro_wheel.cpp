// The timer wheel with 1,000 to 10 million timers: arm, re-arm, expire. Deadlines are up to 2 s ahead, as TCP's are.
#include <algorithm>
#include <memory>
#include <new>

#include "base/random.hpp"
#include "benchmarks/micro/micro.hpp"
#include "lwkt/timer_wheel.hpp"

namespace micro {
namespace {

using namespace lwkt;

constexpr std::uint32_t ahead_us_max = 2'000'000;
constexpr std::size_t draws_count = 1 << 16;

// Timers in one block; neither movable nor default-constructible, so by hand.
class Timers {
public:
    explicit Timers(std::size_t n) : timers_(std::allocator<Timer>().allocate(n)), n_(n)
    {
        for (std::size_t i = 0; i < n; ++i) {
            ::new (static_cast<void*>(timers_ + i)) Timer([](Timer&) {});
        }
    }
    ~Timers()
    {
        std::destroy_n(timers_, n_);
        std::allocator<Timer>().deallocate(timers_, n_);
    }
    Timers(const Timers&) = delete;
    Timers& operator=(const Timers&) = delete;
    Timer& operator[](std::size_t i) { return timers_[i]; }

private:
    Timer* timers_;
    std::size_t n_;
};

} // namespace

void wheel()
{
    base::Random random(1);
    std::vector<std::uint32_t> draws(draws_count);
    for (auto& draw : draws) {
        draw = random.below(ahead_us_max);
    }
    for (std::size_t n : sizes()) {
        auto figure = [n](const char* what, const char* why) {
            return Figure{
                .name = text("micro.wheel.%s.%zu", what, n), .why = why, .of = text("wheel: %s", what), .at = n};
        };
        Figure arm = figure("arm", "a timer that was not armed");
        Figure rearm = figure("rearm", "one of them, at random, to another time");
        Figure expire = figure("expire", "fired by runs 1 ms apart, 64 at a time");
        Timers timers(n);
        for (Rounds r; r.another();) {
            Instant now{base::seconds(1)};
            TimerWheel wheel(now);
            auto per = [](double start, std::size_t count) {
                return (cpu_seconds_now() - start) / static_cast<double>(count) * 1e9;
            };
            double start = cpu_seconds_now();
            for (std::size_t t = 0; t < n; ++t) {
                wheel.arm(timers[t], now + base::Micros{draws[t % draws_count]});
            }
            arm.values.push_back(per(start, n));
            std::size_t operations = std::min<std::size_t>(n * 4, 1'000'000);
            start = cpu_seconds_now();
            for (std::size_t op = 0; op < operations; ++op) {
                std::uint64_t draw = draws[op % draws_count];
                wheel.arm(timers[(draw * 0x9e3779b97f4a7c15ULL + op) % n],
                    now + base::Micros{static_cast<std::int64_t>(draw)});
            }
            rearm.values.push_back(per(start, operations));
            start = cpu_seconds_now();
            while (wheel.armed_count() != 0) {
                now += base::millis(1);
                while (wheel.run(now, 64) == 64) {
                }
            }
            expire.values.push_back(per(start, n));
        }
        for (const Figure* f : {&arm, &rearm, &expire}) {
            f->print();
        }
    }
}

} // namespace micro
