// Which queue a device with receive-side scaling would give a frame: netmsg::Steering over what the headers say. Pure.
#pragma once

#include <cstdint>

#include "netmsg/packet.hpp"
#include "netmsg/steering.hpp"

namespace drivers {

// IEEE 802.1Q: what stands between the addresses and the type of a frame of a VLAN, and its own type.
inline constexpr std::uint32_t vlan_tag_bytes = 4;
inline constexpr std::uint16_t vlan_tag_type = 0x8100;

// Bytes of a frame in front of its network header: the tag of a VLAN (IEEE 802.1Q) is among them.
std::uint32_t network_offset(const netmsg::Packet& p, std::uint32_t link_header_bytes);

// The queue for a frame as its receiver sees it. TCP and UDP go by 4-tuple, fragments and other IP by address pair,
// everything else to queue 0: the same choice as the program in steering_bpf.cpp.
base::CpuId frame_queue(const netmsg::Steering& steering, const netmsg::Packet& p, std::uint32_t link_header_bytes);

} // namespace drivers
