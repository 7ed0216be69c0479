// The Internet checksum (RFC 1071) over packets, for drivers that must finish what a device would have. Pure.
#pragma once

#include <cstdint>
#include <cstring>

#include "netmsg/packet.hpp"

namespace drivers {

// Ones-complement sum of big-endian 16-bit words, not folded. Only the last part added may have an odd length, unless
// `odd` carries the parity along.
class FrameSum {
public:
    void add(const void* data, std::size_t n);
    void add_word(std::uint32_t host_order) { sum_ += host_order; }
    std::uint16_t folded() const;

private:
    std::uint64_t sum_ = 0; // in host order of the big-endian words
    bool odd_ = false;      // an odd number of bytes so far
};

// Sum over [offset, end) of the packet's bytes.
FrameSum frame_sum(const netmsg::Packet& p, std::uint32_t offset);

} // namespace drivers
