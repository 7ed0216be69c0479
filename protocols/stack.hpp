// A whole stack: one Domain per CPU, the interfaces, the routes, the steering. Built before the CPUs run, then
// read-only (c) except through control messages. Embedding processes, netd and tests all make one of these.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/net_addr.hpp"
#include "lwkt/cpu_set.hpp"
#include "netmsg/netif.hpp"
#include "netmsg/packet_pool.hpp"
#include "netmsg/steering.hpp"
#include "protocols/domain.hpp"
#include "protocols/ephemeral_ports.hpp"

namespace protocols {

struct InterfaceAddress {
    base::IpAddr addr;
    std::uint8_t length = 0; // prefix length
};

class Stack;

// An interface with its addresses. c after Stack::start.
struct Interface {
    netmsg::Netif* netif = nullptr;
    std::vector<InterfaceAddress> addresses;  // IPv4, and
    std::vector<InterfaceAddress> addresses6; // IPv6, as configured; what is in force is per CPU: ipv4.hpp, ipv6.hpp
    bool ipv6 = false;                        // takes part in IPv6 at all
    bool slaac = false;                       // believes what routers advertise (RFC 4862)
    bool router = false;                      // says so to neighbours; the embedder advertises by itself, and forwards
    bool dhcp = false;                        // asks for an IPv4 address (RFC 2131): protocols/dhcp/
    std::uint32_t index = 0;                  // 1-based
    std::vector<Interface*> vlans;            // that are on this interface
    Stack* stack = nullptr;
};

// Who says that there is an IPv4 address or route. The same of another origin is an entry beside it, and each takes
// away its own only.
enum class Origin : std::uint8_t { configured, connected, lease };

struct RouteEntry {
    base::Prefix destination;
    base::IpAddr gateway; // unspecified = on link
    Interface* interface = nullptr;
    Origin origin = Origin::configured;
    friend bool operator==(const RouteEntry&, const RouteEntry&) = default;
};
// Longest prefix first; among equals the earlier one stays first.
void insert_route(std::vector<RouteEntry>& routes, const RouteEntry& entry);

// As net.ipv4.tcp_ecn of Linux: never; asked for, or accepted where the peer asks (RFC 3168); with accurate feedback
// (RFC 9768), which is accepted and asked for, or accepted while we ask for the classic one, or for none.
enum class Ecn : std::uint8_t { off, on, accept, accurate, accept_accurate_ask_classic, accept_accurate };

// RFC 4821, as net.ipv4.tcp_mtu_probing of Linux: never, once large segments seem to vanish, always.
enum class MtuProbing : std::uint8_t { off, black_hole, always };

struct StackOptions {
    std::uint64_t seed = 0; // netd: from getrandom; simulation: the seed
    netmsg::PacketPoolOptions packets;
    std::uint32_t connections_per_cpu = 262144; // limit, memory is taken as needed
    std::uint32_t time_wait_per_cpu = 65536;    // limit: then the oldest goes; some 8 MB
    std::uint32_t syn_cache_per_cpu = 4096;
    std::uint16_t ephemeral_low = 32768;
    std::uint16_t ephemeral_high = 60999;
    bool syn_cookies = true;
    Ecn ecn = Ecn::accept;
    MtuProbing mtu_probing = MtuProbing::off;
    unsigned fastopen = 1;                    // net.ipv4.tcp_fastopen of Linux, bits in protocols/tcp/fastopen.hpp
    std::uint8_t congestion = 0;              // of sockets that did not choose: index of tcp::congestion_by_name
    unsigned duplicate_probes = 1;            // DupAddrDetectTransmits of RFC 4862 5.1; 0 = no detection
    std::uint64_t address_secret[2] = {0, 0}; // of stable IPv6 addresses (RFC 7217); 0, 0 = drawn from the seed
    // What our SYNs offer and take (the sysctls of these names): off to see how a host does without.
    bool tcp_window_scaling = true;
    bool tcp_sack = true;
    bool tcp_timestamps = true;
    bool tcp_tail_probes = true; // RFC 8985 7; net.ipv4.tcp_early_retrans
    bool tcp_prediction = true;  // decision 0020; off: every segment goes through all steps (tests)
};

class Stack {
public:
    Stack(lwkt::CpuSet& set, const StackOptions& options);
    ~Stack();
    Stack(const Stack&) = delete;
    Stack& operator=(const Stack&) = delete;

