// See ipv6.hpp.
#include "protocols/wire/ipv6.hpp"

#include <cstring>

#include "base/endian.hpp"
#include "protocols/wire/icmp6.hpp"

namespace protocols::wire {

namespace {

constexpr unsigned char option_pad1 = 0;
constexpr unsigned char option_padn = 1;
constexpr unsigned char option_router_alert = 5;

bool check_header(const unsigned char* b, std::uint32_t size, Ipv6Header& h, Ipv6Fault& fault)
{
    if (size < ipv6_header_bytes) {
        fault = Ipv6Fault::truncated;
        return false;
    }
    std::uint32_t first = base::load_be32(b);
    if (first >> 28 != 6) {
        fault = Ipv6Fault::version;
        return false;
    }
    h.traffic_class = static_cast<std::uint8_t>(first >> 20);
    h.flow_label = first & 0xfffff;
    h.payload_bytes = base::load_be16(b + 4);
    h.next_header = b[6];
    h.hop_limit = b[7];
    h.source = base::IpAddr::v6(b + 8);
    h.destination = base::IpAddr::v6(b + 24);
    fault = Ipv6Fault::none;
    return true;
}

bool is_extension(std::uint8_t next)
{
    return next == next_hop_by_hop || next == next_routing || next == next_fragment || next == next_destination;
}

// One walk along a chain.
class Walker {
public:
    Walker(const unsigned char* bytes, std::uint32_t size, const Ipv6Header& h, Ipv6Chain& out)
        : b_(bytes), size_(size), multicast_(h.destination.is_multicast_v6()), c_(out)
    {
        c_.protocol = h.next_header;
    }

    ChainResult walk()
    {
        for (unsigned n = 0;; ++n) {
            bool first = n == 0;
            if (c_.protocol == next_hop_by_hop && !first) {
                // RFC 8200 4.1: anywhere but directly behind the IPv6 header it is no header at all
                return problem(parameter_unknown_header, c_.next_at);
            }
            if (!is_extension(c_.protocol) || c_.fragment) {
                return {};
            }
            if (n == ipv6_extensions_max) {
                return {ChainFault::discard, 0, 0};
            }
            if (ChainResult r = header(); r.fault != ChainFault::none) {
                return r;
            }
        }
    }

private:
    static ChainResult problem(std::uint8_t code, std::uint32_t pointer)
    {
        return {ChainFault::problem, code, pointer};
    }

    ChainResult header()
    {
        std::uint32_t at = c_.bytes;
        if (size_ < at + 8) {
            return {ChainFault::truncated, 0, 0};
        }
        if (c_.protocol == next_fragment) {
            c_.part = read_ipv6_fragment(b_ + at);
            c_.fragment = !c_.part.atomic();
            c_.atomic |= c_.part.atomic();
            return advance(at, ipv6_fragment_bytes);
        }
        std::uint32_t bytes = (b_[at + 1] + 1U) * 8;
        if (at + bytes > ipv6_chain_max) {
            return {ChainFault::discard, 0, 0};
        }
        if (size_ < at + bytes) {
            return {ChainFault::truncated, 0, 0};
        }
        ChainResult r = c_.protocol == next_routing ? routing(at) : options(at + 2, at + bytes);
        return r.fault == ChainFault::none ? advance(at, bytes) : r;
    }

    ChainResult advance(std::uint32_t at, std::uint32_t bytes)
    {
        bool is_fragment = c_.protocol == next_fragment;
        c_.protocol = b_[at];
        c_.next_at = is_fragment && c_.fragment ? c_.next_at : at;
        c_.bytes = at + bytes;
        return c_.bytes > ipv6_chain_max ? ChainResult{ChainFault::discard, 0, 0} : ChainResult{};
    }

    // RFC 8200 4.4, RFC 5095 3: type 0 is a type like any other that nobody knows; used up, all of them are ignored.
    ChainResult routing(std::uint32_t at) const
    {
        bool used_up = b_[at + 3] == 0;
        return used_up ? ChainResult{} : problem(parameter_bad_field, at + 2);
    }

