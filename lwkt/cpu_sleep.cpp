// What a CPU does when a round found nothing: look again for a while (adaptive polling), then sleep.
#include <sched.h>

#include <algorithm>

#include "base/pause.hpp"
#include "lwkt/cpu_impl.hpp"

namespace lwkt {
namespace {

constexpr int looks_per_round = 16;           // far below a microsecond together, so that now() stays right
constexpr std::uint32_t rounds_per_yield = 4; // a yield costs about as much as a round with its looks
constexpr Micros yield_contended{4};          // a yield that takes longer let somebody else run

} // namespace

void CpuImpl::run()
{
    while (!stop.load(std::memory_order_relaxed)) {
        if (round()) {
            idling = false;
        } else {
            idle();
        }
    }
}

// A round without work is over.
void CpuImpl::idle()
{
    if (!idling) {
        idling = true;
        idle_since = cpu.now();
        idle_rounds = 0;
        others_ran = false;
    }
    if (others_ran) { // they have had the CPU, nothing came of it for us, and they want it still
        patience.unpaid();
        sleep();
    } else if (cpu.now() - idle_since >= patience.limit(cpu.now(), options.spin_max)) {
        sleep();
    } else {
        if (++idle_rounds % rounds_per_yield == 0) {
            yield();
        } else {
            cpu.refresh_now();
        }
        for (int looks = 0; looks < looks_per_round && !something_arrived(); ++looks) {
            base::pause_cpu();
        }
        fresh = true;
    }
}

// Cheaper than a round: the rings, the posts and what pollers can tell without polling.
bool CpuImpl::something_arrived() const
{
    if (posted.load(std::memory_order_relaxed) != nullptr) {
        return true;
    }
    for (const CpuRing* in : incoming) {
        if (in != nullptr && in->ring.look()) {
            return true;
        }
    }
    return pollers_pending();
}

bool CpuImpl::pollers_pending() const
{
    for (const ClassState& c : classes) {
        for (const Poller* p : c.pollers) {
            if (p != nullptr && p->pending()) {
                return true;
            }
        }
    }
    return false;
}

void CpuImpl::yield()
{
    Instant before = cpu.refresh_now();
    sched_yield();
    Micros took = cpu.refresh_now() - before;
    others_ran = took >= yield_contended;
    patience.yielded(cpu.now(), took);
}

void CpuImpl::sleep()
{
    Instant next = base::never;
    if (settle(next)) {
        base::count(cpu.counters_.sleeps);
        watch_pollers();
        waiter->wait(next == base::never ? Micros::max() : next - cpu.now());
    }
    cpu.sleep_word_->store(0, std::memory_order_seq_cst);
    patience.slept(cpu.refresh_now() - idle_since, options.spin_max);
    idling = false;
}

// Announces the sleep and looks once more; true when there is nothing to do before `next`.
bool CpuImpl::settle(Instant& next)
{
    set_sleep_word(1);
    if (!nothing_to_do()) {
        return false;
    }
    next = next_deadline();
    return next == base::never || next > cpu.refresh_now();
}

// Called with the sleep word set: looks at every source of work. What is published after the look finds the word set.
bool CpuImpl::nothing_to_do()
{
    run_rollups();
    if (spilled != 0) {
        for (Outgoing& out : outgoing) {
            if (!out.spill.empty()) {
                out.ring->want_space.store(1, std::memory_order_seq_cst);
                out.ring->fence();
            }
        }
        flush_spills();
    }
    ring_doorbells();
    if (!queues_empty() || stop.load(std::memory_order_seq_cst) || posted.load(std::memory_order_seq_cst) != nullptr) {
        return false;
    }
    for (CpuRing* in : incoming) {
        if (in == nullptr) {
            continue;
        }
        in->fence();
        if (!in->ring.empty() || in->want_space.load(std::memory_order_seq_cst) != 0) {
            return false;
        }
    }
    return !pollers_pending();
}

void CpuImpl::add_poller_fds(std::vector<int>& fds) const
{
    for (const ClassState& c : classes) {
        for (const Poller* p : c.pollers) {
            int fd = p == nullptr ? -1 : p->wait_fd();
            if (fd >= 0) {
                fds.push_back(fd);
            }
        }
    }
}

void CpuImpl::count_sleep()
{
    base::count(cpu.counters_.sleeps);
}

void CpuImpl::watch_pollers()
{
    wanted_fds.clear();
    add_poller_fds(wanted_fds);
    std::sort(wanted_fds.begin(), wanted_fds.end());
    wanted_fds.erase(std::unique(wanted_fds.begin(), wanted_fds.end()), wanted_fds.end());
    waiter->watch_only(wanted_fds);
}

} // namespace lwkt
