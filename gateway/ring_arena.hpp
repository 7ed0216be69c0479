// Ring memory of one family on one CPU: a range of the segment from which rings of power-of-two sizes are cut and to
// which they return; and which pages of heads (sockbuf/ring_view.hpp) are those of rings in use. Owner: that CPU (a
// ring is freed on the CPU that took it). Offsets only; the bytes are never looked at.
//
// Blocks are aligned to their size from the range's begin, so each has one buddy. A ring that comes back is a block of
// its size again and handed out first; only when a take finds nothing else, larger blocks are split, and then the free
// ones that came back since the last time are joined with their buddies. The last few of a size that came back are at
// hand: they become free blocks when anybody looks at those.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/check.hpp"
#include "sockbuf/abi.hpp"
#include "sockbuf/ring_view.hpp"

namespace gateway {

class RingArena {
public:
    static constexpr unsigned shift_min = sockbuf::page_shift;
    static constexpr unsigned shift_max = sockbuf::ring_shift_max;
    static constexpr std::uint64_t head_page_bytes = std::uint64_t{1} << sockbuf::page_shift;

    RingArena() = default;
    // `rings`: where the segment's rings begin, of whichever CPU.
    RingArena(std::uint64_t begin, std::uint64_t end, std::uint64_t rings)
        : rings_(rings), begin_(begin), next_(begin), end_(end), total_(end - begin)
    {
    }

    // Offset of a ring of 2^shift bytes; nothing when the range is used up but for `keep` bytes, or what is free lies
    // in pieces.
    std::optional<std::uint64_t> take(unsigned shift, std::uint64_t keep = 0)
    {
        INVARIANT(shift >= shift_min && shift <= shift_max);
        std::uint64_t bytes = std::uint64_t{1} << shift;
        if (total_ - in_use_ < bytes + keep) {
            return std::nullopt;
        }
        if (Size& size = sizes_[shift - shift_min]; size.at_hand != 0) {
            in_use_ += bytes;
            return size.last[--size.at_hand];
        }
        return take_free(shift);
    }
    // touched: it has pages, which cool() shall name.
    void give(std::uint64_t offset, unsigned shift, bool touched = false)
    {
        INVARIANT(shift >= shift_min && shift <= shift_max);
        Size& size = sizes_[shift - shift_min];
        in_use_ -= std::uint64_t{1} << shift;
        if (touched) {
            set(size.touched, offset, shift);
        }
        if (size.at_hand < size.last.size()) {
            size.last[size.at_hand++] = offset;
        } else {
            free(offset, shift);
        }
    }
    // The head of the ring at `offset`, which was taken once, lies in a page of none but this arena's, all free.
    bool heads_unused(std::uint64_t offset, unsigned shift)
    {
        free_at_hand();
        std::uint64_t first = rings_ + (head_page(offset, shift) * heads_in_page << shift);
        bool mine = first >= begin_ && first + (heads_in_page << shift) <= end_;
        return mine && (head_users(offset, shift) & ~heads_touched) == 0;
    }

    // A free ring, and whether it, and the page of its head, should lose their pages.
    struct Cool {
        std::uint64_t offset;
        unsigned shift;
        bool ring;
        bool heads;
    };
    // The next of those that came back longest ago, but for `warm` of each size, after at most `looks`. Nothing: there
    // is none, or no look is left.
    std::optional<Cool> cool(std::size_t warm, unsigned& looks)
    {
        free_at_hand();
        for (unsigned shift = shift_min; shift <= shift_max; ++shift) {
            Size& size = sizes_[shift - shift_min];
            for (; cools(shift, warm) && looks != 0; --looks) {
                std::uint64_t offset = size.free[size.cooled++];
                if (!test(size.blocks, offset, shift)) {
                    continue; // it was joined
                }
                std::uint8_t& users = head_users(offset, shift);
                Cool c{offset, shift, clear(size.touched, offset, shift),
                    (users & heads_touched) != 0 && heads_unused(offset, shift)};
                if (c.heads) {
                    users = 0;
                }
                if (c.ring || c.heads) {
                    return c;
                }
            }
        }
        return std::nullopt;
    }
    // Whether cool() may find one of this size.
    bool cools(unsigned shift, std::size_t warm) const
    {
        const Size& size = sizes_[shift - shift_min];
        return size.cooled + warm < size.free.size() + size.at_hand;
    }

