// IPv4 (RFC 791, RFC 1122 3): input, reassembly, output, and what one CPU keeps for them. Ipv4State: owner = its
// domain's CPU; everything o.
#pragma once

#include <array>
#include <cstdint>
#include <deque>

#include "base/list.hpp"
#include "lwkt/timer_wheel.hpp"
#include "netmsg/packet.hpp"
#include "protocols/stack.hpp"
#include "protocols/wire/ipv4.hpp"

namespace protocols {

// Limits of reassembly on one CPU. A fragment holds a packet, so fragments_max is a term of the packet pool's sum.
inline constexpr unsigned reassembly_datagrams_max = 64;
inline constexpr unsigned reassembly_fragments_max = 1024;
inline constexpr unsigned reassembly_per_datagram_max = 64; // 64 KiB at an MTU of 1070 and more
inline constexpr std::uint32_t reassembly_bytes_max = 1U << 20;
inline constexpr base::Micros reassembly_lifetime = base::seconds(30); // as Linux (ipfrag_time)

inline constexpr unsigned pmtu_slots = 256;
struct PmtuEntry {
    base::IpAddr destination;
    std::uint32_t mtu = 0; // 0 = never used
    base::Instant expires{};
};

inline constexpr unsigned id_slots = 256; // identification counters, chosen by a hash of the address pair

// A datagram of which fragments are here.
struct Reassembly : lwkt::Timer {
    explicit Reassembly(Domain& d);

    Domain& domain;           // c
    base::ListLink link;      // in use (oldest first) or free
    std::uint32_t source = 0; // the key: RFC 791 3.2
    std::uint32_t destination = 0;
    std::uint16_t id = 0;
    std::uint8_t protocol = 0;
    bool poisoned = false;           // fragments overlapped: later ones are dropped too (RFC 5722 3)
    lwkt::Message* pieces = nullptr; // Packets by offset; data at the payload, l3 at the header
    unsigned count = 0;
    std::uint32_t bytes = 0; // payload held
    std::uint32_t total = 0; // payload bytes of the datagram; 0 = last fragment not seen
};

struct Ipv4State {
    explicit Ipv4State(Domain& d);
    ~Ipv4State();

    using ReassemblyList = base::List<Reassembly, &Reassembly::link>;
    ReassemblyList reassembling; // oldest first
    ReassemblyList unused;
    std::deque<Reassembly> datagrams;
    unsigned fragments = 0;
    std::uint32_t fragment_bytes = 0;

    std::array<std::uint16_t, id_slots> next_id; // of datagrams that may be fragmented
    std::uint16_t atomic_id = 0;                 // of those that may not: any value will do (RFC 6864 4.1)

    std::array<PmtuEntry, pmtu_slots> pmtu;
    unsigned pmtu_entries = 0; // slots ever used
};

// From the link layer, on the CPU where the packet arrived; data at the IP header. Takes the packet.
void ipv4_input(Domain& d, Interface& in, netmsg::Packet& p);
// Continues with a datagram (or fragment) addressed to this host that may belong to another CPU: steers, reassembles,
// delivers. data at the IP header, trimmed. Takes the packet.
void ipv4_steer(Domain& d, Interface& in, netmsg::Packet& p, const wire::Ipv4Header& h);
// Sends the packet to another CPU, which calls `next` with it; drops and counts when shed or forwarded too often.
void ipv4_forward(
    Domain& d, base::CpuId to, netmsg::Packet& p, lwkt::Message::Dispatch next, lwkt::Shed shed = lwkt::Shed::early);
// The domain and interface of a packet that was forwarded here.
Domain& forwarded_domain(lwkt::Message& m);
Interface& received_on(Domain& d, const netmsg::Packet& p);
// The IpIn of a packet whose l3 is a header that was validated before.
IpIn ipv4_describe(Domain& d, const netmsg::Packet& p);
// Broadcast address of a network of ours, the limited broadcast, or a group.
bool ipv4_is_broadcast(const Stack& s, std::uint32_t address);

// An address of the interface to send from: one on the network of `towards`, else its first. route.cpp
base::IpAddr interface_source(const Interface& out, const base::IpAddr& towards);

// Takes a fragment; returns the datagram (data at its IP header) when it is complete.
netmsg::Packet* ipv4_reassemble(Domain& d, Interface& in, netmsg::Packet& p, const wire::Ipv4Header& h);

// Sends an IP packet that is complete (header at data) to the route's neighbour. Takes it. ipv4_output.cpp
void ipv4_transmit(Domain& d, const Route& route, netmsg::Packet& p);
// Cuts a packet that is longer than the route's MTU; header at data. Takes it. ipv4_fragment.cpp
base::Error ipv4_fragment(Domain& d, const Route& route, const wire::Ipv4Header& h, netmsg::Packet& p);
// Completes Csum::partial over the packet's own bytes. ipv4_output.cpp
void finish_checksum(netmsg::Packet& p);

} // namespace protocols
