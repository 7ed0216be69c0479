// The run loop stepped by hand under the virtual clock: classes and budgets, order, sheds, stepping by seed, ports.
#include <catch2/catch.hpp>

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lwkt/cpu_set.hpp"
#include "lwkt/port.hpp"
#include "lwkt/timer_wheel.hpp"
#include "lwkt/topology.hpp"

using namespace lwkt;
using base::Micros;

namespace {

CpuSetOptions stepped(std::size_t cpus)
{
    CpuSetOptions options;
    options.pin.assign(cpus, -1);
    return options;
}

// A message that does something.
struct Job : Message {
    explicit Job(Class in = Class::serial, std::function<void(Job&)> what = {}) : run(std::move(what))
    {
        cls = in;
        dispatch = [](Message& m) {
            auto& job = static_cast<Job&>(m);
            job.run(job);
        };
    }
    std::function<void(Job&)> run;
};

struct WheelPoller final : Poller {
    explicit WheelPoller(Clock& c) : clock(c), wheel(c.now()) {}
    std::uint32_t poll(std::uint32_t budget) override { return wheel.run(clock.now(), budget); }
    bool pending() const override { return false; }
    Instant deadline() const override { return wheel.next_deadline(); }
    Clock& clock;
    TimerWheel wheel;
};

// Re-arms itself every millisecond and notes how late it was.
struct Metronome : Timer {
    Metronome(WheelPoller& p)
        : Timer([](Timer& t) {
              auto& self = static_cast<Metronome&>(t);
              self.late_max = std::max(self.late_max, self.poller.clock.now() - self.deadline());
              ++self.beats;
              self.poller.wheel.arm(self, self.poller.clock.now() + base::millis(1));
          }),
          poller(p)
    {
    }
    WheelPoller& poller;
    Micros late_max{0};
    int beats = 0;
};

} // namespace

TEST_CASE("loop: a flood in net starves neither clock nor serial, bio or gen")
{
    VirtualClock clock;
    CpuSet set(clock, stepped(1));
    WheelPoller wheel(clock);
    Metronome metronome(wheel);
    wheel.wheel.arm(metronome, clock.now() + base::millis(1));
    set.configure([&](Cpu& cpu) { cpu.add_poller(Class::clock, wheel); });

    // 500 packets that are there again as soon as they were handled, each worth 10 us.
    constexpr Micros packet_cost{10};
    int packets = 0;
    std::deque<Job> flood;
    for (int i = 0; i < 500; ++i) {
        flood.emplace_back(Class::net, [&](Job& job) {
            ++packets;
            clock.advance_to(clock.now() + packet_cost);
            Cpu::current()->send(0, job);
        });
        set.post(0, flood.back());
    }
    set.step(); // the flood is on
    int done[class_count] = {};
    std::deque<Job> others;
    for (Class cls : {Class::serial, Class::bio, Class::gen}) {
        for (int i = 0; i < 100; ++i) {
            others.emplace_back(cls, [&done](Job& job) { ++done[static_cast<unsigned>(job.cls)]; });
            set.post(0, others.back());
        }
    }
    Instant start = clock.now();
    int rounds = 0;
    while (done[2] < 100 || done[3] < 100 || done[4] < 100) {
        set.step();
        REQUIRE(++rounds < 50);
        if (rounds == 1) {
            REQUIRE(done[2] >= 64); // net == serial: as many items as the packets had
            REQUIRE(done[3] > 0);
            REQUIRE(done[4] > 0);
        }
    }
    REQUIRE(packets >= 32 * rounds); // and the flood had its budget: 200 us of 10 us packets, in batches of 16
    REQUIRE(clock.now() - start < base::millis(50));
    for (int i = 0; i < 100; ++i) {
        set.step();
    }
    // Never later than one batch of 16 packets, although a round is longer.
    REQUIRE(metronome.beats > 20);
    REQUIRE(metronome.late_max <= packet_cost * 16);
    REQUIRE(set.cpu(0).counters().timer_late_max_us <= 160);
    REQUIRE(set.cpu(0).counters().timer_late[2] > 0); // up to 200 us
    for (unsigned later = 3; later < lwkt::late_classes; ++later) {
        REQUIRE(set.cpu(0).counters().timer_late[later] == 0);
    }
    REQUIRE(set.cpu(0).counters().longest_handler_us <= 160);
    REQUIRE(set.cpu(0).counters().busy_us[1] == static_cast<std::uint64_t>(packets) * 10);
}

