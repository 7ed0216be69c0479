// A packet: a message with bytes. Holder rules are those of lwkt/message.hpp; every field is `m` (the holder's) unless
// marked. The bytes are `data[0..size)` followed by `pieces`. `data` lies in the packet's own buffer, with headroom in
// front for lower layers' headers; pieces lie in a large buffer that the packet carries, or (transmit only) in a
// socket's send ring, where they stay valid until the driver's submit returns: drivers copy or hand to the kernel at
// submit and keep no reference (docs/decisions/0002-drivers-copy-at-submit.md).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "base/check.hpp"
#include "base/list.hpp"
#include "base/units.hpp"
#include "lwkt/message.hpp"

namespace netmsg {

class Netif;
class PacketPool;

inline constexpr std::uint32_t packet_buffer_bytes = 2048; // own buffer: a full Ethernet frame and headroom
inline constexpr std::uint32_t packet_headroom = 128;      // in front of data in a fresh packet
inline constexpr std::uint32_t large_buffer_bytes = 65536; // for super-frames
inline constexpr unsigned packet_pieces_max = 4;

// State of the transport checksum.
enum class Csum : std::uint8_t {
    unknown, // receive: must be verified
    valid,   // receive: verified below, or the sender is on this host; transmit: complete
    partial, // transmit: pseudo-header sum is stored at csum_start + csum_offset, the device or the kernel finishes
};

enum class Gso : std::uint8_t { none, tcp4, tcp6, udp };

struct LargeBuffer;

struct Packet : lwkt::Message {
    std::byte* data = nullptr;     // first byte of the current layer
    std::uint32_t size = 0;        // bytes at data
    std::uint32_t piece_bytes = 0; // sum over pieces
    std::uint8_t piece_count = 0;
    Csum csum = Csum::unknown;
    Gso gso = Gso::none;
    std::uint8_t hops = 0;         // forwards between CPUs so far; capped, the excess dropped and counted
    std::uint16_t gso_size = 0;    // payload bytes per segment when gso != none
    std::uint16_t csum_start = 0;  // from data of the outermost layer (Ethernet, or IP on netifs without it)
    std::uint16_t csum_offset = 0; // from csum_start

    Netif* netif = nullptr;      // receive: where it came in; transmit: where it leaves
    base::Instant stamp{};       // receive: when it came in
    std::byte* l3 = nullptr;     // network header once known
    std::uint32_t flow_hash = 0; // steering hash once known
    bool broadcast = false;      // link-layer broadcast or multicast; from IP input on also IP's

    LargeBuffer* large = nullptr; // holds pieces of a received super-frame; goes home with the packet
    PacketPool* pool = nullptr;   // c
    std::byte* buffer = nullptr;  // c: packet_buffer_bytes of own memory

    iovec pieces[packet_pieces_max]; // continue data; last, so that all else lies in two cache lines

    std::uint32_t total() const { return size + piece_bytes; }
    std::uint32_t headroom() const { return static_cast<std::uint32_t>(data - buffer); }
    std::uint32_t tailroom() const { return packet_buffer_bytes - headroom() - size; }

    // Grows to the front by n bytes (a lower layer's header) and returns the new first byte.
    std::byte* push(std::uint32_t n)
    {
        INVARIANT(n <= headroom());
        data -= n;
        size += n;
        return data;
    }
    // Takes n bytes off the front, which must lie in `data`.
    void pull(std::uint32_t n)
    {
        INVARIANT(n <= size);
        data += n;
        size -= n;
    }
    // Grows at the end by n bytes of own buffer; only before pieces are added.
    std::byte* put(std::uint32_t n)
    {
        INVARIANT(n <= tailroom() && piece_count == 0);
        std::byte* at = data + size;
        size += n;
        return at;
    }
    void add_piece(void* base, std::size_t bytes)
    {
        INVARIANT(piece_count < packet_pieces_max);
        pieces[piece_count++] = {base, bytes};
        piece_bytes += static_cast<std::uint32_t>(bytes);
    }
    // Shortens to n bytes in total, from the end.
    void truncate(std::uint32_t n);
    // Copies [offset, offset + n) of the packet's bytes to `to`; the range must exist.
    void copy_out(std::uint32_t offset, void* to, std::uint32_t n) const;
    // The pieces of [offset, offset + n) as an iovec list (at most packet_pieces_max + 1); returns the count.
    unsigned span(std::uint32_t offset, std::uint32_t n, iovec* out) const
    {
        if (offset > size || n > size - offset) {
            return span_pieces(offset, n, out);
        }
        out[0] = {data + offset, n};
        return n != 0 ? 1 : 0;
    }
    // Makes the first n bytes contiguous in data; false if the packet is shorter or the buffer too small.
    bool pullup(std::uint32_t n) { return n <= size || pull_pieces_up(n); }

    // Gives the packet back to its pool, from any CPU of the set.
    void free();

private:
    bool pull_pieces_up(std::uint32_t n);
    unsigned span_pieces(std::uint32_t offset, std::uint32_t n, iovec* out) const;
};

using PacketQueue = base::Queue<lwkt::Message, &lwkt::Message::next>; // of Packets; cast on pop

} // namespace netmsg
