// The packets of a stack: per-CPU pools whose memory goes home (lwkt/pool.hpp). Sizes are a visible sum of what can
// hold a packet on one CPU, so running out is an attack or a bug, and either way a counted drop:
//   driver receive burst + packets queued from every other CPU (shed at packets_queued_max) + neighbour queues
//   + IP reassembly + transmit queues until the roll-up + receive buffers posted to in-memory wires.
#pragma once

#include <cstdint>
#include <memory>

#include "lwkt/pool.hpp"
#include "netmsg/packet.hpp"

namespace netmsg {

struct LargeBuffer : lwkt::Message {
    alignas(64) std::byte bytes[large_buffer_bytes];
};

struct PacketPoolOptions {
    std::uint32_t packets_per_cpu = 8192;
    std::uint32_t large_per_cpu = 256;
};

class PacketPool {
public:
    PacketPool(lwkt::CpuSet& set, const PacketPoolOptions& options = {});
    ~PacketPool();

    // An empty packet with packet_headroom in front; null when used up (counted). On a protocol thread of the set.
    Packet* allocate();
    // Gives `p` a large buffer (empty; the caller adds pieces in it); false when used up (counted).
    bool add_large(Packet& p);
    // A packet with the same bytes, all in buffers of its own (linear part as far as it fits, rest in a large buffer)
    // and the same metadata; null when used up. For drivers that must keep bytes after submit (loopback, sim link,
    // capture).
    Packet* clone(const Packet& p);
    // Appends [offset, offset + n) of `from` to `to`, whose bytes all lie in its own buffers: own buffer as far as it
    // fits, rest in its large buffer, which is taken from the pool when it is needed and not there. False when the
    // memory is used up or too small; `to` then has lost nothing but may have gained some of the bytes.
    bool append(Packet& to, const Packet& from, std::uint32_t offset, std::uint32_t n);

    void release(Packet& p);            // from any CPU
    void release_large(LargeBuffer& b); // a spare one that no packet holds; from any CPU

    std::size_t in_use(base::CpuId cpu) const; // packets
    std::size_t large_in_use(base::CpuId cpu) const;
    std::uint64_t exhausted(base::CpuId cpu) const; // refusals, of packets and of large buffers

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// Everything about `from` that is not where its bytes lie: checksum and segmentation state, interface, stamp.
void copy_metadata(Packet& to, const Packet& from);

// True when all bytes lie in buffers that go home with the packet, so it may be kept after submit.
bool owns_bytes(const Packet& p);

} // namespace netmsg
