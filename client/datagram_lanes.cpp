// See datagram_lanes.hpp.
#include "client/datagram_lanes.hpp"

namespace client {

sockbuf::DatagramLane* lane_in_turn(const Session& s, SocketSlot& slot, Sock k)
{
    std::uint64_t made = slot.owner.lanes.load(std::memory_order_seq_cst);
    std::uint32_t turn = slot.app.rcv_turn.load(std::memory_order_relaxed) % sockbuf::max_cpus;
    sockbuf::DatagramLane* lanes = s.view.lanes(k.slot);
    for (std::uint64_t m = std::rotr(made, static_cast<int>(turn)); m != 0; m &= m - 1) {
        std::uint32_t cpu = (turn + static_cast<std::uint32_t>(std::countr_zero(m))) % sockbuf::max_cpus;
        if (lane_bytes(lanes[cpu]) != 0) {
            slot.app.rcv_turn.store(cpu, std::memory_order_relaxed);
            return &lanes[cpu];
        }
    }
    return nullptr;
}

void advance_turn(SocketSlot& slot)
{
    slot.app.rcv_turn.store(slot.app.rcv_turn.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

} // namespace client
