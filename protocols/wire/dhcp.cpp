// See dhcp.hpp.
#include "protocols/wire/dhcp.hpp"

#include <algorithm>
#include <cstring>

#include "base/endian.hpp"

namespace protocols::wire {

namespace {

constexpr std::uint32_t magic_cookie = 0x63825363;
constexpr std::uint32_t bootp_bytes_min = 300; // some relays drop what is shorter (RFC 1542 2.1)
constexpr std::uint16_t flag_broadcast = 0x8000;
constexpr unsigned char hardware_ethernet = 1;
constexpr std::uint32_t mac_bytes = 6;
constexpr std::uint32_t server_name_at = 44;
constexpr std::uint32_t server_name_bytes = 64;
constexpr std::uint32_t file_at = 108;
constexpr std::uint32_t file_bytes = 128;
constexpr std::uint32_t cookie_at = 236;

enum Option : unsigned char {
    pad = 0,
    subnet_mask = 1,
    routers = 3,
    dns_servers = 6,
    interface_mtu = 26,
    broadcast_address = 28,
    requested_address = 50,
    lease_time = 51,
    overload = 52,
    message_type = 53,
    server_identifier = 54,
    parameter_list = 55,
    message_size = 57,
    renewal_time = 58,
    rebinding_time = 59,
    client_identifier = 61,
    classless_routes = 121,
    end = 255,
};

// RFC 3442: its option before that of the routers.
constexpr unsigned char wanted[] = {subnet_mask, classless_routes, routers, dns_servers, interface_mtu,
    broadcast_address, lease_time, server_identifier, renewal_time, rebinding_time};

struct Parser {
    DhcpMessage m;
    unsigned char overloaded = 0;             // bits: 1 = file, 2 = server name
    unsigned char routes[dhcp_emit_max] = {}; // RFC 3396: an option that is there several times is one
    std::uint32_t routes_bytes = 0;

    bool take_list(const unsigned char* at, std::uint32_t size, DhcpAddresses& to) const
    {
        if (size == 0 || size % 4 != 0) {
            return false;
        }
        for (std::uint32_t i = 0; i < size && to.count < dhcp_addresses_max; i += 4) {
            to.at[to.count++] = base::load_be32(at + i);
        }
        return true;
    }
    bool take_number(const unsigned char* at, std::uint32_t size, std::uint32_t& to) const
    {
        if (size != 4) {
            return false;
        }
        to = base::load_be32(at);
        return true;
    }
    bool take_byte(
        const unsigned char* at, std::uint32_t size, unsigned char least, unsigned char most, unsigned char& to) const
    {
        if (size != 1 || at[0] < least || at[0] > most) {
            return false;
        }
        to = at[0];
        return true;
    }
    bool take(unsigned char option, const unsigned char* at, std::uint32_t size)
    {
        switch (option) {
        case subnet_mask:
            return take_number(at, size, m.mask);
        case routers:
            return take_list(at, size, m.routers);
        case dns_servers:
            return take_list(at, size, m.dns);
        case interface_mtu:
            m.mtu = size == 2 ? base::load_be16(at) : std::uint16_t{0};
            return size == 2;
        case broadcast_address:
            return take_number(at, size, m.broadcast_address);
        case requested_address:
            return take_number(at, size, m.requested);
        case lease_time:
            return take_number(at, size, m.lease_s);
        case overload:
            return take_byte(at, size, 1, 3, overloaded);
        case message_type: {
            unsigned char type = 0;
            bool good = take_byte(at, size, static_cast<unsigned char>(DhcpType::discover),
                static_cast<unsigned char>(DhcpType::inform), type);
            m.type = static_cast<DhcpType>(type);
            return good;
        }
        case server_identifier:
            return take_number(at, size, m.server);
        case renewal_time:
            return take_number(at, size, m.renew_s);
        case rebinding_time:
            return take_number(at, size, m.rebind_s);
        case classless_routes:
            m.routes.given = true;
            if (size > sizeof routes - routes_bytes) {
                return false;
            }
            std::memcpy(routes + routes_bytes, at, size);
            routes_bytes += size;
            return true;
        default:
            return true;
        }
    }
    // RFC 3442: the length, as many octets of the destination as it needs, the router.
    bool take_routes()
    {
        for (std::uint32_t i = 0; i < routes_bytes;) {
            std::uint32_t length = routes[i];
            std::uint32_t octets = (length + 7) / 8;
            if (length > 32 || routes_bytes - i < 1 + octets + 4) {
                return false;
            }
            unsigned char destination[4] = {};
            std::memcpy(destination, routes + i + 1, octets);
            std::uint32_t mask = length == 0 ? 0 : ~std::uint32_t{0} << (32 - length);
            if (m.routes.count < dhcp_routes_max) {
                m.routes.at[m.routes.count++] = {base::load_be32(destination) & mask,
                    base::load_be32(routes + i + 1 + octets), static_cast<std::uint8_t>(length)};
            }
            i += 1 + octets + 4;
        }
        return !m.routes.given || routes_bytes != 0;
    }
    // False when an option does not fit. A part without an end option ends with its bytes (RFC 2132 4.1 has one; some
    // servers have none).
    bool options(const unsigned char* at, std::uint32_t size)
    {
        std::uint32_t i = 0;
        while (i < size && at[i] != end) {
            if (at[i] == pad) {
                ++i;
                continue;
            }
            if (size - i < 2 || size - i - 2 < at[i + 1]) {
                return false;
            }
            if (!take(at[i], at + i + 2, at[i + 1])) {
                return false;
            }
            i += 2U + at[i + 1];
        }
        return true;
    }
};

struct Emitter {
    unsigned char* at;

