// See ipv4.hpp.
#include "protocols/wire/ipv4.hpp"

#include <cstring>

#include "base/endian.hpp"
#include "protocols/wire/checksum.hpp"

namespace protocols::wire {

namespace {

constexpr unsigned char option_end = 0;
constexpr unsigned char option_nop = 1;
constexpr unsigned char option_loose_route = 131;
constexpr unsigned char option_strict_route = 137;

// RFC 1122 3.2.1.8: unknown options are skipped by their length. False when a length runs out of the header.
bool scan_options(const unsigned char* at, const unsigned char* end, bool& source_route)
{
    while (at < end && *at != option_end) {
        if (*at == option_nop) {
            ++at;
            continue;
        }
        if (end - at < 2 || at[1] < 2 || at[1] > end - at) {
            return false;
        }
        source_route |= *at == option_loose_route || *at == option_strict_route;
        at += at[1];
    }
    return true;
}

void read_fields(const unsigned char* b, Ipv4Header& h)
{
    h.header_bytes = static_cast<std::uint8_t>((b[0] & 0xf) * 4);
    h.tos = b[1];
    h.total_bytes = base::load_be16(b + 2);
    h.id = base::load_be16(b + 4);
    std::uint16_t fragment = base::load_be16(b + 6);
    h.dont_fragment = (fragment & 0x4000) != 0;
    h.more_fragments = (fragment & 0x2000) != 0;
    h.fragment_offset = static_cast<std::uint16_t>((fragment & 0x1fff) * 8);
    h.ttl = b[8];
    h.protocol = b[9];
    h.source = base::load_be32(b + 12);
    h.destination = base::load_be32(b + 16);
}

// Of a header without options. RFC 1071 2 (B): the order of the octets does not matter to whether it is right.
bool plain_sum_is_right(const unsigned char* b)
{
    std::uint32_t words[ipv4_header_bytes / 4];
    std::memcpy(words, b, sizeof words);
    return base::fold_sum(std::uint64_t{words[0]} + words[1] + words[2] + words[3] + words[4]) == 0xffff;
}

bool sum_is_right(const unsigned char* b, std::uint32_t header_bytes)
{
    return header_bytes == ipv4_header_bytes ? plain_sum_is_right(b) : checksum(b, header_bytes) == 0;
}

// What is wrong with the header in itself, the total length against the packet excepted.
Ipv4Fault check_header(const unsigned char* b, std::uint32_t size, Ipv4Header& h)
{
    if (size < ipv4_header_bytes) {
        return Ipv4Fault::truncated;
    }
    if (b[0] >> 4 != 4) {
        return Ipv4Fault::version;
    }
    read_fields(b, h);
    if (h.header_bytes < ipv4_header_bytes || h.total_bytes < h.header_bytes) {
        return Ipv4Fault::length;
    }
    if (size < h.header_bytes) {
        return Ipv4Fault::truncated;
    }
    if (h.header_bytes > ipv4_header_bytes &&
        !scan_options(b + ipv4_header_bytes, b + h.header_bytes, h.source_route)) {
        return Ipv4Fault::options;
    }
    if (std::uint32_t{h.total_bytes} + h.fragment_offset > ipv4_packet_max) {
        return Ipv4Fault::fragment; // the reassembled datagram would not fit ("ping of death")
    }
    return Ipv4Fault::none;
}

} // namespace

Ipv4Fault read_ipv4(const void* bytes, std::uint32_t size, std::uint32_t available, bool check_sum, Ipv4Header& h)
{
    const auto* b = static_cast<const unsigned char*>(bytes);
    if (Ipv4Fault fault = check_header(b, size, h); fault != Ipv4Fault::none) {
        return fault;
    }
    if (h.total_bytes > available) {
        return Ipv4Fault::length;
    }
    return !check_sum || sum_is_right(b, h.header_bytes) ? Ipv4Fault::none : Ipv4Fault::checksum;
}

std::optional<Ipv4Header> parse_ipv4(
    const void* bytes, std::uint32_t size, std::uint32_t available, bool check_sum, Ipv4Fault& fault)
{
    Ipv4Header h;
    fault = read_ipv4(bytes, size, available, check_sum, h);
    return fault == Ipv4Fault::none ? std::optional(h) : std::nullopt;
}

std::optional<Ipv4Header> parse_ipv4_quote(const void* bytes, std::uint32_t size)
{
    Ipv4Header h;
    if (check_header(static_cast<const unsigned char*>(bytes), size, h) != Ipv4Fault::none) {
        return std::nullopt;
    }
    return h;
}

} // namespace protocols::wire