TEST_CASE("loop: a flood in serial leaves net its half, and time bounds a class as well as items do")
{
    VirtualClock clock;
    CpuSet set(clock, stepped(1));
    int slow = 0;
    std::deque<Job> flood;
    for (int i = 0; i < 100; ++i) {
        flood.emplace_back(Class::serial, [&](Job& job) {
            ++slow;
            clock.advance_to(clock.now() + Micros{50}); // 16 of these are far beyond the 200 us of the class
            Cpu::current()->send(0, job);
        });
        set.post(0, flood.back());
    }
    int net = 0;
    std::deque<Job> packets;
    for (int i = 0; i < 32; ++i) {
        packets.emplace_back(Class::net, [&net](Job&) { ++net; });
        set.post(0, packets.back());
    }
    set.step();
    REQUIRE(slow == 16);
    REQUIRE(net == 32);
}

TEST_CASE("loop: a poller's work counts against the budget of its class, each gets its turn")
{
    struct Busy final : Poller {
        std::uint32_t poll(std::uint32_t budget) override
        {
            done += budget;
            return budget;
        }
        bool pending() const override { return true; }
        std::uint32_t done = 0;
    };
    VirtualClock clock;
    CpuSet set(clock, stepped(1));
    Busy first;
    Busy second;
    set.configure([&](Cpu& cpu) {
        cpu.add_poller(Class::net, first);
        cpu.add_poller(Class::net, second);
    });
    REQUIRE(set.step());
    REQUIRE(first.done == lwkt::CpuSetOptions{}.class_items / 2);
    REQUIRE(second.done == lwkt::CpuSetOptions{}.class_items / 2);
}

TEST_CASE("loop: pollers and roll-ups may go while they run")
{
    struct Once final : Poller {
        explicit Once(std::vector<std::string>& l) : log(l) {}
        std::uint32_t poll(std::uint32_t) override
        {
            log.push_back("poll");
            Cpu::current()->remove_poller(Class::net, *this);
            return 1;
        }
        bool pending() const override { return false; }
        std::vector<std::string>& log;
    };
    struct OnceRollup final : Rollup {
        explicit OnceRollup(std::vector<std::string>& l) : log(l) {}
        void rollup() override
        {
            log.push_back("rollup");
            Cpu::current()->remove_rollup(*this);
        }
        std::vector<std::string>& log;
    };
    VirtualClock clock;
    CpuSet set(clock, stepped(1));
    std::vector<std::string> log;
    Once once(log);
    Once twin(log);
    OnceRollup rollup(log);
    set.configure([&](Cpu& cpu) {
        cpu.add_poller(Class::net, once);
        cpu.add_poller(Class::net, twin);
        cpu.add_rollup(rollup);
    });
    set.step();
    REQUIRE(log == std::vector<std::string>{"poll", "poll", "rollup"});
    REQUIRE_FALSE(set.step());
    REQUIRE(log.size() == 3);
}

TEST_CASE("loop: order is kept through rings, spills and posts; a send to oneself is never nested")
{
    VirtualClock clock;
    CpuSetOptions options = stepped(2);
    options.ring_slots = 2;
    CpuSet set(clock, options);
    std::vector<int> seen;
    bool in_handler = false;
    std::deque<Job> jobs;
    for (int i = 0; i < 100; ++i) {
        jobs.emplace_back(Class::serial, [&seen, &in_handler, i](Job&) {
            REQUIRE_FALSE(in_handler);
            seen.push_back(i);
        });
    }
    set.call(0, [&](Cpu& cpu) {
        for (Job& job : jobs) {
            cpu.send(1, job);
        }
    });
    REQUIRE(set.cpu(0).counters().spills >= 98);
    while (set.step()) {
    }
    std::vector<int> expected;
    for (int i = 0; i < 100; ++i) {
        expected.push_back(i);
    }
    REQUIRE(seen == expected);
    seen.clear();
    for (Job& job : jobs) {
        set.post(1, job);
    }
    while (set.step()) {
    }
    REQUIRE(seen == expected);
    seen.clear();
    set.call(0, [&](Cpu& cpu) {
        in_handler = true;
        for (Job& job : jobs) {
            cpu.send(0, job);
        }
        in_handler = false;
        REQUIRE(seen.empty());
    });
    while (set.step()) {
    }
    REQUIRE(seen == expected);
}

