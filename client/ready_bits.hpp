// The ready bits of a `set` waiter: netd sets a socket's bit and then its word's bit in the summary; the holder of the
// waiter takes both back. Summary before word before the sockets' offsets, so what is set behind us is seen next time.
// One thread at a time per waiter.
#pragma once

#include <algorithm>
#include <iterator>

#include "sockbuf/segment_view.hpp"

namespace client {

inline bool ready_bits_pending(const sockbuf::SegmentView& view, std::uint32_t waiter)
{
    auto& summary = view.waiter(waiter).summary;
    return std::any_of(std::begin(summary), std::end(summary),
        [](const std::atomic<std::uint64_t>& word) { return word.load(std::memory_order_seq_cst) != 0; });
}

// Calls look(slot) for each socket that had news since the last time.
template <typename Look>
void take_ready_bits(const sockbuf::SegmentView& view, std::uint32_t waiter, Look&& look)
{
    auto& summary = view.waiter(waiter).summary;
    std::atomic<std::uint64_t>* words = view.waiter_bits(waiter);
    std::uint32_t count = view.sockets() / 64;
    for (std::uint32_t top = 0; top * 64 < count; ++top) {
        if (summary[top].load(std::memory_order_seq_cst) == 0) {
            continue;
        }
        std::uint64_t pending = summary[top].exchange(0, std::memory_order_seq_cst);
        for (; pending != 0; pending &= pending - 1) {
            std::uint32_t w = top * 64 + static_cast<std::uint32_t>(__builtin_ctzll(pending));
            std::uint64_t bits = w < count ? words[w].exchange(0, std::memory_order_seq_cst) : 0;
            for (; bits != 0; bits &= bits - 1) {
                look(w * 64 + static_cast<std::uint32_t>(__builtin_ctzll(bits)));
            }
        }
    }
}

} // namespace client
