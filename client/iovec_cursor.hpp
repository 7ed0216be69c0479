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

    IovecCursor(const iovec* pieces, std::size_t count) : next_(pieces), end_(pieces + count)
    {
        if (count != 0) {
            open_next();
            left_ = std::min(here_, call_max);
        }
        for (const iovec* p = next_; p != end_ && left_ < call_max; ++p) {
            left_ = std::min(call_max, left_ + std::min<std::uint64_t>(p->iov_len, call_max));
        }
    }
    static IovecCursor of_buffer(void* buffer, std::size_t bytes)
    {
        IovecCursor c(nullptr, 0);
        c.at_ = reinterpret_cast<std::uintptr_t>(buffer);
        c.here_ = bytes;
        c.left_ = std::min<std::uint64_t>(bytes, call_max);
        return c;
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
        if (bytes - 1 < here_) [[likely]] { // all of it in one buffer; not none
            copy(reinterpret_cast<std::byte*>(at_), bytes);
            at_ += bytes;
            here_ -= bytes;
        } else {
            each_piece(bytes, copy);
        }
    }
    template <typename Copy>
    [[gnu::noinline]] void each_piece(std::uint64_t bytes, Copy& copy)
    {
        for (;;) {
            std::uint64_t n = std::min(bytes, here_);
            if (n != 0) {
                copy(reinterpret_cast<std::byte*>(at_), n);
                at_ += n;
                here_ -= n;
                bytes -= n;
            }
            if (bytes == 0 || next_ == end_) {
                return;
            }
            open_next();
        }
    }
    void open_next()
    {
        at_ = reinterpret_cast<std::uintptr_t>(next_->iov_base);
        here_ = next_->iov_len;
        ++next_;
    }

    std::uintptr_t at_ = 0;  // no pointer: what is skipped may lie at none (MSG_TRUNC)
    std::uint64_t here_ = 0; // bytes from at_ to the end of its piece
    std::uint64_t left_ = 0; // bytes of this and all other pieces
    const iovec* next_;
    const iovec* end_;
};

} // namespace client