TEST_CASE("loop: try_send sheds at the stated depth, counts, and takes again when there is room")
{
    VirtualClock clock;
    CpuSetOptions options = stepped(2);
    options.ring_slots = 16;
    options.packets_queued_max = 40;
    CpuSet set(clock, options);
    int arrived = 0;
    std::deque<Job> jobs;
    for (int i = 0; i < 400; ++i) {
        jobs.emplace_back(Class::net, [&arrived](Job&) { ++arrived; });
    }
    for (CpuId to : {CpuId{1}, CpuId{0}}) {
        auto before = set.cpu(0).counters().shed.load();
        std::size_t sent = 0;
        arrived = 0;
        set.call(0, [&](Cpu& cpu) {
            while (sent < jobs.size() && cpu.try_send(to, jobs[sent])) {
                ++sent;
            }
        });
        REQUIRE(sent == 40);
        REQUIRE(set.cpu(0).counters().shed == before + 1);
        while (set.step()) {
        }
        REQUIRE(arrived == 40);
        set.call(0, [&](Cpu& cpu) { REQUIRE(cpu.try_send(to, jobs[0])); });
        while (set.step()) {
        }
        REQUIRE(arrived == 41);
    }
}

TEST_CASE("loop: try_send refuses first what nobody misses")
{
    VirtualClock clock;
    CpuSetOptions options = stepped(2);
    options.packets_queued_max = 40;
    CpuSet set(clock, options);
    std::deque<Job> jobs;
    for (int i = 0; i < 100; ++i) {
        jobs.emplace_back(Class::net, [](Job&) {});
    }
    std::size_t sent = 0;
    set.call(0, [&](Cpu& cpu) {
        for (auto [shed, in_all] : {std::pair{Shed::early, 20U}, {Shed::late, 30U}, {Shed::last, 40U}}) {
            while (cpu.try_send(1, jobs[sent], shed)) {
                ++sent;
            }
            REQUIRE(sent == in_all);
        }
    });
    while (set.step()) {
    }
}

namespace {

// Tokens that wander by their own dice; the log says who ran what when.
std::string wander(std::uint64_t seed, bool shuffled)
{
    VirtualClock clock;
    CpuSetOptions options = stepped(4);
    options.ring_slots = 4;
    CpuSet set(clock, options);
    base::Random order(seed);
    base::Random dice(42);
    std::string log;
    std::deque<Job> jobs;
    for (int i = 0; i < 40; ++i) {
        jobs.emplace_back(static_cast<Class>(1 + i % 4), [&, i, hops = 20](Job& job) mutable {
            log += std::to_string(Cpu::current()->id()) + ":" + std::to_string(i) + " ";
            if (--hops > 0) {
                Cpu::current()->send(static_cast<CpuId>(dice.below(4)), job);
            }
        });
        set.post(static_cast<CpuId>(i % 4), jobs.back());
    }
    while (set.step(shuffled ? &order : nullptr)) {
    }
    return log;
}

} // namespace

TEST_CASE("loop: a stepped run is its seed")
{
    REQUIRE(wander(1, true) == wander(1, true));
    REQUIRE(wander(1, true) != wander(2, true));
    REQUIRE(wander(1, false) == wander(2, false));
    REQUIRE(wander(5, true).size() > 40 * 20 * 4 - 1);
}

