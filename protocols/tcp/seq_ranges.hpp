// A bounded, sorted list of disjoint ranges of sequence numbers: the receiver's out-of-order text. Pure; owner: that of
// the object it lies in. Ranges never touch (neighbours are merged); all lie within 2^31 of each other. `stamp` grows
// with every change, so the most recently changed range is known (RFC 2018 4). A list that is full may be moved to
// longer memory, and back.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "base/check.hpp"
#include "base/seq.hpp"

namespace protocols::tcp {

using base::Seq;

struct SeqRange {
    Seq start;
    Seq end; // one past
    std::uint32_t stamp = 0;
    std::uint32_t bytes() const { return static_cast<std::uint32_t>(end - start); }
};

template <unsigned Max>
class SeqRanges {
public:
    struct Added {
        bool stored = false;     // false: no room for one more range, nothing changed
        std::uint32_t fresh = 0; // octets that were not covered before
    };

    SeqRanges() {}
    SeqRanges(const SeqRanges&) = delete;
    SeqRanges& operator=(const SeqRanges&) = delete;

    // To longer memory, which is the caller's; and back once the ranges fit.
    void extend(std::span<SeqRange> memory) { move_to(memory); }
    void come_back() { move_to(own_); }
    bool full() const { return count_ == ranges_.size(); }

    unsigned count() const { return count_; }
    bool empty() const { return count_ == 0; }
    const SeqRange& operator[](unsigned i) const { return ranges_[i]; }
    std::uint32_t bytes() const { return bytes_; }
    Seq highest() const { return ranges_[count_ - 1].end; } // not when empty

    Added add(Seq start, Seq end)
    {
        // the first range that touches [start, end) or lies behind it
        auto at = std::partition_point(
            ranges_.begin(), ranges_.begin() + count_, [start](const SeqRange& r) { return r.end < start; });
        auto first = static_cast<unsigned>(at - ranges_.begin());
        unsigned last = first; // one past the last that touches
        std::uint32_t covered = 0;
        SeqRange merged{start, end, ++stamp_};
        while (last < count_ && ranges_[last].start <= end) {
            covered += ranges_[last].bytes();
            merged.start = base::min(merged.start, ranges_[last].start);
            merged.end = base::max(merged.end, ranges_[last].end);
            ++last;
        }
        if (first == last && full()) {
            return {};
        }
        replace(first, last, merged);
        std::uint32_t fresh = merged.bytes() - covered;
        bytes_ += fresh;
        return {true, fresh};
    }
    // Forgets everything below `seq`.
    void trim_below(Seq seq)
    {
        unsigned gone = 0;
        while (gone < count_ && ranges_[gone].end <= seq) {
            bytes_ -= ranges_[gone++].bytes();
        }
        std::copy(ranges_.begin() + gone, ranges_.begin() + count_, ranges_.begin());
        count_ -= gone;
        if (count_ != 0 && ranges_[0].start < seq) {
            bytes_ -= static_cast<std::uint32_t>(seq - ranges_[0].start);
            ranges_[0].start = seq;
        }
    }
    void clear() { count_ = bytes_ = 0; }

private:
    void move_to(std::span<SeqRange> memory)
    {
        INVARIANT(count_ <= memory.size());
        std::copy(ranges_.begin(), ranges_.begin() + count_, memory.begin());
        ranges_ = memory;
    }
    // Puts `r` in place of [first, last).
    void replace(unsigned first, unsigned last, const SeqRange& r)
    {
        if (first == last) {
            std::copy_backward(ranges_.begin() + first, ranges_.begin() + count_, ranges_.begin() + count_ + 1);
            ++count_;
        } else {
            std::copy(ranges_.begin() + last, ranges_.begin() + count_, ranges_.begin() + first + 1);
            count_ -= last - first - 1;
        }
        ranges_[first] = r;
    }

    std::span<SeqRange> ranges_{own_};
    unsigned count_ = 0;
    std::uint32_t bytes_ = 0;
    std::uint32_t stamp_ = 0;
    union { // not initialised: count_ tells what is there
        std::array<SeqRange, Max> own_;
    };
};

} // namespace protocols::tcp
