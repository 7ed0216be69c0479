// What the protocols add to the Internet checksum (base/internet_checksum.hpp): pseudo-headers, and incremental update
// (RFC 1624). Pure; any thread.
#pragma once

#include "base/internet_checksum.hpp"
#include "base/net_addr.hpp"

namespace protocols::wire {

using base::Checksum;

// Pseudo-header of RFC 9293 3.1 / RFC 768 (both addresses IPv4) or RFC 8200 8.1. `length` = transport header and
// payload.
Checksum pseudo_header(
    const base::IpAddr& source, const base::IpAddr& destination, std::uint8_t protocol, std::uint32_t length);

// The same in two steps: what does not depend on the length, and with it; both folded.
std::uint16_t pseudo_header_part6(const base::IpAddr& source, const base::IpAddr& destination, std::uint8_t protocol);
inline std::uint16_t pseudo_header_part(
    const base::IpAddr& source, const base::IpAddr& destination, std::uint8_t protocol)
{
    return source.is_v4() ? base::fold_sum(std::uint64_t{source.v4()} + destination.v4() + protocol)
                          : pseudo_header_part6(source, destination, protocol);
}
inline std::uint16_t pseudo_header_sum(std::uint16_t part, std::uint32_t length)
{
    std::uint32_t sum = part + (length >> 16) + (length & 0xffff);
    sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(sum + (sum >> 16));
}

// The checksum of one contiguous piece.
std::uint16_t checksum(const void* data, std::size_t size);

// RFC 1624 eqn. 3: the checksum field after a 16-bit (32-bit) field at an even position changed from -> to.
std::uint16_t checksum_update16(std::uint16_t field, std::uint16_t from, std::uint16_t to);
std::uint16_t checksum_update32(std::uint16_t field, std::uint32_t from, std::uint32_t to);

} // namespace protocols::wire
