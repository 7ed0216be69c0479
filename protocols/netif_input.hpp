// The first step of a received packet: what a driver calls. Runs on the CPU where the packet arrived.
#pragma once

#include "netmsg/packet.hpp"
#include "protocols/stack.hpp"

namespace protocols {

// A netmsg::InputFn; `context` is the Interface. Takes the packet.
void netif_input(void* context, netmsg::Packet& p);

} // namespace protocols
