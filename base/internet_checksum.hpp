// The Internet checksum (RFC 1071): sums over scattered bytes, and copy with sum. Pure; any thread. Values that enter
// and leave are host order, so a result is stored with store_be16: inside, words are summed as they lie in memory (RFC
// 1071 2 B, byte order independence).
#pragma once

#include <sys/uio.h>

#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/check.hpp"

namespace base {

// A ones-complement sum as one of 16 bits.
inline std::uint16_t fold_sum(std::uint64_t sum)
{
    auto low = static_cast<std::uint32_t>(sum);
    std::uint32_t half = low + static_cast<std::uint32_t>(sum >> 32);
    half += half < low ? 1 : 0;
    return static_cast<std::uint16_t>((half + std::rotl(half, 16)) >> 16); // each half is the other's carry
}

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
    std::uint16_t folded() const { return __builtin_bswap16(fold_sum(sum_)); }
    // The complement: what a checksum field that was zero in the sum gets.
    std::uint16_t finish() const { return static_cast<std::uint16_t>(~folded()); }
    bool correct() const { return folded() == 0xffff; }

private:
    static std::uint64_t add_carry(std::uint64_t a, std::uint64_t b)
    {
        std::uint64_t sum = a + b;
        return sum + (sum < b ? 1 : 0);
    }
    template <bool Copy>
    static std::uint64_t sum_words(const unsigned char* p, std::size_t size, unsigned char* to);

    void add_words(std::uint64_t words)
    {
        INVARIANT(!odd_);
        sum_ = add_carry(sum_, words);
    }
    void take(std::uint64_t words, std::size_t size);

    std::uint64_t sum_ = 0; // end-around-carry sum of 64-bit words, equal to the 16-bit sum modulo 2^16 - 1
    bool odd_ = false;      // an odd number of bytes so far
};

} // namespace base
