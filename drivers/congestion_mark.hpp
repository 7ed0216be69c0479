// What a router's queue does to a frame instead of dropping it (RFC 3168 5): CE, where the sender said that it
// understands it. Any thread that owns the packet.
#pragma once

#include <cstdint>

#include "netmsg/packet.hpp"

namespace drivers {

// The ECN field of a frame's IP header (RFC 3168 5); 0, Not-ECT, for what is not IP.
std::uint8_t ecn_of(const netmsg::Packet& p, std::uint32_t link_header_bytes);

// Sets CE in the frame's IP header, which must lie in the packet's own bytes; false: its sender does not understand it.
bool mark_congestion(netmsg::Packet& p, std::uint32_t link_header_bytes);

} // namespace drivers
