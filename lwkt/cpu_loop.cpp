// One round of a CPU: classes in order, each within its budget, with the clock looked at again between batches.
#include <algorithm>
#include <iterator>

#include "lwkt/cpu_impl.hpp"

namespace lwkt {
namespace {

constexpr std::uint32_t batch_items = 16;
constexpr std::uint32_t take_in_max = 256; // per ring and round, so that a flood cannot hold up the clock
constexpr std::uint32_t low_items_min = 4; // what bio and gen get when packets and sockets press; doubles with age
constexpr std::uint32_t age_max = 8;

template <typename T>
void close_gaps(std::vector<T*>& list)
{
    list.erase(std::remove(list.begin(), list.end(), nullptr), list.end());
}

} // namespace

// True when work was done or is left.
bool CpuImpl::round()
{
    if (removed) {
        compact();
    }
    base::count(cpu.counters_.rounds);
    if (!fresh) {
        cpu.refresh_now();
    }
    fresh = false;
    bool worked = take_in();
    worked |= run_batch(Class::clock, batch_items) != 0;
    bool pressed = false;
    worked |= run_packets_and_sockets(pressed);
    run_rollups();
    bool low = run_low(Class::bio, pressed);
    low |= run_low(Class::gen, pressed);
    if (low) {
        run_rollups();
    }
    worked |= low;
    worked |= flush_spills();
    ring_doorbells();
    if (worked) {
        base::count(cpu.counters_.busy_rounds);
    }
    return worked || !queues_empty();
}

// Moves what arrived into the class queues.
bool CpuImpl::take_in()
{
    std::uint64_t taken = 0;
    for (std::size_t from = 0; from < incoming.size(); ++from) {
        CpuRing* in = incoming[from];
        if (in == nullptr) {
            continue;
        }
        Sent batch[32];
        std::uint32_t n = 0;
        for (std::uint32_t of_ring = 0; of_ring < take_in_max && (n = in->ring.pop(batch, 32)) != 0; of_ring += n) {
            for (std::uint32_t i = 0; i < n; ++i) {
                __builtin_prefetch(&batch[i].message(), 1); // the lines of a burst come at once, to be written
            }
            for (std::uint32_t i = 0; i < n; ++i) {
                classes[batch[i].cls()].queue.push(batch[i].message());
            }
            taken += n;
        }
        // Relaxed is enough here: a request that is missed is seen in a later round, or before this CPU sleeps.
        if (in->want_space.load(std::memory_order_relaxed) != 0 &&
            in->want_space.exchange(0, std::memory_order_seq_cst) != 0) {
            ring_one(cpu.set().cpu(static_cast<CpuId>(from)));
        }
    }
    taken += take_posted();
    if (taken != 0) {
        base::count(cpu.counters_.messages_in, taken);
        raise_to(cpu.counters_.batch_max, static_cast<std::int64_t>(taken));
    }
    publish_backlog();
    return taken != 0;
}

// Messages of foreign threads come as a stack, the newest first.
std::uint64_t CpuImpl::take_posted()
{
    if (posted.load(std::memory_order_relaxed) == nullptr) {
        return 0;
    }
    Message* newest = posted.exchange(nullptr, std::memory_order_acquire);
    Message* oldest = nullptr;
    while (newest != nullptr) {
        Message* older = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = older;
    }
    std::uint64_t taken = 0;
    while (oldest != nullptr) {
        Message* m = oldest;
        oldest = m->next;
        take(*m);
        ++taken;
    }
    return taken;
}

void CpuImpl::publish_backlog()
{
    std::size_t waiting = 0;
    for (const ClassState& c : classes) {
        waiting += c.queue.size();
    }
    auto value = static_cast<std::uint32_t>(std::min<std::size_t>(waiting, UINT32_MAX));
    if (backlog.load(std::memory_order_relaxed) != value) {
        backlog.store(value, std::memory_order_relaxed);
    }
}

// Up to `items` messages of a class and up to as many items of each of its pollers; returns how many were done.
std::uint32_t CpuImpl::run_batch(Class cls, std::uint32_t items)
{
    ClassState& c = classes[static_cast<unsigned>(cls)];
    Instant start = cpu.now();
    std::uint32_t done = 0;
    while (done < items) {
        Message* m = c.queue.pop();
        if (m == nullptr) {
            break;
        }
        m->dispatch(*m);
        ++done;
    }
    for (std::size_t i = 0; i < c.pollers.size(); ++i) { // by index: a poller may add and remove pollers
        Poller* p = c.pollers[i];
        if (p == nullptr) {
            continue;
        }
        if (cls == Class::clock) {
            Instant due = p->deadline();
            if (due <= start) {
                count_lateness((start - due).count());
            }
        }
        done += p->poll(items);
    }
    if (done != 0) {
        base::count(cpu.counters_.items[static_cast<unsigned>(cls)], done);
    }
    if (done != 0 && timing) {
        std::int64_t took_us = (cpu.refresh_now() - start).count();
        base::count(cpu.counters_.busy_us[static_cast<unsigned>(cls)], static_cast<std::uint64_t>(took_us));
        raise_to(cpu.counters_.longest_handler_us, took_us);
        ring_doorbells();
    }
    return done;
}

void CpuImpl::count_lateness(std::int64_t late_us)
{
    auto bound = std::lower_bound(std::begin(late_bounds_us), std::end(late_bounds_us), late_us);
    base::count(cpu.counters_.timer_late[bound - std::begin(late_bounds_us)]);
    raise_to(cpu.counters_.timer_late_max_us, late_us);
}

// The clock again, if time has passed since it was looked at.
void CpuImpl::recheck_clock(Instant& looked_at)
{
    if (cpu.now() != looked_at) {
        looked_at = cpu.now();
        run_batch(Class::clock, batch_items);
    }
}

// net and serial in alternation; `pressed` tells that one of them used up its budget.
bool CpuImpl::run_packets_and_sockets(bool& pressed)
{
    struct Share {
        Class cls;
        std::uint32_t items = 0;
        Micros time{0};
        bool idle = false;
    };
    Share shares[2] = {{Class::net}, {Class::serial}};
    Instant looked_at = cpu.now();
    bool worked = false;
    for (bool again = true; again;) {
        again = false;
        for (Share& share : shares) {
            if (share.idle) {
                continue;
            }
            if (share.items >= options.class_items || share.time >= options.class_time) {
                pressed = true;
                share.idle = true;
                continue;
            }
            Instant start = cpu.now();
            std::uint32_t n = run_batch(share.cls, batch_items);
            share.items += n;
            share.time += cpu.now() - start;
            worked |= n != 0;
            again |= n != 0;
            recheck_clock(looked_at);
        }
    }
    return worked;
}

// bio or gen: the whole budget while nothing presses, else a share that grows with every round it was not enough.
bool CpuImpl::run_low(Class cls, bool pressed)
{
    ClassState& c = classes[static_cast<unsigned>(cls)];
    std::uint32_t budget = options.class_items;
    if (pressed) {
        budget = std::min(budget, low_items_min << c.age);
    }
    Instant start = cpu.now();
    Instant looked_at = start;
    std::uint32_t done = 0;
    std::uint32_t n = 1;
    while (n != 0 && done < budget && cpu.now() - start < options.class_time) {
        n = run_batch(cls, std::min(batch_items, budget - done));
        done += n;
        recheck_clock(looked_at);
    }
    bool short_of = pressed && (n != 0 || !c.queue.empty());
    c.age = short_of ? std::min(c.age + 1, age_max) : 0;
    return done != 0;
}

void CpuImpl::run_rollups()
{
    for (std::size_t i = 0; i < rollups.size(); ++i) {
        if (rollups[i] != nullptr) {
            rollups[i]->rollup();
        }
    }
}

void CpuImpl::compact()
{
    for (ClassState& c : classes) {
        close_gaps(c.pollers);
    }
    close_gaps(rollups);
    removed = false;
}

bool CpuImpl::queues_empty() const
{
    return std::all_of(classes.begin(), classes.end(), [](const ClassState& c) { return c.queue.empty(); });
}

// After stop(): dispatches what was on its way, without pollers. True when there was something.
bool CpuImpl::drain_messages()
{
    OnCpu here(cpu);
    cpu.refresh_now();
    bool worked = take_in();
    for (ClassState& c : classes) {
        for (std::size_t n = c.queue.size(); n-- > 0;) {
            Message* m = c.queue.pop();
            m->dispatch(*m);
            worked = true;
        }
    }
    run_rollups();
    worked |= flush_spills();
    ring_doorbells();
    return worked;
}

Instant CpuImpl::next_deadline() const
{
    Instant next = base::never;
    for (const ClassState& c : classes) {
        for (const Poller* p : c.pollers) {
            if (p != nullptr) {
                next = std::min(next, p->deadline());
            }
        }
    }
    return next;
}

} // namespace lwkt
