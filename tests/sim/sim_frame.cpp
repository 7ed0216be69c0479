#include "tests/sim/sim_frame.hpp"

#include <cstring>

#include "protocols/wire/ipv4.hpp"
#include "protocols/wire/ipv6.hpp"

namespace sim {

namespace {

namespace wire = protocols::wire;

constexpr std::uint32_t headers_max = 128;

} // namespace

bool Frame::is_tcp() const
{
    return protocol == wire::protocol_tcp && !fragment && tcp.header_bytes != 0;
}

bool Frame::is_datagram() const
{
    return protocol == wire::protocol_udp;
}

bool Frame::parse_v4(const unsigned char* h, std::uint32_t n, std::uint32_t& headers)
{
    auto v4 = wire::parse_ipv4_quote(h, n);
    if (!v4 || v4->total_bytes < v4->header_bytes) {
        return false;
    }
    source = base::IpAddr::v4(v4->source);
    destination = base::IpAddr::v4(v4->destination);
    ecn = v4->tos & ecn_field;
    protocol = v4->protocol;
    fragment = v4->fragment();
    id = v4->id;
    offset = v4->fragment_offset;
    headers = v4->header_bytes;
    payload = v4->payload_bytes();
    return true;
}

bool Frame::parse_v6(const unsigned char* h, std::uint32_t n, std::uint32_t& headers)
{
    auto v6 = wire::parse_ipv6_quote(h, n);
    wire::Ipv6Chain chain;
    if (!v6 || wire::walk_ipv6_chain(h, n, *v6, chain).fault != wire::ChainFault::none) {
        return false;
    }
    source = v6->source;
    destination = v6->destination;
    ecn = v6->traffic_class & ecn_field;
    protocol = chain.protocol;
    fragment = chain.fragment;
    id = chain.part.id;
    offset = chain.part.offset;
    headers = chain.bytes;
    payload = v6->total_bytes() - std::min(v6->total_bytes(), chain.bytes);
    return true;
}

bool Frame::parse(const netmsg::Packet& frame, std::uint32_t link)
{
    unsigned char bytes[headers_max] = {};
    std::uint32_t n = std::min(frame.total() - std::min(frame.total(), link), headers_max);
    frame.copy_out(link, bytes, n);
    std::uint32_t headers = 0;
    unsigned version = bytes[0] >> 4;
    bool good = version == 4 ? parse_v4(bytes, n, headers) : version == 6 && parse_v6(bytes, n, headers);
    if (!good || headers >= n) {
        return false;
    }
    if (protocol == wire::protocol_tcp && !fragment && !wire::tcp_parse(bytes + headers, n - headers, tcp)) {
        return false;
    }
    if (is_tcp() && frame.gso_size != 0 && text() > frame.gso_size) {
        segments = (text() + frame.gso_size - 1) / frame.gso_size;
    }
    std::memcpy(start, bytes + headers, std::min<std::size_t>(n - headers, sizeof start));
    return true;
}

} // namespace sim
