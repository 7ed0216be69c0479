// What a socket asks of UDP: connect, send, shutdown, close. Datagrams are copied out of the send ring into packets, so
// ring space is free at once. Owner: the socket's CPU, which sends every datagram of the socket and so keeps their
// order.
#include <netinet/in.h>

#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/socket/so_message.hpp"
#include "protocols/udp/udp_state.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/udp.hpp"

namespace protocols {

namespace {

constexpr unsigned send_batch = 64; // datagrams per call; more are sent in the next round
constexpr std::uint16_t udp_checksum_offset = 6;

base::Endpoint destination_of(const Socket& so, const sockbuf::DatagramHeader& h)
{
    if (h.port == 0) {
        return so.flow.peer;
    }
    base::Endpoint to{base::IpAddr::v6(h.addr), h.port};
    to.addr = so_destination(so, to.addr);
    return to;
}

// Where it goes and whether it may.
base::Error find_way(Domain& d, const Socket& so, const base::Endpoint& to, Route& route, IpOut& ip)
{
    if (to.port == 0) {
        return base::Error::destination_required;
    }
    if (base::Error error = so_check_family(so, to.addr); error != base::Error::none) {
        return error;
    }
    if (!route_lookup(d, to.addr, route)) {
        return base::Error::network_unreachable;
    }
    bool v4 = to.addr.is_v4();
    bool group = to.addr.is_multicast();
    if (v4 && !group && !so.options.broadcast && ipv4_is_broadcast(d.stack, to.addr.v4())) {
        return base::Error::access;
    }
    ip.source = so.flow.local.addr.is_any() ? route.source : so.flow.local.addr;
    ip.destination = to.addr;
    ip.protocol = wire::protocol_udp;
    ip.ttl = group ? so.options.multicast_ttl : so.options.ttl;
    ip.tos = so.options.tos;
    ip.flow_label = v4 ? 0 : ipv6_flow_label(d, {{ip.source, so.flow.local.port}, to});
    return base::Error::none;
}

// A packet with the UDP header and `size` bytes of the send ring at offset; null without memory.
netmsg::Packet* make_datagram(Domain& d, const Socket& so, std::uint64_t offset, std::uint32_t size)
{
    netmsg::PacketPool& pool = d.stack.pool();
    netmsg::Packet* p = pool.allocate();
    if (p == nullptr) {
        return nullptr;
    }
    p->put(wire::udp_header_bytes);
    if (size <= p->tailroom()) {
        so.snd_ring.copy_out(offset, p->put(size), size);
    } else if (pool.add_large(*p)) {
        so.snd_ring.copy_out(offset, p->large->bytes, size);
        p->add_piece(p->large->bytes, size);
    } else {
        p->free();
        return nullptr;
    }
    return p;
}

base::Error send_one(Domain& d, Socket& so, const sockbuf::DatagramHeader& h, std::uint64_t offset)
{
    Route route;
    IpOut ip;
    base::Endpoint to = destination_of(so, h);
    if (base::Error error = find_way(d, so, to, route, ip); error != base::Error::none) {
        return error;
    }
    netmsg::Packet* p = make_datagram(d, so, offset, h.size);
    if (p == nullptr) {
        count(d.counters.udp_out_no_memory);
        return base::Error::none; // lost as on a wire
    }
    ip.ttl = h.ttl != 0 ? h.ttl : ip.ttl;
    ip.tos = h.tos != 0 ? h.tos : ip.tos;
    // IP_PMTUDISC_WANT: what fits the path is sent whole and finds out if it does not; longer is cut here.
    std::uint32_t header = to.addr.is_v4() ? wire::ipv4_header_bytes : wire::ipv6_header_bytes;
    bool fits = p->total() + header <= route.mtu;
    ip.dont_fragment = so.options.transparent_df || (so.options.mtu_discover == IP_PMTUDISC_WANT && fits);
    wire::Checksum pseudo = wire::pseudo_header(ip.source, ip.destination, wire::protocol_udp, p->total());
    wire::emit_udp(p->data, {so.flow.local.port, to.port, static_cast<std::uint16_t>(p->total()), pseudo.folded()});
    p->csum = netmsg::Csum::partial;
    p->csum_start = 0;
    p->csum_offset = udp_checksum_offset;
    count(d.counters.udp_out);
    base::Error error = ip_output(d, route, ip, *p);
    return error == base::Error::message_size ? error : base::Error::none;
}

// The next record, read once; false when it cannot be one: the family loses this socket.
bool read_record(const Socket& so, sockbuf::DatagramHeader& h)
{
    std::uint64_t left = so.snd_limit - so.snd_acked;
    if (left < sizeof h) {
        return false;
    }
    so.snd_ring.copy_out(so.snd_acked, &h, sizeof h);
    return h.size <= sockbuf::datagram_payload_max && sockbuf::datagram_stride(h.size) <= left;
}

} // namespace

base::Error udp_connect(Domain& d, Socket& so, const base::Endpoint& peer)
{
    base::assert_on(d.cpu.owner());
    Route route;
    if (!route_lookup(d, peer.addr, route)) {
        return base::Error::network_unreachable;
    }
    so.flow.peer = peer;
    if (so.flow.local.addr.is_any() || so.local_by_route) {
        so.flow.local.addr = route.source;
        so.local_by_route = true;
    }
    return base::Error::none;
}

base::Error udp_unconnect(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    so.flow.peer = {};
    if (so.local_by_route) {
        so.flow.local.addr = so.family == AF_INET ? base::IpAddr::any_v4() : base::IpAddr{};
        so.local_by_route = false;
    }
    return base::Error::none;
}

void udp_usr_send(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    base::Error refused = base::Error::none;
    for (unsigned n = 0; so.snd_acked < so.snd_limit; ++n) {
        if (n == send_batch && so.udp != nullptr) {
            d.wheel.arm(*so.udp, d.now());
            break;
        }
        sockbuf::DatagramHeader h;
        if (so.udp == nullptr || !read_record(so, h)) { // without a port, or malformed
            count(d.counters.udp_out_malformed);
            so.snd_acked = so.snd_limit;
            so_publish_broken(so);
            break;
        }
        base::Error error = send_one(d, so, h, so.snd_acked + sizeof h);
        if (error != base::Error::none) {
            count(d.counters.udp_out_refused);
            refused = error;
        }
        so.snd_acked += sockbuf::datagram_stride(h.size);
    }
    so_publish_acked(so);
    if (refused != base::Error::none) {
        so_publish_error(so, refused);
    }
}

base::Error udp_usr_shutdown(Domain& d, Socket& so, int how)
{
    base::assert_on(d.cpu.owner());
    if (so.flow.peer.port == 0) {
        return base::Error::not_connected;
    }
    if (how == SHUT_RD || how == SHUT_RDWR) {
        so.rcv_shut = true; // the caller tells every CPU
    }
    if (how == SHUT_WR || how == SHUT_RDWR) {
        so_publish_broken(so);
    }
    return base::Error::none;
}

void udp_usr_close(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    INVARIANT(so.udp == nullptr); // the close walk has been here
    so.user->socket_detached(so);
}

} // namespace protocols
