// Call and reply: on one CPU, between two that are awake, between two that sleep, and from a thread outside; and what a
// bare cache line and a bare pointer to a message take there and back, which a call between CPUs cannot beat.
#include <memory>
#include <thread>

#include "benchmarks/micro/micro.hpp"
#include "lwkt/port.hpp"

namespace micro {
namespace {

using namespace lwkt;

// Runs `play(0)` and `play(1)` on two CPUs; nanoseconds of one of the `trips` that the first makes.
template <typename Play>
double ping_pong(const std::vector<int>& cpus, int trips, const Play& play)
{
    double took = 0;
    std::thread peer([&] {
        bind_here(cpus[1]);
        play(1);
    });
    std::thread first([&] {
        bind_here(cpus[0]);
        double start = seconds_now();
        play(0);
        took = seconds_now() - start;
    });
    first.join();
    peer.join();
    return took / trips * 1e9;
}

// A cache line goes there and back: the mean of several that follow each other, because it depends on a line's address
// how far it goes (64 or 86 ns in turn).
double line_round_trip(const std::vector<int>& cpus, int trips)
{
    struct alignas(base::apart) Line {
        std::atomic<int> turn{0};
    };
    constexpr int lines = 50;
    Line line[lines];
    int trips_each = trips / lines;
    return ping_pong(cpus, trips_each * lines, [&line, trips_each](int odd) {
        for (Line& one : line) {
            for (int i = 0; i < trips_each; ++i) {
                while (one.turn.load(std::memory_order_acquire) != 2 * i + odd) {
                }
                one.turn.store(2 * i + odd + 1, std::memory_order_release);
            }
            while (odd == 0 && one.turn.load(std::memory_order_acquire) != 2 * trips_each) {
            }
        }
    });
}

// The least that takes a message there and back: a ring each way whose slots say by the lap in the pointer's low bits
// that they are full, and the message's line, read and written. No room looked for, no counter, nothing but the poll.
class BareSlots {
public:
    void push(Message* m)
    {
        slots_[tail_ % slots].store(reinterpret_cast<std::uintptr_t>(m) | lap(tail_), std::memory_order_release);
        ++tail_;
    }
    Message* wait()
    {
        std::uintptr_t value = 0;
        do {
            value = slots_[head_ % slots].load(std::memory_order_acquire);
        } while (value % laps != lap(head_));
        ++head_;
        return reinterpret_cast<Message*>(value - value % laps);
    }

private:
    static constexpr std::uint32_t slots = 1024;
    static constexpr std::uint32_t laps = 128; // messages are aligned to it
    static std::uintptr_t lap(std::uint32_t index) { return (index / slots + 1) % laps; }

    alignas(base::apart) std::atomic<std::uintptr_t> slots_[slots] = {};
    alignas(base::apart) std::uint32_t tail_ = 0; // p
    alignas(base::apart) std::uint32_t head_ = 0; // q
};

double bare_round_trip(const std::vector<int>& cpus, int trips)
{
    struct alignas(base::apart) Aligned : Message {};
    auto rings = std::make_unique<BareSlots[]>(2);
    Aligned message;
    rings[1].push(&message);
    return ping_pong(cpus, trips, [&rings, trips](int odd) {
        for (int i = 0; i < trips; ++i) {
            Message* m = rings[1 - odd].wait();
            ++m->result;
            rings[odd].push(m);
        }
    });
}

// A call: goes to CPU `to`, is served there, comes back to a port on CPU 0.
struct alignas(base::apart) Call : Message { // on lines of its own, as messages from pools are
    int left = 0;
    CpuId to = 1;
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
    Cpu::current()->send(call.to, m);
}

double call_round_trip(CpuSet& set, CpuId to, int trips)
{
    CpuPort port(set.cpu(0), call_returned);
    CompletionPort finished;
    Call call;
    call.dispatch = call_returned; // begins as if one had come back
    call.reply_port = &port;
    call.left = trips + 1;
    call.to = to;
    call.finished = &finished;
    double start = seconds_now();
    set.post(0, call);
    finished.wait();
    return (seconds_now() - start) / trips * 1e9;
}

// A thread that is no protocol thread posts and waits for the reply.
double outside_call(CpuSet& set, int trips)
{
    double start = seconds_now();
    for (int i = 0; i < trips; ++i) {
        CompletionPort back;
        Message m;
        m.dispatch = serve_call;
        m.reply_port = &back;
        set.post(0, m);
        back.wait();
    }
    return (seconds_now() - start) / trips * 1e9;
}

double with_set(const CpuSetOptions& options, double (*measure)(CpuSet&, int), int trips)
{
    RealClock clock;
    CpuSet set(clock, options);
    set.start();
    measure(set, trips / 10 + 1); // warm
    return measure(set, trips);
}

} // namespace

void calls()
{
    auto cpus = pair_of_cpus({"ratio.call_rtt"}, "ratio");
    if (cpus.empty()) {
        return;
    }
    int trips = quick ? 20'000 : 200'000;
    Figure ratio{.name = "ratio.call_rtt", .unit = "ratio"};
    Figure bound{.name = "bound.call_rtt", .unit = "ratio"};
    Figure bare{.name = "micro.call.bare", .why = "a pointer through a slot and the message's line, there and back"};
    Figure line{.name = "micro.call.line", .why = "a bare cache line to the other CPU and back"};
    Figure cross{.name = "micro.call.cross_awake", .why = "between two CPUs that poll"};
    Figure same{.name = "micro.call.same_cpu", .why = "a CPU to itself, through its queue"};
    Figure asleep{.name = "micro.call.cross_asleep", .why = "both CPUs sleep as soon as they have nothing to do"};
    Figure outside{
        .name = "micro.call.outside_awake", .why = "from a thread outside, which waits on a futex; the CPU polls"};
    Figure outside_asleep{.name = "micro.call.outside_asleep", .why = "the same, the CPU sleeps"};
    auto to_other = [](CpuSet& set, int n) { return call_round_trip(set, 1, n); };
    auto to_itself = [](CpuSet& set, int n) { return call_round_trip(set, 0, n); };
    for (Rounds r; r.another();) {
        cross.values.push_back(with_set(awake(cpus), to_other, trips));
        line.values.push_back(line_round_trip(cpus, trips));
        bare.values.push_back(bare_round_trip(cpus, trips));
        ratio.values.push_back(cross.values.back() / line.values.back());
        bound.values.push_back(bare.values.back() / line.values.back());
        same.values.push_back(with_set(awake({cpus[0]}), to_itself, trips * 5));
        asleep.values.push_back(with_set(sleepy(cpus), to_other, trips / 100));
        outside.values.push_back(with_set(awake({cpus[0]}), outside_call, trips / 100));
        outside_asleep.values.push_back(with_set(sleepy({cpus[0]}), outside_call, trips / 100));
    }
    ratio.why = text("call and reply between two awake CPUs %.0f ns, cache line there and back %.0f ns", cross.median(),
        line.median());
    bound.why = text("a pointer through a slot and the message's line, nothing else: %.0f ns, cache line %.0f ns",
        bare.median(), line.median());
    for (const Figure* figure : {&ratio, &bound, &line, &bare, &cross, &same, &asleep, &outside, &outside_asleep}) {
        figure->print();
    }
}

} // namespace micro
