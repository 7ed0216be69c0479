// CPUs that are run by whoever holds their lock: nothing that is sent is lost, per-sender order holds, timers fire.
// Threads report, the main thread asserts.
#include <catch2/catch.hpp>

#include <sched.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "lwkt/cpu_set.hpp"
#include "lwkt/timer_wheel.hpp"

using namespace lwkt;

namespace {

CpuSetOptions options_of(Discipline d, LockKind kind, std::uint32_t shards)
{
    CpuSetOptions o;
    o.discipline = d;
    o.lock = kind;
    o.shards = shards;
    o.pin.assign(2, -1);
    return o;
}

// Travels `left` CPUs further, counts each.
struct Hop : Message {
    std::atomic<std::uint64_t>* arrived = nullptr;
    std::vector<std::uint64_t>* visits = nullptr; // element i: CPU i's own
    CpuSet* set = nullptr;
    unsigned left = 0;
};

void hop(Message& m)
{
    auto& h = static_cast<Hop&>(m);
    CpuId here = base::current_cpu;
    ++(*h.visits)[here];
    if (h.left == 0) {
        h.arrived->fetch_add(1);
        return;
    }
    --h.left;
    h.set->cpu(here).send(static_cast<CpuId>((here * 7 + h.left + 1) % h.set->size()), m);
}

struct Numbered : Message {
    std::uint32_t number = 0;
    std::uint32_t* last = nullptr; // o of the receiver
    std::atomic<std::uint32_t>* disorder = nullptr;
    std::atomic<std::uint32_t>* received = nullptr;
};

} // namespace

TEST_CASE("messages that threads send round among shards all arrive, whoever holds the locks")
{
    for (LockKind kind : {LockKind::mutex, LockKind::spin, LockKind::queue}) {
        constexpr unsigned threads = 3;
        constexpr unsigned each = 400;
        constexpr unsigned hops = 40;
        RealClock clock;
        CpuSet set(clock, options_of(Discipline::striped, kind, 5));
        std::atomic<std::uint64_t> arrived{0};
        std::vector<std::uint64_t> visits(set.size());
        std::vector<std::unique_ptr<Hop[]>> messages;
        for (unsigned t = 0; t < threads; ++t) {
            messages.push_back(std::make_unique<Hop[]>(each));
        }
        set.start();
        std::vector<std::thread> all;
        for (unsigned t = 0; t < threads; ++t) {
            all.emplace_back([&, t] {
                for (unsigned i = 0; i < each; ++i) {
                    Hop& h = messages[t][i];
                    h.arrived = &arrived;
                    h.visits = &visits;
                    h.set = &set;
                    h.left = hops;
                    h.dispatch = hop;
                    auto to = static_cast<CpuId>((t + i) % set.size());
                    if (i % 2 == 0) {
                        set.post(to, h);
                    } else {
                        set.try_enter(to, [&](Cpu& cpu) { cpu.send(static_cast<CpuId>((to + 1) % set.size()), h); });
                    }
                }
            });
        }
        for (std::thread& t : all) {
            t.join();
        }
        while (arrived != std::uint64_t{threads} * each) { // holders may be service threads, still at it
            sched_yield();
        }
        set.stop();
        std::uint64_t sum = 0;
        for (std::uint64_t v : visits) {
            sum += v;
        }
        CHECK(sum == std::uint64_t{threads} * each * (hops + 1));
    }
}