TEST_CASE("loop: virtual time is driven by next_deadline()")
{
    VirtualClock clock;
    CpuSet set(clock, stepped(3));
    std::vector<std::unique_ptr<WheelPoller>> wheels;
    std::vector<std::unique_ptr<Metronome>> metronomes;
    set.configure([&](Cpu& cpu) {
        wheels.push_back(std::make_unique<WheelPoller>(clock));
        metronomes.push_back(std::make_unique<Metronome>(*wheels.back()));
        cpu.add_poller(Class::clock, *wheels.back());
    });
    for (std::size_t i = 0; i < 3; ++i) {
        wheels[i]->wheel.arm(*metronomes[i], clock.now() + Micros{100 * static_cast<int>(i + 1)});
    }
    Instant end = clock.now() + base::seconds(10);
    while (clock.now() < end) {
        if (!set.step()) {
            clock.advance_to(set.next_deadline());
        }
    }
    for (auto& metronome : metronomes) {
        REQUIRE(metronome->beats >= 9999);
        REQUIRE(metronome->late_max == Micros{0});
    }
}

TEST_CASE("ports: replies go where the kind of the port says")
{
    VirtualClock clock;
    CpuSet set(clock, stepped(2));
    CpuSet elsewhere(clock, stepped(2));
    static std::vector<std::string> log;
    log.clear();
    auto where = [](const char* what) {
        Cpu* cpu = Cpu::current();
        log.push_back(std::string(what) + (cpu == nullptr ? "-" : std::to_string(cpu->id())));
    };
    static auto note = where;
    CpuPort port(set.cpu(1), [](Message&) { note("reply on "); });
    Job job(Class::serial, [](Job& self) {
        note("served on ");
        self.result = 11;
        reply(self);
    });
    job.reply_port = &port;
    set.post(0, job);
    while (set.step()) {
    }
    REQUIRE(log == std::vector<std::string>{"served on 0", "reply on 1"});
    REQUIRE(job.result == 11);

    // Served in another set of the same process.
    log.clear();
    Job abroad(Class::serial, [](Job& self) { reply(self); });
    abroad.reply_port = &port;
    elsewhere.post(0, abroad);
    while (elsewhere.step() || set.step()) {
    }
    REQUIRE(log == std::vector<std::string>{"reply on 1"});

    REQUIRE(Cpu::current() == nullptr);
    REQUIRE(base::current_cpu == base::no_cpu);
}

TEST_CASE("loop: call runs on the CPU, call_all on each, and nested sets restore who is current")
{
    VirtualClock clock;
    CpuSet outer(clock, stepped(2));
    CpuSet inner(clock, stepped(3));
    std::vector<int> ran;
    outer.call(1, [&](Cpu& cpu) {
        REQUIRE(base::current_cpu == 1);
        inner.call_all([&](Cpu& in) {
            REQUIRE(Cpu::current() == &in);
            ran.push_back(in.id());
        });
        REQUIRE(Cpu::current() == &cpu);
        REQUIRE(base::current_cpu == 1);
    });
    REQUIRE(ran == std::vector<int>{0, 1, 2});
}

TEST_CASE("topology: CPU lists")
{
    std::string error;
    auto usable = usable_cpus();
    REQUIRE_FALSE(usable.empty());
    auto first = std::to_string(usable[0]);
    REQUIRE(parse_cpu_list(first, error) == std::vector<int>{usable[0]});
    REQUIRE(parse_cpu_list(first + "-" + first, error) == std::vector<int>{usable[0]});
    REQUIRE(parse_cpu_list("all", error) == usable);
    REQUIRE(error.empty());
    if (usable.size() > 1) {
        auto second = std::to_string(usable[1]);
        REQUIRE(parse_cpu_list(second + "," + first, error) == std::vector<int>{usable[1], usable[0]});
    }
    for (std::string bad : {std::string{}, std::string{"a"}, first + ",", "," + first, first + "-", std::string{"3-1"},
             std::string{"-1"}, first + " ", first + "," + first, std::string{"99999"}, std::string{"0-99999"}}) {
        error.clear();
        INFO(bad);
        REQUIRE(parse_cpu_list(bad, error).empty());
        REQUIRE_FALSE(error.empty());
    }
}