    // RFC 8200 4.2.
    ChainResult options(std::uint32_t at, std::uint32_t end)
    {
        unsigned count = 0;
        while (at < end) {
            if (b_[at] == option_pad1) {
                ++at;
                continue;
            }
            if (end - at < 2 || b_[at + 1] + 2U > end - at) {
                return problem(parameter_bad_field, at); // its length leads out of the header
            }
            if (b_[at] != option_padn) {
                if (++count > ipv6_options_max) {
                    return {ChainFault::discard, 0, 0};
                }
                if (ChainResult r = option(at); r.fault != ChainFault::none) {
                    return r;
                }
            }
            at += b_[at + 1] + 2U;
        }
        return {};
    }

    // The two high bits of an unknown option's type say what becomes of the packet.
    ChainResult option(std::uint32_t at)
    {
        if (b_[at] == option_router_alert && c_.protocol == next_hop_by_hop) {
            c_.router_alert = true;
            return {};
        }
        switch (b_[at] >> 6) {
        case 0:
            return {};
        case 1:
            return {ChainFault::discard, 0, 0};
        case 2:
            return problem(parameter_unknown_option, at);
        default:
            return multicast_ ? ChainResult{ChainFault::discard, 0, 0} : problem(parameter_unknown_option, at);
        }
    }

    const unsigned char* b_;
    std::uint32_t size_;
    bool multicast_;
    Ipv6Chain& c_;
};

} // namespace

std::optional<Ipv6Header> parse_ipv6(const void* bytes, std::uint32_t size, std::uint32_t available, Ipv6Fault& fault)
{
    Ipv6Header h;
    if (!check_header(static_cast<const unsigned char*>(bytes), size, h, fault)) {
        return std::nullopt;
    }
    if (h.total_bytes() > available) {
        fault = Ipv6Fault::length;
        return std::nullopt;
    }
    return h;
}

std::optional<Ipv6Header> parse_ipv6_quote(const void* bytes, std::uint32_t size)
{
    Ipv6Header h;
    Ipv6Fault fault{};
    if (!check_header(static_cast<const unsigned char*>(bytes), size, h, fault)) {
        return std::nullopt;
    }
    return h;
}

void emit_ipv6(void* to, const Ipv6Header& h)
{
    auto* b = static_cast<unsigned char*>(to);
    base::store_be32(b, 6U << 28 | std::uint32_t{h.traffic_class} << 20 | (h.flow_label & 0xfffff));
    base::store_be16(b + 4, h.payload_bytes);
    b[6] = h.next_header;
    b[7] = h.hop_limit;
    std::memcpy(b + 8, h.source.bytes(), 16);
    std::memcpy(b + 24, h.destination.bytes(), 16);
}

Ipv6Fragment read_ipv6_fragment(const void* bytes)
{
    const auto* b = static_cast<const unsigned char*>(bytes);
    std::uint16_t field = base::load_be16(b + 2);
    return {b[0], static_cast<std::uint16_t>(field & 0xfff8), (field & 1) != 0, base::load_be32(b + 4)};
}

void emit_ipv6_fragment(void* to, const Ipv6Fragment& f)
{
    auto* b = static_cast<unsigned char*>(to);
    b[0] = f.next_header;
    b[1] = 0;
    base::store_be16(b + 2, static_cast<std::uint16_t>(f.offset | (f.more ? 1 : 0)));
    base::store_be32(b + 4, f.id);
}

ChainResult walk_ipv6_chain(const void* bytes, std::uint32_t size, const Ipv6Header& h, Ipv6Chain& out)
{
    out = Ipv6Chain{};
    return Walker(static_cast<const unsigned char*>(bytes), size, h, out).walk();
}

std::uint32_t find_ipv6_payload(const void* bytes, std::uint32_t size, const Ipv6Header& h, std::uint8_t& protocol)
{
    const auto* b = static_cast<const unsigned char*>(bytes);
    std::uint32_t at = ipv6_header_bytes;
    std::uint8_t next = h.next_header;
    protocol = next_none;
    while (is_extension(next)) { // each is longer than nothing
        if (size < at + 8) {
            return 0;
        }
        bool is_fragment = next == next_fragment;
        if (is_fragment && read_ipv6_fragment(b + at).offset != 0) {
            return 0; // it is in another one
        }
        next = b[at];
        at += is_fragment ? ipv6_fragment_bytes : (b[at + 1] + 1U) * 8;
    }
    if (at >= size) {
        return 0;
    }
    protocol = next;
    return at;
}

} // namespace protocols::wire
