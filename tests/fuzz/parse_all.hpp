// Runs every parser of protocols/wire over one input and checks what a parser promises about what it accepts. Used by
// the libFuzzer target and by the mutation test of the quick suite.
#pragma once

#include <cstddef>
#include <cstdint>

#include "protocols/wire/arp.hpp"
#include "protocols/wire/ethernet.hpp"
#include "protocols/wire/icmp.hpp"
#include "protocols/wire/icmp6.hpp"
#include "protocols/wire/igmp.hpp"
#include "protocols/wire/ipv4.hpp"
#include "protocols/wire/ipv6.hpp"
#include "protocols/wire/mld.hpp"
#include "protocols/wire/nd.hpp"
#include "protocols/wire/tcp_wire.hpp"
#include "protocols/wire/udp.hpp"

namespace fuzz {

// False when a parser accepted what contradicts itself; so all of them.
inline bool parse_tcp_segment(const unsigned char* at, std::uint32_t size)
{
    namespace wire = protocols::wire;
    wire::TcpHeader h;
    if (!wire::tcp_parse(at, size, h)) {
        return true;
    }
    bool sane = h.header_bytes >= wire::tcp_header_min_bytes && h.header_bytes <= wire::tcp_header_max_bytes &&
                h.header_bytes <= size && h.options.scale <= wire::tcp_scale_max &&
                h.options.sack_count <= wire::tcp_sack_blocks_max;
    unsigned char again[wire::tcp_header_max_bytes];
    std::uint32_t bytes = wire::tcp_emit_bytes(h);
    return sane && (bytes > sizeof again || wire::tcp_emit(h, again) == bytes);
}

inline bool parse_ip_payload(const unsigned char* at, std::uint32_t size, const protocols::wire::Ipv4Header& h)
{
    namespace wire = protocols::wire;
    if (h.protocol == wire::protocol_udp) {
        auto udp = wire::parse_udp(at, size, size);
        return !udp || (udp->length >= 8 && udp->length <= size);
    }
    if (h.protocol == wire::protocol_igmp) {
        auto query = wire::parse_igmp_query(at, size);
        return !query || ((query->group.is_any() || query->group.is_multicast()) && query->sources.size() * 4 < size);
    }
    if (h.protocol == wire::protocol_tcp) {
        return parse_tcp_segment(at, size);
    }
    auto icmp = wire::parse_icmp(at, size);
    if (!icmp || size < wire::icmp_header_bytes) {
        return true;
    }
    auto quote = wire::parse_icmp_quote(*icmp, at + 8, size - 8);
    return !quote || quote->ip.fragment_offset == 0;
}

inline bool parse_icmp6_message(const unsigned char* at, std::uint32_t size)
{
    namespace wire = protocols::wire;
    if (auto nd = wire::parse_nd(at, size)) {
        bool sane = nd->prefix_count <= wire::nd_prefixes_max && !nd->target.is_multicast_v6();
        for (unsigned i = 0; i < nd->prefix_count && sane; ++i) {
            sane = nd->prefixes[i].length <= 128;
        }
        for (unsigned i = 0; i < nd->route_count && sane; ++i) {
            const wire::NdRoute& r = nd->routes[i];
            sane = r.destination.length <= 128 && r.preference >= -1 && r.preference <= 1;
        }
        if (!sane) {
            return false;
        }
    }
    if (auto query = wire::parse_mld_query(at, size); query && !query->group.is_any() && !query->group.is_multicast()) {
        return false;
    }
    auto icmp = wire::parse_icmp(at, size);
    if (!icmp || size < wire::icmp_header_bytes) {
        return true;
    }
    auto quote = wire::parse_icmp6_quote(*icmp, at + 8, size - 8);
    return !quote || quote->protocol == wire::protocol_tcp || quote->protocol == wire::protocol_udp ||
           quote->protocol == wire::protocol_icmp6;
}

inline bool parse_v6(const unsigned char* at, std::uint32_t size)
{
    namespace wire = protocols::wire;
    wire::Ipv6Fault fault{};
    auto ip = wire::parse_ipv6(at, size, size, fault);
    if (!ip) {
        return fault != wire::Ipv6Fault::none;
    }
    wire::Ipv6Chain chain;
    wire::ChainResult walk = wire::walk_ipv6_chain(at, size, *ip, chain);
    if (walk.fault == wire::ChainFault::problem) {
        return walk.pointer < size;
    }
    if (walk.fault != wire::ChainFault::none) {
        return true;
    }
    bool sane = chain.bytes >= wire::ipv6_header_bytes && chain.bytes <= size && chain.next_at < chain.bytes &&
                chain.bytes <= wire::ipv6_chain_max;
    return sane && parse_icmp6_message(at + chain.bytes, size - chain.bytes) &&
           parse_tcp_segment(at + chain.bytes, size - chain.bytes);
}

inline bool parse_all(const void* data, std::size_t bytes)
{
    namespace wire = protocols::wire;
    const auto* at = static_cast<const unsigned char*>(data);
    auto size = static_cast<std::uint32_t>(bytes);
    auto ethernet = wire::parse_ethernet(at, size);
    if (!ethernet) {
        return true;
    }
    at += wire::ethernet_header_bytes;
    size -= wire::ethernet_header_bytes;
    if (auto arp = wire::parse_arp(at, size); arp && (arp->operation < 1 || arp->operation > 2)) {
        return false;
    }
    if (!parse_v6(at, size) || !parse_icmp6_message(at, size)) {
        return false;
    }
    (void)wire::parse_ipv4_quote(at, size);
    wire::Ipv4Fault fault{};
    auto ip = wire::parse_ipv4(at, size, size, false, fault);
    if (!ip) {
        return fault != wire::Ipv4Fault::none;
    }
    bool sane = ip->header_bytes >= 20 && ip->header_bytes <= ip->total_bytes && ip->total_bytes <= size &&
                ip->fragment_offset + ip->payload_bytes() + ip->header_bytes <= wire::ipv4_packet_max;
    return sane && parse_ip_payload(at + ip->header_bytes, ip->payload_bytes(), *ip);
}

} // namespace fuzz
