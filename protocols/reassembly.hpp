// Reassembly of fragments (RFC 791 3.2, RFC 8200 4.5): one mechanism for both families, which differ in where a
// fragment says what it is and in what a whole datagram's header looks like. On the CPU that the address pair hashes
// to. ReassemblyState: owner = its domain's CPU; everything o.
#pragma once

#include <cstdint>
#include <deque>

#include "base/list.hpp"
#include "lwkt/timer_wheel.hpp"
#include "netmsg/packet.hpp"
#include "protocols/stack.hpp"
#include "protocols/wire/ipv4.hpp"
#include "protocols/wire/ipv6.hpp"

namespace protocols {

// Limits of reassembly on one CPU. A fragment holds a packet, so reassembly_fragments_max is a term of the packet
// pool's sum.
inline constexpr unsigned reassembly_datagrams_max = 64;
inline constexpr unsigned reassembly_fragments_max = 1024;
inline constexpr unsigned reassembly_per_datagram_max = 128; // 64 KiB at an MTU of 536 and more
inline constexpr std::uint32_t reassembly_bytes_max = 1U << 20;
inline constexpr base::Micros reassembly_lifetime_v4 = base::seconds(30); // as Linux (ipfrag_time)
inline constexpr base::Micros reassembly_lifetime_v6 = base::seconds(60); // RFC 8200 4.5

// What a fragment says. `header_bytes`: up to its payload, an IPv6 fragment header included.
struct Fragment {
    base::IpAddr source;
    base::IpAddr destination;
    std::uint32_t id = 0;
    std::uint8_t protocol = 0; // IPv6: not part of the key (RFC 8200 4.5); the first fragment's counts
    std::uint32_t header_bytes = 0;
    std::uint32_t offset = 0; // bytes
    std::uint32_t bytes = 0;  // of payload
    bool more = false;
};

// A datagram of which fragments are here.
struct Reassembly : lwkt::Timer {
    explicit Reassembly(Domain& d);

    Domain& domain;      // c
    base::ListLink link; // in use (oldest first) or free
    base::IpAddr source; // the key: RFC 791 3.2, RFC 8200 4.5
    base::IpAddr destination;
    std::uint32_t id = 0;
    std::uint8_t protocol = 0;
    bool poisoned = false;           // fragments overlapped: later ones are dropped too (RFC 5722 3)
    lwkt::Message* pieces = nullptr; // Packets by offset; data at the payload, l3 at the header
    unsigned count = 0;
    std::uint32_t bytes = 0; // payload held
    std::uint32_t total = 0; // payload bytes of the datagram; 0 = last fragment not seen
};

struct alignas(base::apart) ReassemblyState {
    explicit ReassemblyState(Domain& d);

    using ReassemblyList = base::List<Reassembly, &Reassembly::link>;
    ReassemblyList reassembling; // oldest first
    ReassemblyList unused;
    std::deque<Reassembly> datagrams;
    unsigned fragments = 0;
    std::uint32_t fragment_bytes = 0;
};

// Takes a fragment (data at its IP header); returns the datagram (data at its IP header) when it is complete.
netmsg::Packet* reassemble(Domain& d, Interface& in, netmsg::Packet& p, const Fragment& f);

} // namespace protocols
