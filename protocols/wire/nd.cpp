// See nd.hpp.
#include "protocols/wire/nd.hpp"

#include <cstring>

#include "base/endian.hpp"

namespace protocols::wire {

namespace {

constexpr unsigned char option_source_mac = 1;
constexpr unsigned char option_target_mac = 2;
constexpr unsigned char option_prefix = 3;
constexpr unsigned char option_mtu = 5;
constexpr unsigned char option_route = 24;
constexpr std::uint32_t option_mac_bytes = 8;

// Bytes before the options; 0 = no message of ours.
std::uint32_t fixed_bytes(std::uint8_t type)
{
    switch (type) {
    case nd_router_solicitation:
        return 8;
    case nd_router_advertisement:
        return 16;
    case nd_neighbor_solicitation:
    case nd_neighbor_advertisement:
        return 24;
    case nd_redirect:
        return 40;
    default:
        return 0;
    }
}

unsigned char mac_option_of(std::uint8_t type)
{
    bool target = type == nd_neighbor_advertisement || type == nd_redirect;
    return target ? option_target_mac : option_source_mac;
}

base::IpAddr masked(const unsigned char* addr, unsigned length)
{
    unsigned char b[16];
    for (unsigned i = 0; i < 16; ++i) {
        unsigned kept = length >= 8 * (i + 1) ? 8 : length > 8 * i ? length - 8 * i : 0;
        b[i] = static_cast<unsigned char>(addr[i] & (0xff00U >> kept));
    }
    return base::IpAddr::v6(b);
}

void take_prefix(const unsigned char* o, NdMessage& m)
{
    if (m.prefix_count == nd_prefixes_max || o[2] > 128) {
        return;
    }
    NdPrefix& p = m.prefixes[m.prefix_count++];
    p.length = o[2];
    p.on_link = (o[3] & 0x80) != 0;
    p.autonomous = (o[3] & 0x40) != 0;
    p.valid_s = base::load_be32(o + 4);
    p.preferred_s = base::load_be32(o + 8);
    p.addr = masked(o + 16, p.length);
}

// RFC 4191 2.1: two bits with a sign, of which one value is reserved.
std::optional<std::int8_t> read_preference(unsigned char flags)
{
    static constexpr std::int8_t values[] = {0, 1, 0, -1};
    constexpr unsigned reserved = 2;
    unsigned bits = flags >> 3 & 3U;
    return bits == reserved ? std::nullopt : std::optional{values[bits]};
}

// RFC 4191 2.3: of the prefix there are as many octets as its length needs, or more.
void take_route(const unsigned char* o, std::uint32_t bytes, NdMessage& m)
{
    constexpr std::uint32_t fixed = 8;
    auto preference = read_preference(o[3]);
    std::uint32_t given = bytes - fixed;
    unsigned char prefix[16] = {};
    if (m.route_count == nd_routes_max || !preference || given > sizeof prefix || o[2] > given * 8) {
        return;
    }
    std::memcpy(prefix, o + fixed, given);
    m.routes[m.route_count++] = {{masked(prefix, o[2]), o[2]}, *preference, base::load_be32(o + 4)};
}

void take_option(const unsigned char* o, std::uint32_t bytes, NdMessage& m)
{
    if (o[0] == mac_option_of(m.type) && bytes == option_mac_bytes) {
        base::MacAddr mac;
        std::memcpy(mac.bytes.data(), o + 2, 6);
        if (!mac.is_multicast()) {
            m.mac = mac;
        }
    } else if (o[0] == option_mtu && bytes == 8) {
        m.mtu = base::load_be32(o + 4);
    } else if (o[0] == option_prefix && bytes == 32 && m.type == nd_router_advertisement) {
        take_prefix(o, m);
    } else if (o[0] == option_route && m.type == nd_router_advertisement) {
        take_route(o, bytes, m);
    }
}

void take_fixed(const unsigned char* b, NdMessage& m)
{
    switch (m.type) {
    case nd_router_advertisement:
        m.hop_limit = b[4];
        m.preference = read_preference(b[5]).value_or(0); // RFC 4191 2.2
        m.router_life_s = base::load_be16(b + 6);
        m.reachable_ms = base::load_be32(b + 8);
        m.retransmit_ms = base::load_be32(b + 12);
        return;
    case nd_redirect:
        m.destination = base::IpAddr::v6(b + 24);
        [[fallthrough]];
    case nd_neighbor_advertisement:
        m.router = (b[4] & 0x80) != 0;
        m.solicited = (b[4] & 0x40) != 0;
        m.override_known = (b[4] & 0x20) != 0;
        [[fallthrough]];
    case nd_neighbor_solicitation:
        m.target = base::IpAddr::v6(b + 8);
        return;
    default:
        return;
    }
}

} // namespace

std::optional<NdMessage> parse_nd(const void* bytes, std::uint32_t size)
{
    const auto* b = static_cast<const unsigned char*>(bytes);
    if (size < 8 || b[1] != 0) {
        return std::nullopt;
    }
    NdMessage m;
    m.type = b[0];
    std::uint32_t at = fixed_bytes(m.type);
    if (at == 0 || size < at) {
        return std::nullopt;
    }
    take_fixed(b, m);
    bool names_group = m.target.is_multicast_v6() || m.destination.is_multicast_v6();
    if (names_group) {
        return std::nullopt;
    }
    while (at < size) {
        if (size - at < 2) {
            return std::nullopt;
        }
        std::uint32_t length = b[at + 1] * 8U;
        if (length == 0 || length > size - at) {
            return std::nullopt;
        }
        take_option(b + at, length, m);
        at += length;
    }
    return m;
}

std::uint32_t emit_nd(void* to, const NdMessage& m)
{
    auto* b = static_cast<unsigned char*>(to);
    std::uint32_t bytes = fixed_bytes(m.type);
    std::memset(b, 0, bytes);
    b[0] = m.type;
    if (m.type != nd_router_solicitation) {
        unsigned flags = (m.router ? 0x80U : 0U) | (m.solicited ? 0x40U : 0U) | (m.override_known ? 0x20U : 0U);
        b[4] = static_cast<unsigned char>(flags);
        std::memcpy(b + 8, m.target.bytes(), 16);
    }
    if (m.mac) {
        b[bytes] = mac_option_of(m.type);
        b[bytes + 1] = option_mac_bytes / 8;
        std::memcpy(b + bytes + 2, m.mac->bytes.data(), 6);
        bytes += option_mac_bytes;
    }
    return bytes;
}

base::IpAddr solicited_node(const base::IpAddr& a)
{
    unsigned char b[16] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
    std::memcpy(b + 13, a.bytes() + 13, 3);
    return base::IpAddr::v6(b);
}

base::MacAddr multicast_mac_v6(const base::IpAddr& group)
{
    const unsigned char* g = group.bytes();
    return base::MacAddr{{0x33, 0x33, g[12], g[13], g[14], g[15]}};
}

base::IpAddr all_nodes()
{
    static constexpr unsigned char b[16] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    return base::IpAddr::v6(b);
}

base::IpAddr all_routers()
{
    static constexpr unsigned char b[16] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
    return base::IpAddr::v6(b);
}

} // namespace protocols::wire
