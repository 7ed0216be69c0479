// Ring memory of one family on one CPU: a range of the segment from which rings of power-of-two sizes are cut and to
// which they return. Owner: that CPU (a ring is freed on the CPU that took it). Offsets only; the bytes are never
// looked at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/check.hpp"

namespace gateway {

class RingArena {
public:
    static constexpr unsigned shift_min = 12; // one page
    static constexpr unsigned shift_max = 24; // 16 MiB, what window scale 8 can use

    RingArena() = default;
    RingArena(std::uint64_t begin, std::uint64_t end) : next_(begin), end_(end), total_(end - begin) {}

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
        return offset;
    }
    void give(std::uint64_t offset, unsigned shift)
    {
        INVARIANT(shift >= shift_min && shift <= shift_max);
        free_[shift - shift_min].push_back(offset);
        in_use_ -= std::uint64_t{1} << shift;
    }
    std::uint64_t in_use() const { return in_use_; }
    std::uint64_t total() const { return total_; }
    std::size_t free_rings(unsigned shift) const { return free_[shift - shift_min].size(); } // taken before

private:
    std::uint64_t next_ = 0;                                     // o
    std::uint64_t end_ = 0;                                      // o
    std::uint64_t total_ = 0;                                    // c
    std::uint64_t in_use_ = 0;                                   // o
    std::vector<std::uint64_t> free_[shift_max - shift_min + 1]; // o
};

} // namespace gateway