    void header(Option option, std::uint32_t size)
    {
        *at++ = option;
        *at++ = static_cast<unsigned char>(size);
    }
    void byte(Option option, unsigned char value)
    {
        header(option, 1);
        *at++ = value;
    }
    void half(Option option, std::uint16_t value)
    {
        header(option, 2);
        base::store_be16(at, value);
        at += 2;
    }
    void number(Option option, std::uint32_t value)
    {
        if (value != 0) {
            header(option, 4);
            base::store_be32(at, value);
            at += 4;
        }
    }
    void list(const DhcpRoutes& routes)
    {
        if (!routes.given) {
            return;
        }
        unsigned char* size = at + 1;
        header(classless_routes, 0);
        for (unsigned i = 0; i < routes.count; ++i) {
            const DhcpRoute& r = routes.at[i];
            unsigned char destination[4];
            base::store_be32(destination, r.destination);
            std::uint32_t octets = (r.length + 7U) / 8;
            *at++ = r.length;
            std::memcpy(at, destination, octets);
            base::store_be32(at + octets, r.router);
            at += octets + 4;
        }
        *size = static_cast<unsigned char>(at - size - 1);
    }
    void list(Option option, const DhcpAddresses& addresses)
    {
        if (addresses.count != 0) {
            header(option, addresses.count * 4);
        }
        for (unsigned i = 0; i < addresses.count; ++i, at += 4) {
            base::store_be32(at, addresses.at[i]);
        }
    }
};

} // namespace

std::optional<DhcpMessage> parse_dhcp(const void* bytes, std::uint32_t size)
{
    const auto* b = static_cast<const unsigned char*>(bytes);
    if (size < dhcp_fixed_bytes || b[0] < 1 || b[0] > 2 || b[1] != hardware_ethernet || b[2] != mac_bytes ||
        base::load_be32(b + cookie_at) != magic_cookie) {
        return std::nullopt;
    }
    Parser p;
    p.m.from_server = b[0] == 2;
    p.m.xid = base::load_be32(b + 4);
    p.m.seconds = base::load_be16(b + 8);
    p.m.broadcast = (base::load_be16(b + 10) & flag_broadcast) != 0;
    p.m.client = base::load_be32(b + 12);
    p.m.yours = base::load_be32(b + 16);
    std::memcpy(p.m.mac.bytes.data(), b + 28, mac_bytes);
    bool good = p.options(b + dhcp_fixed_bytes, size - dhcp_fixed_bytes);
    unsigned char overloaded = p.overloaded; // once: what stands there cannot extend it
    good = good && ((overloaded & 1) == 0 || p.options(b + file_at, file_bytes));
    good = good && ((overloaded & 2) == 0 || p.options(b + server_name_at, server_name_bytes));
    good = good && p.take_routes();
    return good && p.m.type != DhcpType::none ? std::optional{p.m} : std::nullopt;
}

std::uint32_t emit_dhcp(void* to, const DhcpMessage& m)
{
    auto* b = static_cast<unsigned char*>(to);
    std::memset(b, 0, bootp_bytes_min);
    b[0] = m.from_server ? 2 : 1;
    b[1] = hardware_ethernet;
    b[2] = mac_bytes;
    base::store_be32(b + 4, m.xid);
    base::store_be16(b + 8, m.seconds);
    base::store_be16(b + 10, m.broadcast ? flag_broadcast : std::uint16_t{0});
    base::store_be32(b + 12, m.client);
    base::store_be32(b + 16, m.yours);
    std::memcpy(b + 28, m.mac.bytes.data(), mac_bytes);
    base::store_be32(b + cookie_at, magic_cookie);
    Emitter e{b + dhcp_fixed_bytes};
    e.byte(message_type, static_cast<unsigned char>(m.type));
    if (m.asks) {
        e.header(client_identifier, 1 + mac_bytes); // RFC 2132 9.14
        *e.at++ = hardware_ethernet;
        std::memcpy(e.at, m.mac.bytes.data(), mac_bytes);
        e.at += mac_bytes;
    }
    e.number(requested_address, m.requested);
    e.number(server_identifier, m.server);
    e.number(lease_time, m.lease_s);
    e.number(renewal_time, m.renew_s);
    e.number(rebinding_time, m.rebind_s);
    e.number(subnet_mask, m.mask);
    e.number(broadcast_address, m.broadcast_address);
    if (m.mtu != 0) {
        e.half(interface_mtu, m.mtu);
    }
    e.list(m.routes);
    e.list(routers, m.routers);
    e.list(dns_servers, m.dns);
    if (m.asks && (m.type == DhcpType::discover || m.type == DhcpType::request)) {
        e.half(message_size, dhcp_emit_max);
        e.header(parameter_list, sizeof wanted);
        std::memcpy(e.at, wanted, sizeof wanted);
        e.at += sizeof wanted;
    }
    *e.at++ = end;
    return std::max(bootp_bytes_min, static_cast<std::uint32_t>(e.at - b));
}

} // namespace protocols::wire
