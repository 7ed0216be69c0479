// The neighbours of this host as one CPU knows them: the cache behind ARP (RFC 826, RFC 1122 2.3.2) and neighbour
// discovery (RFC 4861 5, 7.3), which differ only in how they ask and in what they believe. Every CPU has its own table;
// what one learns goes to the others as messages. NeighborTable: owner = its domain's CPU; everything o.
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

inline constexpr unsigned neighbors_max = 1024;
inline constexpr unsigned neighbors_resolving_max = neighbors_max / 2; // a scan must not push out known neighbours
inline constexpr unsigned neighbor_queue_max = 128;                    // packets that wait for one neighbour,
inline constexpr unsigned neighbor_queue_least = 16;                   // of which as many always may;
inline constexpr unsigned neighbor_queue_bytes_max = 212'992;          // more if these are not more, as on Linux,
inline constexpr unsigned neighbors_waiting_max = 2048;                // and if no more wait for all neighbours
inline constexpr unsigned neighbor_attempts_max = 3;                   // RFC 4861 10: MAX_*_SOLICIT
inline constexpr base::Micros neighbor_retry = base::seconds(1);       // RFC 1122 2.3.2.1, RFC 4861 10: RETRANS_TIMER
inline constexpr base::Micros neighbor_reachable = base::seconds(30);  // RFC 4861 10: REACHABLE_TIME
inline constexpr base::Micros neighbor_first_probe = base::seconds(5); // RFC 4861 10: DELAY_FIRST_PROBE_TIME

enum class NeighborStatus : std::uint8_t {
    unused,
    incomplete, // asked, no answer yet; packets wait
    reachable,  // confirmed until fresh_until; later it is stale: used, and asked again on use
    delaying,   // IPv6, stale and used: asked if nothing confirms it within neighbor_first_probe
    probing,    // stale and asked by unicast; packets go to the old address meanwhile
};

struct NeighborEntry : lwkt::Timer {
    explicit NeighborEntry(Domain& d);

    Domain& domain;                 // c
    NeighborEntry* chain = nullptr; // of its hash bucket
    base::ListLink link;            // known (oldest confirmation first), resolving, or unused
    base::IpAddr address;
    std::uint32_t interface = 0;
    base::MacAddr mac;
    NeighborStatus status = NeighborStatus::unused;
    std::uint8_t attempts = 0;
    bool router = false;         // IPv6: said so (RFC 4861 5.1, IsRouter)
    base::Instant fresh_until{}; // reachable until then, stale after
    netmsg::PacketQueue waiting; // data at the IP header
    std::uint32_t waiting_bytes = 0;
};

struct alignas(base::apart) NeighborTable {
    explicit NeighborTable(Domain& d);

    static constexpr unsigned buckets = 2048;
    using EntryList = base::List<NeighborEntry, &NeighborEntry::link>;
    std::array<NeighborEntry*, buckets> table{};
    EntryList known;
    EntryList resolving;
    EntryList unused;
    unsigned resolving_count = 0;
    unsigned waiting_count = 0; // packets, of all entries
    std::deque<NeighborEntry> entries;
    TokenBucket requests; // solicitations of this CPU
    TokenBucket updates;  // messages to the other CPUs
};

// The neighbour's address when it is known; the caller sends at once. Null: call neighbor_resolve. A stale entry is
// used and asked again in the background.
const base::MacAddr* neighbor_lookup(Domain& d, Interface& out, const base::IpAddr& next_hop);
// Queues the packet (data at the IP header) behind the resolution of next_hop; takes it.
void neighbor_resolve(Domain& d, Interface& out, const base::IpAddr& next_hop, netmsg::Packet& p);
// Known, and as far as one can tell it hears us.
bool neighbor_works(Domain& d, std::uint32_t interface, const base::IpAddr& address);
// Asks for one that is not known, though no packet waits for it.
void neighbor_ask(Domain& d, std::uint32_t interface, const base::IpAddr& address);
// A transport hears nothing of what it sends there (RFC 1122 3.3.1.4): if known, it is asked now.
void neighbor_doubt(Domain& d, std::uint32_t interface, const base::IpAddr& address);

// What a transport sent there has arrived (RFC 4861 7.3.1). Makes a difference while Domain::neighbors_in_doubt is not
// 0.
void neighbor_confirm(Domain& d, std::uint32_t interface, const base::IpAddr& address);

// What a message from the link says about a neighbour. Also carried from CPU to CPU in a packet: m.
struct NeighborNews {
    std::uint32_t interface = 0;
    base::IpAddr address;
    base::MacAddr mac;
    bool has_mac = true;
    bool create = false;   // learned by an exchange with us: an entry is made; else only who waits for it or knows it
                           // takes it
    bool confirmed = true; // it answered us: reachable; else a new address is stale
    bool replaces = true;  // a known link-layer address that differs
    bool says_router = false; // `router` means something
    bool router = false;
};
// This CPU's table takes it; true when it changed by it.
bool neighbor_take(Domain& d, const NeighborNews& n);
void neighbor_tell_others(Domain& d, const NeighborNews& n);

// ---- Between the table and the two protocols that ask for it
NeighborEntry* neighbor_find(Domain& d, std::uint32_t interface, const base::IpAddr& address);
// Multicast (broadcast) while incomplete, unicast while probing.
void arp_solicit(Domain& d, const NeighborEntry& e);
void nd_solicit(Domain& d, const NeighborEntry& e);

} // namespace protocols
