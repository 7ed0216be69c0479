// struct virtio_net_hdr as TAP, packet sockets and virtio devices put it in front of a frame (virtio 1.2, 5.1.6), to
// and from the offload fields of a packet. Pure.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netmsg/packet.hpp"

namespace drivers {

inline constexpr std::uint32_t vnet_header_bytes = 12; // with num_buffers, as TUNSETVNETHDRSZ is told

// Sets csum, csum_start, csum_offset, gso and gso_size of a received packet whose bytes are there already. False when
// the header contradicts itself or the frame; the packet must then be dropped.
bool take_vnet_header(const void* header, netmsg::Packet& p);

// Writes the header for a packet to transmit whose data is the Ethernet header (or the IP header when
// `link_header_bytes` is 0). False when the packet's offload fields do not fit its bytes.
bool make_vnet_header(const netmsg::Packet& p, std::uint32_t link_header_bytes, void* header);

} // namespace drivers
