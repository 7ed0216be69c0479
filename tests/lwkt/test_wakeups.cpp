// Wake-ups are never lost: CPUs that sleep at once (no polling, no timers) pass work around in every way there is. A
// lost wake-up stops the program for good, so that the test runner's time limit is the verdict. LWKT_ROUNDS sets how
// many wake-ups each way is worth.
#include <catch2/catch.hpp>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <deque>
#include <thread>
#include <vector>

#include "base/random.hpp"
#include "lwkt/cpu_set.hpp"
#include "lwkt/port.hpp"

using namespace lwkt;

namespace {

int rounds()
{
    const char* text = std::getenv("LWKT_ROUNDS");
    return text == nullptr ? 5000 : std::atoi(text);
}

CpuSetOptions sleepy(std::size_t cpus, WaiterKind kind)
{
    CpuSetOptions options;
    options.pin.assign(cpus, -1);
    options.spin_max = base::Micros{0};
    options.waiter = kind;
    options.ring_slots = 2;
    return options;
}

const WaiterKind kinds[] = {WaiterKind::io_uring, WaiterKind::epoll};

void pause_for(base::Random& random)
{
    for (std::uint32_t i = random.below(3000); i != 0; --i) {
        asm volatile("" : : : "memory");
    }
}

// Looked at last before a sleep, and takes its time: widens the window between looking and sleeping, in which a wrong
// order of arming, looking and resetting the doorbell loses what comes in.
struct Dawdler final : Poller {
    explicit Dawdler(std::uint64_t seed) : random(seed) {}
    std::uint32_t poll(std::uint32_t) override { return 0; }
    bool pending() const override
    {
        pause_for(random);
        return false;
    }
    mutable base::Random random;
};

// A token that goes round all CPUs and is answered to a foreign thread.
struct Token : Message {
    std::uint32_t hops = 0;
};

void hop(Message& m)
{
    auto& token = static_cast<Token&>(m);
    Cpu& here = *Cpu::current();
    if (token.hops-- == 0) {
        reply(m);
        return;
    }
    here.send(static_cast<CpuId>((here.id() + 1U) % here.set().size()), m);
}

} // namespace

TEST_CASE("wake-ups: between CPUs and from foreign threads")
{
    for (WaiterKind kind : kinds) {
        for (std::size_t cpus : {1U, 2U, 5U}) {
            RealClock clock;
            CpuSet set(clock, sleepy(cpus, kind));
            std::deque<Dawdler> dawdlers;
            set.configure([&dawdlers](Cpu& cpu) { cpu.add_poller(Class::gen, dawdlers.emplace_back(cpu.id())); });
            set.start();
            std::vector<std::thread> callers;
            for (std::uint64_t seed : {1U, 2U}) {
                callers.emplace_back([&set, seed] {
                    base::Random random(seed);
                    CompletionPort port;
                    for (int i = rounds() / 5; i > 0; --i) {
                        Token token;
                        token.dispatch = hop;
                        token.reply_port = &port;
                        token.hops = random.below(8);
                        port.reset();
                        set.post(static_cast<CpuId>(random.below(static_cast<std::uint32_t>(set.size()))), token);
                        port.wait();
                        pause_for(random);
                    }
                });
            }
            for (auto& caller : callers) {
                caller.join();
            }
            std::uint64_t sleeps = 0;
            for (CpuId id = 0; id < set.size(); ++id) {
                sleeps += set.cpu(id).counters().sleeps;
            }
            set.stop();
            REQUIRE(sleeps > 0);
        }
    }
}

namespace {

// As another process sees a CPU: memory of its own, the sleep word read-only, the doorbell's descriptor.
struct SharedCounter final : Poller {
    std::uint32_t poll(std::uint32_t) override
    {
        std::uint64_t now = published.load(std::memory_order_acquire);
        auto n = static_cast<std::uint32_t>(now - taken.load(std::memory_order_relaxed));
        if (n != 0) {
            taken.store(now, std::memory_order_release);
            taken.notify_all();
        }
        return n;
    }
    bool pending() const override
    {
        return published.load(std::memory_order_seq_cst) != taken.load(std::memory_order_relaxed);
    }
    std::atomic<std::uint64_t> published{0};
    std::atomic<std::uint64_t> taken{0};
};

} // namespace

