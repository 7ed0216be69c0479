// ARP (RFC 826, RFC 1122 2.3.2): what asks and answers for IPv4's part of the neighbour table (neighbor.hpp). Runs on
// the CPU of arrival, or of the table that asks.
#pragma once

#include "protocols/neighbor.hpp"

namespace protocols {

// From the link layer, data at the ARP packet; takes it.
void arp_input(Domain& d, Interface& in, netmsg::Packet& p);

// Asks whether anybody has the address (RFC 5227 2.1.1), without saying that it is ours.
void arp_probe(Domain& d, Interface& out, std::uint32_t address);
// Tells everybody that it is ours now (RFC 5227 2.3).
void arp_announce(Domain& d, Interface& out, std::uint32_t address);

} // namespace protocols
