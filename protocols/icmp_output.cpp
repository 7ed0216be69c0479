// ICMP errors that we send (RFC 1122 3.2.2, RFC 1812 4.3.2): what may be answered, how often, and what is quoted. Runs
// on the CPU that found the error.
#include <algorithm>

#include "base/endian.hpp"
#include "protocols/icmp.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/wire/checksum.hpp"

namespace protocols {

namespace {

constexpr std::uint32_t error_packet_max = 576; // RFC 1812 4.3.2.3: quote as much as fits
constexpr std::uint8_t tos_internet_control = 0xc0;

// RFC 1122 3.2.2: no error about an error, a broadcast, a later fragment, or a source that is no single host.
bool may_answer(const Domain& d, const IpIn& ip, const netmsg::Packet& p)
{
    std::uint16_t fragment = base::load_be16(p.l3 + 6);
    if (ip.broadcast || (fragment & 0x1fff) != 0 || ipv4_is_broadcast(d, ip.source.v4())) {
        return false;
    }
    if (ip.protocol != wire::protocol_icmp) {
        return true;
    }
    std::uint32_t header = (std::to_integer<std::uint32_t>(p.l3[0]) & 0xf) * 4;
    auto quoted = wire::parse_icmp(p.l3 + header, static_cast<std::uint32_t>(p.data + p.size - p.l3) - header);
    return quoted && !quoted->error();
}

} // namespace

IcmpState::IcmpState(Domain&)
    : all(icmp_errors_per_second, icmp_errors_burst), paths_told(100, 20), peers(icmp_peer_slots, TokenBucket(1, 6))
{
}

void icmp_put_quote(netmsg::Packet& error, const netmsg::Packet& p, std::uint32_t message_max)
{
    std::uint32_t room = message_max - wire::icmp_header_bytes;
    auto above = static_cast<std::uint32_t>(p.data - p.l3); // headers already taken off
    std::uint32_t head = std::min(room, above);
    std::uint32_t body = std::min(room - head, p.total());
    std::memcpy(error.put(head), p.l3, head);
    p.copy_out(0, error.put(body), body);
}

bool icmp_within_rate(Domain& d, const IpIn& ip)
{
    if (ip.interface->netif->info().loopback) {
        return true; // as Linux: programs of this host wait for it
    }
    IcmpState& s = *d.icmp;
    std::uint64_t slot = base::siphash(d.table_key, ip.source.bytes(), 16) % icmp_peer_slots;
    return s.peers[slot].take(d.now()) && s.all.take(d.now());
}

void icmp_send_error(
    Domain& d, const IpIn& ip, const netmsg::Packet& p, std::uint8_t type, std::uint8_t code, std::uint32_t rest)
{
    base::assert_on(d.cpu.owner());
    if (!may_answer(d, ip, p)) {
        count(d.counters.icmp_out_suppressed);
        return;
    }
    if (!icmp_within_rate(d, ip)) {
        count(d.counters.icmp_out_limited);
        return;
    }
    Route route;
    if (!route_lookup(d, ip.source, route)) {
        return count(d.counters.ip_out_no_route);
    }
    netmsg::Packet* error = d.stack.pool().allocate();
    if (error == nullptr) {
        count(d.counters.ip_out_no_memory);
        return;
    }
    std::byte* header = error->put(wire::icmp_header_bytes);
    icmp_put_quote(*error, p, error_packet_max - wire::ipv4_header_bytes);
    wire::emit_icmp(header, {type, code, 0, rest});
    base::store_be16(header + 2, wire::checksum(error->data, error->size));
    error->csum = netmsg::Csum::valid;
    count(d.counters.icmp_out_errors);
    IpOut out;
    out.source = ip.destination;
    out.destination = ip.source;
    out.protocol = wire::protocol_icmp;
    out.tos = static_cast<std::uint8_t>((ip.tos & 0x1e) | tos_internet_control);
    out.dont_fragment = false;
    ip_output(d, route, out, *error);
}

void icmp_send_unreachable(Domain& d, const IpIn& ip, const netmsg::Packet& p, std::uint8_t code)
{
    icmp_send_error(d, ip, p, wire::icmp_unreachable, code, 0);
}

} // namespace protocols
