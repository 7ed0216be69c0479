// SipHash (Aumasson, Bernstein 2012) with 64-bit output: the keyed hash of every table that a peer can fill.
// SipHash-2-4 over bytes; SipHash-1-3 over two words, for lookups per packet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace base {

struct SipKey {
    std::uint64_t k0 = 0;
    std::uint64_t k1 = 0;
};

namespace sip_detail {
inline std::uint64_t rotl(std::uint64_t x, int b)
{
    return (x << b) | (x >> (64 - b));
}
struct State {
    explicit State(SipKey key)
        : v0(key.k0 ^ 0x736f6d6570736575ULL), v1(key.k1 ^ 0x646f72616e646f6dULL), v2(key.k0 ^ 0x6c7967656e657261ULL),
          v3(key.k1 ^ 0x7465646279746573ULL)
    {
    }
    std::uint64_t v0, v1, v2, v3;
    void round()
    {
        v0 += v1;
        v1 = rotl(v1, 13) ^ v0;
        v0 = rotl(v0, 32);
        v2 += v3;
        v3 = rotl(v3, 16) ^ v2;
        v0 += v3;
        v3 = rotl(v3, 21) ^ v0;
        v2 += v1;
        v1 = rotl(v1, 17) ^ v2;
        v2 = rotl(v2, 32);
    }
};
} // namespace sip_detail

inline std::uint64_t siphash(SipKey key, const void* data, std::size_t size)
{
    sip_detail::State s(key);
    const auto* p = static_cast<const unsigned char*>(data);
    std::size_t left = size;
    for (; left >= 8; left -= 8, p += 8) {
        std::uint64_t m;
        std::memcpy(&m, p, 8);
        s.v3 ^= m;
        s.round();
        s.round();
        s.v0 ^= m;
    }
    std::uint64_t last = static_cast<std::uint64_t>(size) << 56;
    for (std::size_t i = 0; i < left; ++i) {
        last |= static_cast<std::uint64_t>(p[i]) << (8 * i);
    }
    s.v3 ^= last;
    s.round();
    s.round();
    s.v0 ^= last;
    s.v2 ^= 0xff;
    for (int i = 0; i < 4; ++i) {
        s.round();
    }
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

// SipHash-c-d of the 16 bytes that the two words are in memory (little-endian).
template <int C, int D>
std::uint64_t siphash_words(SipKey key, std::uint64_t first, std::uint64_t second)
{
    sip_detail::State s(key);
    for (std::uint64_t m : {first, second, std::uint64_t{16} << 56}) {
        s.v3 ^= m;
        for (int i = 0; i < C; ++i) {
            s.round();
        }
        s.v0 ^= m;
    }
    s.v2 ^= 0xff;
    for (int i = 0; i < D; ++i) {
        s.round();
    }
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
inline std::uint64_t siphash13(SipKey key, std::uint64_t first, std::uint64_t second)
{
    return siphash_words<1, 3>(key, first, second);
}
inline std::uint64_t siphash24(SipKey key, std::uint64_t first, std::uint64_t second)
{
    return siphash_words<2, 4>(key, first, second);
}

} // namespace base
