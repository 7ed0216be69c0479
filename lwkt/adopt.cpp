// See adopt.hpp. The sleeping protocol is the one of cpu_sleep.cpp, over all CPUs of the thread at once.
#include "lwkt/adopt.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>

#include "base/pause.hpp"
#include "lwkt/cpu_impl.hpp"

namespace lwkt {
namespace {

constexpr unsigned adopted_max = 8; // sets that one thread uses
constexpr int looks_per_read = 16;  // of the clock
constexpr unsigned reads_per_yield = 4;
constexpr int drain_rounds_max = 1000;

// Plain data: it outlives the thread_local destructors.
struct Adoption {
    CpuImpl* cpus[adopted_max] = {};
    unsigned count = 0;
};
constinit thread_local Adoption adoption;

template <typename F>
bool any(F f)
{
    bool found = false;
    for (unsigned i = 0; i < adoption.count; ++i) {
        OnCpu here(adoption.cpus[i]->cpu);
        found |= f(*adoption.cpus[i]);
    }
    return found;
}

bool arrived(const std::atomic<std::uint32_t>& woken)
{
    return woken.load(std::memory_order_relaxed) != 0 || any([](CpuImpl& c) { return c.something_arrived(); });
}

// True when it paid.
bool spin(Instant until, const std::atomic<std::uint32_t>& woken)
{
    Clock& clock = adoption.cpus[0]->cpu.set().clock();
    for (unsigned reads = 1; clock.now() < until; ++reads) {
        for (int looks = 0; looks < looks_per_read; ++looks) {
            if (arrived(woken)) {
                return true;
            }
            base::pause_cpu();
        }
        if (reads % reads_per_yield == 0) {
            sched_yield();
        }
    }
    return false;
}

// The first CPU's waiter, which also watches the doorbells of the others.
void sleep_in_waiter(Instant until)
{
    CpuImpl& first = *adoption.cpus[0];
    std::vector<int>& fds = first.wanted_fds;
    fds.clear();
    any([&](CpuImpl& c) {
        c.add_poller_fds(fds);
        if (&c != &first) {
            fds.push_back(c.doorbell_fd);
        }
        return false;
    });
    std::sort(fds.begin(), fds.end());
    fds.erase(std::unique(fds.begin(), fds.end()), fds.end());
    first.waiter->watch_only(fds);
    Instant now = first.cpu.refresh_now();
    if (until > now) {
        first.waiter->wait(until == base::never ? Micros::max() : until - now);
    }
    for (unsigned i = 1; i < adoption.count; ++i) {
        std::uint64_t rings = 0;
        [[maybe_unused]] auto n = read(adoption.cpus[i]->doorbell_fd, &rings, sizeof rings); // empty: not rung
    }
}

} // namespace

Adopted::Adopted(Cpu& cpu) : cpu_(cpu)
{
    CpuImpl& impl = CpuImpl::of(cpu);
    INVARIANT(cpu.set().discipline() == Discipline::inline_ && cpu.set().running());
    INVARIANT(adoption.count < adopted_max && adopted_of(cpu.set()) == nullptr);
    impl.seat.lock();
    adoption.cpus[adoption.count++] = &impl;
}

Adopted::~Adopted()
{
    CpuImpl& impl = CpuImpl::of(cpu_);
    for (int rounds = 0; rounds < drain_rounds_max; ++rounds) {
        OnCpu here(cpu_);
        if (!impl.round()) {
            break;
        }
    }
    // What is given back may be closed, and its number another's next.
    if (adoption.cpus[0]->waiter != nullptr) {
        adoption.cpus[0]->waiter->watch_only({});
    }
    auto* end = adoption.cpus + adoption.count;
    INVARIANT(std::find(adoption.cpus, end, &impl) != end);
    std::remove(adoption.cpus, end, &impl);
    --adoption.count;
    impl.seat.unlock();
}

Cpu* adopted_of(const CpuSet& set)
{
    for (unsigned i = 0; i < adoption.count; ++i) {
        if (&adoption.cpus[i]->cpu.set() == &set) {
            return &adoption.cpus[i]->cpu;
        }
    }
    return nullptr;
}

bool has_adopted()
{
    return adoption.count != 0;
}

void on_cpu(Cpu& adopted, void (*f)(void*), void* argument)
{
    INVARIANT(adopted_of(adopted.set()) == &adopted && Cpu::current() == nullptr);
    OnCpu here(adopted);
    adopted.refresh_now();
    f(argument);
}

bool run_adopted()
{
    return any([](CpuImpl& c) { return c.round(); });
}

void wait_adopted(Instant deadline, const std::atomic<std::uint32_t>& woken)
{
    INVARIANT(adoption.count != 0);
    CpuImpl& first = *adoption.cpus[0];
    auto until = [&] {
        Instant next = deadline;
        any([&](CpuImpl& c) {
            next = std::min(next, c.next_deadline());
            return false;
        });
        return next;
    };
    Instant start = first.cpu.refresh_now();
    Micros most = first.options.spin_max;
    if (spin(std::min(until(), start + first.patience.limit(start, most)), woken)) {
        first.patience.waited(Micros{0}, most);
        return;
    }
    auto set_words = [](std::uint32_t value) {
        for (unsigned i = 0; i < adoption.count; ++i) {
            adoption.cpus[i]->set_sleep_word(value);
        }
    };
    set_words(1);
    bool busy = any([](CpuImpl& c) { return !c.nothing_to_do(); });
    if (!busy && woken.load(std::memory_order_seq_cst) == 0) {
        first.count_sleep();
        sleep_in_waiter(until());
    }
    set_words(0);
    first.patience.slept(first.cpu.refresh_now() - start, most);
}

} // namespace lwkt
