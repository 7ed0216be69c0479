// What a SYN says: initial sequence number (RFC 6528), timestamp offset (RFC 7323 7.1), window scale, MSS, and what
// both sides agreed on. Pure but for the keys of the domain.
#include <netinet/in.h>

#include "protocols/ip.hpp"
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

// Of two words where that is all there is to hash.
std::uint64_t keyed(base::SipKey key, const base::FourTuple& flow)
{
    if (flow.local.addr.is_v4() && flow.peer.addr.is_v4()) {
        std::uint64_t addresses = std::uint64_t{flow.local.addr.v4()} << 32 | flow.peer.addr.v4();
        return base::siphash24(key, addresses, std::uint64_t{flow.local.port} << 16 | flow.peer.port);
    }
    return base::siphash(key, &flow, sizeof flow);
}

} // namespace

// RFC 9293 3.4.1 (MUST-8): M + F(4-tuple, secret), M = a clock of 4 us.
Seq initial_sequence(const TcpState& s, const base::FourTuple& flow, base::Instant now)
{
    auto m = static_cast<std::uint32_t>(now.time_since_epoch().count() / 4);
    return Seq{m + static_cast<std::uint32_t>(keyed(s.isn_key, flow))};
}

std::uint32_t timestamp_offset(const TcpState& s, const base::FourTuple& flow)
{
    return static_cast<std::uint32_t>(keyed(s.timestamp_key, flow));
}

// RFC 7323 5.4: one tick per millisecond.
std::uint32_t timestamp_now(base::Instant now, std::uint32_t offset)
{
    return static_cast<std::uint32_t>(now.time_since_epoch().count() / 1000) + offset;
}

// Without SO_RCVBUF the scale leaves room for rings of 16 MiB, as Linux's does.
std::uint8_t scale_for(std::uint32_t ring_option_bytes)
{
    if (ring_option_bytes == 0) {
        return default_rcv_scale;
    }
    std::uint8_t scale = 0;
    while (scale < wire::tcp_scale_max && (std::uint64_t{window_unscaled_max} << scale) < ring_option_bytes) {
        ++scale;
    }
    return scale;
}

// RFC 9293 3.7.1 (MUST-14, MUST-67): from the link, whatever the path to the peer may be.
std::uint16_t mss_to_announce(const Domain& d, const Route& r, const SocketOptions& o)
{
    std::uint32_t mss =
        std::min(route_device_mtu(d, r), 65535U) - ip_header_bytes(r.source) - wire::tcp_header_min_bytes;
    if (o.max_segment != 0) {
        mss = std::min<std::uint32_t>(mss, o.max_segment);
    }
    return static_cast<std::uint16_t>(std::max(mss, mss_floor));
}

Negotiated offer(const Domain& d, const SocketOptions& o)
{
    const StackOptions& stack = d.stack.options();
    Negotiated n;
    n.scale = stack.tcp_window_scaling;
    n.rcv_scale = n.scale ? scale_for(o.receive_ring_bytes) : std::uint8_t{0};
    n.sack = stack.tcp_sack;
    n.timestamps = stack.tcp_timestamps;
    return n;
}

Negotiated negotiate(const wire::TcpOptions& theirs, const Negotiated& ours)
{
    Negotiated n;
    n.peer_mss = theirs.mss;
    n.sack = theirs.sack_permitted && ours.sack;
    n.timestamps = theirs.has_timestamp && ours.timestamps;
    n.scale = theirs.has_scale && ours.scale;
    if (n.scale) { // RFC 7323 2.2: only when both sides said so
        n.snd_scale = theirs.scale;
        n.rcv_scale = ours.rcv_scale;
    }
    return n;
}

wire::TcpOptions syn_options(const Negotiated& n, std::uint16_t mss, std::uint32_t ts_val, std::uint32_t ts_ecr)
{
    wire::TcpOptions o;
    o.mss = mss;
    o.sack_permitted = n.sack;
    o.has_scale = n.scale;
    o.scale = n.rcv_scale;
    o.has_timestamp = n.timestamps;
    o.ts_val = ts_val;
    o.ts_ecr = ts_ecr;
    return o;
}

namespace {

// ip(7), as Linux. Over IPv6 the source alone may fragment, and TCP does not.
bool asks_path(const Tcb& t)
{
    return !t.flow.peer.addr.is_v4() || (t.mtu_discover != IP_PMTUDISC_DONT && t.mtu_discover < IP_PMTUDISC_INTERFACE);
}

} // namespace

bool routers_may_cut(const Tcb& t)
{
    bool narrow = t.route.mtu <= pmtu_min && t.mtu_discover == IP_PMTUDISC_WANT;
    return !asks_path(t) || (narrow && path_cuts(t.domain, t.flow.peer.addr));
}

bool believes_routers(const Tcb& t)
{
    return asks_path(t) && t.mtu_discover < IP_PMTUDISC_INTERFACE;
}

void set_mss(Tcb& t)
{
    const base::IpAddr& to = t.flow.peer.addr;
    std::uint32_t passes = t.plpmtu.on() ? t.plpmtu.low : 65535U;
    std::uint32_t path = std::min({t.route.mtu, passes, 65535U}) - ip_header_bytes(to) - wire::tcp_header_min_bytes;
    std::uint32_t peer = t.agreed.peer_mss != 0 ? t.agreed.peer_mss : to.is_v4() ? mss_default : mss_default_v6;
    std::uint32_t mss = std::min(path, peer);
    if (t.so != nullptr && t.so->options.max_segment != 0) {
        mss = std::min<std::uint32_t>(mss, t.so->options.max_segment);
    }
    mss = std::max(mss, mss_floor);
    t.mss = mss - (t.agreed.timestamps ? timestamp_bytes : 0U); // RFC 6691: options are not part of the MSS
    congestion_set_mss(t.cc, t.mss);
    if (t.bbr != nullptr) {
        t.bbr->set_mss(t.mss, t.cc.cwnd);
    }
}

void fit_way(Tcb& t)
{
    t.plpmtu.limit(t.route.mtu);
    set_mss(t);
}

void renew_way(Tcb& t)
{
    std::uint32_t before = t.mss;
    if (route_renew(t.domain, t.flow.local.addr, t.flow.peer.addr, t.route)) {
        fit_way(t);
    }
    if (t.mss > before) { // and so may cwnd be
        output_soon(t);
    }
}

} // namespace protocols::tcp
