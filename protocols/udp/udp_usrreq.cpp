// What a socket asks of UDP: connect, send, shutdown, close. Datagrams are copied out of the send ring into packets, so
// ring space is free at once. Owner: the socket's CPU, which sends every datagram of the socket and so keeps their
// order.
#include <ctime> // for the next one

#include <linux/errqueue.h>
#include <netinet/in.h>

#include <algorithm>

#include "protocols/ip.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/path_mtu.hpp"
#include "protocols/socket/so_message.hpp"
#include "protocols/udp/udp_state.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/udp.hpp"

namespace protocols {

namespace {

constexpr unsigned send_batch = 64; // datagrams per call; more are sent in the next round
constexpr std::uint16_t udp_checksum_offset = 6;

// One record of the send ring, read once and found possible.
struct Record {
    sockbuf::DatagramHeader h{};
    std::uint64_t at = 0; // of the payload
    base::IpAddr source;  // IP_PKTINFO, IPV6_PKTINFO; "::" = the socket's
    std::uint64_t stride = 0;
};

// The interface that something names, 0 = the route decides. The zone is a part of the address (RFC 4007 6) and goes
// before everything; then RFC 3542 6.7, and as Linux an own address of link scope before the socket's options.
std::uint32_t chosen_interface(
    const Socket& so, const base::IpAddr& to, std::uint32_t by_datagram, const base::IpAddr& own)
{
    const SocketOptions& o = so.options;
    const std::uint32_t in_order[] = {to.zone(), by_datagram, own.zone(), to.is_v4() ? 0 : o.sticky_interface,
        to.is_multicast() ? o.multicast_interface_to(to) : 0};
    const auto* at = std::find_if(std::begin(in_order), std::end(in_order), [](std::uint32_t i) { return i != 0; });
    return at == std::end(in_order) ? 0 : *at;
}

// The only one that leads to others; 0 = there are several.
std::uint32_t only_link(const Stack& s)
{
    std::uint32_t found = 0;
    for (const auto& interface : s.interfaces()) {
        if (interface->netif->info().loopback) {
            continue;
        }
        if (found != 0) {
            return 0;
        }
        found = interface->index;
    }
    return found;
}

base::Endpoint destination_of(const Domain& d, const Socket& so, const sockbuf::DatagramHeader& h)
{
    if (h.port == 0) {
        return so.flow.peer;
    }
    base::Endpoint to{base::IpAddr::v6(h.addr), h.port};
    to.addr = so_destination(so, to.addr);
    if (to.addr.is_link_local_v6() && to.addr.zone() == 0) { // as Linux, where there is nothing to choose
        std::uint32_t chosen = chosen_interface(so, to.addr, h.interface, so.flow.local.addr);
        to.addr = to.addr.in_zone(chosen != 0 ? chosen : only_link(d.stack));
    }
    return to;
}

// Of a socket that is not bound: to a group the address that IP_MULTICAST_IF named, else what the route has.
base::IpAddr unbound_source(Domain& d, const Socket& so, const base::IpAddr& to, const Route& route)
{
    base::IpAddr named = base::IpAddr::v4(so.options.multicast_v4);
    bool applies = to.is_multicast_v4() && so.options.multicast_v4 != 0 && is_local(d, named);
    return applies ? named : route.source;
}

// Does an address that never leaves this host, or its link, stay there (RFC 1122 3.2.1.3 g, RFC 4291 2.5.3, RFC 4007
// 9)?
base::Error check_scope(const base::IpAddr& source, const Route& route)
{
    if (route.interface->netif->info().loopback) {
        return base::Error::none;
    }
    if (source.is_loopback()) {
        return base::Error::invalid; // as Linux
    }
    bool other_link = source.zone() != 0 && source.zone() != route.interface->index;
    return other_link ? base::Error::network_unreachable : base::Error::none;
}

// That the datagram asks for; unspecified: none.
const base::IpAddr& asked_source(const Socket& so, const Record& r, const base::IpAddr& to)
{
    bool sticky = r.source.is_any() && !to.is_v4(); // RFC 3542 6.1: unless the datagram says it itself
    return sticky ? so.options.sticky_source : r.source;
}

// That the socket is bound to; unspecified: none.
base::IpAddr bound_source(const Domain& d, const Socket& so)
{
    const base::IpAddr& own = so.flow.local.addr;
    bool bound = !own.is_any() && !own.is_multicast() && !(own.is_v4() && ipv4_is_broadcast(d, own.v4()));
    return bound ? own : base::IpAddr{};
}

// The source: what the datagram asks for before what the socket is bound to before what the route has.
base::Error choose_source(Domain& d, const Socket& so, const Record& r, const Route& route, IpOut& ip)
{
    bool loops = route.interface->netif->info().loopback; // to an address of ours, in its zone
    std::uint32_t zone = loops ? ip.destination.zone() : route.interface->index;
    base::IpAddr asked = asked_source(so, r, ip.destination).in_zone(zone);
    if (!asked.is_any() && (asked.is_v4() != ip.destination.is_v4() || !is_local(d, asked))) {
        return base::Error::invalid; // as Linux
    }
    base::IpAddr bound = bound_source(d, so);
    if (!bound.is_any() && !is_local(d, bound)) {
        return base::Error::invalid; // it was (RFC 1122 3.2.1.3); as Linux
    }
    ip.source = !asked.is_any() ? asked : !bound.is_any() ? bound : unbound_source(d, so, ip.destination, route);
    return check_scope(ip.source, route);
}

// Whether there is an interface that the datagram itself names, and on the link that its destination is on.
base::Error check_asked(Domain& d, const Record& r, const base::IpAddr& to)
{
    if (r.h.interface > d.stack.interfaces().size()) {
        return base::Error::no_device;
    }
    bool other_link = r.h.interface != 0 && to.zone() != 0 && r.h.interface != to.zone();
    return other_link ? base::Error::invalid : base::Error::none; // as Linux
}

// Where it goes and whether it may.
base::Error find_way(Domain& d, const Socket& so, const Record& r, UdpWay& way)
{
    way.to = destination_of(d, so, r.h);
    const base::Endpoint& to = way.to;
    if (to.port == 0) {
        return base::Error::destination_required;
    }
    if (base::Error error = so_check_family(so, to.addr); error != base::Error::none) {
        return error;
    }
    if (base::Error error = check_asked(d, r, to.addr); error != base::Error::none) {
        return error;
    }
    bool group = to.addr.is_multicast();
    bool v4 = to.addr.is_v4();
    Route& route = way.route;
    IpOut& ip = way.ip;
    std::uint32_t chosen = chosen_interface(so, to.addr, r.h.interface, so.flow.local.addr);
    const base::IpAddr& asked = asked_source(so, r, to.addr);
    if (!route_lookup_by(d, to.addr, chosen, route, asked.is_any() ? bound_source(d, so) : asked)) {
        return base::Error::network_unreachable;
    }
    bool everyone = v4 && !group && ipv4_is_broadcast(d, to.addr.v4());
    if (everyone && !so.options.broadcast) {
        return base::Error::access;
    }
    ip.destination = to.addr;
    if (base::Error error = choose_source(d, so, r, route, ip); error != base::Error::none) {
        return error;
    }
    ip.protocol = wire::protocol_udp;
    ip.loop_group = everyone || (group && so.options.multicast_loop);
    ip.ttl = r.h.ttl != 0 ? r.h.ttl : group ? so.options.ttl_of_group(to.addr) : so.options.ttl_towards(to.addr);
    ip.tos = (r.h.flags & sockbuf::datagram_has_tos) != 0 ? r.h.tos : so.options.tos;
    ip.flow_label = v4 ? 0 : ipv6_flow_label(d, {{ip.source, so.flow.local.port}, to});
    way.headers = (v4 ? wire::ipv4_header_bytes : wire::ipv6_header_bytes) + wire::udp_header_bytes;
    way.device_mtu = route_device_mtu(d, route);
    way.pseudo_sum = wire::pseudo_header_part(ip.source, ip.destination, wire::protocol_udp);
    return base::Error::none;
}

// Whether its way is the socket's: the record has nothing to say about it.
bool is_plain(const Record& r)
{
    bool own_tos = (r.h.flags & sockbuf::datagram_has_tos) != 0;
    return r.h.port == 0 && r.h.interface == 0 && r.h.ttl == 0 && !own_tos && r.source.is_any();
}

// What the path takes, as far as the socket believes what is said of it.
std::uint32_t path_mtu(Domain& d, const Socket& so, const UdpWay& way)
{
    bool believes = so.options.mtu_discover < IP_PMTUDISC_PROBE && !way.route.interface->netif->info().loopback;
    std::uint32_t link = way.route.interface->index;
    return believes ? pmtu_lookup(d, way.to.addr.in_zone(link), way.device_mtu) : way.device_mtu;
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

// Payload [offset, offset + bytes) as one packet, which the device cuts every `segment` bytes unless that is 0.
base::Error send_packet(
    Domain& d, const Socket& so, UdpWay& way, std::uint64_t offset, std::uint32_t bytes, std::uint16_t segment)
{
    netmsg::Packet* p = make_datagram(d, so, offset, bytes);
    if (p == nullptr) {
        count(d.counters.udp_out_no_memory);
        return base::Error::none; // lost as on a wire
    }
    // IP_PMTUDISC_WANT: what fits the path is sent whole and finds out if it does not, but where we know that routers
    // have to cut it; longer is cut by IP.
    bool fits = segment != 0 || bytes + way.headers <= way.route.mtu;
    bool narrow = way.route.mtu <= pmtu_min && path_cuts(d, way.to.addr);
    bool finds_out = so.options.mtu_discover == IP_PMTUDISC_WANT && fits && !narrow;
    way.ip.dont_fragment = so.options.transparent_df || finds_out;
    auto length = static_cast<std::uint16_t>(p->total());
    std::uint16_t pseudo = wire::pseudo_header_sum(way.pseudo_sum, p->total());
    wire::emit_udp(p->data, {so.flow.local.port, way.to.port, length, pseudo});
    p->csum = netmsg::Csum::partial;
    p->csum_start = 0;
    p->csum_offset = udp_checksum_offset;
    p->gso = segment != 0 ? netmsg::Gso::udp : netmsg::Gso::none;
    p->gso_size = segment;
    count(d.counters.udp_out);
    base::Error error = ip_output(d, way.route, way.ip, *p);
    return error == base::Error::message_size ? error : base::Error::none;
}

// udp(7): what is too long for the path and may not be cut tells the error queue how long it may be.
void queue_too_long(const Socket& so, const UdpWay& way)
{
    if (!(way.to.addr.is_v4() ? so.options.recv_error : so.options.recv_error6)) {
        return;
    }
    sockbuf::DatagramError entry{};
    entry.error = EMSGSIZE;
    entry.info = way.route.mtu;
    entry.origin = SO_EE_ORIGIN_LOCAL;
    udp_queue_error(*so.udp, way.to, entry, nullptr, 0);
}

// UDP_SEGMENT (udp(7)): by the device where it can, else here.
base::Error send_segments(Domain& d, const Socket& so, UdpWay& way, const Record& r)
{
    std::uint16_t segment = r.h.segment;
    const netmsg::NetifInfo& device = way.route.interface->netif->info();
    if (so.options.mtu_discover != IP_PMTUDISC_DONT && r.h.size + way.headers <= device.uso_max_bytes) {
        return send_packet(d, so, way, r.at, r.h.size, segment);
    }
    for (std::uint32_t done = 0; done < r.h.size; done += segment) {
        std::uint32_t bytes = std::min<std::uint32_t>(segment, r.h.size - done);
        if (base::Error error = send_packet(d, so, way, r.at + done, bytes, 0); error != base::Error::none) {
            return error;
        }
    }
    return base::Error::none;
}

bool is_cut(const sockbuf::DatagramHeader& h)
{
    return h.segment != 0 && h.size > h.segment;
}

// The way of the record, unless `way` holds it already, or what it is refused with.
base::Error admit(Domain& d, const Socket& so, const Record& r, UdpWay& way)
{
    if (!route_holds(d, way.route)) {
        if (base::Error error = find_way(d, so, r, way); error != base::Error::none) {
            way.route = {}; // what was found so far is not to be kept
            return error;
        }
    }
    way.route.mtu = path_mtu(d, so, way);
    bool cut = is_cut(r.h); // a segment must fit the path; so must what says so itself (IP_PMTUDISC_DO)
    std::uint32_t longest = cut ? r.h.segment : r.h.size;
    bool whole = so.options.transparent_df || so.options.mtu_discover == IP_PMTUDISC_INTERFACE;
    if ((cut || whole) && longest + way.headers > way.route.mtu) {
        queue_too_long(so, way);
        return base::Error::message_size;
    }
    return base::Error::none;
}

base::Error send_by(Domain& d, const Socket& so, const Record& r, UdpWay& way)
{
    if (base::Error error = admit(d, so, r, way); error != base::Error::none) {
        return error;
    }
    return is_cut(r.h) ? send_segments(d, so, way, r) : send_packet(d, so, way, r.at, r.h.size, 0);
}

base::Error send_one(Domain& d, const Socket& so, const Record& r)
{
    if (is_plain(r)) {
        return send_by(d, so, r, so.udp->way);
    }
    UdpWay way;
    return send_by(d, so, r, way);
}

std::uint32_t segments_of(const sockbuf::DatagramHeader& h)
{
    return h.segment == 0 ? 1U : (h.size + h.segment - 1U) / h.segment;
}

// `bytes` are those behind the payload, where the record has some.
void read_source(const unsigned char* bytes, Record& r)
{
    if ((r.h.flags & sockbuf::datagram_has_source) != 0) {
        r.source = base::IpAddr::v6(bytes);
    } else if (r.h.local_v4 != 0) {
        r.source = base::IpAddr::v4(r.h.local_v4);
    }
}

// The next record, read once; false when it cannot be one: the family loses this socket.
bool read_record(const Socket& so, Record& r)
{
    std::uint64_t left = so.snd_limit - so.snd_acked;
    if (left < sizeof r.h) {
        return false;
    }
    so.snd_ring.copy_out(so.snd_acked, &r.h, sizeof r.h);
    bool trailer = (r.h.flags & sockbuf::datagram_has_source) != 0;
    r.at = so.snd_acked + sizeof r.h;
    r.stride = sockbuf::datagram_stride(r.h.size + (trailer ? sockbuf::datagram_local_bytes : 0U));
    if (r.h.size > sockbuf::datagram_payload_max || r.stride > left ||
        segments_of(r.h) > sockbuf::datagram_segments_max) {
        return false;
    }
    unsigned char source[sockbuf::datagram_local_bytes];
    if (trailer) {
        so.snd_ring.copy_out(r.at + r.h.size, source, sizeof source);
    }
    read_source(source, r);
    return true;
}

} // namespace

bool udp_route(Domain& d, const Socket& so, const base::IpAddr& to, const base::IpAddr& own, Route& out)
{
    return route_lookup_by(d, to, chosen_interface(so, to, 0, own), out, own);
}

void udp_forget_way(Socket& so)
{
    if (so.udp != nullptr) {
        so.udp->way.route = {};
    }
}

base::Error udp_connect(Domain& d, Socket& so, const base::Endpoint& peer)
{
    base::assert_on(d.cpu.owner());
    bool by_route = so.flow.local.addr.is_any() || so.local_by_route;
    base::IpAddr own = by_route ? base::IpAddr{} : so.flow.local.addr;
    Route route;
    if (!udp_route(d, so, peer.addr, own, route)) {
        return base::Error::network_unreachable;
    }
    if (by_route) {
        own = unbound_source(d, so, peer.addr, route);
    }
    if (base::Error error = check_scope(own, route); error != base::Error::none) {
        return error;
    }
    udp_forget_way(so);
    so.flow.local.addr = own;
    so.local_by_route = by_route;
    so.flow.peer = peer.port != 0 ? peer : base::Endpoint{}; // to port 0: as Linux, only the way there is chosen
    return base::Error::none;
}

base::Error udp_unconnect(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    udp_forget_way(so);
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
        Record r;
        if (so.udp == nullptr || !read_record(so, r)) { // without a port, or malformed
            count(d.counters.udp_out_malformed);
            so.snd_acked = so.snd_limit;
            so_publish_broken(so);
            break;
        }
        base::Error error = send_one(d, so, r);
        if (error != base::Error::none) {
            count(d.counters.udp_out_refused);
            refused = error;
        }
        so.snd_acked += r.stride;
    }
    so_publish_acked(so);
    if (refused != base::Error::none) {
        so_publish_error(so, refused);
    }
}

base::Error udp_may_send(Domain& d, const Socket& so, const void* question)
{
    base::assert_on(d.cpu.owner());
    sockbuf::DatagramQuestion q;
    std::memcpy(&q, question, sizeof q);
    Record r;
    r.h = q.header;
    read_source(q.source, r);
    UdpWay way;
    base::Error error = so.udp == nullptr ? base::Error::invalid : admit(d, so, r, way);
    if (error != base::Error::none) {
        count(d.counters.udp_out_refused);
    }
    return error;
}

base::Error udp_usr_shutdown(Domain& d, Socket& so, int how)
{
    base::assert_on(d.cpu.owner());
    if (how == SHUT_RD || how == SHUT_RDWR) {
        so.rcv_shut = true; // the caller tells every CPU
    }
    if (how == SHUT_WR || how == SHUT_RDWR) {
        so_publish_broken(so);
    }
    return so.flow.peer.port == 0 ? base::Error::not_connected : base::Error::none; // as Linux: it is shut all the same
}

void udp_usr_close(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    INVARIANT(so.udp == nullptr); // the close walk has been here
    so.user->socket_detached(so);
}

} // namespace protocols
