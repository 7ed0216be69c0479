// setsockopt and getsockopt at the levels SOL_SOCKET, IPPROTO_IP and IPPROTO_IPV6, with the values and errors of Linux
// (man 7 socket, ip, ipv6); the level of the protocol is the protocol's. Runs on the socket's owner.
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "protocols/ipv4.hpp"
#include "protocols/multicast/groups.hpp"
#include "protocols/socket/so_message.hpp"

namespace protocols {

namespace {

constexpr std::uint32_t send_ring_min = 4608; // SOCK_MIN_SNDBUF of a 64-bit Linux
constexpr std::uint32_t receive_ring_min = 2304;
constexpr std::uint32_t ring_max = 16U << 20;           // the largest ring a user makes
constexpr std::uint32_t datagram_ring_default = 212992; // net.core.rmem_default
constexpr std::uint32_t send_ring_default = 16384;      // middle of net.ipv4.tcp_wmem
constexpr std::uint32_t receive_ring_default = 131072;  // middle of net.ipv4.tcp_rmem
constexpr int linger_max = 0xffff;                      // seconds

// Options that are a number kept in SocketOptions and nothing else.
struct Flag {
    int level;
    int name;
    bool SocketOptions::*field;
    bool exact = false; // as Linux: 0 or 1, and nothing else
};
constexpr Flag flags[] = {
    {SOL_SOCKET, SO_REUSEADDR, &SocketOptions::reuse_addr},
    {SOL_SOCKET, SO_REUSEPORT, &SocketOptions::reuse_port},
    {SOL_SOCKET, SO_KEEPALIVE, &SocketOptions::keepalive},
    {SOL_SOCKET, SO_BROADCAST, &SocketOptions::broadcast},
    {SOL_SOCKET, SO_OOBINLINE, &SocketOptions::oob_inline},
    {SOL_SOCKET, SO_DONTROUTE, &SocketOptions::dont_route},
    {IPPROTO_IP, IP_PKTINFO, &SocketOptions::ip_pktinfo},
    {IPPROTO_IP, IP_RECVTTL, &SocketOptions::ip_recvttl},
    {IPPROTO_IP, IP_RECVTOS, &SocketOptions::ip_recvtos},
    {IPPROTO_IP, IP_RECVERR, &SocketOptions::recv_error},
    {IPPROTO_IPV6, IPV6_RECVERR, &SocketOptions::recv_error6},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &SocketOptions::bind_no_port},
    {IPPROTO_IP, IP_MULTICAST_LOOP, &SocketOptions::multicast_loop},
    {IPPROTO_IP, IP_MULTICAST_ALL, &SocketOptions::multicast_all, true},
    {IPPROTO_IPV6, IPV6_MULTICAST_ALL, &SocketOptions::multicast_all6},
    {IPPROTO_IPV6, IPV6_V6ONLY, &SocketOptions::v6_only},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO, &SocketOptions::ipv6_recvpktinfo},
    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &SocketOptions::ipv6_recvhoplimit},
    {IPPROTO_IPV6, IPV6_RECVTCLASS, &SocketOptions::ipv6_recvtclass},
    {IPPROTO_IPV6, IPV6_MULTICAST_LOOP, &SocketOptions::multicast_loop, true},
};

const Flag* find_flag(const Socket& so, int level, int name)
{
    if (level == IPPROTO_IPV6 && so.family != AF_INET6) {
        return nullptr;
    }
    const auto* at = std::find_if(
        std::begin(flags), std::end(flags), [&](const Flag& f) { return f.level == level && f.name == name; });
    return at == std::end(flags) ? nullptr : at;
}

// An int, or at the IP levels one byte, which Linux takes as well.
bool read_int(int level, const void* value, std::uint32_t size, int& out)
{
    if (size >= sizeof(int)) {
        std::memcpy(&out, value, sizeof(int));
        return true;
    }
    if (size >= 1 && level == IPPROTO_IP) {
        out = *static_cast<const unsigned char*>(value);
        return true;
    }
    return false;
}

base::Error write_bytes(const void* from, std::uint32_t bytes, void* value, std::uint32_t& size)
{
    size = std::min(size, bytes); // getsockopt truncates silently
    std::memcpy(value, from, size);
    return base::Error::none;
}

base::Error write_int(int v, void* value, std::uint32_t& size)
{
    return write_bytes(&v, sizeof v, value, size);
}

