// ICMP for IPv4 (RFC 792, RFC 1122 3.2.2): echo, errors in both directions; rate limits of both families. IcmpState:
// owner = its domain's CPU; everything o.
#pragma once

#include <cstdint>
#include <vector>

#include "netmsg/packet.hpp"
#include "protocols/stack.hpp"
#include "protocols/token_bucket.hpp"
#include "protocols/wire/icmp.hpp"
#include "sockbuf/abi.hpp"

namespace protocols {

// Errors sent by one CPU: as Linux (icmp_msgs_per_sec, icmp_msgs_burst; one a second per peer with bursts of six).
inline constexpr std::uint32_t icmp_errors_per_second = 1000;
inline constexpr std::uint32_t icmp_errors_burst = 50;
inline constexpr unsigned icmp_peer_slots = 256;

struct alignas(base::apart) IcmpState {
    explicit IcmpState(Domain& d);

    TokenBucket all;
    TokenBucket paths_told;         // path MTUs of which this CPU tells the others
    std::vector<TokenBucket> peers; // by keyed hash of the peer; peers that collide share
};

// Data at the ICMP header; takes the packet.
void icmp_input(Domain& d, const IpIn& ip, netmsg::Packet& p);
// Sends an error about a received packet (p.l3 set, not freed). `rest`: the second word of its header.
void icmp_send_error(
    Domain& d, const IpIn& ip, const netmsg::Packet& p, std::uint8_t type, std::uint8_t code, std::uint32_t rest);
// Quotes `p` from its IP header on, behind the header of the ICMP message `error`, which gets so long at most. Either
// family.
void icmp_put_quote(netmsg::Packet& error, const netmsg::Packet& p, std::uint32_t message_max);
// May one more error about what came in now go to whoever sent it? Both families share the limits.
bool icmp_within_rate(Domain& d, const IpIn& ip);
// An error of either family that came, to the CPU that owns the flow which it quotes and there to the transport. Data
// at its header, l3 set; takes the packet.
void icmp_take_error(Domain& d, const wire::IcmpHeader& h, netmsg::Packet& p);
// What an ICMPv6 error says, in ICMPv4's numbers; `quote_headers`: bytes of headers in the quote before the
// transport's. Null when it is about something of ours, else the counter of what it is dropped for.
std::atomic<std::uint64_t>* icmp6_read_error(
    Domain& d, const wire::IcmpHeader& h, const netmsg::Packet& p, IcmpError& e, std::uint32_t& quote_headers);
// An error about something this CPU's flow sent: to TCP or UDP.
void icmp_to_transport(Domain& d, const IcmpError& e);
// An outgoing packet of either family (data at its IP header, not freed) could not be delivered: its socket hears it as
// from a router.
void icmp_local_unreachable(Domain& d, const netmsg::Packet& p, std::uint8_t code);

} // namespace protocols
