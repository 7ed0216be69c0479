// The Internet checksum (RFC 1071): sums over scattered bytes, the pseudo-headers, folding, incremental update (RFC
// 1624), and copy with sum. Pure; any thread. Values that enter and leave are host order, so a result is stored with
// store_be16: inside, words are summed as they lie in memory (RFC 1071 2 B, byte order independence).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "base/net_addr.hpp"

namespace protocols::wire {

// A running ones-complement sum. Pieces may have odd lengths: the parity is kept.
class Checksum {
public:
    Checksum() = default;

    void add(const void* data, std::size_t size);
    void add(const iovec* pieces, unsigned count);
    // Copies size bytes and adds them on the way.
    void copy(void* to, const void* from, std::size_t size);
    // Numbers as they would stand in a header; only at even positions.
    void add16(std::uint16_t value) { add_words(__builtin_bswap16(value)); }
    void add32(std::uint32_t value) { add_words(__builtin_bswap32(value)); }

    // The folded sum, not complemented: 0xffff when the bytes include a correct checksum. What Csum::partial stores.
    std::uint16_t folded() const;
    // The complement: what a checksum field that was zero in the sum gets.
    std::uint16_t finish() const { return static_cast<std::uint16_t>(~folded()); }
    bool correct() const { return folded() == 0xffff; }

private:
    void add_words(std::uint64_t words);
    void take(std::uint64_t words, std::size_t size);

    std::uint64_t sum_ = 0; // end-around-carry sum of 64-bit words, equal to the 16-bit sum modulo 2^16 - 1
    bool odd_ = false;      // an odd number of bytes so far
};

// Pseudo-header of RFC 9293 3.1 / RFC 768 (both addresses IPv4) or RFC 8200 8.1. `length` = transport header and
// payload.
Checksum pseudo_header(
    const base::IpAddr& source, const base::IpAddr& destination, std::uint8_t protocol, std::uint32_t length);

// The checksum of one contiguous piece.
std::uint16_t checksum(const void* data, std::size_t size);

// RFC 1624 eqn. 3: the checksum field after a 16-bit (32-bit) field at an even position changed from -> to.
std::uint16_t checksum_update16(std::uint16_t field, std::uint16_t from, std::uint16_t to);
std::uint16_t checksum_update32(std::uint16_t field, std::uint32_t from, std::uint32_t to);

} // namespace protocols::wire
