// Rings, pools and the set with real threads; also run under the race detector.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "base/random.hpp"
#include "lwkt/cpu_set.hpp"
#include "lwkt/ipiq.hpp"
#include "lwkt/pool.hpp"
#include "lwkt/port.hpp"
#include "lwkt/topology.hpp"

using namespace lwkt;

namespace {

CpuSetOptions threads(std::size_t cpus)
{
    CpuSetOptions options;
    options.pin.assign(cpus, -1);
    return options;
}

} // namespace

TEST_CASE("ring: everything arrives once and in order, for every size")
{
    for (std::uint32_t slots : {2U, 4U, 64U}) {
        Ipiq<std::uint64_t> ring(slots);
        // As many hand-overs for each size: on a busy machine each may cost a time slice.
        std::uint64_t count = std::uint64_t{slots} * 1000;
        std::thread producer([&ring, count] {
            for (std::uint64_t i = 0; i < count; ++i) {
                while (!ring.push(i)) {
                    std::this_thread::yield();
                }
            }
        });
        std::uint64_t expected = 0;
        bool in_order = true;
        base::Random random(1);
        while (expected < count) {
            std::uint64_t out[16];
            std::uint32_t n = ring.pop(out, 1 + random.below(16));
            for (std::uint32_t i = 0; i < n; ++i) {
                in_order = in_order && out[i] == expected++;
            }
            if (n == 0) {
                std::this_thread::yield();
            }
        }
        producer.join();
        REQUIRE(in_order);
        REQUIRE(ring.empty());
        REQUIRE(ring.waiting(0) == 0);
    }
}

TEST_CASE("ring: full and empty are exact")
{
    Ipiq<int> ring(4);
    int out[8];
    for (int lap = 0; lap < 10; ++lap) {
        REQUIRE(ring.empty());
        for (int i = 0; i < 4; ++i) {
            REQUIRE(ring.push(i));
        }
        REQUIRE_FALSE(ring.push(4));
        REQUIRE(ring.waiting(0) == 4);
        REQUIRE(ring.pop(out, 3) == 3);
        REQUIRE(ring.waiting(3) >= 1);
        REQUIRE(ring.push(4));
        REQUIRE(ring.pop(out, 8) == 1); // the cached view of the producer is used up first
        REQUIRE(ring.pop(out, 8) == 1);
        REQUIRE(out[0] == 4);
        REQUIRE(ring.pop(out, 8) == 0);
    }
}

namespace {

struct Ball : Message {
    Pool<Ball>* pool = nullptr;
    std::atomic<int>* gone = nullptr;
    char bulk[100] = {};
};

} // namespace

TEST_CASE("pool: exhaustion is null and counted; memory freed elsewhere goes home as one message")
{
    VirtualClock clock;
    CpuSet set(clock, threads(3));
    Pool<Ball> pool(set, 100);
    std::vector<Ball*> balls;
    set.call(0, [&](Cpu&) {
        for (int i = 0; i < 100; ++i) {
            Ball* ball = pool.make();
            REQUIRE(ball != nullptr);
            REQUIRE(ball->home == 0);
            REQUIRE(reinterpret_cast<std::uintptr_t>(ball) % 64 == 0);
            balls.push_back(ball);
        }
        REQUIRE(pool.make() == nullptr);
    });
    REQUIRE(pool.core().exhausted(0) == 1);
    REQUIRE(pool.core().in_use(0) == 100);
    REQUIRE(pool.core().capacity_per_cpu() == 100);
    set.call(1, [&](Cpu&) {
        REQUIRE(pool.make() != nullptr); // its own share
        for (Ball* ball : balls) {
            pool.destroy(*ball);
        }
    });
    REQUIRE(pool.core().in_use(1) == 1);
    while (set.step()) {
    }
    REQUIRE(pool.core().in_use(0) == 0);
    REQUIRE(set.cpu(1).counters().passive_out == 1);
    set.call(0, [&](Cpu&) {
        for (int i = 0; i < 100; ++i) {
            REQUIRE(pool.make() != nullptr);
        }
        REQUIRE(pool.make() == nullptr);
    });
}

TEST_CASE("pool: balls thrown between threads all come home, on one CPU and on more CPUs than cores")
{
    for (std::size_t cpus : {1U, 2U, 7U}) {
        RealClock clock;
        CpuSetOptions options = threads(cpus);
        options.ring_slots = 8;
        CpuSet set(clock, options);
        Pool<Ball> pool(set, 64);
        set.start();
        std::atomic<int> gone{0};
        int thrown = 0;
        for (int i = 0; i < 60; ++i) {
            for (CpuId from = 0; from < cpus; ++from) {
                set.call(from, [&](Cpu& cpu) {
                    for (CpuId to = 0; to < cpus; ++to) {
                        for (int n = 0; n < 8; ++n) {
                            Ball* ball = pool.make();
                            if (ball == nullptr) {
                                return; // on its way home still
                            }
                            ball->pool = &pool;
                            ball->gone = &gone;
                            ball->cls = Class::net;
                            ball->dispatch = [](Message& m) {
                                auto& b = static_cast<Ball&>(m);
                                auto* counter = b.gone;
                                b.pool->destroy(b);
                                counter->fetch_add(1);
                            };
                            cpu.send(to, *ball);
                            ++thrown;
                        }
                    }
                });
            }
        }
        set.stop(); // drains what is on its way, passive messages too
        REQUIRE(gone == thrown);
        for (CpuId id = 0; id < cpus; ++id) {
            REQUIRE(pool.core().in_use(id) == 0);
        }
    }
}

