// Network byte order at unaligned addresses. Loads and stores compile to one move and one bswap.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace base {

static_assert(std::endian::native == std::endian::little, "only little-endian hosts are supported");

inline std::uint16_t load_be16(const void* p)
{
    std::uint16_t v;
    std::memcpy(&v, p, sizeof v);
    return __builtin_bswap16(v);
}
inline std::uint32_t load_be32(const void* p)
{
    std::uint32_t v;
    std::memcpy(&v, p, sizeof v);
    return __builtin_bswap32(v);
}
inline void store_be16(void* p, std::uint16_t v)
{
    v = __builtin_bswap16(v);
    std::memcpy(p, &v, sizeof v);
}
inline void store_be32(void* p, std::uint32_t v)
{
    v = __builtin_bswap32(v);
    std::memcpy(p, &v, sizeof v);
}

} // namespace base
