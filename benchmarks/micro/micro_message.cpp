// Messages sent without waiting for replies, and the doorbell: what ringing costs the sender and when the sleeper runs.
#include <unistd.h>

#include <memory>
#include <thread>

#include "benchmarks/micro/micro.hpp"
#include "lwkt/topology.hpp"

namespace micro {
namespace {

using namespace lwkt;

struct Bouncer : Message {
    static inline std::atomic<bool> stop{false};
    CpuId other = 0;
};

void bounce(Message& m)
{
    if (!Bouncer::stop.load(std::memory_order_relaxed)) {
        auto& b = static_cast<Bouncer&>(m);
        CpuId to = b.other;
        b.other = Cpu::current()->id();
        Cpu::current()->send(to, m);
    }
}

// Nanoseconds per message and CPU while `under_way` messages go round; `cpus` is one (to itself) or two.
double bouncing(const std::vector<int>& cpus, std::size_t under_way)
{
    RealClock clock;
    CpuSet set(clock, awake(cpus));
    std::vector<Bouncer> messages(under_way);
    Bouncer::stop = false;
    set.start();
    for (Bouncer& m : messages) {
        m.dispatch = bounce;
        m.cls = Class::net;
        m.other = static_cast<CpuId>(cpus.size() - 1);
        set.post(0, m);
    }
    auto total = [&set] { // messages a CPU sends to itself are not counted: items by its rounds are not either
        std::uint64_t n = 0;
        for (std::size_t i = 0; i < set.size(); ++i) {
            n += set.cpu(static_cast<CpuId>(i)).counters().messages_out;
        }
        return n;
    };
    std::uint64_t before = total();
    double start = seconds_now();
    std::this_thread::sleep_for(std::chrono::milliseconds(quick ? 50 : 200));
    std::uint64_t n = total() - before;
    double took = seconds_now() - start;
    Bouncer::stop = true;
    set.stop();
    return took / (static_cast<double>(n) / static_cast<double>(cpus.size())) * 1e9;
}

// A message that goes from a CPU to itself a number of times.
struct Lap : Message {
    std::uint64_t left = 0;
    std::atomic<bool> done{false};
};

double to_itself(int cpu, std::uint64_t laps)
{
    RealClock clock;
    CpuSet set(clock, awake({cpu}));
    std::vector<Lap> messages(64);
    set.start();
    for (Lap& m : messages) {
        m.left = laps;
        m.cls = Class::net;
        m.dispatch = [](Message& of) {
            auto& lap = static_cast<Lap&>(of);
            if (--lap.left == 0) {
                lap.done.store(true, std::memory_order_release);
            } else {
                Cpu::current()->send(0, of);
            }
        };
    }
    double start = seconds_now();
    for (Lap& m : messages) {
        set.post(0, m);
    }
    for (Lap& m : messages) {
        while (!m.done.load(std::memory_order_acquire)) {
            std::this_thread::yield();
        }
    }
    return (seconds_now() - start) / (static_cast<double>(laps) * static_cast<double>(messages.size())) * 1e9;
}

// One ring of a CPU that has slept for `idle_us`: what the ringer spent, and when the message's handler began.
struct Ring : Message {
    double began = 0;
    std::atomic<bool> done{false};
};

void ring_sleeper(CpuSet& set, unsigned idle_us, double& ringer, double& handler)
{
    usleep(idle_us);
    Ring m;
    m.dispatch = [](Message& of) {
        auto& ring = static_cast<Ring&>(of);
        ring.began = seconds_now();
        ring.done.store(true, std::memory_order_release);
    };
    double start = seconds_now();
    set.post(0, m);
    ringer += seconds_now() - start;
    while (!m.done.load(std::memory_order_acquire)) {
    }
    handler += m.began - start;
}

} // namespace

void messages()
{
    Figure self{.name = "micro.message.same_cpu", .why = "sent and dispatched on one CPU, 64 under way"};
    auto usable = usable_cpus();
    for (Rounds r; r.another();) {
        self.values.push_back(to_itself(usable[0], quick ? 20'000 : 100'000));
    }
    self.print();
    auto cpus = pair_of_cpus({"micro.message.cross_1", "micro.message.cross_512"});
    if (cpus.empty()) {
        return;
    }
    Figure one{.name = "micro.message.cross_1", .why = "to the other CPU, 1 under way: half a round trip"};
    Figure many{.name = "micro.message.cross_512", .why = "to the other CPU, 512 under way, per message and CPU"};
    for (Rounds r; r.another();) {
        one.values.push_back(bouncing(cpus, 1) / 2);
        many.values.push_back(bouncing(cpus, 512));
    }
    one.print();
    many.print();
}

void doorbells()
{
    auto cpus = pair_of_cpus({"micro.doorbell.ringer", "micro.doorbell.wake"});
    if (cpus.empty()) {
        return;
    }
    std::thread([&cpus] { // bound here, so that the caller stays free
        bind_here(cpus[1]);
        for (unsigned idle_us : {30U, 1000U}) {
            Figure ringer{.name = text("micro.doorbell.ringer_%uus", idle_us),
                .why = text("post to a CPU that slept %u us", idle_us)};
            Figure wake{
                .name = text("micro.doorbell.wake_%uus", idle_us), .why = "from the post to the handler on that CPU"};
            RealClock clock;
            CpuSet set(clock, sleepy({cpus[0]}));
            set.start();
            int rings = quick ? 50 : 200;
            for (Rounds r; r.another();) {
                double ringing = 0;
                double waking = 0;
                for (int n = 0; n < rings; ++n) {
                    ring_sleeper(set, idle_us, ringing, waking);
                }
                ringer.values.push_back(ringing / rings * 1e9);
                wake.values.push_back(waking / rings * 1e9);
            }
            ringer.print();
            wake.print();
        }
    })
        .join();
}

} // namespace micro
