// Wakeups, merged to one per waiter and batch. Owner: this CPU's protocol thread.
// Order, which loses no wake-up: offsets and states are published; a full barrier; the waiters' words are read; ready
// bits are set; the sleeping words are read. A waiter does the reverse: sets its bit and `sleeping`, then looks at the
// offsets.
#include <unistd.h>

#include <algorithm>
#include <bit>

#include "base/plant.hpp"
#include "gateway/gateway_cpu.hpp"

namespace gateway {

void GatewayCpu::event(SocketRecord& rec)
{
    watch_idle(rec);
    queue_event(*rec.client, rec.slot);
}

// Several events of one socket in a row are one; more duplicates cost a second look at the same waiters' words.
void GatewayCpu::queue_event(Client& c, std::uint32_t slot, For whom)
{
    if (events_.empty() || events_.back().client != &c || events_.back().slot != slot) {
        events_.push_back({&c, slot, whom});
    } else {
        events_.back().whom = std::max(events_.back().whom, whom);
    }
}

// What is freed leads to events too; where callers run the stack there may be no other roll-up for long.
void GatewayCpu::rollup()
{
    bool served = false; // a part each time
    do {
        tell_waiters();
        // By index: freeing may bring more (never does today, but costs nothing).
        for (std::size_t i = 0; i < dead_.size(); ++i) {
            free_record(*dead_[i]);
        }
        dead_.clear();
        if (!served && !to_serve_.empty()) {
            served = true;
            serve_wanted_rings();
        }
    } while (!events_.empty());
}

void GatewayCpu::tell_waiters()
{
    if (events_.empty()) {
        return;
    }
    fence_.exchange(1, std::memory_order_seq_cst);
    for (const EventRef& e : events_) {
        collect_waiters(*e.client, e.slot, e.whom);
    }
    events_.clear();
    for (Client* c : wakes_) {
        wake_client(*c);
    }
    wakes_.clear();
}

void GatewayCpu::collect_waiters(Client& c, std::uint32_t slot, For whom)
{
    ClientCpu& mine = c.cpu[me()];
    auto& app = c.view().slot(slot).app;
    std::uint64_t waiters[2] = {
        app.waiters[0].load(std::memory_order_seq_cst), app.waiters[1].load(std::memory_order_seq_cst)};
    if ((waiters[0] | waiters[1]) == 0) {
        return; // of a connection that ends or is not accepted yet
    }
    for (std::uint32_t half = 0; half < 2; ++half) {
        for (std::uint64_t m = waiters[half]; m != 0; m &= m - 1) {
            std::uint32_t w = half * 64 + static_cast<std::uint32_t>(std::countr_zero(m));
            auto kind = static_cast<sockbuf::WaiterKind>(c.waiters[w].kind.load(std::memory_order_relaxed));
            bool is_set = kind == sockbuf::WaiterKind::set;
            if (kind == sockbuf::WaiterKind::none || (is_set && whom == For::threads)) {
                continue;
            }
            if (is_set) {
                sockbuf::set_ready(c.view(), w, slot);
            }
            std::uint64_t bit = m & -m;
            mine.wake[half] |= bit;
            if (whom == For::sleepers) {
                mine.wake_anyway[half] |= bit;
            }
        }
    }
    if (!mine.wake_queued && (mine.wake[0] | mine.wake[1]) != 0) {
        mine.wake_queued = true;
        wakes_.push_back(&c);
    }
}

void GatewayCpu::wake_client(Client& c)
{
    ClientCpu& mine = c.cpu[me()];
    for (std::uint32_t half = 0; half < 2; ++half) {
        for (std::uint64_t m = mine.wake[half]; m != 0; m &= m - 1) {
            std::uint32_t w = half * 64 + static_cast<std::uint32_t>(std::countr_zero(m));
            auto& sleeping = c.view().waiter(w).sleeping;
            // The exchange first, then the system call: a waiter that goes to sleep again in between is not missed.
            bool sleeps =
                sleeping.load(std::memory_order_seq_cst) != 0 && sleeping.exchange(0, std::memory_order_seq_cst) != 0;
            if (!sleeps && (mine.wake_anyway[half] & m & -m) == 0) {
                continue;
            }
            if (base::planted(base::Plant::wakeup_lost) && w % 3 == 1) {
                continue;
            }
            if (shared_.wake) {
                shared_.wake(c.id, w);
                continue;
            }
            int fd = c.waiters[w].write_fd.load(std::memory_order_acquire);
            if (fd >= 0 && ::write(fd, "", 1) < 0) {
                fault(c); // full (64 KiB of unread wakes) or closed: the reader's own doing
            }
        }
        mine.wake[half] = mine.wake_anyway[half] = 0;
    }
    mine.wake_queued = false;
}

} // namespace gateway