TEST_CASE("what one shard sends another arrives in the order sent")
{
    constexpr std::uint32_t count = 4000;
    RealClock clock;
    CpuSet set(clock, options_of(Discipline::striped, LockKind::spin, 4));
    auto messages = std::make_unique<Numbered[]>(2 * count);
    std::uint32_t last[2] = {0, 0};
    std::atomic<std::uint32_t> disorder{0};
    std::atomic<std::uint32_t> received{0};
    set.start();
    auto send_all = [&](std::uint32_t sender) {
        for (std::uint32_t i = 0; i < count; ++i) {
            Numbered& m = messages[sender * count + i];
            m.number = i + 1;
            m.last = &last[sender];
            m.disorder = &disorder;
            m.received = &received;
            m.dispatch = [](Message& arrived) {
                auto& n = static_cast<Numbered&>(arrived);
                *n.disorder += *n.last + 1 == n.number ? 0 : 1;
                *n.last = n.number;
                ++*n.received;
            };
            set.try_enter(static_cast<CpuId>(sender), [&](Cpu& cpu) { cpu.send(3, m); });
        }
    };
    std::thread one(send_all, 0);
    std::thread two(send_all, 1);
    one.join();
    two.join();
    while (received != 2 * count) {
        sched_yield();
    }
    set.stop();
    CHECK(disorder == 0);
}

namespace {

// A wheel of its own, as a protocol domain has one.
class WheelPoller final : public Poller {
public:
    explicit WheelPoller(Cpu& cpu) : wheel(cpu.now()), cpu_(cpu) {}
    std::uint32_t poll(std::uint32_t budget) override { return wheel.run(cpu_.now(), budget); }
    bool pending() const override { return false; }
    base::Instant deadline() const override { return wheel.next_deadline(); }

    TimerWheel wheel;

private:
    Cpu& cpu_;
};

struct Alarm : Timer {
    Alarm() : Timer([](Timer& t) { ++static_cast<Alarm&>(t).fired; }) {}
    std::atomic<int> fired{0};
};

} // namespace

TEST_CASE("service threads fire timers that callers arm, and are rung for earlier ones")
{
    RealClock clock;
    CpuSet set(clock, options_of(Discipline::striped, LockKind::queue, 6));
    std::vector<std::unique_ptr<WheelPoller>> wheels;
    for (CpuId i = 0; i < set.size(); ++i) {
        wheels.push_back(std::make_unique<WheelPoller>(set.cpu(i)));
    }
    set.configure([&](Cpu& cpu) { cpu.add_poller(Class::clock, *wheels[cpu.id()]); });
    std::vector<Alarm> late(set.size());
    std::vector<Alarm> soon(set.size());
    set.start();
    auto arm = [&](std::vector<Alarm>& alarms, base::Micros in) {
        for (CpuId i = 0; i < set.size(); ++i) {
            set.try_enter(i, [&](Cpu& cpu) { wheels[i]->wheel.arm(alarms[i], cpu.now() + in); });
        }
    };
    arm(late, base::seconds(3600)); // the service threads sleep for an hour
    arm(soon, base::millis(2));
    for (Alarm& a : soon) {
        while (a.fired == 0) { // a service thread that was not rung hangs the test
            sched_yield();
        }
    }
    for (CpuId i = 0; i < set.size(); ++i) {
        CHECK(late[i].fired == 0);
        set.try_enter(i, [&](Cpu&) { wheels[i]->wheel.cancel(late[i]); });
    }
    set.stop();
    set.configure([&](Cpu& cpu) { cpu.remove_poller(Class::clock, *wheels[cpu.id()]); });
}

TEST_CASE("system calls wait for the release, and one CPU is visited at a time")
{
    struct Seen {
        bool on_cpu = false;
        int calls = 0;
    };
    RealClock clock;
    CpuSet set(clock, options_of(Discipline::giant, LockKind::mutex, 1));
    CHECK(set.size() == 1);
    set.start();
    Seen seen;
    int calls_inside = -1;
    set.try_enter(0, [&](Cpu&) {
        after_release(
            [](void* s) {
                static_cast<Seen*>(s)->on_cpu = Cpu::current() != nullptr;
                ++static_cast<Seen*>(s)->calls;
            },
            &seen);
        calls_inside = seen.calls;
    });
    set.stop();
    CHECK(calls_inside == 0);
    CHECK(seen.calls == 1);
    CHECK_FALSE(seen.on_cpu);
    CHECK(set.cpu(0).counters().operations == 1);
}
