// Tells AddressSanitizer which memory of our own pools is free, so that it sees a use after it as it sees one of the
// heap's. Nothing elsewhere.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define BASE_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BASE_POISONS 1
#endif
#endif
#ifdef BASE_POISONS
#include <sanitizer/asan_interface.h>
#endif

namespace base {

#ifdef BASE_POISONS
inline constexpr bool poisons = true;
inline void poison(void* memory, std::size_t bytes)
{
    __asan_poison_memory_region(memory, bytes);
}
inline void unpoison(void* memory, std::size_t bytes)
{
    __asan_unpoison_memory_region(memory, bytes);
}
#else
inline constexpr bool poisons = false;
inline void poison(void*, std::size_t)
{
}
inline void unpoison(void*, std::size_t)
{
}
#endif

} // namespace base
