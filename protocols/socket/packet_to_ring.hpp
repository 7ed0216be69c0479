// What a packet carries goes to a socket's receive ring: one copy where it lies in one piece, which a small or a joined
// packet does. Owner: the CPU of the ring.
#pragma once

#include "netmsg/packet.hpp"
#include "sockbuf/ring_view.hpp"

namespace protocols {

[[gnu::noinline]] inline void pieces_to_ring(
    const netmsg::Packet& p, std::uint32_t at, std::uint32_t bytes, const sockbuf::RingView& ring, std::uint64_t offset)
{
    iovec pieces[netmsg::packet_pieces_max + 1];
    for (unsigned i = 0, n = p.span(at, bytes, pieces); i < n; ++i) {
        ring.copy_in(offset, pieces[i].iov_base, pieces[i].iov_len);
        offset += pieces[i].iov_len;
    }
}

// Octets [at, at + bytes) of the packet to the ring's `offset`; there is room for them.
inline void packet_to_ring(
    const netmsg::Packet& p, std::uint32_t at, std::uint32_t bytes, const sockbuf::RingView& ring, std::uint64_t offset)
{
    if (at + bytes <= p.size) [[likely]] {
        ring.copy_in(offset, p.data + at, bytes);
    } else {
        pieces_to_ring(p, at, bytes, ring, offset);
    }
}

} // namespace protocols
