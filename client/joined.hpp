// Joined pairs: what an application does in netd's place for the other end of its connection, which lives in the same
// segment (docs/decisions/0010-joined-pairs.md). Internal to client/. Under the side lock of the direction.
#pragma once

#include "client/socket_calls.hpp"

namespace client {

// Bytes below `offset`, published by `slot`, are readable at the other end.
void deliver(Session& s, sockbuf::SocketSlot& slot, Sock k, std::uint32_t partner, std::uint64_t offset);
// Bytes below `offset`, read by `slot`, are free for the other end to write over.
void give_back(Session& s, sockbuf::SocketSlot& slot, Sock k, std::uint32_t partner, std::uint64_t offset);
// Whether the other end has read everything below `offset`, all that was ever sent.
bool drained(Session& s, std::uint32_t partner, std::uint64_t offset);
// Says that a waiter will be asleep for the slot: before the last look at what it waits for.
inline void arm_slot(sockbuf::SocketSlot& slot, std::uint32_t bits)
{
    if (slot.app.partner.load(std::memory_order_relaxed) != 0) {
        slot.owner.armed.fetch_or(bits, std::memory_order_seq_cst);
    }
}

} // namespace client
