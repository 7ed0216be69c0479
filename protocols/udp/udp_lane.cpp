// What is put into the lanes of a datagram socket, each by one CPU: its ring, and the room in it as far as the reader
// tells. Owner: the CPU of the lane.
#include <algorithm>

#include "protocols/socket/socket.hpp"
#include "protocols/udp/udp_state.hpp"

namespace protocols {

namespace {

// A reader that is behind is left alone for so many bytes: each look takes the line away that it writes.
constexpr std::uint64_t look_again = 4096;

} // namespace

// An offset that no honest reader writes leaves the lane as full as it was.
void UdpLane::look_at_reader()
{
    std::uint64_t read = shared->consumed.load(std::memory_order_acquire);
    if (read >= consumed && read <= produced) {
        consumed = read;
    }
}

// As Linux: of what may lie in a lane (SO_RCVBUF) one datagram may be more, where nothing else is.
bool UdpLane::has_room(std::uint64_t stride, std::uint64_t bound)
{
    auto fits = [&] {
        std::uint64_t used = produced - consumed;
        return used + stride <= (used == 0 ? ring.size() : std::min<std::uint64_t>(bound, ring.size()));
    };
    if (!fits()) {
        look_at_reader();
    }
    return fits();
}

// A reader that keeps up finds each datagram in the same lines.
void UdpLane::restart_if_empty(std::uint64_t stride)
{
    if (produced < look_at) {
        return;
    }
    look_at_reader();
    if (consumed != produced) {
        look_at = produced + look_again;
        return;
    }
    ring.restart(produced, stride);
    shared->start.store(ring.start(), std::memory_order_relaxed); // produced follows
}

bool UdpLane::make_room(Socket& so, std::uint32_t bytes, std::uint64_t stride)
{
    if (!ring.valid()) {
        ring = so.user->socket_lane(so, index, bytes);
    }
    if (ring.valid()) {
        restart_if_empty(stride);
        if (has_room(stride, bytes != 0 ? bytes : ring.size())) {
            return true;
        }
    }
    count(shared->dropped);
    return false;
}

void UdpLane::publish()
{
    shared->produced.store(produced, std::memory_order_release); // the user's barrier is before the wake
}

void UdpLane::give_back(Socket& so)
{
    if (ring.valid()) {
        so.user->socket_lane_gone(so, index, ring);
    }
}

} // namespace protocols