TEST_CASE("wake-ups: a poller's pending() with ringers that only read the sleep word")
{
    for (WaiterKind kind : kinds) {
        RealClock clock;
        CpuSet set(clock, sleepy(1, kind));
        SharedCounter counter;
        set.cpu(0).add_poller(Class::serial, counter);
        set.start();
        base::Random random(7);
        int fd = set.cpu(0).add_doorbell();
        int stolen = set.cpu(0).add_doorbell(); // what becomes of it is nothing to the other
        REQUIRE(fd >= 0);
        REQUIRE(stolen >= 0);
        for (int i = rounds() * 2; i > 0; --i) {
            std::uint64_t mine = counter.published.fetch_add(1, std::memory_order_seq_cst) + 1;
            if (set.cpu(0).sleep_word().load(std::memory_order_seq_cst) != 0) {
                std::uint64_t one = 1;
                REQUIRE(write(fd, &one, sizeof one) == 8);
                if (random.below(8) == 0) {
                    REQUIRE(write(stolen, &one, sizeof one) == 8);
                    REQUIRE(read(stolen, &one, sizeof one) == 8);
                }
            }
            if (random.below(4) != 0) { // wait for it, else publish into the middle of things
                for (auto t = counter.taken.load(); t < mine; t = counter.taken.load()) {
                    counter.taken.wait(t);
                }
                pause_for(random);
            }
        }
        set.cpu(0).remove_doorbell(stolen);
        set.cpu(0).remove_doorbell(fd);
        set.stop();
        REQUIRE(set.cpu(0).counters().sleeps > 0);
    }
}

namespace {

// Flows of numbered messages through rings of two slots: order is kept, and senders that sleep on a spill wake up.
struct Flow;
struct Numbered : Message {
    Flow* flow = nullptr;
    std::uint32_t number = 0;
};
struct Flow {
    CpuId from = 0;
    CpuId to = 0;
    std::uint32_t next_sent = 0;
    std::uint32_t next_seen = 0;
    std::uint32_t burst = 0;
    bool in_order = true;
    std::vector<Numbered> messages;
    std::atomic<std::uint32_t> arrived{0};
};

void arrive(Message& m)
{
    auto& n = static_cast<Numbered&>(m);
    Flow& flow = *n.flow;
    flow.in_order = flow.in_order && n.number == flow.next_seen && Cpu::current()->id() == flow.to;
    ++flow.next_seen;
    if (flow.arrived.fetch_add(1) + 1 == flow.messages.size()) {
        flow.arrived.notify_all();
    }
}

} // namespace

TEST_CASE("wake-ups: spills keep order, and a sender asleep on a spill is woken for space")
{
    for (WaiterKind kind : kinds) {
        RealClock clock;
        CpuSet set(clock, sleepy(2, kind));
        set.start();
        base::Random random(3);
        std::deque<std::vector<Flow>> all; // handlers may look at a flow after its last message was counted
        for (int i = 0; i < 10; ++i) {
            std::vector<Flow>& flows = all.emplace_back(2);
            for (CpuId from : {CpuId{0}, CpuId{1}}) {
                Flow& flow = flows[from];
                flow.from = from;
                flow.to = static_cast<CpuId>(1 - from);
                flow.messages = std::vector<Numbered>(static_cast<std::size_t>(rounds()) / 5 + 1);
            }
            for (Flow& flow : flows) {
                for (std::uint32_t sent = 0; sent < flow.messages.size();) {
                    std::uint32_t burst =
                        std::min(1 + random.below(60), static_cast<std::uint32_t>(flow.messages.size()) - sent);
                    bool passive = random.below(3) == 0;
                    set.call(flow.from, [&flow, sent, burst, passive](Cpu& cpu) {
                        for (std::uint32_t n = sent; n < sent + burst; ++n) {
                            Numbered& m = flow.messages[n];
                            m.flow = &flow;
                            m.number = n;
                            m.dispatch = arrive;
                            // The last of a flow is never passive: nobody would be woken for it.
                            if (passive && n + 1 < flow.messages.size()) {
                                cpu.send_passive(flow.to, m);
                            } else {
                                cpu.send(flow.to, m);
                            }
                        }
                    });
                    sent += burst;
                }
            }
            for (Flow& flow : flows) {
                for (auto n = flow.arrived.load(); n != flow.messages.size(); n = flow.arrived.load()) {
                    flow.arrived.wait(n);
                }
                REQUIRE(flow.in_order);
            }
        }
        set.stop();
        REQUIRE(set.cpu(0).counters().spills > 0);
    }
}

namespace {

// Watches an eventfd of its own, as a driver watches its device.
struct Device final : Poller {
    explicit Device(int descriptor) : fd(descriptor) {}
    std::uint32_t poll(std::uint32_t) override
    {
        std::uint64_t n = 0;
        if (read(fd, &n, sizeof n) != 8) {
            return 0;
        }
        got.fetch_add(1);
        got.notify_all();
        return 1;
    }
    bool pending() const override { return false; }
    int wait_fd() const override { return fd; }
    int fd;
    std::atomic<std::uint32_t> got{0};
};

void kick_and_wait(Device& device)
{
    std::uint32_t before = device.got.load();
    std::uint64_t one = 1;
    REQUIRE(write(device.fd, &one, sizeof one) == 8);
    device.got.wait(before);
}

} // namespace

