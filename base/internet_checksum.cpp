// See internet_checksum.hpp. The loop adds 32-bit halves into 64-bit vector lanes, which cannot overflow for any size
// that fits memory, needs no carries, and maps to SSE2 or AVX2 alike.
#include "base/internet_checksum.hpp"

#include <cstring>

namespace base {

namespace {

typedef std::uint64_t Lanes __attribute__((vector_size(16)));
constexpr Lanes low_half{0xffffffffU, 0xffffffffU};

// One to seven bytes, as the low end of a little-endian word padded with zeros.
std::uint64_t load_tail(const unsigned char* p, std::size_t size)
{
    std::uint64_t word = 0;
    if ((size & 4) != 0) {
        std::memcpy(&word, p, 4);
        p += 4;
    }
    std::uint64_t rest = 0;
    if ((size & 2) != 0) {
        std::memcpy(&rest, p, 2);
        p += 2;
    }
    if ((size & 1) != 0) {
        rest |= std::uint64_t{*p} << (size & 2) * 8;
    }
    return word | rest << (size & 4) * 8;
}

} // namespace

// Sum of the words of [p, p + size), which starts at an even position. With Copy also stored at `to`.
template <bool Copy>
std::uint64_t Checksum::sum_words(const unsigned char* p, std::size_t size, unsigned char* to)
{
    Lanes acc0{};
    Lanes acc1{};
    for (; size >= 32; size -= 32, p += 32) {
        Lanes a;
        Lanes b;
        std::memcpy(&a, p, 16);
        std::memcpy(&b, p + 16, 16);
        if constexpr (Copy) {
            std::memcpy(to, &a, 16);
            std::memcpy(to + 16, &b, 16);
            to += 32;
        }
        acc0 += (a & low_half) + (a >> 32);
        acc1 += (b & low_half) + (b >> 32);
    }
    acc0 += acc1;
    std::uint64_t sum = add_carry(acc0[0], acc0[1]);
    for (; size >= 8; size -= 8, p += 8) {
        std::uint64_t word;
        std::memcpy(&word, p, 8);
        if constexpr (Copy) {
            std::memcpy(to, &word, 8);
            to += 8;
        }
        sum = add_carry(sum, word);
    }
    if (size == 0) {
        return sum; // p may be null: an empty piece
    }
    std::uint64_t tail = load_tail(p, size);
    if constexpr (Copy) {
        std::memcpy(to, &tail, size);
    }
    return add_carry(sum, tail);
}

// A piece that starts at an odd position counts with its bytes swapped (RFC 1071 2 B).
void Checksum::take(std::uint64_t words, std::size_t size)
{
    if (odd_) {
        words = __builtin_bswap16(fold_sum(words));
    }
    sum_ = add_carry(sum_, words);
    odd_ ^= (size & 1) != 0;
}

void Checksum::add(const void* data, std::size_t size)
{
    take(sum_words<false>(static_cast<const unsigned char*>(data), size, nullptr), size);
}

void Checksum::add(const iovec* pieces, unsigned count)
{
    for (unsigned i = 0; i < count; ++i) {
        add(pieces[i].iov_base, pieces[i].iov_len);
    }
}

void Checksum::copy(void* to, const void* from, std::size_t size)
{
    take(sum_words<true>(static_cast<const unsigned char*>(from), size, static_cast<unsigned char*>(to)), size);
}

} // namespace base
