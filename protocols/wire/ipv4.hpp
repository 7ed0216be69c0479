// The IPv4 header (RFC 791). Pure parse and emit; any thread. Parsing validates what one header can say about itself;
// whether its addresses make sense here is the input path's business.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>

#include "base/endian.hpp"
#include "base/internet_checksum.hpp"

namespace protocols::wire {

inline constexpr std::uint32_t ipv4_header_bytes = 20; // without options
inline constexpr std::uint32_t ipv4_packet_max = 65535;

inline constexpr std::uint8_t protocol_icmp = 1;
inline constexpr std::uint8_t protocol_tcp = 6;
inline constexpr std::uint8_t protocol_udp = 17;

// A validated header: version 4, 20 <= header_bytes <= total_bytes, fragment within 65535 bytes, options well formed.
// Addresses in host order.
struct Ipv4Header {
    std::uint8_t header_bytes = 20;
    std::uint8_t tos = 0;
    std::uint16_t total_bytes = 0;
    std::uint16_t id = 0;
    bool dont_fragment = false;
    bool more_fragments = false;
    std::uint16_t fragment_offset = 0; // bytes
    std::uint8_t ttl = 0;
    std::uint8_t protocol = 0;
    std::uint32_t source = 0;
    std::uint32_t destination = 0;
    bool source_route = false; // has a loose or strict source route option

    bool fragment() const { return more_fragments || fragment_offset != 0; }
    std::uint32_t payload_bytes() const { return std::uint32_t{total_bytes} - header_bytes; }
};

enum class Ipv4Fault : std::uint8_t { none, truncated, version, length, checksum, options, fragment };

// `size`: contiguous bytes at `bytes` (header and options must be among them). `available`: bytes of the packet in all,
// of which total_bytes must not be more. `fault` says why there is nothing. check_sum = verify the header checksum.
std::optional<Ipv4Header> parse_ipv4(
    const void* bytes, std::uint32_t size, std::uint32_t available, bool check_sum, Ipv4Fault& fault);

// The same; `h` says what it says where nothing is wrong with it.
Ipv4Fault read_ipv4(const void* bytes, std::uint32_t size, std::uint32_t available, bool check_sum, Ipv4Header& h);

// The quote in an ICMP error (RFC 792): as parse_ipv4, but the payload may be cut off and the checksum is not looked
// at, for middleboxes rewrite quotes.
std::optional<Ipv4Header> parse_ipv4_quote(const void* bytes, std::uint32_t size);

// Writes 20 bytes with their checksum; options are never sent.
inline void emit_ipv4(void* to, const Ipv4Header& h)
{
    auto* b = static_cast<unsigned char*>(to);
    std::uint32_t fragment =
        (h.dont_fragment ? 0x4000U : 0U) | (h.more_fragments ? 0x2000U : 0U) | (h.fragment_offset / 8U);
    std::uint32_t first = 0x45000000U | std::uint32_t{h.tos} << 16 | h.total_bytes;
    std::uint32_t second = std::uint32_t{h.id} << 16 | fragment;
    std::uint32_t third = std::uint32_t{h.ttl} << 24 | std::uint32_t{h.protocol} << 16;
    std::uint32_t sum = base::fold_sum(std::uint64_t{first} + second + third + h.source + h.destination);
    base::store_be32(b, first);
    base::store_be32(b + 4, second);
    base::store_be32(b + 8, third | (~sum & 0xffff));
    base::store_be32(b + 12, h.source);
    base::store_be32(b + 16, h.destination);
}

} // namespace protocols::wire
