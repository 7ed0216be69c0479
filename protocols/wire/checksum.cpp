// See checksum.hpp. The loop adds 32-bit halves into 64-bit vector lanes, which cannot overflow for any size that fits
// memory, needs no carries, and maps to SSE2 or AVX2 alike.
#include "protocols/wire/checksum.hpp"

#include <cstring>

#include "base/check.hpp"

namespace protocols::wire {

namespace {

typedef std::uint64_t Lanes __attribute__((vector_size(16)));
constexpr Lanes low_half{0xffffffffU, 0xffffffffU};

std::uint64_t add_carry(std::uint64_t a, std::uint64_t b)
{
    std::uint64_t sum = a + b;
    return sum + (sum < b ? 1 : 0);
}

// Up to seven bytes, as the low end of a little-endian word padded with zeros.
std::uint64_t load_tail(const unsigned char* p, std::size_t size)
{
    std::uint64_t word = 0;
    std::memcpy(&word, p, size);
    return word;
}

// Sum of the words of [p, p + size), which starts at an even position. With Copy also stored at `to`.
template <bool Copy>
std::uint64_t sum_words(const unsigned char* p, std::size_t size, unsigned char* to)
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
        std::uint64_t word = load_tail(p, 8);
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

std::uint16_t fold(std::uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(sum);
}

} // namespace

void Checksum::add_words(std::uint64_t words)
{
    INVARIANT(!odd_);
    sum_ = add_carry(sum_, words);
}

// A piece that starts at an odd position counts with its bytes swapped (RFC 1071 2 B).
void Checksum::take(std::uint64_t words, std::size_t size)
{
    if (odd_) {
        words = __builtin_bswap16(fold(words));
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

std::uint16_t Checksum::folded() const
{
    return __builtin_bswap16(fold(sum_));
}

Checksum pseudo_header(
    const base::IpAddr& source, const base::IpAddr& destination, std::uint8_t protocol, std::uint32_t length)
{
    Checksum c;
    if (source.is_v4()) {
        c.add32(source.v4());
        c.add32(destination.v4());
    } else {
        c.add(source.on_wire().bytes(), 16);
        c.add(destination.on_wire().bytes(), 16);
    }
    c.add32(length);
    c.add16(protocol);
    return c;
}

std::uint16_t checksum(const void* data, std::size_t size)
{
    Checksum c;
    c.add(data, size);
    return c.finish();
}

std::uint16_t checksum_update16(std::uint16_t field, std::uint16_t from, std::uint16_t to)
{
    std::uint32_t sum = std::uint32_t{static_cast<std::uint16_t>(~field)} + static_cast<std::uint16_t>(~from) + to;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
}

std::uint16_t checksum_update32(std::uint16_t field, std::uint32_t from, std::uint32_t to)
{
    field = checksum_update16(field, static_cast<std::uint16_t>(from >> 16), static_cast<std::uint16_t>(to >> 16));
    return checksum_update16(field, static_cast<std::uint16_t>(from), static_cast<std::uint16_t>(to));
}

} // namespace protocols::wire
