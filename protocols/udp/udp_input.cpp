// Received datagrams (RFC 768, RFC 1122 4.1.3): matched on the CPU to which the flow hashes, forwarded to the owner of
// the socket, appended to its receive ring; the sender of what nobody wants hears so. Owner: the domain's CPU.
#include <netinet/in.h>

#include "base/endian.hpp"
#include "protocols/icmp.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/socket/so_dispatch.hpp"
#include "protocols/udp/udp_state.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/udp.hpp"

namespace protocols {

namespace {

void drop(netmsg::Packet& p, std::atomic<std::uint64_t>& reason)
{
    count(reason);
    p.free();
}

bool checksum_correct(const IpIn& ip, const netmsg::Packet& p)
{
    iovec pieces[netmsg::packet_pieces_max + 1];
    wire::Checksum sum = wire::pseudo_header(ip.source, ip.destination, wire::protocol_udp, p.total());
    sum.add(pieces, p.span(0, p.total(), pieces));
    return sum.correct();
}

// Appends a record to the socket's ring. The packet stays the caller's.
void append(Domain& d, Socket& so, const IpIn& ip, std::uint16_t peer_port, const netmsg::Packet& p)
{
    if (so.app_closed) {
        return count(d.counters.udp_in_closing);
    }
    if (so.rcv_shut) {
        return count(d.counters.udp_in_shut_down);
    }
    std::uint64_t stride = sockbuf::datagram_stride(p.total());
    const sockbuf::RingView& ring = so.rcv_ring;
    // The reader's progress is looked at only when the ring seems full.
    if (so.rcv_produced + stride - so.rcv_consumed > ring.size() &&
        (!so_take_consumed(so) || so.rcv_produced + stride - so.rcv_consumed > ring.size())) {
        count(so.slot->owner.rcv_dropped);
        return count(d.counters.udp_in_ring_full);
    }
    sockbuf::DatagramHeader h{};
    h.size = p.total();
    h.port = peer_port;
    h.tos = ip.tos;
    h.ttl = ip.ttl;
    std::memcpy(h.addr, ip.source.bytes(), 16);
    h.interface = ip.interface->index;
    h.local_v4 = ip.destination.v4();
    ring.copy_in(so.rcv_produced, &h, sizeof h);
    std::uint64_t at = so.rcv_produced + sizeof h;
    iovec pieces[netmsg::packet_pieces_max + 1];
    for (unsigned i = 0, n = p.span(0, p.total(), pieces); i < n; ++i) {
        ring.copy_in(at, pieces[i].iov_base, pieces[i].iov_len);
        at += pieces[i].iov_len;
    }
    so.rcv_produced += stride;
    count(d.counters.udp_in);
    so_publish_received(so);
}

base::FourTuple flow_of(const IpIn& ip, const netmsg::Packet& p)
{
    const std::byte* header = p.data - wire::udp_header_bytes; // taken off before
    return {{ip.destination, base::load_be16(header + 2)}, {ip.source, base::load_be16(header)}};
}

// To every socket on this CPU that matches.
unsigned append_all(Domain& d, const IpIn& ip, const base::FourTuple& flow, const netmsg::Packet& p)
{
    unsigned found = 0;
    auto& list = d.udp->table[flow.local.port % UdpState::buckets];
    for (UdpPcb* pcb = list.front(); pcb != nullptr; pcb = list.next(*pcb)) {
        if (pcb->owner == d.id() && udp_matches(*pcb, flow, true)) {
            append(d, *pcb->socket, ip, flow.peer.port, p);
            ++found;
        }
    }
    return found;
}

// On a socket's owner, sent by the CPU of the flow. Data at the payload. Matched again: the socket may be gone.
void forwarded(lwkt::Message& m)
{
    Domain& d = forwarded_domain(m);
    auto& p = static_cast<netmsg::Packet&>(m);
    IpIn ip = ipv4_describe(d, p);
    base::FourTuple flow = flow_of(ip, p);
    if (ip.broadcast) {
        append_all(d, ip, flow, p);
        p.free();
        return;
    }
    UdpPcb* pcb = udp_lookup(d, flow, p.flow_hash);
    if (pcb == nullptr || pcb->owner != d.id()) {
        return drop(p, d.counters.udp_in_closing);
    }
    append(d, *pcb->socket, ip, flow.peer.port, p);
    p.free();
}

// Broadcast and multicast: every socket on every CPU (RFC 1122 4.1.3.3 leaves the choice; Linux gives each a copy).
void to_all(Domain& d, const IpIn& ip, const base::FourTuple& flow, netmsg::Packet& p)
{
    unsigned found = append_all(d, ip, flow, p);
    auto& list = d.udp->table[flow.local.port % UdpState::buckets];
    std::uint64_t told[sockbuf::max_cpus / 64] = {};
    auto above = static_cast<std::uint32_t>(p.data - p.l3);
    for (UdpPcb* pcb = list.front(); pcb != nullptr; pcb = list.next(*pcb)) {
        std::uint64_t bit = std::uint64_t{1} << (pcb->owner % 64);
        bool elsewhere = pcb->owner != d.id() && udp_matches(*pcb, flow, true);
        if (!elsewhere || (told[pcb->owner / 64] & bit) != 0) {
            continue;
        }
        told[pcb->owner / 64] |= bit;
        ++found;
        p.push(above); // the copy needs its headers
        netmsg::Packet* copy = d.stack.pool().clone(p);
        p.pull(above);
        if (copy == nullptr) {
            count(d.counters.udp_forward_shed);
            continue;
        }
        copy->l3 = copy->data;
        copy->pull(above);
        ipv4_forward(d, pcb->owner, *copy, forwarded);
    }
    if (found == 0) {
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
    if (h->checksum != 0 && p.csum == netmsg::Csum::unknown && !checksum_correct(ip, p)) {
        return drop(p, d.counters.udp_in_bad_checksum);
    }
    p.pull(wire::udp_header_bytes);
    base::FourTuple flow{{ip.destination, h->destination_port}, {ip.source, h->source_port}};
    if (ip.broadcast) {
        to_all(d, ip, flow, p);
        p.free();
        return;
    }
    UdpPcb* pcb = udp_lookup(d, flow, p.flow_hash);
    if (pcb == nullptr) {
        icmp_send_unreachable(d, ip, p, wire::unreachable_port);
        return drop(p, d.counters.udp_in_no_port);
    }
    if (pcb->owner != d.id()) {
        count(d.counters.udp_forwarded);
        return ipv4_forward(d, pcb->owner, p, forwarded);
    }
    append(d, *pcb->socket, ip, flow.peer.port, p);
    p.free();
}

} // namespace protocols
