// Copies of text between programs' buffers, rings and packets. Any thread; the two places do not overlap.
// memcpy of some 2 KiB and more becomes `rep movsb` in glibc, which drops to a tenth of its speed on Zen 3 and 4 where
// the target lies 1 to 31 bytes above the source modulo a page (glibc bug 30994; 27 against 3 GB/s on the reference
// machine). That is no rare case: malloc gives large buffers at 16 bytes into a page, and rings begin at a line.
// Pieces below that size are copied by vector loops: as fast elsewhere, 16 GB/s there.
#pragma once

#include <cstddef>
#include <cstring>

namespace base {

[[gnu::noinline]] inline void copy_in_pieces(void* to, const void* from, std::size_t bytes, std::size_t piece)
{
    auto* target = static_cast<std::byte*>(to);
    const auto* source = static_cast<const std::byte*>(from);
    for (; bytes > piece; bytes -= piece, target += piece, source += piece) {
        std::memcpy(target, source, piece);
    }
    std::memcpy(target, source, bytes);
}

inline void copy_bytes(void* to, const void* from, std::size_t bytes)
{
    std::size_t piece = 2048; // glibc's rep_movsb_threshold is 2,112 and more where `rep movsb` is fast at all
    asm("" : "+r"(piece));    // the compiler must not know it: it would write a `rep movsq` instead of the call
    if (bytes <= piece) [[likely]] {
        std::memcpy(to, from, bytes);
    } else {
        copy_in_pieces(to, from, bytes, piece);
    }
}

} // namespace base