TEST_CASE("set: starts, stops and starts again; call_all reaches every thread; names and binding")
{
    for (WaiterKind kind : {WaiterKind::probe, WaiterKind::epoll}) {
        RealClock clock;
        CpuSetOptions options = threads(3);
        options.waiter = kind;
        options.pin[0] = usable_cpus().front();
        options.thread_name = "lwkt-test";
        CpuSet set(clock, options);
        for (int i = 0; i < 3; ++i) {
            set.start();
            REQUIRE(set.running());
            if (kind == WaiterKind::epoll) {
                REQUIRE(set.waiter_name() == "epoll");
            }
            std::vector<std::string> names;
            set.call_all([&names](Cpu& cpu) {
                char name[32] = {};
                pthread_getname_np(pthread_self(), name, sizeof name);
                names.emplace_back(name);
                INVARIANT(base::current_cpu == cpu.id());
            });
            REQUIRE(names == std::vector<std::string>{"lwkt-test/0", "lwkt-test/1", "lwkt-test/2"});
            REQUIRE(set.unbound().empty());
            set.stop();
            REQUIRE_FALSE(set.running());
        }
    }
}

TEST_CASE("set: work for whoever polls adaptively arrives too")
{
    RealClock clock;
    CpuSetOptions options = threads(2);
    options.spin_max = base::Micros{50};
    CpuSet set(clock, options);
    set.start();
    base::Random random(1);
    int ran = 0;
    for (int i = 0; i < 500; ++i) {
        set.call(static_cast<CpuId>(random.below(2)), [&ran](Cpu&) { ++ran; });
        if (random.below(10) == 0) {
            usleep(random.below(300));
        }
    }
    set.stop();
    REQUIRE(ran == 500);
}

namespace {

struct SchedAttr { // struct sched_attr, first version
    std::uint32_t size = 0;
    std::uint32_t policy = 0;
    std::uint64_t flags = 0;
    std::int32_t nice = 0;
    std::uint32_t priority = 0;
    std::uint64_t runtime_ns = 0;
    std::uint64_t deadline_ns = 0;
    std::uint64_t period_ns = 0;
};

SchedAttr attributes_of_this_thread()
{
    SchedAttr attributes;
    syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0U);
    return attributes;
}

} // namespace

TEST_CASE("threads: short turns where the kernel has them, and nothing else changed")
{
    SchedAttr ours = attributes_of_this_thread();
    RealClock clock;
    CpuSet set(clock, threads(1));
    set.start();
    SchedAttr theirs;
    set.call(0, [&](Cpu&) { theirs = attributes_of_this_thread(); });
    set.stop();
    CHECK(theirs.policy == ours.policy);
    CHECK(theirs.nice == ours.nice);
    // A kernel that knows slices tells ours, the default.
    CHECK(theirs.runtime_ns == (ours.policy == SCHED_OTHER && ours.runtime_ns != 0 ? 100'000 : ours.runtime_ns));
}

namespace {

// True when `f` ends the process by an abort.
template <typename F>
bool aborts(F f)
{
    pid_t child = fork();
    if (child == 0) {
        close(2); // the message is expected
        std::signal(SIGABRT, SIG_DFL);
        f();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

} // namespace

TEST_CASE("programmer errors stop the process")
{
    VirtualClock clock;
    CpuSet set(clock, threads(2));
    Message m;
    m.dispatch = [](Message&) {};
    REQUIRE(aborts([&] { set.cpu(0).send(1, m); })); // not on CPU 0
    REQUIRE(aborts([&] { set.call(1, [&](Cpu&) { set.cpu(0).send(1, m); }); }));
    REQUIRE(aborts([&] { reply(m); }));
    NoReplyPort nobody;
    m.reply_port = &nobody;
    REQUIRE(aborts([&] { reply(m); }));
    REQUIRE(aborts([&] { clock.advance_to(clock.now() - base::Micros{1}); }));
    REQUIRE_FALSE(aborts([] {}));
}

namespace {

// What a program can do to a doorbell that it was given: flags belong to the open file, which netd has too.
void steal_rings(int fd)
{
    for (;;) {
        std::uint64_t rings = 0;
        [[maybe_unused]] auto n = read(fd, &rings, sizeof rings);
    }
}
void fill_up(int fd)
{
    for (;;) {
        std::uint64_t most = 0xfffffffffffffffe;
        [[maybe_unused]] auto n = write(fd, &most, sizeof most);
    }
}

// Ends within the process's alarm or not at all.
void talk_beside(WaiterKind kind, void (*harm)(int fd))
{
    RealClock clock;
    CpuSetOptions options = threads(2);
    options.spin_max = base::Micros{0};
    options.waiter = kind;
    CpuSet set(clock, options);
    set.start();
    int fd = set.cpu(0).add_doorbell();
    fcntl(fd, F_SETFL, 0);
    std::thread(harm, fd).detach();
    for (int i = 0; i < 10'000; ++i) {
        set.call(0, [](Cpu&) {});
    }
    _exit(0);
}

} // namespace

TEST_CASE("doorbells: whoever has one can steal and block nobody's wake-ups but his own")
{
    for (WaiterKind kind : {WaiterKind::io_uring, WaiterKind::epoll}) {
        for (auto* harm : {steal_rings, fill_up}) {
            pid_t child = fork();
            if (child == 0) {
                std::signal(SIGALRM, SIG_DFL);
                alarm(20);
                talk_beside(kind, harm);
            }
            int status = 0;
            REQUIRE(waitpid(child, &status, 0) == child);
            CHECK(WIFEXITED(status));
        }
    }
}
