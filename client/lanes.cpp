#include "client/lanes.hpp"

#include <sched.h>

namespace client {

namespace {

// The order matters to netd when we die in between: held by us, out of the lane, no longer held by the lane.
bool claim(Session& s, std::uint64_t entry, Sock& out, std::atomic<std::uint32_t>& consumed, std::uint32_t next)
{
    out = {static_cast<std::uint32_t>(entry), static_cast<std::uint32_t>(entry >> 32)};
    SocketSlot* slot = find_slot(s, out);
    if (slot == nullptr) { // withdrawn by netd meanwhile
        consumed.store(next, std::memory_order_release);
        return false;
    }
    slot->share.holders.fetch_or(process_bit(s), std::memory_order_seq_cst);
    consumed.store(next, std::memory_order_release);
    slot->share.holders.fetch_and(~sockbuf::lane_holder, std::memory_order_seq_cst);
    return true;
}

} // namespace

LaneTake take_from_lane(Session& s, sockbuf::LaneHeader& lane, Sock& out)
{
    LaneTake result;
    if (lane.produced.load(std::memory_order_seq_cst) == lane.consumed.load(std::memory_order_seq_cst)) {
        return result; // without the lock: most lanes are empty most of the time
    }
    SideGuard lock(s, lane.lock);
    if (lock.error() != 0) {
        result.error = lock.error();
        return result;
    }
    std::uint32_t at = lane.consumed.load(std::memory_order_relaxed);
    std::uint32_t left = lane.produced.load(std::memory_order_acquire) - at;
    if (left > lane.capacity) {
        return result; // not a lane (any more)
    }
    result.was_full = left == lane.capacity;
    auto* entries = sockbuf::SegmentView::lane_entries(lane);
    while (left != 0 && !result.taken) {
        std::uint64_t entry = entries[at & (lane.capacity - 1)].load(std::memory_order_relaxed);
        result.taken = claim(s, entry, out, lane.consumed, ++at);
        --left;
    }
    result.left = left;
    return result;
}

// The counters first: netd stores the lane's index before it counts.
bool can_accept(const Session& s, SocketSlot& listener)
{
    bool found = false;
    for (std::uint32_t cpu = 0; may_accept(listener) && !found && cpu < s.view.cpus(); ++cpu) {
        auto& lane = s.view.accept_lane(sockbuf::SegmentView::lanes_of(listener), listener.info.lane_entries, cpu);
        std::uint32_t left =
            lane.produced.load(std::memory_order_seq_cst) - lane.consumed.load(std::memory_order_seq_cst);
        found = left != 0 && left <= lane.capacity; // else it is no lane any more, and nothing is taken from it
    }
    return found;
}

std::uint32_t first_lane(const Session& s)
{
    if (s.homes) {
        std::uint32_t home = s.host->home();
        if (home < s.view.cpus()) {
            return home;
        }
    }
    auto here = static_cast<std::size_t>(s.near.empty() ? 0 : sched_getcpu());
    if (here < s.near.size() && s.near[here] != no_cpu_near) {
        return s.near[here];
    }
    static std::atomic<std::uint32_t> threads{0};
    thread_local std::uint32_t thread_turn = threads.fetch_add(1, std::memory_order_relaxed);
    std::uint32_t& turn = s.lane_turn != nullptr ? *s.lane_turn : thread_turn;
    return turn++ % s.view.cpus();
}

std::uint32_t first_accept_lane(const Session& s)
{
    constexpr std::uint32_t elsewhere_every = 8;
    thread_local std::uint32_t accepts = 0;
    std::uint32_t home = first_lane(s);
    bool elsewhere = (!s.near.empty() || s.homes) && ++accepts % elsewhere_every == 0;
    return elsewhere ? accepts / elsewhere_every % s.view.cpus() : home;
}

} // namespace client
