// Micro-benchmarks of lwkt: one JSON object per line and row. Ratios alternate both sides in one run and are medians of
// their rounds; ns and rates describe the machine they ran on and are no verdict.
//   bench-micro [--quick] [NAME...]
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <boost/lockfree/spsc_queue.hpp>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/random.hpp"
#include "lwkt/cpu_set.hpp"
#include "lwkt/ipiq.hpp"
#include "lwkt/pool.hpp"
#include "lwkt/port.hpp"
#include "lwkt/timer_wheel.hpp"

namespace {

using namespace lwkt;

bool quick = false;

double seconds_now()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void bind_here(int os_cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(os_cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

struct Row {
    std::string name;
    std::string unit;
    std::string why;
    std::vector<double> values; // one per round; empty = could not be measured

    void print()
    {
        if (values.empty()) {
            std::printf(
                "{\"name\": \"%s\", \"value\": null, \"unit\": \"%s\", \"low\": null, \"high\": null, \"runs\": 0, "
                "\"why\": \"%s\"}\n",
                name.c_str(), unit.c_str(), why.c_str());
            return;
        }
        std::sort(values.begin(), values.end());
        std::size_t n = values.size();
        double median = (values[(n - 1) / 2] + values[n / 2]) / 2;
        std::printf(
            "{\"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\", \"low\": %.6g, \"high\": %.6g, \"runs\": %zu, "
            "\"why\": \"%s\"}\n",
            name.c_str(), median, unit.c_str(), values.front(), values.back(), n, why.c_str());
        std::fflush(stdout);
    }
};

int rounds()
{
    return quick ? 5 : 11;
}

// Two OS CPUs to measure between; empty when there is only one.
std::vector<int> pair_of_cpus()
{
    auto usable = usable_cpus();
    return usable.size() < 2 ? std::vector<int>{} : std::vector<int>{usable[0], usable[1]};
}

// ---- ratio.ring64

struct Block {
    std::uint64_t words[8];
};
constexpr std::uint32_t ring_slots = 1024;
constexpr std::uint32_t ring_batch = 16;

// The way messages go: pushed one by one as handlers send them, taken in batches.
struct OurRing {
    Ipiq<Block> ring{ring_slots};
    std::uint32_t push(const Block* blocks, std::uint32_t n) { return ring.push(blocks, n); }
    std::uint32_t pop(Block* out, std::uint32_t n) { return ring.pop(out, n); }
};
struct BoostRing {
    boost::lockfree::spsc_queue<Block, boost::lockfree::capacity<ring_slots>> ring;
    std::uint32_t push(const Block* blocks, std::uint32_t n)
    {
        return static_cast<std::uint32_t>(ring.push(blocks, n));
    }
    std::uint32_t pop(Block* out, std::uint32_t n) { return static_cast<std::uint32_t>(ring.pop(out, n)); }
};

// Blocks per second from one CPU to the other.
template <typename Ring>
double ring_rate(const std::vector<int>& cpus, std::uint64_t count)
{
    auto ring = std::make_unique<Ring>();
    std::atomic<int> ready{0};
    std::uint64_t sum = 0;
    double start = 0;
    double end = 0;
    auto meet = [&ready] {
        ready.fetch_add(1);
        while (ready.load() != 2) {
        }
    };
    std::thread producer([&] {
        bind_here(cpus[0]);
        Block blocks[ring_batch] = {};
        meet();
        start = seconds_now();
        for (std::uint64_t sent = 0; sent < count;) {
            for (std::uint32_t i = 0; i < ring_batch; ++i) {
                blocks[i].words[0] = sent + i;
            }
            for (std::uint32_t done = 0; done < ring_batch;) {
                done += ring->push(blocks + done, ring_batch - done);
            }
            sent += ring_batch;
        }
    });
    std::thread consumer([&] {
        bind_here(cpus[1]);
        Block blocks[ring_batch];
        meet();
        for (std::uint64_t got = 0; got < count;) {
            std::uint32_t n = ring->pop(blocks, ring_batch);
            for (std::uint32_t i = 0; i < n; ++i) {
                sum += blocks[i].words[0];
            }
            got += n;
        }
        end = seconds_now();
    });
    producer.join();
    consumer.join();
    INVARIANT(sum == count * (count - 1) / 2);
    return static_cast<double>(count) / (end - start);
}

Row ratio_ring64()
{
    Row row{"ratio.ring64", "ratio", "", {}};
    auto cpus = pair_of_cpus();
    if (cpus.empty()) {
        row.why = "needs two CPUs";
        return row;
    }
    std::uint64_t count = quick ? 1'600'000 : 8'000'000;
    double ours_sum = 0;
    double theirs_sum = 0;
    for (int i = 0; i < rounds(); ++i) {
        double ours = ring_rate<OurRing>(cpus, count);
        double theirs = ring_rate<BoostRing>(cpus, count);
        ours_sum += ours;
        theirs_sum += theirs;
        row.values.push_back(ours / theirs);
    }
    char text[160];
    std::snprintf(text, sizeof text, "64 B, batches of 16, Ipiq : boost spsc_queue; means %.1f and %.1f M/s",
        ours_sum / rounds() / 1e6, theirs_sum / rounds() / 1e6);
    row.why = text;
    return row;
}

// ---- ratio.call_rtt

// Seconds of one round trip of a bare cache line.
double line_round_trip(const std::vector<int>& cpus, int trips)
{
    struct alignas(128) Line {
        std::atomic<int> turn{0};
    };
    Line line;
    double took = 0;
    auto play = [&line, trips](int odd) {
        for (int i = 0; i < trips; ++i) {
            while (line.turn.load(std::memory_order_acquire) != 2 * i + odd) {
            }
            line.turn.store(2 * i + odd + 1, std::memory_order_release);
        }
    };
    std::thread peer([&] {
        bind_here(cpus[1]);
        play(1);
    });
    std::thread first([&] {
        bind_here(cpus[0]);
        double start = seconds_now();
        play(0);
        while (line.turn.load(std::memory_order_acquire) != 2 * trips) {
        }
        took = seconds_now() - start;
    });
    first.join();
    peer.join();
    return took / trips;
}

CpuSetOptions awake(const std::vector<int>& cpus)
{
    CpuSetOptions options;
    options.pin = cpus;
    options.spin_max = base::seconds(60);
    return options;
}

// A call: goes to CPU 1, is served there, comes back to a port on CPU 0.
struct Call : Message {
    int left = 0;
    CompletionPort* finished = nullptr;
};

void serve_call(Message& m)
{
    reply(m);
}

void call_returned(Message& m)
{
    auto& call = static_cast<Call&>(m);
    if (--call.left == 0) {
        call.finished->deliver(m);
        return;
    }
    call.dispatch = serve_call;
    Cpu::current()->send(1, m);
}

double call_round_trip(CpuSet& set, int trips)
{
    CpuPort port(set.cpu(0), call_returned);
    CompletionPort finished;
    Call call;
    call.dispatch = call_returned; // begins as if one had come back
    call.reply_port = &port;
    call.left = trips + 1;
    call.finished = &finished;
    double start = seconds_now();
    set.post(0, call);
    finished.wait();
    return (seconds_now() - start) / trips;
}

Row ratio_call_rtt()
{
    Row row{"ratio.call_rtt", "ratio", "", {}};
    auto cpus = pair_of_cpus();
    if (cpus.empty()) {
        row.why = "needs two CPUs";
        return row;
    }
    int trips = quick ? 100'000 : 500'000;
    std::vector<double> calls;
    std::vector<double> lines;
    for (int i = 0; i < rounds(); ++i) {
        {
            RealClock clock;
            CpuSet set(clock, awake(cpus));
            set.start();
            call_round_trip(set, trips / 10);
            calls.push_back(call_round_trip(set, trips));
        }
        lines.push_back(line_round_trip(cpus, trips));
        row.values.push_back(calls.back() / lines.back());
    }
    char text[160];
    std::snprintf(text, sizeof text,
        "call and reply between two awake CPUs : cache line there and back; best %.0f and %.0f ns",
        *std::min_element(calls.begin(), calls.end()) * 1e9, *std::min_element(lines.begin(), lines.end()) * 1e9);
    row.why = text;
    return row;
}

// ---- micro.msgs_per_s_cross

struct Bouncer : Message {
    static inline std::atomic<bool> stop{false};
};

void bounce(Message& m)
{
    if (!Bouncer::stop.load(std::memory_order_relaxed)) {
        Cpu::current()->send(static_cast<CpuId>(1 - Cpu::current()->id()), m);
    }
}

Row msgs_per_s_cross()
{
    Row row{"micro.msgs_per_s_cross", "messages/s", "both directions together, 512 messages under way", {}};
    auto cpus = pair_of_cpus();
    if (cpus.empty()) {
        row.why = "needs two CPUs";
        return row;
    }
    for (int i = 0; i < rounds(); ++i) {
        RealClock clock;
        CpuSet set(clock, awake(cpus));
        std::vector<Bouncer> messages(512);
        Bouncer::stop = false;
        set.start();
        for (Bouncer& m : messages) {
            m.dispatch = bounce;
            m.cls = Class::net;
            set.post(0, m);
        }
        auto total = [&set] { return set.cpu(0).counters().messages_out + set.cpu(1).counters().messages_out; };
        auto before = total();
        double start = seconds_now();
        std::this_thread::sleep_for(std::chrono::milliseconds(quick ? 100 : 300));
        auto n = total() - before;
        row.values.push_back(static_cast<double>(n) / (seconds_now() - start));
        Bouncer::stop = true;
        set.stop();
    }
    return row;
}

// ---- micro.wheel_arm_ns

Row wheel_arm()
{
    Row row{"micro.wheel_arm_ns", "ns", "re-arm of one of 10,000 timers, 0 to 2 s ahead", {}};
    constexpr std::size_t timers = 10'000;
    int operations = quick ? 1'000'000 : 5'000'000;
    base::Random random(1);
    std::vector<std::uint32_t> draws(1 << 16);
    for (auto& draw : draws) {
        draw = random.below(2'000'000);
    }
    for (int i = 0; i < rounds(); ++i) {
        Instant now{base::seconds(1)};
        std::vector<std::unique_ptr<Timer>> all;
        TimerWheel wheel(now);
        for (std::size_t n = 0; n < timers; ++n) {
            all.push_back(std::make_unique<Timer>([](Timer&) {}));
        }
        double start = seconds_now();
        for (int n = 0; n < operations; ++n) {
            std::uint32_t draw = draws[static_cast<std::size_t>(n) & 0xffff];
            wheel.arm(*all[draw % timers], now + base::Micros{draw});
        }
        row.values.push_back((seconds_now() - start) / operations * 1e9);
    }
    return row;
}

// ---- micro.pool_*_ns

struct Object : Message {
    Pool<Object>* pool = nullptr;
    std::uint64_t payload[20] = {};
};

Row pool_local()
{
    Row row{"micro.pool_local_ns", "ns", "make and destroy on the home CPU, 64 at a time, objects of 224 B", {}};
    VirtualClock clock;
    CpuSetOptions options;
    options.pin = {-1};
    CpuSet set(clock, options);
    Pool<Object> pool(set, 1024);
    int laps = quick ? 20'000 : 100'000;
    for (int i = 0; i < rounds(); ++i) {
        set.call(0, [&](Cpu&) {
            Object* objects[64];
            double start = seconds_now();
            for (int lap = 0; lap < laps; ++lap) {
                for (Object*& o : objects) {
                    o = pool.make();
                }
                for (Object* o : objects) {
                    pool.destroy(*o);
                }
            }
            row.values.push_back((seconds_now() - start) / (laps * 64.0) * 1e9);
        });
    }
    return row;
}

// CPU 0 makes and sends as long as its share lasts, CPU 1 destroys, the chains come home.
struct Feeder final : Poller {
    explicit Feeder(Pool<Object>& p) : pool(p) {}
    std::uint32_t poll(std::uint32_t budget) override
    {
        std::uint32_t n = 0;
        for (; n < budget && left > 0; ++n) {
            Object* o = pool.make();
            if (o == nullptr) {
                break;
            }
            o->pool = &pool;
            o->cls = Class::net;
            o->dispatch = [](Message& m) {
                auto& object = static_cast<Object&>(m);
                object.pool->destroy(object);
            };
            --left;
            Cpu::current()->send(1, *o);
        }
        if (left == 0 && !told && pool.core().in_use(0) == 0) {
            told = true;
            Message unused;
            finished.deliver(unused);
        }
        return n;
    }
    bool pending() const override { return left > 0; }
    Pool<Object>& pool;
    int left = 0;
    bool told = true;
    CompletionPort finished;
};

Row pool_remote()
{
    Row row{
        "micro.pool_remote_ns", "ns", "make, send, destroy on the other CPU and back home, per object of 224 B", {}};
    auto cpus = pair_of_cpus();
    if (cpus.empty()) {
        row.why = "needs two CPUs";
        return row;
    }
    int objects = quick ? 200'000 : 1'000'000;
    RealClock clock;
    CpuSet set(clock, awake(cpus));
    Pool<Object> pool(set, 2048);
    Feeder feeder(pool);
    set.cpu(0).add_poller(Class::net, feeder);
    set.start();
    for (int i = 0; i < rounds(); ++i) {
        feeder.finished.reset();
        double start = seconds_now();
        set.call(0, [&feeder, objects](Cpu&) {
            feeder.left = objects;
            feeder.told = false;
        });
        feeder.finished.wait();
        row.values.push_back((seconds_now() - start) / objects * 1e9);
    }
    set.stop();
    return row;
}

struct Entry {
    const char* name;
    Row (*measure)();
};
constexpr Entry entries[] = {
    {"ratio.ring64", ratio_ring64},
    {"ratio.call_rtt", ratio_call_rtt},
    {"micro.msgs_per_s_cross", msgs_per_s_cross},
    {"micro.wheel_arm_ns", wheel_arm},
    {"micro.pool_local_ns", pool_local},
    {"micro.pool_remote_ns", pool_remote},
};

} // namespace

int main(int argc, char** argv)
{
    std::vector<std::string> wanted;
    for (int i = 1; i < argc; ++i) {
        std::string argument = argv[i];
        bool known = std::any_of(
            std::begin(entries), std::end(entries), [&argument](const Entry& entry) { return argument == entry.name; });
        if (argument == "--quick") {
            quick = true;
        } else if (known) {
            wanted.push_back(argument);
        } else {
            std::fprintf(stderr, "bench-micro: \"%s\" is no row; rows are:\n", argument.c_str());
            for (const Entry& entry : entries) {
                std::fprintf(stderr, "  %s\n", entry.name);
            }
            return 2;
        }
    }
    for (const Entry& entry : entries) {
        if (wanted.empty() || std::find(wanted.begin(), wanted.end(), entry.name) != wanted.end()) {
            entry.measure().print();
        }
    }
    return 0;
}
