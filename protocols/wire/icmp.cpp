// See icmp.hpp.
#include "protocols/wire/icmp.hpp"

#include "base/endian.hpp"

namespace protocols::wire {

namespace {

// RFC 1191 7.1: a router that does not say the MTU dropped a packet of this many bytes; the next plateau below it.
std::uint32_t plateau_below(std::uint32_t bytes)
{
    static constexpr std::uint16_t plateaus[] = {32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68};
    for (std::uint16_t p : plateaus) {
        if (p < bytes) {
            return p;
        }
    }
    return plateaus[9];
}

} // namespace

std::optional<IcmpHeader> parse_icmp(const void* bytes, std::uint32_t size)
{
    if (size < icmp_header_bytes) {
        return std::nullopt;
    }
    const auto* b = static_cast<const unsigned char*>(bytes);
    return IcmpHeader{b[0], b[1], base::load_be16(b + 2), base::load_be32(b + 4)};
}

void emit_icmp(void* to, const IcmpHeader& h)
{
    auto* b = static_cast<unsigned char*>(to);
    b[0] = h.type;
    b[1] = h.code;
    base::store_be16(b + 2, h.checksum);
    base::store_be32(b + 4, h.rest);
}

std::optional<IcmpQuote> parse_icmp_quote(const IcmpHeader& h, const void* bytes, std::uint32_t size)
{
    auto ip = parse_ipv4_quote(bytes, size);
    if (!ip || ip->fragment_offset != 0 || size - ip->header_bytes < 8 ||
        (ip->protocol != protocol_tcp && ip->protocol != protocol_udp)) {
        return std::nullopt;
    }
    const auto* transport = static_cast<const unsigned char*>(bytes) + ip->header_bytes;
    IcmpQuote q;
    q.ip = *ip;
    q.source_port = base::load_be16(transport);
    q.destination_port = base::load_be16(transport + 2);
    q.tcp_seq = ip->protocol == protocol_tcp ? base::load_be32(transport + 4) : 0;
    if (h.type == icmp_unreachable && h.code == unreachable_needfrag) {
        q.mtu = h.rest & 0xffff;
        if (q.mtu == 0) {
            q.mtu = plateau_below(ip->total_bytes);
        }
    }
    return q;
}

} // namespace protocols::wire
