// Received datagrams (RFC 768, RFC 1122 4.1.3): matched on the CPU to which the flow hashes and appended to the
// socket's lane there, whichever CPU owns the socket; the sender of what nobody wants hears so. Owner: the domain's
// CPU.
#include <netinet/in.h>

#include <algorithm>

#include "base/endian.hpp"
#include "base/plant.hpp"
#include "protocols/dhcp/dhcp_client.hpp"
#include "protocols/icmp.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/multicast/groups.hpp"
#include "protocols/socket/packet_to_ring.hpp"
#include "protocols/socket/so_dispatch.hpp"
#include "protocols/udp/udp_state.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/udp.hpp"

namespace protocols {

namespace {

// What the records of one packet have in common.
struct Arrival {
    const IpIn& ip;
    std::uint16_t peer_port;
    const netmsg::Packet& p; // data at the payload
};

// Who is asked as one of many answers as himself (RFC 1122 4.1.3.5; fib_compute_spec_dst() of Linux).
std::uint32_t answer_address(const Domain& d, const IpIn& ip)
{
    return (ip.broadcast ? interface_source(d, *ip.interface, ip.source) : ip.destination).v4();
}

// Appends payload [offset, offset + bytes) as a record to the socket's lane here.
void append_one(Domain& d, UdpPcb& pcb, const Arrival& a, std::uint32_t offset, std::uint32_t bytes)
{
    const IpIn& ip = a.ip;
    UdpLane& lane = pcb.lane;
    bool v4 = ip.source.is_v4();
    std::uint64_t stride = sockbuf::datagram_stride(bytes + (v4 ? 0 : sockbuf::datagram_local_bytes));
    if (!lane.make_room(*pcb.socket, pcb.lane_bytes, stride)) {
        return count(lane.ring.valid() ? d.counters.udp_in_ring_full : d.counters.udp_in_no_lane);
    }
    sockbuf::DatagramHeader h{};
    h.size = static_cast<std::uint16_t>(bytes);
    h.port = a.peer_port;
    h.tos = ip.tos;
    h.ttl = ip.ttl;
    std::memcpy(h.addr, ip.source.bytes(), 16);
    std::uint32_t zone = ip.destination.zone(); // of an own address of link scope: it looped, but is on that link
    h.interface = static_cast<std::uint16_t>(zone != 0 ? zone : ip.interface->index);
    if (v4) {
        h.local_v4 = ip.destination.v4();
        sockbuf::set_answer_v4(h, answer_address(d, ip));
    }
    lane.ring.copy_in(lane.produced, &h, sizeof h);
    std::uint64_t at = lane.produced + sizeof h;
    packet_to_ring(a.p, offset, bytes, lane.ring, at);
    at += bytes;
    if (!v4) {
        lane.ring.copy_in(at, ip.destination.bytes(), sockbuf::datagram_local_bytes);
    }
    count(d.counters.udp_in);
    lane.append(stride);
}

// To the socket's lane here; what a device merged is taken apart again, for sizes are what the sender meant, and seen
// by the reader all at once: UDP_GRO puts together what is there. The packet stays the caller's.
void append(Domain& d, UdpPcb& pcb, const IpIn& ip, std::uint16_t peer_port, const netmsg::Packet& p)
{
    if (pcb.rcv_shut) {
        return count(d.counters.udp_in_shut_down);
    }
    Arrival a{ip, peer_port, p};
    std::uint32_t step = p.gso == netmsg::Gso::udp ? p.gso_size : p.total();
    for (std::uint32_t offset = 0; offset < p.total() || offset == 0; offset += step) {
        append_one(d, pcb, a, offset, std::min(step, p.total() - offset));
        if (step == 0) {
            break;
        }
    }
    if (pcb.lane.ring.valid()) {
        pcb.lane.publish();
    }
    pcb.socket->user->socket_event(*pcb.socket, so_readable);
}

bool joined(const UdpPcb& pcb, const IpIn& ip)
{
    bool all = ip.destination.is_v4() ? pcb.multicast_all : pcb.multicast_all6;
    return group_admits(pcb.groups, all, ip.destination, ip.interface->index, ip.source);
}

// Broadcast and multicast: every socket (RFC 1122 4.1.3.3 leaves the choice; Linux gives each a copy), each in its lane
// here: no other CPU hears of it.
void append_all(Domain& d, const IpIn& ip, const base::FourTuple& flow, const netmsg::Packet& p)
{
    bool found = false;
    bool group = ip.destination.is_multicast();
    if (group && !groups_admit(d, ip.destination, ip.interface->index, ip.source)) {
        return count(d.counters.udp_in_no_member); // RFC 3376 3.2
    }
    auto& list = d.udp->table[flow.local.port % UdpState::buckets];
    for (UdpPcb* pcb = list.front(); pcb != nullptr; pcb = list.next(*pcb)) {
        if (udp_matches(*pcb, flow) && (!group || joined(*pcb, ip))) {
            append(d, *pcb, ip, flow.peer.port, p);
            found = true;
        }
    }
    if (!found) {
        count(d.counters.udp_in_no_port);
    }
}

} // namespace

void udp_input(Domain& d, const IpIn& ip, netmsg::Packet& p)
{
    base::assert_on(d.cpu.owner());
    auto h = p.pullup(wire::udp_header_bytes) ? wire::parse_udp(p.data, p.size, p.total()) : std::nullopt;
    if (!h) {
        return drop(p, d.counters.udp_in_malformed);
    }
    if (p.total() > h->length) {
        p.truncate(h->length);
    }
    bool unsummed = h->checksum == 0;
    bool wrong =
        unsummed ? !ip.source.is_v4() : p.csum == netmsg::Csum::unknown && !checksum_correct(ip, wire::protocol_udp, p);
    if (wrong &&
        !base::planted(base::Plant::datagram_checksum_ignored)) { // RFC 8200 8.1: over IPv6 there is always one
        return drop(p, d.counters.udp_in_bad_checksum);
    }
    p.pull(wire::udp_header_bytes);
    if (h->destination_port == wire::dhcp_client_port && ip.interface->dhcp && ip.source.is_v4()) {
        return dhcp_input(d, *ip.interface, p);
    }
    base::FourTuple flow{{ip.destination, h->destination_port}, {ip.source, h->source_port}};
    if (ip.broadcast) {
        append_all(d, ip, flow, p);
        p.free();
        return;
    }
    UdpPcb* pcb = udp_lookup(d, flow, p.flow_hash);
    if (pcb == nullptr) {
        if (ip.source.is_v4()) {
            icmp_send_unreachable(d, ip, p, wire::unreachable_port);
        } else {
            icmp6_send_error(d, ip, p, wire::icmp6_unreachable, wire::unreachable6_port, 0);
        }
        return drop(p, d.counters.udp_in_no_port);
    }
    append(d, *pcb, ip, flow.peer.port, p);
    p.free();
}

} // namespace protocols
