// The way down from IP and the link layer to a driver.
#pragma once

#include "protocols/stack.hpp"

namespace protocols {

// Hands a whole packet to the interface's driver on the CPU that sends; a super-segment that the driver does not take
// is cut first (GSO). Takes the packet.
void netif_output(Interface& out, netmsg::Packet& p);
// The same behind an Ethernet header of this type, which it adds.
void link_transmit(Interface& out, const base::MacAddr& to, std::uint16_t type, netmsg::Packet& p);

} // namespace protocols
