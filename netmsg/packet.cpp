// Byte arithmetic of packets: data first, then the pieces in order. Runs on the holder's thread.
#include "netmsg/packet.hpp"

#include <algorithm>

#include "base/copy_bytes.hpp"
#include "netmsg/packet_pool.hpp"

namespace netmsg {

void Packet::truncate(std::uint32_t n)
{
    INVARIANT(n <= total());
    std::uint32_t excess = total() - n;
    while (excess != 0 && piece_count != 0) {
        iovec& last = pieces[piece_count - 1];
        auto cut = std::min(excess, static_cast<std::uint32_t>(last.iov_len));
        last.iov_len -= cut;
        piece_bytes -= cut;
        excess -= cut;
        if (last.iov_len == 0) {
            --piece_count;
        }
    }
    size -= excess;
}

unsigned Packet::span_pieces(std::uint32_t offset, std::uint32_t n, iovec* out) const
{
    INVARIANT(offset <= total() && n <= total() - offset);
    unsigned count = 0;
    auto take = [&](std::byte* from, std::uint32_t bytes) {
        if (offset >= bytes) {
            offset -= bytes;
            return;
        }
        std::uint32_t part = std::min(n, bytes - offset);
        if (part != 0) {
            out[count++] = {from + offset, part};
            n -= part;
        }
        offset = 0;
    };
    take(data, size);
    for (unsigned i = 0; i < piece_count && n != 0; ++i) {
        take(static_cast<std::byte*>(pieces[i].iov_base), static_cast<std::uint32_t>(pieces[i].iov_len));
    }
    return count;
}

void Packet::copy_out(std::uint32_t offset, void* to, std::uint32_t n) const
{
    iovec parts[packet_pieces_max + 1];
    unsigned count = span(offset, n, parts);
    auto* at = static_cast<std::byte*>(to);
    for (unsigned i = 0; i < count; ++i) {
        base::copy_bytes(at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
}

bool Packet::pull_pieces_up(std::uint32_t n)
{
    if (n > total() || n - size > tailroom()) {
        return false;
    }
    std::uint32_t wanted = n - size;
    copy_out(size, data + size, wanted);
    size += wanted;
    piece_bytes -= wanted;
    unsigned gone = 0;
    while (wanted != 0) {
        iovec& first = pieces[gone];
        auto cut = std::min(wanted, static_cast<std::uint32_t>(first.iov_len));
        first.iov_base = static_cast<std::byte*>(first.iov_base) + cut;
        first.iov_len -= cut;
        wanted -= cut;
        gone += first.iov_len == 0 ? 1 : 0;
    }
    std::copy(pieces + gone, pieces + piece_count, pieces);
    piece_count = static_cast<std::uint8_t>(piece_count - gone);
    return true;
}

void Packet::free()
{
    pool->release(*this);
}

} // namespace netmsg