// Linux keeps twice what is asked for, for its own overhead, and reports that (man 7 socket).
std::uint32_t ring_bytes(int asked, std::uint32_t least)
{
    std::uint32_t capped = std::min(static_cast<std::uint32_t>(std::max(asked, 0)), ring_max / 2);
    return std::max(capped * 2, least);
}

std::uint32_t reported(std::uint32_t set, const sockbuf::RingView& ring, const Socket& so, std::uint32_t stream_default)
{
    if (set != 0) {
        return set;
    }
    if (ring.valid()) {
        return static_cast<std::uint32_t>(ring.size());
    }
    return is_stream(so) ? stream_default : datagram_ring_default;
}

// Linux takes the time as unsigned: a negative one is as good as for ever, not none, which would reset.
base::Error set_linger(SocketOptions& o, const void* value, std::uint32_t size)
{
    linger l{};
    if (size < sizeof l) {
        return base::Error::invalid;
    }
    std::memcpy(&l, value, sizeof l);
    o.linger = l.l_onoff != 0;
    if (o.linger) {
        o.linger_s = static_cast<std::uint16_t>(l.l_linger < 0 ? linger_max : std::min(l.l_linger, linger_max));
    }
    return base::Error::none;
}

// 32 bits or 64; all ones is no limit, as in Linux.
base::Error set_pacing_rate(SocketOptions& o, const void* value, std::uint32_t size)
{
    if (size >= sizeof o.max_pacing_rate) {
        std::memcpy(&o.max_pacing_rate, value, sizeof o.max_pacing_rate);
        return base::Error::none;
    }
    std::uint32_t rate = 0;
    if (size < sizeof rate) {
        return base::Error::invalid;
    }
    std::memcpy(&rate, value, sizeof rate);
    o.max_pacing_rate = rate == ~0U ? pacing_unlimited : rate;
    return base::Error::none;
}

// RFC 3542 6.1, 6.2: source and interface of what names none itself. Not validated before it is used, as in Linux.
base::Error set_packet_info(SocketOptions& o, const void* value, std::uint32_t size)
{
    in6_pktinfo info{};
    if (size < sizeof info) {
        return base::Error::invalid;
    }
    std::memcpy(&info, value, sizeof info);
    o.sticky_source = base::IpAddr::v6(&info.ipi6_addr);
    o.sticky_interface = info.ipi6_ifindex;
    return base::Error::none;
}

base::Error set_socket_level(SocketOptions& o, int name, int v)
{
    switch (name) {
    case SO_SNDBUF:
    case SO_SNDBUFFORCE:
        o.send_ring_bytes = ring_bytes(v, send_ring_min);
        return base::Error::none;
    case SO_RCVBUF:
    case SO_RCVBUFFORCE:
        o.receive_ring_bytes = ring_bytes(v, receive_ring_min);
        return base::Error::none;
    case SO_PRIORITY:
        if (v < 0 || v > 6) {
            return base::Error::permission; // more needs CAP_NET_ADMIN
        }
        o.priority = static_cast<std::uint32_t>(v);
        return base::Error::none;
    case SO_MARK:
        o.mark = static_cast<std::uint32_t>(v);
        return base::Error::none;
    case SO_DEBUG:
    case SO_BUSY_POLL:
        return base::Error::none; // accepted, without meaning here
    default:
        return base::Error::no_protocol_option; // unknown, or read only
    }
}

bool set_byte(std::uint8_t& field, int v, int least, int fallback)
{
    if (v != -1 && (v < least || v > 255)) {
        return false;
    }
    field = static_cast<std::uint8_t>(v == -1 ? fallback : v);
    return true;
}

base::Error set_tos(Socket& so, int v)
{
    constexpr int ecn_mask = 3; // of a stream these bits are the protocol's
    int kept = is_stream(so) ? ((v & ~ecn_mask) | (so.options.tos & ecn_mask)) : v;
    so.options.tos = static_cast<std::uint8_t>(kept);
    return base::Error::none;
}

base::Error set_ip_level(Socket& so, int name, int v)
{
    SocketOptions& o = so.options;
    switch (name) {
    case IP_TTL:
        return set_byte(o.ttl, v, 1, 64) ? base::Error::none : base::Error::invalid;
    case IP_TOS:
        return set_tos(so, v);
    case IP_MTU_DISCOVER:
        if (v < IP_PMTUDISC_DONT || v > IP_PMTUDISC_OMIT) {
            return base::Error::invalid;
        }
        o.mtu_discover = static_cast<std::uint8_t>(v);
        o.transparent_df = v == IP_PMTUDISC_DO || v == IP_PMTUDISC_PROBE;
        return base::Error::none;
    case IP_MULTICAST_TTL:
        if (is_stream(so)) {
            return base::Error::invalid;
        }
        return set_byte(o.multicast_ttl, v, 0, 1) ? base::Error::none : base::Error::invalid;
    default:
        return base::Error::no_protocol_option;
    }
}

