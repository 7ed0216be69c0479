// ARP (RFC 826, RFC 1122 2.3.2; timing after RFC 4861 7.3, constants 10): the neighbours of this host as one CPU knows
// them. Every CPU has its own table; what one learns goes to the others as messages. ArpState: owner = its domain's
// CPU; everything o.
#pragma once

#include <array>
#include <cstdint>
#include <deque>

#include "base/list.hpp"
#include "base/net_addr.hpp"
#include "lwkt/timer_wheel.hpp"
#include "netmsg/packet.hpp"
#include "protocols/domain.hpp"
#include "protocols/token_bucket.hpp"

namespace protocols {

struct Interface;

inline constexpr unsigned arp_entries_max = 1024;
inline constexpr unsigned arp_resolving_max = arp_entries_max / 2; // a scan must not push out known neighbours
inline constexpr unsigned arp_queue_max = 16;                      // packets that wait for one neighbour
inline constexpr unsigned arp_attempts_max = 3;
inline constexpr base::Micros arp_retry = base::seconds(1); // RFC 1122 2.3.2.1: at most one request a second
inline constexpr base::Micros arp_reachable = base::seconds(30);

enum class ArpStatus : std::uint8_t {
    unused,
    incomplete, // asked, no answer yet; packets wait
    reachable,  // confirmed within arp_reachable (jittered); older is stale: used, and asked again on use
    probing,    // stale and asked by unicast; packets go to the old address meanwhile
};

struct ArpEntry : lwkt::Timer {
    explicit ArpEntry(Domain& d);

    Domain& domain;            // c
    ArpEntry* chain = nullptr; // of its hash bucket
    base::ListLink link;       // known (oldest confirmation first), resolving, or unused
    std::uint32_t address = 0; // IPv4, host order
    std::uint32_t interface = 0;
    base::MacAddr mac;
    ArpStatus status = ArpStatus::unused;
    std::uint8_t attempts = 0;
    base::Instant fresh_until{}; // reachable until then, stale after
    netmsg::PacketQueue waiting; // data at the IP header
};

struct ArpState {
    explicit ArpState(Domain& d);

    static constexpr unsigned buckets = 2048;
    using EntryList = base::List<ArpEntry, &ArpEntry::link>;
    std::array<ArpEntry*, buckets> table{};
    EntryList known;
    EntryList resolving;
    EntryList unused;
    unsigned resolving_count = 0;
    std::deque<ArpEntry> entries;
    TokenBucket requests; // broadcasts of this CPU
    TokenBucket updates;  // messages to the other CPUs
};

// The neighbour's address when it is known; the caller sends at once. Null: call arp_resolve. A stale entry is used and
// asked again in the background.
const base::MacAddr* arp_lookup(Domain& d, Interface& out, std::uint32_t next_hop);
// Queues the packet (data at the IP header) behind the resolution of next_hop; takes it.
void arp_resolve(Domain& d, Interface& out, std::uint32_t next_hop, netmsg::Packet& p);
// From the link layer, data at the ARP packet; takes it.
void arp_input(Domain& d, Interface& in, netmsg::Packet& p);

// Adds the Ethernet header and hands the packet to the driver.
void link_transmit(Interface& out, const base::MacAddr& to, std::uint16_t type, netmsg::Packet& p);

} // namespace protocols
