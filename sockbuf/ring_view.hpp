// A byte ring addressed by absolute offsets. Pure arithmetic and copies over memory that somebody else owns; the caller
// guarantees that [offset, offset + size) lies within one ring's length. Any thread.
// `start` is the offset (its low 32 bits) that lies at the ring's first byte. Its writer moves it while the ring is
// empty, so that small messages use the same few lines and pages again, however large the ring is. They are other ones
// in each ring (`home`): the first lines of rings, megabytes apart, would share one set of every cache and of the TLB.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/copy_bytes.hpp"

namespace sockbuf {

class RingView {
public:
    RingView() = default;
    RingView(std::byte* base, unsigned shift, std::uint32_t start = 0, std::uint32_t home = 0)
        : base_(base), size_(std::uint64_t{1} << shift), start_(start), home_(home)
    {
    }
    // Where ring number `n` begins again when it is empty.
    static constexpr std::uint32_t home_of(std::uint64_t n, unsigned shift)
    {
        constexpr std::uint64_t next = 4096 + 64; // another page, and another line in it
        return static_cast<std::uint32_t>(n * next & (std::min(std::uint64_t{1} << shift, homes_bytes) - 1));
    }

    bool valid() const { return base_ != nullptr; } // has memory
    std::uint64_t size() const { return size_; }    // 0 = no ring at all; may be known while there is no memory
    std::byte* base() const { return base_; }
    std::uint32_t start() const { return start_; }
    void set_start(std::uint32_t start) { start_ = start; } // as the writer says
    // By the writer, while it is empty: what comes next has this offset.
    void restart(std::uint64_t offset) { start_ = static_cast<std::uint32_t>(offset) - home_; }
    std::uint32_t since_restart(std::uint64_t offset) const
    {
        return static_cast<std::uint32_t>(offset) - start_ - home_;
    }

    // The one or two pieces that hold [offset, offset + bytes); returns how many were written to `out`.
    unsigned pieces(std::uint64_t offset, std::uint64_t bytes, iovec out[2]) const
    {
        std::uint64_t at = (offset - start_) & (size_ - 1);
        std::uint64_t first = std::min(bytes, size_ - at);
        out[0] = {base_ + at, first};
        if (first == bytes) {
            return bytes != 0 ? 1 : 0;
        }
        out[1] = {base_, bytes - first};
        return 2;
    }
    void copy_in(std::uint64_t offset, const void* from, std::uint64_t bytes) const
    {
        iovec v[2];
        const auto* source = static_cast<const std::byte*>(from);
        for (unsigned i = 0, n = pieces(offset, bytes, v); i < n; ++i) {
            base::copy_bytes(v[i].iov_base, source, v[i].iov_len);
            source += v[i].iov_len;
        }
    }
    void copy_out(std::uint64_t offset, void* to, std::uint64_t bytes) const
    {
        iovec v[2];
        auto* target = static_cast<std::byte*>(to);
        for (unsigned i = 0, n = pieces(offset, bytes, v); i < n; ++i) {
            base::copy_bytes(target, v[i].iov_base, v[i].iov_len);
            target += v[i].iov_len;
        }
    }

private:
    static constexpr std::uint64_t homes_bytes = 256 * 1024; // 64 pages, each at another line

    std::byte* base_ = nullptr;
    std::uint64_t size_ = 0;
    std::uint32_t start_ = 0;
    std::uint32_t home_ = 0;
};

} // namespace sockbuf