    std::uint64_t in_use() const { return in_use_; }
    std::uint64_t total() const { return total_; }

private:
    static constexpr std::uint64_t heads_in_page = head_page_bytes / sockbuf::RingView::head_bytes;
    static constexpr std::uint8_t heads_touched =
        0x80; // beside the number of users: one was in use since it was cooled
    static_assert(heads_in_page < heads_touched);

    using Bits = std::vector<std::uint64_t>; // by block of a size, counted from the begin

    struct Size {
        std::array<std::uint64_t, 32> last{}; // of what came back: users of their heads still
        std::size_t at_hand = 0;              // so many of `last`
        std::vector<std::uint64_t> free;      // the last one that came back on top; those without their bit are no more
        Bits blocks;                          // free ones of this size
        Bits touched;                         // those of this size, free or not, that have pages
        std::size_t count = 0;                // bits in blocks
        std::size_t joined = 0;               // so many of `free` have no free buddy, or had none when it came back
        std::size_t cooled = 0;               // so many of `free` have no pages
    };

    std::uint64_t block(std::uint64_t offset, unsigned shift) const { return (offset - begin_) >> shift; }
    bool test(const Bits& bits, std::uint64_t offset, unsigned shift) const
    {
        std::uint64_t at = block(offset, shift);
        return at / 64 < bits.size() && (bits[at / 64] >> (at % 64) & 1) != 0;
    }
    void set(Bits& bits, std::uint64_t offset, unsigned shift) const
    {
        std::uint64_t at = block(offset, shift);
        if (at / 64 >= bits.size()) {
            grow(bits, at / 64 + 1);
        }
        bits[at / 64] |= std::uint64_t{1} << (at % 64);
    }
    // Whether it was set.
    bool clear(Bits& bits, std::uint64_t offset, unsigned shift) const
    {
        std::uint64_t at = block(offset, shift);
        if (at / 64 >= bits.size()) {
            return false;
        }
        std::uint64_t bit = std::uint64_t{1} << (at % 64);
        bool was = (bits[at / 64] & bit) != 0;
        bits[at / 64] &= ~bit;
        return was;
    }

    template <typename T>
    [[gnu::noinline]] static void grow(std::vector<T>& v, std::size_t size)
    {
        v.resize(size);
    }

    [[gnu::noinline]] std::optional<std::uint64_t> take_free(unsigned shift)
    {
        auto offset = pop(shift);
        if (!offset) {
            offset = find(shift);
        }
        if (offset) {
            in_use_ += std::uint64_t{1} << shift;
            std::uint8_t& users = head_users(*offset, shift);
            users = static_cast<std::uint8_t>((users | heads_touched) + 1);
        }
        return offset;
    }
    [[gnu::noinline]] void free(std::uint64_t offset, unsigned shift)
    {
        push(shift, offset);
        --head_users(offset, shift);
    }
    void free_at_hand()
    {
        for (unsigned shift = shift_min; shift <= shift_max; ++shift) {
            Size& size = sizes_[shift - shift_min];
            for (std::size_t i = 0; i < size.at_hand; ++i) {
                free(size.last[i], shift);
            }
            size.at_hand = 0;
        }
    }