    // Before start: takes the netif over, attaches it, adds the connected routes. The loopback interface (127.0.0.1/8
    // and every own address) is made by the embedder like any other. IPv6 runs where there is an IPv6 address, or
    // `slaac`: routers are asked for prefixes. Null with `error` set if the driver refuses.
    Interface* add_interface(std::unique_ptr<netmsg::Netif> netif, std::vector<InterfaceAddress> addresses,
        std::string& error, bool slaac = false);
    // Of several to one destination the first is preferred; the next serves while its gateway is dead.
    bool add_route(const base::Prefix& destination, const base::IpAddr& gateway, std::string& error);

    // Before start: an Ethernet interface asks for its IPv4 address by DHCP.
    void start_dhcp(Interface& in);

    Domain& domain(base::CpuId cpu) { return *domains_[cpu]; }
    std::size_t cpus() const { return domains_.size(); }
    lwkt::CpuSet& set() const { return set_; }
    netmsg::PacketPool& pool() { return pool_; }
    const netmsg::Steering& steering() const { return steering_; }
    const StackOptions& options() const { return options_; }
    const EphemeralPorts& ephemeral() const { return ephemeral_; }
    const std::vector<std::unique_ptr<Interface>>& interfaces() const { return interfaces_; }
    Interface& interface(std::uint32_t index) const { return *interfaces_[index - 1]; } // 1-based, as Interface::index
    const std::vector<RouteEntry>& routes6() const { return routes6_; }                 // IPv6, configured ones
    base::SipKey address_secret() const { return address_secret_; }
    base::SipKey fastopen_secret() const { return fastopen_secret_; }
    Interface* loopback() const { return loopback_; }

private:
    void add_route_everywhere(const RouteEntry& entry);

