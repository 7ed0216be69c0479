// IPv4 (RFC 791, RFC 1122 3): input, output, and what one CPU keeps for them: the addresses of this host and the routes
// too, which change while the stack runs (DHCP). Every CPU has its own copy and is told of changes, so no CPU asks
// another one on the data path. Ipv4State: owner = its domain's CPU; everything o.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "lwkt/timer_wheel.hpp"
#include "netmsg/packet.hpp"
#include "protocols/stack.hpp"
#include "protocols/wire/ipv4.hpp"

namespace protocols {

inline constexpr std::uint32_t limited_broadcast = 0xffffffff; // RFC 1122 3.2.1.3 (c)

inline constexpr unsigned pmtu_slots = 256;
struct PmtuEntry {
    base::IpAddr destination;
    std::uint32_t mtu = 0; // 0 = unused
    base::Instant expires{};
};
struct PmtuTimer : lwkt::Timer { // until the first of them ends
    explicit PmtuTimer(Domain& d);
    Domain& domain; // c
};

// An address of this host, in host order, and the network that it is in.
struct Ipv4Address {
    std::uint32_t addr = 0;
    std::uint32_t broadcast = 0; // of the network on its link; 0 = has none
    std::uint32_t interface = 0; // index
    std::uint32_t mtu = 0;       // of what leaves from here, where a lease says less than the device; 0 = the device's
    std::uint8_t length = 0;     // of the prefix
    bool tentative = false;      // probed for (RFC 5227 2.1): not ours yet
    Origin origin = Origin::configured;

    bool on_network(std::uint32_t a) const { return length != 0 && (a ^ addr) >> (32 - length) == 0; }
    friend bool operator==(const Ipv4Address&, const Ipv4Address&) = default;
};

inline constexpr unsigned id_slots = 256; // identification counters, chosen by a hash of the address pair

struct alignas(base::apart) Ipv4State {
    explicit Ipv4State(Domain& d);

    std::vector<Ipv4Address> addresses; // a few
    std::vector<RouteEntry> routes;     // longest prefix first; among equals the preferred one first

    std::array<std::uint16_t, id_slots> next_id; // of datagrams that may be fragmented
    std::uint16_t atomic_id = 0;                 // of those that may not: any value will do (RFC 6864 4.1)

    std::array<PmtuEntry, pmtu_slots> pmtu;
    unsigned pmtu_entries = 0; // slots in use
    PmtuTimer pmtu_timer;
};

// ---- Addresses and routes: ipv4_addresses.cpp, route.cpp

// Of any interface, or 127/8.
bool ipv4_is_local(const Domain& d, std::uint32_t address);
// The interface's own, tentative or not; null = it has no such address.
const Ipv4Address* ipv4_find_address(const Domain& d, std::uint32_t address, std::uint32_t interface);
// Whether a route over the interface leads there without a gateway: of a network of ours, or another (RFC 3442).
bool ipv4_on_link(const Domain& d, const Interface& in, std::uint32_t address);
// Broadcast address of a network of ours, the limited broadcast, or a group.
bool ipv4_is_broadcast(const Domain& d, std::uint32_t address);
// An address of the interface to send from: one on the network of `towards`, else its first; 0.0.0.0 = has none.
base::IpAddr interface_source(const Domain& d, const Interface& out, const base::IpAddr& towards);
// With the broadcast address that its prefix gives it (RFC 1122 3.3.6).
Ipv4Address ipv4_address(const Interface& in, std::uint32_t addr, std::uint8_t length);

// What changes while the stack runs. Travels in a packet: m.
struct Ipv4Change {
    enum class Kind : std::uint8_t { set_address, remove_address, add_route, remove_route };
    Kind kind{};
    Ipv4Address address{}; // new, or with other properties; its connected route comes and goes with it
    RouteEntry route{};    // a new one goes behind those to the same destination: they are preferred
};
// Applied here and told to every other CPU; false when one of them could not be told (no packet memory): then it is to
// be said again, which harms nobody who has heard it. An interface's changes come from one CPU. An address that goes
// ends no connection: what it sends is dropped until the address is back or its patience ends, as Linux does.
bool ipv4_change(Domain& d, const Ipv4Change& c);
// On this CPU alone: before the CPUs run.
void ipv4_change_here(Domain& d, const Ipv4Change& c);

// ---- Packets: ipv4_input.cpp, ipv4_output.cpp

// From the link layer, on the CPU where the packet arrived; data at the IP header. Takes the packet.
void ipv4_input(Domain& d, Interface& in, netmsg::Packet& p);
// Continues with a datagram (or fragment) addressed to this host that may belong to another CPU: steers, reassembles,
// delivers. data at the IP header, trimmed. Takes the packet.
void ipv4_steer(Domain& d, Interface& in, netmsg::Packet& p, const wire::Ipv4Header& h);
// A packet of ours to a group comes back, as if it had arrived on the interface by which it leaves; header at data. The
// packet stays the caller's.
void ipv4_loop(Domain& d, const Route& route, const netmsg::Packet& p);
// The IpIn of a packet whose l3 is a header that ipv4_input() took.
IpIn ipv4_describe(Domain& d, const netmsg::Packet& p);
// Sends an IP packet that is complete (header at data) to the route's neighbour. Takes it. ipv4_output.cpp
void ipv4_transmit(Domain& d, const Route& route, netmsg::Packet& p);
// Cuts a packet that is longer than the route's MTU; header at data. Takes it. ipv4_fragment.cpp
base::Error ipv4_fragment(Domain& d, const Route& route, const wire::Ipv4Header& h, netmsg::Packet& p);

} // namespace protocols