    void push(unsigned shift, std::uint64_t offset)
    {
        Size& size = sizes_[shift - shift_min];
        size.free.push_back(offset);
        set(size.blocks, offset, shift);
        ++size.count;
    }
    std::optional<std::uint64_t> pop(unsigned shift)
    {
        Size& size = sizes_[shift - shift_min];
        while (!size.free.empty()) {
            std::uint64_t offset = size.free.back();
            size.free.pop_back();
            size.joined = std::min(size.joined, size.free.size());
            size.cooled = std::min(size.cooled, size.free.size());
            if (clear(size.blocks, offset, shift)) {
                --size.count;
                return offset;
            }
        }
        return std::nullopt;
    }
    // Where none of its size is free.
    [[gnu::noinline]] std::optional<std::uint64_t> find(unsigned shift)
    {
        auto offset = cut(shift);
        offset = offset ? offset : split(shift);
        if (!offset) {
            join();
            offset = pop(shift);
            offset = offset ? offset : split(shift);
        }
        return offset;
    }
    // From what was never in use; what lies before it up to its alignment becomes blocks.
    std::optional<std::uint64_t> cut(unsigned shift)
    {
        std::uint64_t bytes = std::uint64_t{1} << shift;
        std::uint64_t at = begin_ + ((next_ - begin_ + bytes - 1) & ~(bytes - 1));
        if (at > end_ || end_ - at < bytes) {
            return std::nullopt;
        }
        cut_to(at);
        next_ = at + bytes;
        return at;
    }
    void cut_to(std::uint64_t end)
    {
        while (end - next_ >= std::uint64_t{1} << shift_min) {
            auto most = static_cast<unsigned>(std::bit_width(end - next_)) - 1;
            auto aligned = next_ == begin_ ? shift_max : static_cast<unsigned>(std::countr_zero(next_ - begin_));
            unsigned shift = std::min({most, aligned, shift_max});
            push(shift, next_);
            next_ += std::uint64_t{1} << shift;
        }
    }
    std::optional<std::uint64_t> split(unsigned shift)
    {
        for (unsigned from = shift + 1; from <= shift_max; ++from) {
            auto offset = pop(from);
            if (!offset) {
                continue;
            }
            bool touched = clear(sizes_[from - shift_min].touched, *offset, from);
            for (unsigned half = from; half-- > shift;) {
                push(half, *offset + (std::uint64_t{1} << half));
                if (touched) {
                    set(sizes_[half - shift_min].touched, *offset + (std::uint64_t{1} << half), half);
                }
            }
            if (touched) {
                set(sizes_[shift - shift_min].touched, *offset, shift);
            }
            return offset;
        }
        return std::nullopt;
    }
    // Each block that came back is looked at once, so this costs no more than the gives before it.
    void join()
    {
        free_at_hand();
        cut_to(end_);
        for (unsigned shift = shift_min; shift < shift_max; ++shift) {
            Size& size = sizes_[shift - shift_min];
            for (; size.joined < size.free.size(); ++size.joined) {
                std::uint64_t one = size.free[size.joined];
                std::uint64_t other = begin_ + ((one - begin_) ^ (std::uint64_t{1} << shift));
                if (!test(size.blocks, one, shift) || !test(size.blocks, other, shift)) {
                    continue;
                }
                bool touched = false;
                for (std::uint64_t half : {one, other}) {
                    clear(size.blocks, half, shift);
                    touched |= clear(size.touched, half, shift);
                }
                size.count -= 2;
                push(shift + 1, std::min(one, other));
                if (touched) {
                    set(sizes_[shift + 1 - shift_min].touched, std::min(one, other), shift + 1);
                }
            }
            drop_joined(size, shift);
        }
    }
    // Blocks that are no more, once they are the larger part; a block may also be there twice.
    void drop_joined(Size& size, unsigned shift)
    {
        if (size.free.size() < 2 * size.count + 64) {
            return;
        }
        std::size_t kept = 0;
        for (std::uint64_t offset : size.free) {
            if (clear(size.blocks, offset, shift)) {
                size.free[kept++] = offset;
            }
        }
        size.free.resize(kept);
        for (std::uint64_t offset : size.free) {
            set(size.blocks, offset, shift);
        }
        INVARIANT(kept == size.count);
        size.joined = kept;
        size.cooled = 0;
    }

    std::uint64_t head_page(std::uint64_t offset, unsigned shift) const
    {
        return ((offset - rings_) >> shift) / heads_in_page;
    }
    std::uint8_t& head_users(std::uint64_t offset, unsigned shift)
    {
        auto& users = head_users_[shift - shift_min];
        std::size_t page = head_page(offset, shift) - head_page(begin_, shift);
        if (page >= users.size()) {
            grow(users, page + 1);
        }
        return users[page];
    }

    std::uint64_t rings_ = 0;                                         // c
    std::uint64_t begin_ = 0;                                         // c
    std::uint64_t next_ = 0;                                          // o: from here on nothing was ever in use
    std::uint64_t end_ = 0;                                           // o
    std::uint64_t total_ = 0;                                         // c
    std::uint64_t in_use_ = 0;                                        // o
    Size sizes_[shift_max - shift_min + 1];                           // o
    std::vector<std::uint8_t> head_users_[shift_max - shift_min + 1]; // o: by page from the first of the arena's
};

} // namespace gateway
