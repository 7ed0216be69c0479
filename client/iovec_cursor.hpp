// A position in a caller's iovec array: copies between it and a ring without caring where the pieces end. Pure.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstdint>

#include "sockbuf/ring_view.hpp"

namespace client {

class IovecCursor {
public:
    // Linux moves at most this much per call (read(2), MAX_RW_COUNT).
    static constexpr std::uint64_t call_max = 0x7ffff000;

    IovecCursor(const iovec* pieces, std::size_t count) : piece_(pieces), end_(pieces + count)
    {
        for (std::size_t i = 0; i < count && left_ < call_max; ++i) {
            left_ = std::min(call_max, left_ + std::min<std::uint64_t>(pieces[i].iov_len, call_max));
        }
    }
    std::uint64_t left() const { return left_; }

    void to_ring(const sockbuf::RingView& ring, std::uint64_t offset, std::uint64_t bytes)
    {
        each(bytes, [&](std::byte* p, std::uint64_t n) {
            ring.copy_in(offset, p, n);
            offset += n;
        });
    }
    void from_ring(const sockbuf::RingView& ring, std::uint64_t offset, std::uint64_t bytes)
    {
        each(bytes, [&](std::byte* p, std::uint64_t n) {
            ring.copy_out(offset, p, n);
            offset += n;
        });
    }
    void skip(std::uint64_t bytes)
    {
        each(bytes, [](std::byte*, std::uint64_t) {});
    }

private:
    template <typename Copy>
    void each(std::uint64_t bytes, Copy copy)
    {
        left_ -= bytes;
        while (bytes != 0 && piece_ != end_) {
            std::uint64_t n = std::min<std::uint64_t>(bytes, piece_->iov_len - done_);
            if (n != 0) {
                copy(static_cast<std::byte*>(piece_->iov_base) + done_, n);
            }
            bytes -= n;
            done_ += n;
            if (done_ == piece_->iov_len) {
                ++piece_;
                done_ = 0;
            }
        }
    }

    const iovec* piece_;
    const iovec* end_;
    std::uint64_t done_ = 0; // of *piece_
    std::uint64_t left_ = 0;
};

} // namespace client
