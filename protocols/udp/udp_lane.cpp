// What is put into the lanes of a datagram socket, each by one CPU: its ring, and the room in it as far as the reader
// tells. Owner: the CPU of the lane.
#include "protocols/socket/socket.hpp"
#include "protocols/udp/udp_state.hpp"

namespace protocols {

// The reader's progress is looked at only when the ring seems full. An offset that no honest reader writes leaves the
// lane as full as it was.
bool UdpLane::has_room(std::uint64_t stride)
{
    if (produced + stride - consumed <= ring.size()) {
        return true;
    }
    std::uint64_t read = shared->consumed.load(std::memory_order_acquire);
    if (read >= consumed && read <= produced) {
        consumed = read;
    }
    return produced + stride - consumed <= ring.size();
}

bool UdpLane::make_room(Socket& so, std::uint32_t bytes, std::uint64_t stride)
{
    if (!ring.valid()) {
        ring = so.user->socket_lane(so, index, bytes);
    }
    if (ring.valid() && has_room(stride)) {
        return true;
    }
    count(shared->dropped);
    return false;
}

void UdpLane::publish()
{
    shared->produced.store(produced, std::memory_order_seq_cst);
}

void UdpLane::give_back(Socket& so)
{
    if (ring.valid()) {
        so.user->socket_lane_gone(so, index, ring);
    }
}

} // namespace protocols
