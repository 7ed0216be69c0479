// The receive lanes of a datagram socket, one per CPU of netd that has something for it (decision 0007). A reader
// takes turns over them, a datagram each, so no lane starves; a flow keeps to one lane, so its order holds. Internal to
// client/. Any thread; what changes the turn or consumes holds rcv_lock.
#pragma once

#include <bit>

#include "client/slot_access.hpp"

namespace client {

inline std::uint64_t lane_bytes(const sockbuf::DatagramLane& lane)
{
    std::uint64_t consumed = lane.consumed.load(std::memory_order_seq_cst);
    return lane.produced.load(std::memory_order_seq_cst) - consumed;
}

// Something to read in any lane? Without the lock.
inline bool datagram_waiting(const Session& s, SocketSlot& slot, Sock k)
{
    const sockbuf::DatagramLane* lanes = s.view.lanes(k.slot);
    for (std::uint64_t m = slot.owner.lanes.load(std::memory_order_seq_cst); m != 0; m &= m - 1) {
        if (lane_bytes(lanes[std::countr_zero(m)]) != 0) {
            return true;
        }
    }
    return false;
}

inline sockbuf::DatagramLane& error_lane(const Session& s, Sock k)
{
    return s.view.lanes(k.slot)[s.view.cpus()];
}

// The lane whose turn it is and that has something; null when none has. The turn stays with it until advance_turn(), so
// that what was peeked at is what is read next.
sockbuf::DatagramLane* lane_in_turn(const Session& s, SocketSlot& slot, Sock k);
void advance_turn(SocketSlot& slot);

} // namespace client
