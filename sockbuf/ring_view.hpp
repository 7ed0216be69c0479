// A byte ring addressed by absolute offsets. Pure arithmetic and copies over memory that somebody else owns; the caller
// guarantees that [offset, offset + size) lies within one ring's length. Any thread.
// `start` is the offset (its low 32 bits) that lies at the ring's first byte. Its writer moves it while the ring is
// empty, so that messages use the same few lines and pages again, however large the ring is. What fits lies in the
// ring's head, 256 bytes beside the heads of other rings: rings are megabytes apart, each has a page and a line of the
// page table to itself. What does not begins in the ring, at another place (`home`) in each: the first lines of rings
// would share one set of every cache and of the TLB (docs/decisions/0032-heads-of-rings.md).
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/copy_bytes.hpp"

namespace sockbuf {

class RingView {
public:
    static constexpr std::uint32_t head_bytes = 256;
    static constexpr unsigned pieces_max = 4; // before the head, within it, behind it, and one is cut by the ring's end

    RingView() = default;
    // `head`: null for a ring without one.
    RingView(
        std::byte* base, unsigned shift, std::uint32_t start = 0, std::uint32_t home = 0, std::byte* head = nullptr)
        : base_(base), head_(head), start_(start), home_lines_(static_cast<std::uint16_t>(home / line)),
          shift_(static_cast<std::uint8_t>(shift))
    {
    }
    // Where ring number `n` begins again when it is empty.
    static constexpr std::uint32_t home_of(std::uint64_t n, unsigned shift)
    {
        constexpr std::uint64_t next = 4096 + 64; // another page, and another line in it
        return static_cast<std::uint32_t>(n * next & (std::min(std::uint64_t{1} << shift, homes_bytes) - 1));
    }

    bool valid() const { return base_ != nullptr; } // has memory
    // 0 = no ring at all; may be known while there is no memory.
    std::uint64_t size() const { return shift_ != 0 ? std::uint64_t{1} << shift_ : 0; }
    std::byte* base() const { return base_; }
    std::uint32_t start() const { return start_; }
    void set_start(std::uint32_t start) { start_ = start; } // as the writer says
    // By the writer, while it is empty: what comes next has this offset, and as many bytes of it are known to come.
    void restart(std::uint64_t offset, std::uint64_t bytes)
    {
        start_ = static_cast<std::uint32_t>(offset) - home() - (head_ != nullptr ? place_in_head(bytes) : 0);
    }
    std::uint32_t since_restart(std::uint64_t offset) const
    {
        return static_cast<std::uint32_t>(offset) - start_ - home();
    }

    // The pieces that hold [offset, offset + bytes); returns how many were written to `out`.
    unsigned pieces(std::uint64_t offset, std::uint64_t bytes, iovec out[pieces_max]) const
    {
        std::uint32_t since = since_restart(offset);
        if (head_ == nullptr || (since >= head_bytes && since + bytes <= comes_round)) {
            return ring_pieces(offset, bytes, out);
        }
        unsigned n = 0;
        while (bytes != 0) {
            std::uint64_t part = 0;
            if (since < head_bytes) {
                part = std::min<std::uint64_t>(bytes, head_bytes - since);
                out[n++] = {head_ + since, part};
            } else {
                part = std::min(bytes, comes_round - since);
                n += ring_pieces(offset, part, out + n);
            }
            offset += part;
            bytes -= part;
            since += static_cast<std::uint32_t>(part);
        }
        return n;
    }
    void copy_in(std::uint64_t offset, const void* from, std::uint64_t bytes) const
    {
        if (std::byte* place = one_piece(offset, bytes)) [[likely]] {
            base::copy_bytes(place, from, bytes);
        } else {
            copy_pieces_in(*this, offset, from, bytes);
        }
    }
    void copy_out(std::uint64_t offset, void* to, std::uint64_t bytes) const
    {
        if (const std::byte* place = one_piece(offset, bytes)) [[likely]] {
            base::copy_bytes(to, place, bytes);
        } else {
            copy_pieces_out(*this, offset, to, bytes);
        }
        asm volatile("" : : "r"(to) : "memory"); // what is looked at from here on is the copy, not the ring once more
    }

private:
    static constexpr std::uint32_t line = 64;
    static constexpr std::uint64_t homes_bytes = 256 * 1024; // 64 pages, each at another line
    static_assert(homes_bytes / line <= 0x10000);
    static constexpr std::uint64_t comes_round = std::uint64_t{1} << 32; // of what since_restart() says

    std::uint32_t home() const { return home_lines_ * line; }
    // Where [offset, offset + bytes) lies, unless it is cut; null for no bytes.
    std::byte* one_piece(std::uint64_t offset, std::uint64_t bytes) const
    {
        std::uint32_t since = since_restart(offset);
        if (since < head_bytes && head_ != nullptr) {
            return bytes - 1 < head_bytes - since ? head_ + since : nullptr;
        }
        std::uint64_t ring = std::uint64_t{1} << shift_;
        std::uint64_t at = (offset - start_) & (ring - 1);
        bool meets_head = head_ != nullptr && since + bytes > comes_round;
        return bytes - 1 < ring - at && !meets_head ? base_ + at : nullptr;
    }
    // The ring by value: views whose address nobody has live in registers.
    [[gnu::noinline]] static void copy_pieces_in(
        RingView ring, std::uint64_t offset, const void* from, std::uint64_t bytes)
    {
        iovec v[pieces_max];
        const auto* source = static_cast<const std::byte*>(from);
        for (unsigned i = 0, n = ring.pieces(offset, bytes, v); i < n; ++i) {
            base::copy_bytes(v[i].iov_base, source, v[i].iov_len);
            source += v[i].iov_len;
        }
    }
    [[gnu::noinline]] static void copy_pieces_out(RingView ring, std::uint64_t offset, void* to, std::uint64_t bytes)
    {
        iovec v[pieces_max];
        auto* target = static_cast<std::byte*>(to);
        for (unsigned i = 0, n = ring.pieces(offset, bytes, v); i < n; ++i) {
            base::copy_bytes(target, v[i].iov_base, v[i].iov_len);
            target += v[i].iov_len;
        }
    }
    // The ring's own one or two.
    unsigned ring_pieces(std::uint64_t offset, std::uint64_t bytes, iovec* out) const
    {
        std::uint64_t at = (offset - start_) & ((std::uint64_t{1} << shift_) - 1);
        std::uint64_t first = std::min(bytes, (std::uint64_t{1} << shift_) - at);
        out[0] = {base_ + at, first};
        if (first == bytes) {
            return bytes != 0 ? 1 : 0;
        }
        out[1] = {base_, bytes - first};
        return 2;
    }
    // Where in or behind the head a message begins. Short ones use other lines in heads side by side, or they would
    // share a quarter of the sets of a cache.
    std::uint32_t place_in_head(std::uint64_t bytes) const
    {
        auto number = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(head_) / head_bytes);
        std::uint32_t other_line = number * line % head_bytes;
        return bytes <= head_bytes - other_line ? other_line : bytes <= head_bytes ? 0 : head_bytes;
    }

    std::byte* base_ = nullptr;
    std::byte* head_ = nullptr;
    std::uint32_t start_ = 0;
    std::uint16_t home_lines_ = 0;
    std::uint8_t shift_ = 0;
};

} // namespace sockbuf
