// The set: makes CPUs and the rings between them, and gives each a thread or is stepped by its caller.
#include "lwkt/cpu_set.hpp"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <latch>
#include <numeric>
#include <thread>

#include "lwkt/adopt.hpp"
#include "lwkt/futex.hpp"
#include "lwkt/port.hpp"
#include "lwkt/shard.hpp"
#include "lwkt/topology.hpp"

namespace lwkt {
namespace {

constexpr std::size_t words_per_line = 64 / sizeof(std::atomic<std::uint32_t>);
constexpr std::uint64_t slice_ns = 100'000; // the shortest that Linux takes
constexpr Micros inline_call_nap{100};
constexpr int drain_passes_max = 64; // messages that breed messages do not keep stop() from returning

struct alignas(64) SleepWord {
    std::atomic<std::uint32_t> word{0};
};
static_assert(sizeof(SleepWord) == 64);

struct CallMessage : Message {
    const std::function<void(Cpu&)>* function = nullptr;
    Cpu* cpu = nullptr;
};

void run_call(Message& m)
{
    auto& call = static_cast<CallMessage&>(m);
    (*call.function)(*call.cpu);
    reply(m);
}

// Signals are for the application's threads; what a fault of this thread raises stays deliverable.
void block_signals()
{
    sigset_t all;
    sigfillset(&all);
    for (int fault : {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) {
        sigdelset(&all, fault);
    }
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

// Short turns instead of long ones, for the same share of the CPU: a protocol thread that wakes runs before a program
// that computes, and a sched_yield() forfeits one of its own short turns (a whole default turn is milliseconds, and
// every connection of the CPU waits that long). A wish: kernels before 6.12 know no slices and change nothing.
void ask_for_short_slices()
{
    struct SchedAttr { // struct sched_attr, first version; glibc 2.36 has neither it nor the call
        std::uint32_t size = 0;
        std::uint32_t policy = SCHED_OTHER;
        std::uint64_t flags = 0;
        std::int32_t nice = 0;
        std::uint32_t priority = 0;
        std::uint64_t runtime_ns = 0; // of SCHED_OTHER: the slice
        std::uint64_t deadline_ns = 0;
        std::uint64_t period_ns = 0;
    } wish;
    static_assert(sizeof wish == 48);
    if (sched_getscheduler(0) != SCHED_OTHER) {
        return; // whoever started us chose
    }
    wish.size = sizeof wish;
    wish.nice = getpriority(PRIO_PROCESS, 0);
    wish.runtime_ns = slice_ns;
    syscall(SYS_sched_setattr, 0, &wish, 0U);
}

} // namespace

struct CpuSet::Impl {
    Impl(CpuSet& set, Clock& set_clock, const CpuSetOptions& set_options);
    void make_services();
    std::unique_ptr<Shard> make_shard(std::size_t i);
    void make_rings();
    void run_thread(std::size_t index, std::latch& running_threads);
    bool make_waiters(WaiterKind kind);
    void await_inline(CpuId to, CompletionPort& port);
    void close_shards();
    void await_visitors();

    CpuImpl& at(CpuId id) { return *cpus[id]->impl_; }

    Clock& clock;                                // c
    CpuSetOptions options;                       // c
    bool locks;                                  // c: giant or striped
    std::unique_ptr<SleepWord[]> own_words;      // c
    std::deque<Service> services;                // c: one a thread, where there are locks
    std::unique_ptr<SocketLocks[]> socket_locks; // c: where an operation takes three
    std::vector<std::unique_ptr<Cpu>> cpus;      // c
    std::vector<std::unique_ptr<CpuRing>> rings; // c
    std::vector<std::thread> threads;            // the thread that starts and stops
    std::string waiter_name = "none";            // as threads
    std::vector<std::atomic<bool>> bind_refused; // by CPU; written by its thread before start() returns
    std::vector<CpuId> order;                    // stepping thread: scratch
    std::atomic<bool> running{false};
};

CpuSet::Impl::Impl(CpuSet& set, Clock& set_clock, const CpuSetOptions& set_options)
    : clock(set_clock), options(set_options), locks(uses_locks(set_options.discipline)),
      bind_refused(set_options.pin.size())
{
    std::size_t n = options.cpus();
    INVARIANT(n >= 1 && n < base::no_cpu && !options.pin.empty() && options.class_items > 0);
    INVARIANT(options.packets_queued_max % 4 == 0);
    make_services();
    if (options.sleep_words == nullptr) {
        own_words = std::make_unique<SleepWord[]>(n);
    }
    for (std::size_t i = 0; i < n; ++i) {
        auto* word = own_words != nullptr ? &own_words[i].word : options.sleep_words + i * words_per_line;
        word->store(locks ? 1 : 0, std::memory_order_relaxed);        // a shard is always rung
        cpus.emplace_back(new Cpu(set, static_cast<CpuId>(i), word)); // the constructor is private
        cpus.back()->impl_ = std::make_unique<CpuImpl>(*cpus.back(), options, locks ? make_shard(i) : nullptr);
        cpus.back()->now_ = clock.now();
        if (locks) {
            services[i % services.size()].add(*cpus.back());
        }
    }
    order.resize(n);
    if (!locks) {
        make_rings();
    }
}

void CpuSet::Impl::make_services()
{
    if (!locks) {
        return;
    }
    for (std::size_t i = 0; i < std::min(options.cpus(), options.pin.size()); ++i) {
        services.emplace_back(clock);
    }
    if (options.locks_per_operation == 3) {
        socket_locks = std::make_unique<SocketLocks[]>(SocketLocks::count);
        for (std::uint32_t i = 0; i < SocketLocks::count; ++i) {
            socket_locks[i].snd.choose(options.lock);
            socket_locks[i].rcv.choose(options.lock);
        }
    }
}

std::unique_ptr<Shard> CpuSet::Impl::make_shard(std::size_t i)
{
    return std::make_unique<Shard>(options.lock, services[i % services.size()], socket_locks.get());
}

void CpuSet::Impl::make_rings()
{
    std::size_t n = cpus.size();
    for (auto& cpu : cpus) {
        cpu->impl_->outgoing.resize(n);
        cpu->impl_->incoming.resize(n);
        cpu->impl_->dirty.reserve(n);
    }
    for (CpuId from = 0; from < n; ++from) {
        for (CpuId to = 0; to < n; ++to) {
            if (from != to) {
                rings.push_back(std::make_unique<CpuRing>(options.ring_slots));
                at(from).outgoing[to].ring = rings.back().get();
                at(from).outgoing[to].target = cpus[to].get();
                at(to).incoming[from] = rings.back().get();
            }
        }
    }
}

// The same for every CPU, so that one name describes the set.
bool CpuSet::Impl::make_waiters(WaiterKind kind)
{
    for (auto& cpu : cpus) {
        cpu->impl_->waiter = Waiter::make(kind, cpu->impl_->doorbell_fd, cpu->impl_->doorbells_fd);
        if (cpu->impl_->waiter == nullptr) {
            return false;
        }
        waiter_name = cpu->impl_->waiter->name();
    }
    return true;
}

void CpuSet::Impl::run_thread(std::size_t index, std::latch& running_threads)
{
    block_signals();
    std::string name = options.thread_name + "/" + std::to_string(index);
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
    ask_for_short_slices();
    prctl(PR_SET_TIMERSLACK, 1UL); // 50 us by default, which would be the lateness of every timer
    if (options.pin[index] >= 0 && !bind_this_thread(options.pin[index])) {
        bind_refused[index].store(true, std::memory_order_relaxed);
    }
    if (locks) {
        running_threads.count_down();
        services[index].run();
        return;
    }
    Cpu& cpu = *cpus[index];
    OnCpu here(cpu);
    running_threads.count_down();
    cpu.impl_->run();
}

CpuSet::CpuSet(Clock& clock, const CpuSetOptions& options) : impl_(std::make_unique<Impl>(*this, clock, options))
{
}

CpuSet::~CpuSet()
{
    if (running()) {
        stop();
    }
    impl_->await_visitors(); // that were on their way when the links were taken apart
}

// No thread of another set is inside any more when this returns, and none will be.
void CpuSet::Impl::close_shards()
{
    for (auto& cpu : cpus) {
        cpu->impl_->shard->closed.store(true, std::memory_order_seq_cst);
    }
    await_visitors();
}

void CpuSet::Impl::await_visitors()
{
    for (auto& cpu : cpus) {
        while (cpu->impl_->shard != nullptr && cpu->impl_->shard->expected.load(std::memory_order_seq_cst) != 0) {
            std::this_thread::yield();
        }
    }
}

std::size_t CpuSet::size() const
{
    return impl_->cpus.size();
}

Cpu& CpuSet::cpu(CpuId id)
{
    INVARIANT(id < impl_->cpus.size());
    return *impl_->cpus[id];
}

int CpuSet::pin_of(CpuId id) const
{
    return impl_->locks ? -1 : impl_->options.pin[id]; // shards are run wherever their visitors are
}

Discipline CpuSet::discipline() const
{
    return impl_->options.discipline;
}

Clock& CpuSet::clock() const
{
    return impl_->clock;
}

bool CpuSet::running() const
{
    return impl_->running.load(std::memory_order_acquire);
}

std::string CpuSet::waiter_name() const
{
    return impl_->waiter_name;
}

std::vector<CpuId> CpuSet::unbound() const
{
    std::vector<CpuId> result;
    for (std::size_t i = 0; i < impl_->bind_refused.size(); ++i) {
        if (impl_->bind_refused[i].load(std::memory_order_relaxed)) {
            result.push_back(static_cast<CpuId>(i));
        }
    }
    return result;
}

void CpuSet::start()
{
    INVARIANT(!running());
    if (impl_->locks) {
        impl_->waiter_name = "futex";
    } else {
        WaiterKind kind = impl_->options.waiter;
        bool made = impl_->make_waiters(kind == WaiterKind::probe ? WaiterKind::io_uring : kind);
        if (!made && kind == WaiterKind::probe) {
            made = impl_->make_waiters(WaiterKind::epoll);
        }
        INVARIANT(made);
    }
    std::size_t threads = impl_->locks ? impl_->services.size() : size();
    if (impl_->options.discipline == Discipline::inline_) {
        threads = 0; // who adopts a CPU is its thread
    }
    std::latch running_threads(static_cast<std::ptrdiff_t>(threads));
    for (auto& cpu : impl_->cpus) {
        if (impl_->locks) {
            cpu->impl_->shard->closed.store(false, std::memory_order_seq_cst);
        }
    }
    impl_->running.store(true, std::memory_order_release);
    for (auto& cpu : impl_->cpus) {
        cpu->impl_->stop.store(false, std::memory_order_relaxed);
    }
    for (Service& service : impl_->services) {
        service.reset();
    }
    for (std::size_t i = 0; i < threads; ++i) {
        impl_->threads.emplace_back([this, i, &running_threads] { impl_->run_thread(i, running_threads); });
    }
    running_threads.wait();
}

void CpuSet::stop()
{
    INVARIANT(running() && Cpu::current() == nullptr);
    for (Service& service : impl_->services) {
        service.stop();
    }
    for (auto& cpu : impl_->cpus) {
        cpu->impl_->stop.store(true, std::memory_order_seq_cst);
        if (!impl_->locks) {
            cpu->ring();
        }
    }
    for (std::thread& thread : impl_->threads) {
        thread.join();
    }
    impl_->threads.clear();
    if (impl_->locks) {
        impl_->close_shards();
    }
    for (auto& cpu : impl_->cpus) {
        std::lock_guard nobody_adopts_it(cpu->impl_->seat);
    }
    for (auto& cpu : impl_->cpus) {
        cpu->impl_->waiter.reset();
    }
    impl_->running.store(false, std::memory_order_release);
    bool left = true;
    for (int pass = 0; left && pass < drain_passes_max; ++pass) {
        left = false;
        for (auto& cpu : impl_->cpus) {
            left |= cpu->impl_->drain_messages();
        }
    }
}

bool CpuSet::step(base::Random* order)
{
    auto& ids = impl_->order;
    std::iota(ids.begin(), ids.end(), CpuId{0});
    if (order != nullptr) {
        for (auto left = static_cast<std::uint32_t>(ids.size()); left > 1; --left) {
            std::swap(ids[left - 1], ids[order->below(left)]);
        }
    }
    bool worked = false;
    for (CpuId id : ids) {
        worked |= step_one(id);
    }
    return worked;
}

bool CpuSet::step_one(CpuId id)
{
    INVARIANT(!running());
    CpuImpl& stepped = impl_->at(id);
    if (impl_->locks) {
        std::uint64_t before = stepped.work_done();
        INVARIANT(stepped.enter(nullptr, nullptr));
        return stepped.work_done() != before;
    }
    OnCpu here(stepped.cpu);
    // A round looks at a part of what may have work; only a whole look tells that there is none.
    return stepped.round() || (stepped.pollers_pending() && stepped.round());
}

Instant CpuSet::next_deadline() const
{
    Instant next = base::never;
    for (const auto& cpu : impl_->cpus) {
        next = std::min(next, cpu->impl_->next_deadline());
    }
    return next;
}

bool CpuSet::sleep_one(CpuId id, Instant& until)
{
    INVARIANT(!running() && !impl_->locks);
    CpuImpl& stepped = impl_->at(id);
    OnCpu here(stepped.cpu);
    if (stepped.settle(until)) {
        return true;
    }
    stepped.set_sleep_word(0);
    return false;
}

bool CpuSet::work_waits(CpuId id) const
{
    return impl_->at(id).pollers_pending();
}

void CpuSet::post(CpuId to, Message& m)
{
    INVARIANT(m.dispatch != nullptr);
    Cpu& target = cpu(to);
    target.impl_->push_posted(m);
    if (target.sleep_word().load(std::memory_order_seq_cst) != 0) {
        target.ring();
    }
}

void CpuSet::call(CpuId to, const std::function<void(Cpu&)>& f)
{
    INVARIANT(Cpu::current() == nullptr || &Cpu::current()->set() != this);
    if (impl_->locks) {
        INVARIANT(try_enter(to, [&](Cpu& cpu) { f(cpu); }));
        return;
    }
    CompletionPort port;
    CallMessage call;
    call.dispatch = run_call;
    call.reply_port = &port;
    call.function = &f;
    call.cpu = &cpu(to);
    post(to, call);
    if (running() && impl_->options.discipline == Discipline::inline_) {
        impl_->await_inline(to, port);
        return;
    }
    if (running()) {
        port.wait();
        return;
    }
    while (!port.done()) {
        step();
    }
}

// The CPU has a thread, perhaps the calling one, or none: then this one steps in.
void CpuSet::Impl::await_inline(CpuId to, CompletionPort& port)
{
    CpuImpl& target = at(to);
    while (!port.done()) {
        if (run_adopted() || port.done()) {
            continue;
        }
        if (adopted_of(target.cpu.set()) != &target.cpu && target.seat.try_lock()) {
            {
                OnCpu here(target.cpu);
                target.round();
            }
            target.seat.unlock();
        } else {
            std::atomic<std::uint32_t> nobody_wakes{0};
            futex_wait(nobody_wakes, 0, clock.now() + inline_call_nap);
        }
    }
}

bool CpuSet::try_enter(CpuId to, void (*f)(void*, Cpu&), void* argument, std::uint32_t socket)
{
    INVARIANT(impl_->locks);
    return cpu(to).impl_->enter(f, argument, socket);
}

Snapshot CpuSet::snapshot(CpuId id) const
{
    INVARIANT(id < size());
    return Snapshot{impl_->cpus[id]->counters()};
}

Snapshot CpuSet::snapshot() const
{
    Snapshot sum;
    for (const auto& cpu : impl_->cpus) {
        sum += Snapshot{cpu->counters()};
    }
    return sum;
}

void CpuSet::call_all(const std::function<void(Cpu&)>& f)
{
    for (CpuId id = 0; id < size(); ++id) {
        call(id, f);
    }
}

void CpuSet::configure(const std::function<void(Cpu&)>& f)
{
    if (running()) {
        call_all(f);
        return;
    }
    for (auto& cpu : impl_->cpus) {
        f(*cpu);
    }
}

} // namespace lwkt
