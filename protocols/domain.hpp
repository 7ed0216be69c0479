// The protocol state of one shard: what one protocol thread owns (discipline `message`: a domain per CPU). The protocol
// code takes a Domain& everywhere and does not know which discipline serialises it (lwkt/discipline.hpp). Domain: owner
// = its CPU. All fields o unless marked.
#pragma once

#include <cstdint>
#include <memory>

#include "base/net_addr.hpp"
#include "base/random.hpp"
#include "base/siphash.hpp"
#include "lwkt/cpu.hpp"
#include "lwkt/port.hpp"
#include "lwkt/timer_wheel.hpp"
#include "netmsg/packet_pool.hpp"
#include "netmsg/steering.hpp"
#include "protocols/stack_counters.hpp"

namespace protocols {

class Stack;
struct Domain;
struct NeighborTable;   // protocols/neighbor.hpp
struct Ipv4State;       // protocols/ipv4.hpp: identification, path MTUs
struct Ipv6State;       // protocols/ipv6.hpp: addresses, prefixes, routers
struct DeadGateways;    // protocols/dead_gateways.hpp
struct GroState;        // protocols/gro.hpp: received segments that may be joined
struct DhcpState;       // protocols/dhcp/dhcp_client.hpp: of the interfaces that this CPU asks for
struct ReassemblyState; // protocols/reassembly.hpp
struct IcmpState;       // protocols/icmp.hpp: rate limits
struct GroupState;      // protocols/multicast/groups.hpp
struct UdpState;        // protocols/udp/udp_state.hpp
struct TcpState;        // protocols/tcp/tcp_domain.hpp: PCB table, listeners, SYN cache, TIME-WAIT; TcpState(Domain&)
struct PortTable;       // protocols/port_table.hpp: explicit binds, replicated on every CPU

// Where packets that are forwarded to a domain say that they go: the dispatch function finds the domain by it, and
// nobody may reply to a received packet.
struct DomainPort final : lwkt::NoReplyPort {
    explicit DomainPort(Domain& target) : domain(target) {}
    Domain& domain; // c
};

struct alignas(base::apart) Domain {
    Domain(Stack& stack, lwkt::Cpu& cpu, std::uint64_t seed);
    ~Domain();
    Domain(const Domain&) = delete;
    Domain& operator=(const Domain&) = delete;

    base::Instant now() const { return cpu.now(); }
    base::CpuId id() const { return cpu.id(); }

    Stack& stack;   // c
    lwkt::Cpu& cpu; // c
    lwkt::TimerWheel wheel;
    base::Random random;
    base::SipKey table_key;               // c: of this domain's hash tables
    DomainPort port;                      // c
    StackCounters counters;               // s
    std::uint32_t route_generation = 1;   // grows when an address or route, or what is known of a gateway, changes
    std::uint32_t neighbors_in_doubt = 0; // known, and asked again or soon: what gets through confirms them

    std::unique_ptr<NeighborTable> neighbors;
    std::unique_ptr<Ipv4State> ipv4;
    std::unique_ptr<IcmpState> icmp;
    std::unique_ptr<PortTable> tcp_ports;
    std::unique_ptr<PortTable> udp_ports;
    std::unique_ptr<UdpState> udp;
    std::unique_ptr<GroState> gro; // before tcp: its roll-up goes first
    std::unique_ptr<TcpState> tcp;
    std::unique_ptr<ReassemblyState> reassembly;
    std::unique_ptr<Ipv6State> ipv6;
    std::unique_ptr<DeadGateways> dead_gateways;
    std::unique_ptr<DhcpState> dhcp;
    std::unique_ptr<GroupState> groups;

private:
    class WheelPoller;
    std::unique_ptr<WheelPoller> wheel_poller_; // runs the wheel in class clock
};

} // namespace protocols
