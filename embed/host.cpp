#include "embed/host.hpp"

#include <sched.h>

#include <algorithm>
#include <span>
#include <tuple>
#include <utility>

#include "lwkt/adopt.hpp"
#include "lwkt/futex.hpp"

namespace embed {

std::unique_lock<std::mutex> Host::control()
{
    std::unique_lock lock(control_, std::try_to_lock);
    while (!lock && lwkt::has_adopted()) {
        let_others_run();
        std::ignore = lock.try_lock();
    }
    if (!lock) {
        lock.lock();
    }
    return lock;
}

// Those may be waiting for a CPU of this thread.
void Host::let_others_run()
{
    if (!lwkt::run_adopted()) {
        sched_yield();
    }
}

int Host::make_waiter(sockbuf::WaiterKind kind, client::WaiterHandle& out)
{
    auto lock = control();
    if (!gateway_.add_waiter(*family_, 0, kind, -1, out.index)) {
        return -ENOSPC;
    }
    out.fd = own_waiter;
    return 0;
}

void Host::drop_waiter(const client::WaiterHandle& w)
{
    auto lock = control();
    gateway_.drop_waiter(*family_, 0, w.index);
}

bool Host::look(std::uint32_t cpu, std::uint32_t slot)
{
    return set_.try_enter(
        static_cast<base::CpuId>(cpu), [&](lwkt::Cpu&) { gateway_.look(*family_, slot); }, slot);
}

bool Host::request(std::uint32_t cpu, const sockbuf::Request& r)
{
    return set_.try_enter(
        static_cast<base::CpuId>(cpu), [&](lwkt::Cpu&) { gateway_.request(*family_, r); }, r.slot);
}

void ThreadHost::wake(std::uint32_t waiter)
{
    std::atomic<std::uint32_t>& word = words_[waiter].woken;
    word.store(1, std::memory_order_seq_cst);
    auto wake_word = [](void* w) { lwkt::futex_wake(*static_cast<std::atomic<std::uint32_t>*>(w), 1); };
    lwkt::after_release(wake_word, &word);
}

int ThreadHost::sleep(const client::WaiterHandle& w, base::Instant deadline)
{
    std::atomic<std::uint32_t> nobody_wakes{0};
    std::atomic<std::uint32_t>& word = is_waiter(w) ? words_[w.index].woken : nobody_wakes;
    while (word.exchange(0, std::memory_order_seq_cst) == 0) {
        int error = lwkt::futex_wait(word, 0, deadline);
        if (error == EINTR || error == ETIMEDOUT) {
            return word.exchange(0, std::memory_order_seq_cst) != 0 ? 0 : -error;
        }
    }
    return 0;
}

// ---- inline ---------------------------------------------------------------------------------------------------------

namespace {

// Looks that a thread takes before it runs a round without waiting, so that a long handler does not hold up its own
// output and timers.
constexpr unsigned looks_per_round = 16;
thread_local unsigned looks = 0;

} // namespace

void InlineHost::wake(std::uint32_t waiter)
{
    Word& word = words_[waiter];
    word.woken.store(1, std::memory_order_seq_cst);
    lwkt::Cpu* sleeper = word.sleeper.load(std::memory_order_seq_cst);
    if (sleeper != nullptr && sleeper->sleep_word().load(std::memory_order_seq_cst) != 0) {
        sleeper->ring();
    }
    if (word.on_futex.load(std::memory_order_seq_cst) != 0) {
        lwkt::futex_wake(word.woken, 1);
    }
}

int InlineHost::sleep(const client::WaiterHandle& w, base::Instant deadline)
{
    std::atomic<std::uint32_t> nobody_wakes{0};
    Word* word = is_waiter(w) ? &words_[w.index] : nullptr;
    lwkt::Cpu* mine = lwkt::adopted_of(set_);
    if (mine == nullptr) {
        if (word != nullptr) {
            word->on_futex.store(1, std::memory_order_seq_cst);
        }
        int rc = ThreadHost::sleep(w, deadline);
        if (word != nullptr) {
            word->on_futex.store(0, std::memory_order_relaxed);
        }
        return rc;
    }
    std::atomic<std::uint32_t>& woken = word != nullptr ? word->woken : nobody_wakes;
    looks = 0;
    for (;;) {
        bool worked = lwkt::run_adopted();
        if (woken.load(std::memory_order_relaxed) != 0 && woken.exchange(0, std::memory_order_seq_cst) != 0) {
            return 0;
        }
        if (now() >= deadline) {
            return -ETIMEDOUT;
        }
        if (worked) {
            continue;
        }
        if (word != nullptr) {
            word->sleeper.store(mine, std::memory_order_seq_cst);
        }
        lwkt::wait_adopted(deadline, woken);
        if (word != nullptr) {
            word->sleeper.store(nullptr, std::memory_order_relaxed);
        }
    }
}

// On the caller's own CPU; what it leaves to be sent goes out with the next round.
bool InlineHost::look(std::uint32_t cpu, std::uint32_t slot)
{
    lwkt::Cpu* mine = lwkt::adopted_of(set_);
    if (mine == nullptr || mine->id() != cpu || lwkt::Cpu::current() != nullptr) {
        return false;
    }
    lwkt::on_cpu(*mine, [&] { gateway_.look(*family_, slot); });
    if (++looks % looks_per_round == 0) {
        lwkt::run_adopted();
    }
    return true;
}

bool InlineHost::request(std::uint32_t cpu, const sockbuf::Request& r)
{
    lwkt::Cpu* mine = lwkt::adopted_of(set_);
    if (mine == nullptr || mine->id() != cpu || lwkt::Cpu::current() != nullptr) {
        return false;
    }
    lwkt::on_cpu(*mine, [&] { gateway_.request(*family_, r); });
    return true;
}

std::uint32_t InlineHost::home()
{
    lwkt::Cpu* mine = lwkt::adopted_of(set_);
    return mine == nullptr ? UINT32_MAX : mine->id();
}

// ---- striped --------------------------------------------------------------------------------------------------------

StripedHost::StripedHost(gateway::Gateway& gateway, lwkt::CpuSet& set, const std::vector<int>& pins)
    : ThreadHost(gateway, set), services_(static_cast<std::uint32_t>(std::min(pins.size(), set.size()))),
      service_on_(client::threads_near(std::span(pins).first(services_)))
{
}

std::uint32_t StripedHost::home()
{
    auto here = static_cast<std::size_t>(service_on_.empty() ? 0 : sched_getcpu());
    if (here >= service_on_.size() || service_on_[here] == client::no_cpu_near) {
        return client::no_cpu_near; // no shard has this number
    }
    static thread_local std::uint32_t turn = 0;
    std::uint32_t first = service_on_[here];
    std::uint32_t shards = (static_cast<std::uint32_t>(set_.size()) - first + services_ - 1) / services_;
    return first + turn++ % shards * services_;
}

int SimulationHost::sleep(const client::WaiterHandle& w, base::Instant deadline)
{
    bool nobody_wakes = false;
    bool& woken = is_waiter(w) ? woken_[w.index] : nobody_wakes;
    for (;;) {
        if (std::exchange(woken, false)) {
            return 0;
        }
        if (world_.now() >= deadline) {
            return -ETIMEDOUT;
        }
        if (!world_.wait(woken, deadline)) {
            if (deadline == base::never) {
                return -EDEADLK;
            }
            world_.clock().advance_to(deadline);
        }
    }
}

} // namespace embed
