// See frame_checksum.hpp. Words are summed as they lie in memory, eight bytes at a time with end-around carry, and
// swapped once (RFC 1071 2 B: byte order independence).
#include "drivers/frame_checksum.hpp"

namespace drivers {
namespace {

std::uint64_t add_carry(std::uint64_t a, std::uint64_t b)
{
    std::uint64_t sum = a + b;
    return sum + (sum < a ? 1 : 0);
}

std::uint16_t fold(std::uint64_t sum)
{
    sum = (sum >> 32) + (sum & 0xffffffffU);
    sum = (sum >> 32) + (sum & 0xffffffffU);
    sum = (sum >> 16) + (sum & 0xffffU);
    sum = (sum >> 16) + (sum & 0xffffU);
    return static_cast<std::uint16_t>(sum);
}

} // namespace

void FrameSum::add(const void* data, std::size_t n)
{
    const auto* at = static_cast<const unsigned char*>(data);
    std::uint64_t sum = 0;
    std::size_t left = n;
    for (; left >= 8; left -= 8, at += 8) {
        std::uint64_t word;
        std::memcpy(&word, at, 8);
        sum = add_carry(sum, word);
    }
    if (left != 0) {
        std::uint64_t word = 0;
        std::memcpy(&word, at, left);
        sum = add_carry(sum, word);
    }
    std::uint16_t part = __builtin_bswap16(fold(sum));
    sum_ += odd_ ? __builtin_bswap16(part) : part;
    odd_ ^= (n & 1) != 0;
}

std::uint16_t FrameSum::folded() const
{
    return fold(sum_);
}

FrameSum frame_sum(const netmsg::Packet& p, std::uint32_t offset)
{
    iovec parts[netmsg::packet_pieces_max + 1];
    unsigned count = p.span(offset, p.total() - offset, parts);
    FrameSum sum;
    for (unsigned i = 0; i < count; ++i) {
        sum.add(parts[i].iov_base, parts[i].iov_len);
    }
    return sum;
}

} // namespace drivers
