// Addresses and flows. An IpAddr always holds 16 bytes, IPv4 as the v4-mapped form (RFC 4291 2.5.5.2), so tables,
// sockets and messages are the same for both families. An IPv6 address of link scope carries its zone (RFC 4007: the
// index of the interface) in its bytes 2 and 3, which are zero on the wire: so two links' fe80::1 are two addresses,
// and no table, message or socket needs a field for it. Ports are in host order everywhere above wire/.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "base/endian.hpp"

namespace base {

class IpAddr {
public:
    constexpr IpAddr() = default; // "::", unspecified
    static IpAddr v4(std::uint32_t host_order)
    {
        IpAddr a;
        a.bytes_[10] = a.bytes_[11] = 0xff;
        store_be32(&a.bytes_[12], host_order);
        return a;
    }
    static IpAddr v6(const void* sixteen_bytes)
    {
        IpAddr a;
        std::memcpy(a.bytes_.data(), sixteen_bytes, 16);
        return a;
    }
    static IpAddr any_v4() { return v4(0); }

    bool is_v4() const
    {
        static constexpr unsigned char prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
        return std::memcmp(bytes_.data(), prefix, 12) == 0;
    }
    // IPv4 address in host order; only for is_v4().
    std::uint32_t v4() const { return load_be32(&bytes_[12]); }
    const unsigned char* bytes() const { return bytes_.data(); }
    // "::" or 0.0.0.0.
    bool is_any() const { return (is_v4() && v4() == 0) || *this == IpAddr{}; }
    // A group, or unspecified.
    bool is_no_host() const
    {
        return is_v4() ? v4() == 0 || v4() >> 28 == 0xe : is_multicast_v6() || *this == IpAddr{};
    }
    static IpAddr loopback_v6()
    {
        IpAddr a;
        a.bytes_[15] = 1;
        return a;
    }
    bool is_loopback() const { return is_loopback_v4() || *this == loopback_v6(); }
    bool is_multicast_v6() const { return bytes_[0] == 0xff; }
    bool is_multicast() const { return is_multicast_v6() || is_multicast_v4(); }
    bool is_link_local_v6() const { return bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80; }
    // fe80::/10, and groups of interface or link scope (RFC 4291 2.7) but for those that are made from a prefix, which
    // have no room for a zone (RFC 3306, RFC 4489).
    bool is_link_scoped() const
    {
        if (bytes_[0] < 0xfe) { // IPv4 too
            return false;
        }
        unsigned scope = bytes_[1] & 0x2fU;
        return is_link_local_v6() || (bytes_[0] == 0xff && (scope == 1 || scope == 2));
    }
    // Of a link-scoped address: index of its interface, 0 = none known.
    std::uint16_t zone() const { return is_link_scoped() ? load_be16(&bytes_[2]) : std::uint16_t{0}; }
    // The address in the zone; itself unless it is link-scoped.
    IpAddr in_zone(std::uint32_t interface) const
    {
        IpAddr a = *this;
        if (is_link_scoped()) {
            store_be16(&a.bytes_[2], static_cast<std::uint16_t>(interface));
        }
        return a;
    }
    IpAddr on_wire() const { return in_zone(0); }
    bool is_loopback_v4() const { return is_v4() && (v4() >> 24) == 127; }
    bool is_multicast_v4() const { return is_v4() && (v4() >> 28) == 0xe; }

    friend bool operator==(const IpAddr& a, const IpAddr& b)
    {
        return std::memcmp(a.bytes_.data(), b.bytes_.data(), 16) == 0; // of constant size: two loads each, no call
    }
    friend auto operator<=>(const IpAddr&, const IpAddr&) = default;

private:
    std::array<unsigned char, 16> bytes_{};
};
static_assert(sizeof(IpAddr) == 16);

// Dotted quad or RFC 5952 text; a zone follows as "%N" (RFC 4007 11).
std::string to_string(const IpAddr& a);
std::optional<IpAddr> parse_ip(std::string_view text);

struct Endpoint {
    IpAddr addr;
    std::uint16_t port = 0;
    friend bool operator==(const Endpoint&, const Endpoint&) = default;
};
std::string to_string(const Endpoint& e);

// A connection as this host sees it.
struct FourTuple {
    Endpoint local;
    Endpoint peer;
    friend bool operator==(const FourTuple&, const FourTuple&) = default;
};

struct MacAddr {
    std::array<unsigned char, 6> bytes{};
    bool is_broadcast() const { return *this == broadcast(); }
    bool is_multicast() const { return (bytes[0] & 1) != 0; }
    static constexpr MacAddr broadcast() { return MacAddr{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}; }
    friend bool operator==(const MacAddr&, const MacAddr&) = default;
};
std::string to_string(const MacAddr& m);
std::optional<MacAddr> parse_mac(std::string_view text);

// An address with a prefix length: an interface's network or a route's destination (0.0.0.0/0 is the default).
struct Prefix {
    IpAddr addr;
    std::uint8_t length = 0; // bits of the family's own width: 0..32 or 0..128
    bool contains(const IpAddr& a) const;
    friend bool operator==(const Prefix&, const Prefix&) = default;
};
std::optional<Prefix> parse_prefix(std::string_view text);
std::string to_string(const Prefix& p);

} // namespace base
