// See icmp6.hpp.
#include "protocols/wire/icmp6.hpp"

#include "base/endian.hpp"

namespace protocols::wire {

std::optional<Icmp6Quote> parse_icmp6_quote(const IcmpHeader& h, const void* bytes, std::uint32_t size)
{
    auto ip = parse_ipv6_quote(bytes, size);
    if (!ip) {
        return std::nullopt;
    }
    Ipv6Chain chain;
    bool whole = walk_ipv6_chain(bytes, size, *ip, chain).fault == ChainFault::none && chain.part.offset == 0 &&
                 size >= chain.bytes + 8;
    bool ports = chain.protocol == protocol_tcp || chain.protocol == protocol_udp;
    if (!whole || (!ports && chain.protocol != protocol_icmp6)) {
        return std::nullopt;
    }
    const auto* transport = static_cast<const unsigned char*>(bytes) + chain.bytes;
    Icmp6Quote q;
    q.source = ip->source;
    q.destination = ip->destination;
    q.protocol = chain.protocol;
    q.header_bytes = chain.bytes;
    if (ports) {
        q.source_port = base::load_be16(transport);
        q.destination_port = base::load_be16(transport + 2);
    } else {
        q.icmp_type = transport[0];
    }
    q.tcp_seq = q.protocol == protocol_tcp ? base::load_be32(transport + 4) : 0;
    q.mtu = h.type == icmp6_too_big ? h.rest : 0;
    q.total_bytes = ip->total_bytes();
    return q;
}

} // namespace protocols::wire
