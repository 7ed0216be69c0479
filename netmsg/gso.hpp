// Segmentation in software: what a device with TSO does, for those without it. Runs on the CPU that transmits.
#pragma once

#include <cstdint>

#include "netmsg/packet.hpp"
#include "netmsg/packet_pool.hpp"

namespace netmsg {

// Cuts a TCP super-segment (gso tcp4 or tcp6; headers in data, Ethernet first unless link_header_bytes is 0) into
// packets of at most gso_size payload bytes with headers and checksums as if TCP had sent each: IP lengths and
// identification, sequence numbers, FIN and PSH on the last, CWR on the first. They are appended to `out`; `super` is
// left as it is. False when the headers contradict the bytes or the pool runs out; `out` then is as before.
bool gso_segment(const Packet& super, std::uint32_t link_header_bytes, PacketPool& pool, PacketQueue& out);

// Completes a Csum::partial packet in software. False when csum_start and csum_offset are outside data.
bool finish_checksum(Packet& p);

} // namespace netmsg