base::Error set_v6_level(Socket& so, int name, int v)
{
    if (so.family != AF_INET6) {
        return base::Error::no_protocol_option;
    }
    switch (name) {
    case IPV6_UNICAST_HOPS:
        return set_byte(so.options.hop_limit, v, 0, 64) ? base::Error::none : base::Error::invalid;
    case IPV6_MULTICAST_HOPS:
        return set_byte(so.options.multicast_hops, v, 0, 1) ? base::Error::none : base::Error::invalid;
    case IPV6_TCLASS:
        if (v < -1 || v > 255) {
            return base::Error::invalid;
        }
        return set_tos(so, v == -1 ? 0 : v);
    case IPV6_MTU_DISCOVER: // the numbers are IPv4's
        return set_ip_level(so, IP_MTU_DISCOVER, v);
    default:
        return base::Error::no_protocol_option;
    }
}

base::Error get_socket_level(Domain& d, Socket& so, int name, void* value, std::uint32_t& size)
{
    const SocketOptions& o = so.options;
    switch (name) {
    case SO_SNDBUF:
        return write_int(
            static_cast<int>(reported(o.send_ring_bytes, so.snd_ring, so, send_ring_default)), value, size);
    case SO_RCVBUF:
        return write_int(
            static_cast<int>(reported(o.receive_ring_bytes, so.rcv_ring, so, receive_ring_default)), value, size);
    case SO_LINGER: {
        linger l{o.linger ? 1 : 0, o.linger_s};
        return write_bytes(&l, sizeof l, value, size);
    }
    case SO_ERROR:
        return write_int(so.slot->info.so_error.exchange(0, std::memory_order_acq_rel), value, size);
    case SO_TYPE:
        return write_int(is_stream(so) ? SOCK_STREAM : SOCK_DGRAM, value, size);
    case SO_DOMAIN:
        return write_int(so.family, value, size);
    case SO_PROTOCOL:
        return write_int(is_stream(so) ? IPPROTO_TCP : IPPROTO_UDP, value, size);
    case SO_ACCEPTCONN:
        return write_int(so.listening ? 1 : 0, value, size);
    case SO_INCOMING_CPU:
        return write_int(d.id(), value, size);
    case SO_PRIORITY:
        return write_int(static_cast<int>(o.priority), value, size);
    case SO_MARK:
        return write_int(static_cast<int>(o.mark), value, size);
    case SO_MAX_PACING_RATE: {
        if (size >= sizeof o.max_pacing_rate) {
            return write_bytes(&o.max_pacing_rate, sizeof o.max_pacing_rate, value, size);
        }
        std::uint32_t rate = static_cast<std::uint32_t>(std::min<std::uint64_t>(o.max_pacing_rate, ~0U));
        return write_bytes(&rate, sizeof rate, value, size);
    }
    case SO_SNDLOWAT:
        return write_int(1, value, size);
    case SO_DEBUG:
    case SO_BUSY_POLL:
        return write_int(0, value, size);
    default:
        return base::Error::no_protocol_option;
    }
}

base::Error get_mtu(Domain& d, const Socket& so, void* value, std::uint32_t& size)
{
    Route route;
    if (so.flow.peer.port == 0 || !route_lookup(d, so.flow.peer.addr, route, so.flow.local.addr)) {
        return base::Error::not_connected;
    }
    return write_int(static_cast<int>(route.mtu), value, size);
}

base::Error get_ip_level(Domain& d, Socket& so, int name, void* value, std::uint32_t& size)
{
    const SocketOptions& o = so.options;
    switch (name) {
    case IP_TTL:
        return write_int(o.ttl, value, size);
    case IP_TOS:
        return write_int(o.tos, value, size);
    case IP_MTU_DISCOVER:
        return write_int(o.mtu_discover, value, size);
    case IP_MTU:
        return get_mtu(d, so, value, size);
    case IP_MULTICAST_TTL:
        return write_int(o.multicast_ttl, value, size);
    case IP_MULTICAST_IF: {
        in_addr a{htonl(o.multicast_v4)};
        return write_bytes(&a, sizeof a, value, size);
    }
    case IP_OPTIONS: // none are ever sent
        size = 0;
        return base::Error::none;
    default:
        return base::Error::no_protocol_option;
    }
}

