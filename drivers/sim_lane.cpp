// See sim_lane.hpp.
#include "drivers/sim_lane.hpp"

#include <algorithm>
#include <bit>

namespace drivers {
namespace {

constexpr std::uint32_t slots_min = 2;

bool post(lwkt::Ipiq<netmsg::Packet*>& ring, netmsg::PacketPool& pool, bool large, std::uint32_t& missing)
{
    for (; missing != 0; --missing) {
        netmsg::Packet* p = pool.allocate();
        if (p == nullptr) {
            return false;
        }
        if (large && !pool.add_large(*p)) {
            p->free();
            return false;
        }
        INVARIANT(ring.push(p));
    }
    return true;
}

void empty(lwkt::Ipiq<netmsg::Packet*>& ring)
{
    netmsg::Packet* p = nullptr;
    while (ring.pop(&p, 1) != 0) {
        p->free();
    }
}

} // namespace

SimLane::SimLane(std::uint32_t small, std::uint32_t large, bool shared)
    : shared_(shared), posted_small_(std::bit_ceil(small)), posted_large_(std::bit_ceil(std::max(large, slots_min))),
      filled_(std::bit_ceil(small + large)), missing_small_(small), missing_large_(large)
{
}

bool SimLane::send(const netmsg::Packet& p, netmsg::Csum csum)
{
    if (!shared_) {
        return send_locked(p, csum);
    }
    std::lock_guard lock(senders_);
    return send_locked(p, csum);
}

bool SimLane::send_locked(const netmsg::Packet& p, netmsg::Csum csum)
{
    netmsg::Packet* to = nullptr;
    if (p.total() > small_frame_max) {
        if (posted_large_.pop(&to, 1) == 0) {
            return false;
        }
    } else if (posted_small_.pop(&to, 1) == 0 && posted_large_.pop(&to, 1) == 0) {
        return false;
    }
    netmsg::copy_metadata(*to, p);
    to->csum = csum;
    to->hops = 0;
    to->flow_hash = 0;
    to->broadcast = false;
    // A packet too long even for a large buffer cannot be made; a posted one has its large buffer, so the pool is not
    // touched here.
    INVARIANT(to->pool->append(*to, p, 0, p.total()));
    INVARIANT(filled_.push(to));
    ++sent_;
    return true;
}

void SimLane::publish(lwkt::Cpu& receiver)
{
    if (shared_) {
        std::lock_guard lock(senders_);
        published_.exchange(sent_, std::memory_order_seq_cst);
    } else {
        published_.exchange(sent_, std::memory_order_seq_cst);
    }
    if (receiver.sleep_word().load(std::memory_order_seq_cst) != 0) {
        receiver.ring();
    }
}

netmsg::Packet* SimLane::receive()
{
    netmsg::Packet* p = nullptr;
    if (filled_.pop(&p, 1) == 0) {
        return nullptr;
    }
    ++received_;
    ++(p->large != nullptr ? missing_large_ : missing_small_);
    return p;
}

bool SimLane::refill(netmsg::PacketPool& pool)
{
    bool small = post(posted_small_, pool, false, missing_small_);
    bool large = post(posted_large_, pool, true, missing_large_);
    return small && large;
}

bool SimLane::pending() const
{
    return static_cast<std::int32_t>(published_.load(std::memory_order_seq_cst) - received_) > 0;
}

void SimLane::drain()
{
    empty(posted_small_);
    empty(posted_large_);
    empty(filled_);
}

} // namespace drivers
