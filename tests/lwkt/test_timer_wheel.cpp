// The wheel against a sorted multimap under random operations, plus the named corners.
#include <catch2/catch.hpp>

#include <map>
#include <memory>
#include <vector>

#include "base/random.hpp"
#include "lwkt/timer_wheel.hpp"

using base::Instant;
using base::Micros;
using lwkt::Timer;
using lwkt::TimerWheel;

namespace {

constexpr Instant epoch{base::seconds(1)};
constexpr std::int64_t tick_us = 256;

struct World {
    World(std::uint64_t seed, unsigned timers);
    void step();
    void arm(std::size_t i, Instant deadline);
    void cancel(std::size_t i);
    void check_next();
    Micros random_delay();

    struct Probe : Timer {
        explicit Probe(World& w, std::size_t index)
            : Timer([](Timer& t) { static_cast<Probe&>(t).fire(); }), world(w), id(index)
        {
        }
        void fire();
        World& world;
        std::size_t id;
    };

    base::Random random;
    Instant now = epoch;
    TimerWheel wheel{epoch};
    std::vector<std::unique_ptr<Probe>> timers;
    std::map<std::size_t, Instant> model; // armed timers
    std::map<std::size_t, Instant> before_run;
    std::vector<Instant> fired;
    bool running = false;
};

World::World(std::uint64_t seed, unsigned count) : random(seed)
{
    for (unsigned i = 0; i < count; ++i) {
        timers.push_back(std::make_unique<Probe>(*this, i));
    }
}

// From nothing to beyond the wheel, each magnitude alike, and the past.
Micros World::random_delay()
{
    static constexpr std::int64_t scale[] = {
        1, tick_us, 64 * tick_us, 4096 * tick_us, 262144 * tick_us, 16777216 * tick_us, 1073741824 * tick_us};
    std::int64_t of = scale[random.below(7)];
    std::int64_t us = static_cast<std::int64_t>(random.next() % static_cast<std::uint64_t>(of * 70));
    return Micros{random.below(10) == 0 ? -(us % 100000) : us};
}

void World::arm(std::size_t i, Instant deadline)
{
    wheel.arm(*timers[i], deadline);
    model[i] = deadline;
}

void World::cancel(std::size_t i)
{
    wheel.cancel(*timers[i]);
    model.erase(i);
}

void World::Probe::fire()
{
    auto it = world.model.find(id);
    REQUIRE(it != world.model.end());
    REQUIRE(it->second == deadline());
    REQUIRE(it->second <= world.now);
    REQUIRE(world.before_run.count(id) == 1); // armed in this very run: not yet
    REQUIRE_FALSE(armed());
    world.fired.push_back(it->second);
    world.model.erase(it);
    switch (world.random.below(6)) {
    case 0:
        world.before_run.erase(id);
        world.arm(id, world.now + world.random_delay());
        break;
    case 1: {
        auto other = world.random.below(static_cast<std::uint32_t>(world.timers.size()));
        world.before_run.erase(other);
        world.cancel(other);
        break;
    }
    case 2: {
        auto other = world.random.below(static_cast<std::uint32_t>(world.timers.size()));
        world.before_run.erase(other);
        world.arm(other, world.now + world.random_delay());
        break;
    }
    case 3: {
        auto other = world.random.below(static_cast<std::uint32_t>(world.timers.size()));
        World& w = world; // this timer may be the one that is destroyed
        w.model.erase(other);
        w.before_run.erase(other);
        w.timers[other] = std::make_unique<Probe>(w, other);
        break;
    }
    default:
        break;
    }
}

void World::check_next()
{
    Instant earliest = base::never;
    for (auto& [id, deadline] : model) {
        earliest = std::min(earliest, deadline);
    }
    REQUIRE(wheel.armed_count() == model.size());
    Instant next = wheel.next_deadline();
    if (model.empty()) {
        REQUIRE(next == base::never);
        return;
    }
    REQUIRE(next <= earliest);
    // Tight enough that waking at it does not spin: what is near is exact.
    if (earliest - now < Micros{tick_us} && earliest > now) {
        REQUIRE((next == earliest || next <= now + Micros{tick_us}));
    }
}

void World::step()
{
    for (unsigned n = random.below(4); n-- > 0;) {
        std::size_t i = random.below(static_cast<std::uint32_t>(timers.size()));
        switch (random.below(4)) {
        case 0:
            cancel(i);
            break;
        default:
            arm(i, now + random_delay());
        }
    }
    check_next();
    switch (random.below(3)) {
    case 0:
        now += random_delay() < Micros{0} ? Micros{1} : Micros{random.below(100000)};
        break;
    case 1:
        now = std::max(now, wheel.next_deadline() == base::never ? now : wheel.next_deadline());
        break;
    default:
        now += Micros{static_cast<std::int64_t>(random.next() % 3'000'000'000U)};
    }
    auto budget = random.below(3) == 0 ? random.below(4) : 1000000U;
    before_run = model;
    fired.clear();
    auto n = wheel.run(now, budget);
    REQUIRE(n == fired.size());
    REQUIRE(n <= budget);
    for (std::size_t i = 1; i < fired.size(); ++i) {
        // In order at the resolution; what was in the past when armed counts as due at the tick it was armed in.
        bool in_order = fired[i - 1] < fired[i] + Micros{tick_us};
        bool was_past = fired[i] < now;
        REQUIRE((in_order || was_past));
    }
    if (n < budget) {
        for (auto& [id, deadline] : model) {
            bool left_over = deadline <= now && before_run.count(id) == 1;
            REQUIRE_FALSE(left_over);
        }
    }
    check_next();
}

} // namespace

TEST_CASE("wheel: the same as a sorted list, by seed")
{
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        INFO("seed " << seed);
        World world(seed, 1 + static_cast<unsigned>(seed % 5) * 20);
        for (int i = 0; i < 400; ++i) {
            world.step();
        }
    }
}

namespace {
struct Logged : Timer {
    Logged(std::vector<int>& to, int name)
        : Timer([](Timer& t) {
              auto& self = static_cast<Logged&>(t);
              self.log.push_back(self.id);
          }),
          log(to), id(name)
    {
    }
    std::vector<int>& log;
    int id;
};
} // namespace

TEST_CASE("wheel: a timer fires at its microsecond and not one before")
{
    std::vector<int> log;
    for (std::int64_t delay :
        {1LL, 255LL, 256LL, 257LL, 16383LL, 16384LL, 16385LL, 1048576LL, 1048577LL, 300'000'000'000LL}) {
        TimerWheel wheel(epoch);
        Logged t(log, 1);
        Instant due = epoch + Micros{delay};
        wheel.arm(t, due);
        log.clear();
        REQUIRE(wheel.run(due - Micros{1}, 100) == 0);
        REQUIRE(wheel.next_deadline() <= due);
        REQUIRE(wheel.run(due, 100) == 1);
        REQUIRE(wheel.next_deadline() == base::never);
    }
}

TEST_CASE("wheel: waking at next_deadline() reaches a far timer in a few wakes")
{
    std::vector<int> log;
    TimerWheel wheel(epoch);
    Logged t(log, 1);
    wheel.arm(t, epoch + base::seconds(500'000) + Micros{77}); // beyond 76 hours
    int wakes = 0;
    Instant now = epoch;
    while (t.armed()) {
        REQUIRE(wheel.next_deadline() > now);
        now = wheel.next_deadline();
        wheel.run(now, 16);
        ++wakes;
    }
    REQUIRE(now == epoch + base::seconds(500'000) + Micros{77});
    REQUIRE(wakes <= 12);
}

TEST_CASE("wheel: timers of different levels fire in order in one run, the budget carries over")
{
    std::vector<int> log;
    TimerWheel wheel(epoch);
    Logged a(log, 1);
    Logged b(log, 2);
    Logged c(log, 3);
    Logged d(log, 4);
    wheel.arm(d, epoch + base::seconds(1000));
    wheel.arm(c, epoch + base::seconds(10));
    wheel.arm(a, epoch + Micros{300});
    wheel.arm(b, epoch + base::millis(20));
    REQUIRE(wheel.run(epoch + base::seconds(2000), 3) == 3);
    REQUIRE(log == std::vector<int>{1, 2, 3});
    REQUIRE(wheel.armed_count() == 1);
    REQUIRE(wheel.run(epoch + base::seconds(2000), 3) == 1);
    REQUIRE(log.back() == 4);
}

TEST_CASE("wheel: a destroyed timer is gone, a wheel may go before its timers")
{
    std::vector<int> log;
    auto wheel = std::make_unique<TimerWheel>(epoch);
    auto gone = std::make_unique<Logged>(log, 1);
    Logged stays(log, 2);
    wheel->arm(*gone, epoch + Micros{10});
    wheel->arm(stays, epoch + Micros{20});
    gone.reset();
    REQUIRE(wheel->armed_count() == 1);
    REQUIRE(wheel->next_deadline() == epoch + Micros{20});
    wheel.reset();
    REQUIRE_FALSE(stays.armed());
    REQUIRE(log.empty());
}

TEST_CASE("wheel: a callback that always re-arms in the past does not trap the run")
{
    struct Eager : Timer {
        Eager(TimerWheel& w)
            : Timer([](Timer& t) {
                  auto& self = static_cast<Eager&>(t);
                  ++self.count;
                  self.wheel.arm(self, epoch);
              }),
              wheel(w)
        {
        }
        TimerWheel& wheel;
        int count = 0;
    };
    TimerWheel wheel(epoch);
    Eager t(wheel);
    wheel.arm(t, epoch + Micros{5});
    REQUIRE(wheel.run(epoch + base::millis(1), 1000) == 1);
    REQUIRE(wheel.run(epoch + base::millis(1), 1000) == 1);
    REQUIRE(t.count == 2);
}