TEST_CASE("wake-ups: descriptors of pollers that come and go")
{
    for (WaiterKind kind : kinds) {
        RealClock clock;
        CpuSet set(clock, sleepy(1, kind));
        set.start();
        for (int i = 0; i < rounds() / 50; ++i) {
            Device device(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
            Device other(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
            set.call(0, [&](Cpu& cpu) {
                cpu.add_poller(Class::net, device);
                cpu.add_poller(Class::net, other);
            });
            kick_and_wait(device);
            kick_and_wait(other);
            kick_and_wait(device);
            set.call(0, [&](Cpu& cpu) { cpu.remove_poller(Class::net, device); });
            kick_and_wait(other);
            set.call(0, [&](Cpu& cpu) { cpu.remove_poller(Class::net, other); });
            close(device.fd);
            close(other.fd);
        }
        set.stop();
    }
}

TEST_CASE("wake-ups: a deadline ends the sleep, and not before")
{
    struct Ticker final : Poller {
        explicit Ticker(Clock& c) : clock(c), next(c.now() + base::Micros{200}) {}
        std::uint32_t poll(std::uint32_t) override
        {
            if (clock.now() < next) {
                return 0;
            }
            next = clock.now() + base::Micros{200};
            ticks.fetch_add(1);
            ticks.notify_all();
            return 1;
        }
        bool pending() const override { return false; }
        Instant deadline() const override { return next; }
        Clock& clock;
        Instant next;
        std::atomic<std::uint32_t> ticks{0};
    };
    for (WaiterKind kind : kinds) {
        RealClock clock;
        CpuSet set(clock, sleepy(1, kind));
        Ticker ticker(clock);
        set.cpu(0).add_poller(Class::clock, ticker);
        Instant start = clock.now();
        set.start();
        for (auto n = ticker.ticks.load(); n < 100; n = ticker.ticks.load()) {
            ticker.ticks.wait(n);
        }
        REQUIRE(clock.now() - start >= base::Micros{100 * 200});
        set.stop();
        REQUIRE(set.cpu(0).counters().sleeps >= 50);
    }
}

TEST_CASE("wake-ups: a CPU with nothing to do does nothing")
{
    for (WaiterKind kind : kinds) {
        RealClock clock;
        CpuSet set(clock, sleepy(1, kind));
        set.start();
        set.call(0, [](Cpu&) {});
        while (set.cpu(0).sleep_word() == 0) {
            usleep(1000);
        }
        auto before = set.cpu(0).counters().rounds.load();
        usleep(50'000);
        REQUIRE(set.cpu(0).counters().rounds - before <= 3); // a ring of before may end one sleep
        set.stop();
    }
}

namespace {

// The kernel says no to io_uring_setup from here on, as a sandbox or a sysctl would make it.
bool refuse_io_uring()
{
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog program{sizeof filter / sizeof filter[0], filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

} // namespace

TEST_CASE("wake-ups: where io_uring is refused the set sleeps in epoll and says so")
{
    pid_t child = fork();
    if (child == 0) {
        int verdict = refuse_io_uring() ? 0 : 1;
        RealClock clock;
        CpuSet set(clock, sleepy(2, WaiterKind::probe));
        set.start();
        verdict += set.waiter_name() == "epoll" ? 0 : 2;
        set.call_all([](Cpu&) {});
        set.stop();
        _exit(verdict);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    REQUIRE(WEXITSTATUS(status) == 0);
}

TEST_CASE("wake-ups: however many ring, a sleeper gets one eventfd write, and a CPU that is awake none")
{
    RealClock clock;
    CpuSetOptions options = sleepy(2, WaiterKind::epoll);
    std::vector<std::atomic<std::uint32_t>> words(2 * 16); // one line apart, as in a page that clients map
    options.sleep_words = words.data();
    CpuSet set(clock, options); // never started: nobody else reads the doorbell
    Cpu& cpu = set.cpu(1);
    REQUIRE(&cpu.sleep_word() == &words[16]);
    std::uint64_t rings = 0;
    cpu.ring();
    REQUIRE(read(cpu.doorbell_fd(), &rings, sizeof rings) == -1);
    words[16] = 1; // asleep
    cpu.ring();
    cpu.ring();
    REQUIRE(read(cpu.doorbell_fd(), &rings, sizeof rings) == 8);
    REQUIRE(rings == 1);
    REQUIRE(words[16] == 0);
}
