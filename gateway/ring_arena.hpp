// Ring memory of one family on one CPU: a range of the segment from which rings of power-of-two sizes are cut and to
// which they return; and which pages of heads (sockbuf/ring_view.hpp) are those of rings in use. Owner: that CPU (a
// ring is freed on the CPU that took it). Offsets only; the bytes are never looked at.
#pragma once

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

    // Offset of a ring of 2^shift bytes; nothing when the range is used up but for `keep` bytes.
    std::optional<std::uint64_t> take(unsigned shift, std::uint64_t keep = 0)
    {
        INVARIANT(shift >= shift_min && shift <= shift_max);
        std::uint64_t bytes = std::uint64_t{1} << shift;
        auto& free = free_[shift - shift_min];
        std::uint64_t offset = 0;
        if (total_ - in_use_ < bytes + keep) {
            return std::nullopt;
        }
        if (!free.empty()) {
            offset = free.back();
            free.pop_back();
        } else if (end_ - next_ >= bytes) {
            offset = next_;
            next_ += bytes;
        } else {
            return std::nullopt;
        }
        in_use_ += bytes;
        ++head_users(offset, shift);
        return offset;
    }
    void give(std::uint64_t offset, unsigned shift)
    {
        INVARIANT(shift >= shift_min && shift <= shift_max);
        free_[shift - shift_min].push_back(offset);
        in_use_ -= std::uint64_t{1} << shift;
        --head_users(offset, shift);
    }
    // The head of the ring at `offset`, which was taken once, lies in a page of none but this arena's, all free.
    bool heads_unused(std::uint64_t offset, unsigned shift)
    {
        std::uint64_t first = rings_ + (head_page(offset, shift) * heads_in_page << shift);
        bool mine = first >= begin_ && first + (heads_in_page << shift) <= end_;
        return mine && head_users(offset, shift) == 0;
    }
    std::uint64_t in_use() const { return in_use_; }
    std::uint64_t total() const { return total_; }
    std::size_t free_rings(unsigned shift) const { return free_[shift - shift_min].size(); } // taken before

private:
    static constexpr std::uint64_t heads_in_page = head_page_bytes / sockbuf::RingView::head_bytes;

    std::uint64_t head_page(std::uint64_t offset, unsigned shift) const
    {
        return ((offset - rings_) >> shift) / heads_in_page;
    }
    std::uint8_t& head_users(std::uint64_t offset, unsigned shift)
    {
        auto& users = head_users_[shift - shift_min];
        std::size_t page = head_page(offset, shift) - head_page(begin_, shift);
        if (page >= users.size()) {
            users.resize(page + 1);
        }
        return users[page];
    }

    std::uint64_t rings_ = 0;                                         // c
    std::uint64_t begin_ = 0;                                         // c
    std::uint64_t next_ = 0;                                          // o
    std::uint64_t end_ = 0;                                           // o
    std::uint64_t total_ = 0;                                         // c
    std::uint64_t in_use_ = 0;                                        // o
    std::vector<std::uint64_t> free_[shift_max - shift_min + 1];      // o
    std::vector<std::uint8_t> head_users_[shift_max - shift_min + 1]; // o: by page from the first of the arena's
};

} // namespace gateway
