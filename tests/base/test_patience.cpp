// base/patience.hpp: how long to look before a sleep, from how long waits lasted lately.
#include <catch2/catch.hpp>

#include "base/patience.hpp"

using namespace base;

namespace {

constexpr Micros most{50};
constexpr Instant start{seconds(1)};

} // namespace

TEST_CASE("patience: long waits soon cost no look, and one whole look in many")
{
    Patience p(most);
    Micros looked{0};
    int waits = 0;
    for (; p.limit(start, most) != Micros{0}; ++waits) {
        looked += p.limit(start, most);
        p.slept(seconds(1), most);
        REQUIRE(waits < 10);
    }
    CHECK(looked < 2 * most);
    Micros later{0};
    for (int i = 0; i < 1000; ++i) {
        later += p.limit(start, most);
        p.slept(seconds(1), most);
    }
    CHECK(later > Micros{0});
    CHECK(later / 1000 < Micros{1}); // a wait
}

TEST_CASE("patience: looks as long as waits lasted lately, never longer than the most")
{
    Patience p;
    CHECK(p.limit(start, most) == Patience::least);
    p.waited(Micros{12}, most);
    CHECK(p.limit(start, most) >= Micros{12});
    CHECK(p.limit(start, most) < most);
    p.waited(Micros{40}, most);
    CHECK(p.limit(start, most) == most);
    CHECK(p.limit(start, Micros{10}) == Micros{10});
    CHECK(p.limit(start, Micros{0}) == Micros{0});
    p.unpaid();
    CHECK(p.limit(start, most) == most / 2);
}

TEST_CASE("patience: a wait that slept counts without its wake-up")
{
    Patience p;
    p.unpaid();
    p.unpaid();
    p.unpaid();
    REQUIRE(p.limit(start, most) == Micros{0});
    p.slept(most + Patience::wake_up, most); // too long all the same
    CHECK(p.limit(start, most) == Micros{0});
    p.slept(most + Patience::wake_up - Micros{1}, most);
    CHECK(p.limit(start, most) == most);
    p.slept(Micros{1}, most); // shorter than a wake-up
    CHECK(p.limit(start, most) == most);
}

TEST_CASE("patience: where somebody computes, no look for a while, longer each time, up to a bound")
{
    Patience p(most);
    Instant now = start;
    p.yielded(now, Patience::long_turn - Micros{1});
    CHECK(p.limit(now, most) == most);
    Micros last{0};
    for (int i = 0; i < 20; ++i) {
        p.yielded(now, Patience::long_turn);
        CHECK(p.limit(now, most) == Micros{0});
        Micros pause = last;
        while (p.limit(now + pause, most) == Micros{0}) {
            pause += millis(1);
        }
        CHECK(pause >= last);
        last = pause;
        now += pause;
    }
    CHECK(last == Patience::pause_max);
    p.yielded(now, Micros{1}); // it has ended
    p.yielded(now, Patience::long_turn);
    CHECK(p.limit(now + Patience::pause_min, most) == most);
}