    lwkt::CpuSet& set_;                                  // c
    StackOptions options_;                               // c
    EphemeralPorts ephemeral_;                           // c
    base::Random random_;                                // construction only
    netmsg::Steering steering_;                          // c
    netmsg::PacketPool pool_;                            // per-CPU inside
    std::vector<std::unique_ptr<netmsg::Netif>> netifs_; // c
    std::vector<std::unique_ptr<Interface>> interfaces_; // c
    std::vector<RouteEntry> routes6_;                    // c
    base::SipKey address_secret_;                        // c
    base::SipKey fastopen_secret_;                       // c: keys of Fast Open cookies are made from it
    Interface* loopback_ = nullptr;                      // c
    std::vector<std::unique_ptr<Domain>> domains_;       // element i: owner = CPU i; destroyed first
};

// ---- The network layer as transports use it -------------------------------------------------------------------------

struct Route {
    Interface* interface = nullptr;
    base::IpAddr next_hop;        // the destination itself when on link
    base::IpAddr source;          // the address to send from
    std::uint32_t mtu = 0;        // bytes of IP packet: the interface's, or less where path MTU discovery learned so
    std::uint32_t generation = 0; // Domain::route_generation when it was looked up: kept routes are compared
    base::Instant narrow_until{}; // what was learned of the path makes `mtu` less, and holds until then
};

// An address of this host that may be used: of any interface, or 127/8.
bool is_local(Domain& d, const base::IpAddr& a);

// False when there is no route. A local destination is routed to the loopback interface with source = destination.
// `source`: the address to send from where it is known; over IPv6 it has a say in the way (RFC 8028).
bool route_lookup(Domain& d, const base::IpAddr& destination, Route& out, const base::IpAddr& source = {});
// The same by an interface that a socket chose (IP_PKTINFO, IP_MULTICAST_IF); without a route there, over IPv4 as if
// the destination were on its link, over IPv6 there is no way, as Linux does.
bool route_lookup_by(
    Domain& d, const base::IpAddr& destination, std::uint32_t interface, Route& out, const base::IpAddr& source = {});
// Whether a kept route is what a look-up would find: nothing that decided it has changed. Default-made, it never is.
// What is learned of paths, and its end, are such changes.
inline bool route_holds(const Domain& d, const Route& kept)
{
    return kept.generation == d.route_generation;
}
// Decides a kept route again. False when there is none now, or `source` is no address of ours any more (RFC 1122
// 3.2.1.3: nothing leaves from it); the route stays what it was, to be tried again.
bool route_renew(Domain& d, const base::IpAddr& source, const base::IpAddr& destination, Route& kept);

// `mtu`, or less if path MTU discovery learned so.
std::uint32_t pmtu_lookup(Domain& d, const base::IpAddr& destination, std::uint32_t mtu);
// Path MTU discovery (RFC 1191, RFC 8201) as TCP and UDP learned it from an error they believe: lowers the MTU that
// route_lookup reports for the destination on this CPU, for ten minutes. Returns the MTU now in force.
std::uint32_t pmtu_learn(Domain& d, const base::IpAddr& destination, std::uint32_t mtu);

struct IpOut {
    base::IpAddr source;
    base::IpAddr destination;
    std::uint8_t protocol = 0;
    std::uint8_t ttl = 64;
    std::uint8_t tos = 0;
    bool dont_fragment = true;
    bool loop_group = false;      // sockets on this host get a copy: a group's members, of a broadcast all
    std::uint32_t flow_label = 0; // IPv6
};

// Takes the packet (transport header at data) over: adds the IP and link headers, resolves the neighbour (queueing if
// need be), fragments when allowed and needed, finishes the checksum if the netif does not take Csum::partial,
// transmits. csum_start/csum_offset are relative to the transport header on entry; ip_output moves csum_start along.
// `message_size`: too long with dont_fragment set (packet freed). Other errors: freed and counted.
base::Error ip_output(Domain& d, const Route& route, const IpOut& ip, netmsg::Packet& p);

// A received transport segment, addresses parsed; p.data stands at the transport header, p.l3 at the IP header.
struct IpIn {
    base::IpAddr source;
    base::IpAddr destination;
    Interface* interface = nullptr;
    std::uint8_t protocol = 0;
    std::uint8_t ttl = 0;
    std::uint8_t tos = 0;
    bool broadcast = false; // link or network broadcast or multicast: TCP must ignore it (RFC 9293 3.9.2.3, MUST-57)
};
void tcp_input(Domain& d, const IpIn& ip, netmsg::Packet& p); // protocols/tcp/tcp_input.cpp; takes the packet
void udp_input(Domain& d, const IpIn& ip, netmsg::Packet& p); // protocols/udp/udp_input.cpp; takes the packet

// An ICMP error about something this host sent (RFC 1122 3.2.2, RFC 5927): dispatched on the owner CPU of `flow`.
struct IcmpError {
    base::FourTuple flow; // as this host sees it
    std::uint8_t protocol = 0;
    std::uint8_t type = 0; // ICMPv4 numbers; of IPv6 flows those that mean the same (icmp6_input.cpp)
    std::uint8_t code = 0;
    std::uint32_t mtu = 0;     // next-hop MTU of "fragmentation needed"
    std::uint32_t tcp_seq = 0; // sequence number in the quoted TCP header
    // For error queues: who says so, and what came on the wire.
    base::IpAddr offender;
    std::uint8_t wire_type = 0;
    std::uint8_t wire_code = 0;
    std::uint32_t rest = 0;           // the second word of the ICMP header
    const std::byte* quote = nullptr; // UDP: the quoted payload, during the call
    std::uint32_t quote_bytes = 0;
};
void tcp_icmp_error(Domain& d, const IcmpError& e);
void udp_icmp_error(Domain& d, const IcmpError& e);
// Sends an ICMP error about received packet `p` (p.l3 set; not freed); rate limited, never about errors or broadcasts.
void icmp_send_unreachable(Domain& d, const IpIn& ip, const netmsg::Packet& p, std::uint8_t code);

} // namespace protocols