base::Error get_v6_level(Domain& d, const Socket& so, int name, void* value, std::uint32_t& size)
{
    if (so.family != AF_INET6) {
        return base::Error::no_protocol_option;
    }
    switch (name) {
    case IPV6_UNICAST_HOPS:
        return write_int(so.options.hop_limit, value, size);
    case IPV6_MULTICAST_HOPS:
        return write_int(so.options.multicast_hops, value, size);
    case IPV6_MULTICAST_IF:
        return write_int(static_cast<int>(so.options.multicast_interface6), value, size);
    case IPV6_TCLASS:
        return write_int(so.options.tos, value, size);
    case IPV6_MTU_DISCOVER:
        return write_int(so.options.mtu_discover, value, size);
    case IPV6_MTU:
        return get_mtu(d, so, value, size);
    default:
        return base::Error::no_protocol_option;
    }
}

base::Error set_flag(Domain& d, Socket& so, const Flag& flag, int v)
{
    if (flag.field == &SocketOptions::v6_only && (so.bound_port || so.flow.local.port != 0)) {
        return base::Error::invalid; // ipv6(7): before it is bound
    }
    if (flag.exact && v != 0 && v != 1) {
        return base::Error::invalid;
    }
    so.options.*flag.field = v != 0;
    if (is_stream(so) && so.tcb != nullptr && flag.field == &SocketOptions::keepalive) {
        (void)tcp_set_option(d, so, SOL_SOCKET, SO_KEEPALIVE, &v, sizeof v); // its timer starts or stops
    }
    return base::Error::none;
}

} // namespace

base::Error so_set_option(Domain& d, Socket& so, int level, int name, const void* value, std::uint32_t size)
{
    if (level == IPPROTO_TCP && is_stream(so)) {
        return tcp_set_option(d, so, level, name, value, size);
    }
    if (!is_stream(so)) {
        udp_forget_way(so); // whichever it is: none is set often
    }
    if (level == SOL_SOCKET && name == SO_LINGER) {
        return set_linger(so.options, value, size);
    }
    if (level == SOL_SOCKET && name == SO_MAX_PACING_RATE) {
        return set_pacing_rate(so.options, value, size);
    }
    if (level == IPPROTO_IPV6 && name == IPV6_PKTINFO && so.family == AF_INET6) {
        return set_packet_info(so.options, value, size);
    }
    if (base::Error error{}; so_set_group_option(d, so, level, name, value, size, error)) {
        return error;
    }
    if (level != SOL_SOCKET && level != IPPROTO_IP && level != IPPROTO_IPV6) {
        return base::Error::no_protocol_option;
    }
    int v = 0;
    if (!read_int(level, value, size, v)) {
        return base::Error::invalid;
    }
    if (const Flag* flag = find_flag(so, level, name); flag != nullptr) {
        return set_flag(d, so, *flag, v);
    }
    if (level == SOL_SOCKET) {
        return set_socket_level(so.options, name, v);
    }
    base::Error error = level == IPPROTO_IP ? set_ip_level(so, name, v) : set_v6_level(so, name, v);
    if (error == base::Error::none && is_stream(so)) {
        error = tcp_set_option(d, so, level, name, value, size); // a connection has its own copy
    }
    return error;
}

base::Error so_get_option(Domain& d, Socket& so, int level, int name, void* value, std::uint32_t& size)
{
    if (const Flag* flag = find_flag(so, level, name); flag != nullptr) {
        return write_int(so.options.*flag->field ? 1 : 0, value, size);
    }
    if (is_source_list(level, name) && (level == IPPROTO_IP || so.family == AF_INET6)) {
        return so_get_source_list(d, so, level, name, value, size);
    }
    switch (level) {
    case IPPROTO_TCP:
        return is_stream(so) ? tcp_get_option(d, so, level, name, value, size) : base::Error::no_protocol_option;
    case SOL_SOCKET:
        return get_socket_level(d, so, name, value, size);
    case IPPROTO_IP:
        return get_ip_level(d, so, name, value, size);
    case IPPROTO_IPV6:
        return get_v6_level(d, so, name, value, size);
    default:
        return base::Error::no_protocol_option;
    }
}

} // namespace protocols
