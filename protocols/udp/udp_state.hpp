// UDP's table on one CPU: an entry and a receive lane per bound socket on every CPU (decision 0007), so that a
// datagram is matched and kept where it arrives; only ICMP errors go to the socket's owner. UdpState, UdpPcb: owner =
// the domain's CPU; everything o.
#pragma once

#include <array>
#include <cstdint>

#include "base/list.hpp"
#include "base/net_addr.hpp"
#include "lwkt/timer_wheel.hpp"
#include "netmsg/packet.hpp"
#include "protocols/multicast/source_filter.hpp"
#include "protocols/stack.hpp"
#include "sockbuf/abi.hpp"
#include "sockbuf/ring_view.hpp"

namespace protocols {

struct Socket;

// The writer's side of a receive lane or an error queue: validated copies of its offsets. No ring before something is
// put in.
struct UdpLane {
    sockbuf::DatagramLane* shared = nullptr; // c
    std::uint32_t index = 0;                 // c: which of the socket's
    sockbuf::RingView ring;
    std::uint64_t produced = 0;
    std::uint64_t consumed = 0;
    std::uint64_t look_at = 0; // from this offset on the reader's progress is looked at, to begin an empty ring again

    // A ring with room for `stride` bytes at `produced`, made if there is none; `bytes` (SO_RCVBUF, 0 = the ring's) may
    // be in it.
    bool make_room(Socket& so, std::uint32_t bytes, std::uint64_t stride);
    void append(std::uint64_t stride) { produced += stride; } // the reader does not see it yet
    void publish();                                           // what was appended, all at once
    void give_back(Socket& so);

private:
    void look_at_reader();
    bool has_room(std::uint64_t stride, std::uint64_t bound);
    void restart_if_empty(std::uint64_t stride);
};

// How a datagram leaves: what its record, the socket and the routes decide.
struct UdpWay {
    Route route;
    IpOut ip;
    base::Endpoint to;
    std::uint32_t headers = 0;    // IP and UDP
    std::uint32_t device_mtu = 0; // whatever the path is said to take
    std::uint16_t pseudo_sum = 0; // pseudo_header_part() of the addresses
};

struct UdpPcb : lwkt::Timer {
    UdpPcb(Domain& d, Socket& so);
    void copy_from(const Socket& so);

    Domain& domain;    // c: of this entry
    Socket* socket;    // c: identity only where owner is another CPU
    base::CpuId owner; // c
    base::ListLink link;

    // Copies of what the socket's owner decides, brought up to date by walks (udp_update_here).
    base::FourTuple flow; // peer port 0 = not connected
    bool reuse_port = false;
    bool v6_only = false;
    std::uint64_t reuse_key = 0;
    bool rcv_shut = false; // shutdown(SHUT_RD)
    std::vector<Membership> groups;
    bool multicast_all = true; // of the family's groups: also what others have joined
    bool multicast_all6 = true;
    std::uint32_t lane_bytes = 0; // SO_RCVBUF: of each lane, for one flow may need it all; 0 = the user's default

    UdpLane lane;
    UdpLane errors; // on the socket's owner only
    UdpWay way;     // likewise, kept: of what says nothing but its bytes, while its route holds (udp_forget_way)
};

struct alignas(base::apart) UdpState {
    explicit UdpState(Domain& d);
    ~UdpState();

    static constexpr unsigned buckets = 1024; // by local port
    using PcbList = base::List<UdpPcb, &UdpPcb::link>;
    std::array<PcbList, buckets> table;
    std::size_t count = 0;
};

// The entry for a datagram from peer to local; `hash` chooses among sockets that share the port by SO_REUSEPORT.
UdpPcb* udp_lookup(Domain& d, const base::FourTuple& flow, std::uint32_t hash);
// Whether an entry takes a datagram to `local` from `peer`. As Linux: to an address that connect chose, what is sent to
// all or to a group does not go.
bool udp_matches(const UdpPcb& pcb, const base::FourTuple& flow);

// The way of what leaves from `own` and says nothing but its bytes (udp_usrreq.cpp). False: there is none.
bool udp_route(Domain& d, const Socket& so, const base::IpAddr& to, const base::IpAddr& own, Route& out);

// An entry of the error queue for a datagram to `to`, on the socket's owner (udp_error.cpp).
void udp_queue_error(UdpPcb& pcb, const base::Endpoint& to, const sockbuf::DatagramError& error,
    const std::byte* payload, std::uint32_t payload_bytes);

} // namespace protocols
