// Taking slots out of grant and accept lanes. Many takers (threads, processes) per lane; a claim by a process that dies
// before it stored `consumed` is still in the lane. Internal to client/.
#pragma once

#include "client/slot_access.hpp"

namespace client {

struct LaneTake {
    bool taken = false;
    bool was_full = false;  // netd may hold more back: mark the listener
    std::uint32_t left = 0; // entries that remain
    int error = 0;          // of the lane's lock
};

// The caller's process is a holder of `out` afterwards.
LaneTake take_from_lane(Session& s, sockbuf::LaneHeader& lane, Sock& out);

// May a connection wait to be accepted? The counters alone, which are behind for good once a process died between
// taking one and counting it: they say false rightly, and true for a reason to look at the lanes.
inline bool may_accept(SocketSlot& listener)
{
    return listener.owner.accept_ready.load(std::memory_order_seq_cst) !=
           listener.app.accept_taken.load(std::memory_order_seq_cst);
}
// And does one? What to report and to sleep on.
bool can_accept(const Session& s, SocketSlot& listener);

// Where this thread starts to look for a granted slot: the lane of the CPU it runs, else another lane each time, so
// that sockets spread over the CPUs evenly.
std::uint32_t first_lane(const Session& s);
// And for a connection: the lane of the CPU that runs the thread, whose protocol thread goes on serving it from the
// same caches; now and then another, so that no lane starves while all threads find enough at home.
std::uint32_t first_accept_lane(const Session& s);

} // namespace client
