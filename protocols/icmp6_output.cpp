// ICMPv6 errors that we send (RFC 4443 2.4): what may be answered, how often, and what is quoted. Runs on the CPU that
// found the error.
#include "base/endian.hpp"
#include "protocols/icmp.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/wire/checksum.hpp"

namespace protocols {

namespace {

// RFC 4443 2.4 e.
bool may_answer(const IpIn& ip, const netmsg::Packet& p, std::uint8_t type, std::uint8_t code)
{
    bool to_group_too = type == wire::icmp6_too_big ||
                        (type == wire::icmp6_parameter_problem && code == wire::parameter_unknown_option); // e.3
    if (ip.source.is_any() || ip.source.is_multicast_v6() || (ip.broadcast && !to_group_too)) {
        return false;
    }
    if (ip.protocol != wire::protocol_icmp6) {
        return true;
    }
    auto about = p.size != 0 ? std::to_integer<std::uint8_t>(p.data[0]) : std::uint8_t{0};
    return !wire::icmp6_is_error(about) && about != wire::nd_redirect; // e.1, e.2
}

} // namespace

void icmp6_send_error(
    Domain& d, const IpIn& ip, const netmsg::Packet& p, std::uint8_t type, std::uint8_t code, std::uint32_t rest)
{
    base::assert_on(d.cpu.owner());
    if (!may_answer(ip, p, type, code)) {
        return count(d.counters.icmp_out_suppressed);
    }
    if (!icmp_within_rate(d, ip)) { // RFC 4443 2.4 f
        return count(d.counters.icmp_out_limited);
    }
    Route route;
    base::IpAddr own = ip.destination.is_multicast_v6() ? base::IpAddr{} : ip.destination; // RFC 4443 2.2
    if (!ipv6_route_lookup(d, ip.source, route, own)) {
        return count(d.counters.ip_out_no_route);
    }
    netmsg::Packet* error = d.stack.pool().allocate();
    if (error == nullptr) {
        return count(d.counters.ip_out_no_memory);
    }
    IpOut out;
    out.source = own.is_any() ? route.source : own;
    out.destination = ip.source;
    out.protocol = wire::protocol_icmp6;
    out.dont_fragment = false;
    std::byte* header = error->put(wire::icmp_header_bytes);
    icmp_put_quote(*error, p, wire::ipv6_mtu_min - wire::ipv6_header_bytes); // RFC 4443 2.4 c
    wire::emit_icmp(header, {type, code, 0, rest});
    auto sum = wire::pseudo_header(out.source, out.destination, wire::protocol_icmp6, error->size);
    sum.add(error->data, error->size);
    base::store_be16(header + 2, sum.finish());
    error->csum = netmsg::Csum::valid;
    count(d.counters.icmp_out_errors);
    ip_output(d, route, out, *error);
}

} // namespace protocols
