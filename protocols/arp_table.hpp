// The table behind ARP: finding, making and ending entries, and asking. Private to arp*.cpp; owner = the domain's CPU.
#pragma once

#include "protocols/arp.hpp"
#include "protocols/wire/arp.hpp"

namespace protocols {

ArpEntry* arp_find(Domain& d, std::uint32_t interface, std::uint32_t address);
// A new entry in state incomplete; null when the table is full of resolutions.
ArpEntry* arp_make(Domain& d, std::uint32_t interface, std::uint32_t address);
// Ends the entry; its queue must be empty.
void arp_end(Domain& d, ArpEntry& e);
// The entry's address is confirmed: it is known, what waits is sent.
void arp_confirm(Domain& d, ArpEntry& e, const base::MacAddr& mac);
// Sends a request: broadcast while incomplete, unicast while probing. Arms the retry.
void arp_ask(Domain& d, ArpEntry& e);
void arp_transmit(Domain& d, Interface& out, const base::MacAddr& to, const wire::Arp& a);

} // namespace protocols
