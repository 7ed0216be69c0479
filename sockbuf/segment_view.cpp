#include "sockbuf/segment_view.hpp"

#include <algorithm>

#include "base/check.hpp"

namespace sockbuf {

void lay_out(SegmentHeader& header, std::uint32_t cpus, std::uint32_t sockets, std::uint64_t ring_bytes)
{
    INVARIANT(cpus >= 1 && cpus <= max_cpus);
    INVARIANT(sockets % 64 == 0 && sockets >= 64 && sockets <= max_sockets);
    std::fill(std::begin(header.pins), std::end(header.pins), std::int16_t{-1});
    std::uint64_t at = 0;
    auto place = [&at](std::uint64_t bytes) {
        std::uint64_t here = (at + 4095) & ~std::uint64_t{4095};
        at = here + bytes;
        return here;
    };
    place(sizeof(SegmentHeader));
    header.magic = abi_magic;
    header.version = abi_version;
    header.cpus = cpus;
    header.sockets = sockets;
    header.page_bytes = 64 * cpus;
    header.slots = place(std::uint64_t{sockets} * sizeof(SocketSlot));
    header.mark_lines = place(std::uint64_t{cpus} * sizeof(MarkLine));
    header.mark_bits = place(std::uint64_t{cpus} * (sockets / 8));
    header.grant_lanes = place(std::uint64_t{cpus} * lane_stride(grant_lane_entries));
    header.requests = place(std::uint64_t{max_processes} * cpus * sizeof(RequestRing));
    header.replies = place(std::uint64_t{max_processes} * sizeof(ReplyArea));
    header.waiters = place(std::uint64_t{max_waiters} * sizeof(Waiter));
    header.waiter_bits = place(std::uint64_t{max_waiters} * (sockets / 8));
    header.lanes = place(std::uint64_t{sockets} * (cpus + 1) * sizeof(DatagramLane));
    for (unsigned shift = page_shift; shift <= ring_shift_max; ++shift) {
        header.heads[shift - page_shift] = place(((ring_bytes >> shift) + 1) * RingView::head_bytes);
    }
    header.rings = place(ring_bytes);
    header.bytes = (at + 4095) & ~std::uint64_t{4095};
}

} // namespace sockbuf
