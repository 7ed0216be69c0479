// UDP's table on one CPU: an entry per bound socket on every CPU, so that a datagram is matched where it arrives and
// forwarded to the socket's owner if that is another CPU. UdpState, UdpPcb: owner = the domain's CPU; everything o.
#pragma once

#include <array>
#include <cstdint>

#include "base/list.hpp"
#include "base/net_addr.hpp"
#include "lwkt/timer_wheel.hpp"
#include "netmsg/packet.hpp"
#include "protocols/domain.hpp"

namespace protocols {

struct Socket;

struct UdpPcb : lwkt::Timer {
    UdpPcb(Domain& d, Socket& so);

    Domain& domain;       // c: of this entry
    Socket* socket;       // c: identity only where owner is another CPU
    base::CpuId owner;    // c
    base::FourTuple flow; // c: peer port 0 = not connected
    bool reuse_port;      // c
    bool local_by_route;  // c: connect, not bind, chose the local address
    base::ListLink link;
};

struct UdpState {
    explicit UdpState(Domain& d);
    ~UdpState();

    static constexpr unsigned buckets = 1024; // by local port
    using PcbList = base::List<UdpPcb, &UdpPcb::link>;
    std::array<PcbList, buckets> table;
    std::size_t count = 0;
};

// The entry for a datagram from peer to local; `hash` chooses among sockets that share the port by SO_REUSEPORT.
UdpPcb* udp_lookup(Domain& d, const base::FourTuple& flow, std::uint32_t hash);
// Whether an entry takes a datagram to `local` (address may be a broadcast or group) from `peer`.
bool udp_matches(const UdpPcb& pcb, const base::FourTuple& flow, bool broadcast);

} // namespace protocols
