// Which CPU owns a flow: Toeplitz hash with a random full-length key over the 4-tuple as it stands in a RECEIVED
// packet (source = peer, destination = local), then an indirection table of 512 entries. Not symmetric: a peer must not
// choose our CPU. Read-only after construction, so shared by all CPUs.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "base/check.hpp"
#include "base/net_addr.hpp"
#include "base/ownership.hpp"
#include "base/random.hpp"

namespace netmsg {

inline constexpr unsigned steering_entries = 512;
inline constexpr unsigned toeplitz_key_bytes = 52; // covers an IPv6 4-tuple (36 bytes) and 16 more

class Steering {
public:
    Steering(unsigned cpus, base::Random& random);
    // With a given key (tests: the published vectors of the Microsoft RSS specification).
    Steering(unsigned cpus, const std::array<unsigned char, toeplitz_key_bytes>& key);

    // Hash of a received packet's addresses and ports; peer is its source. Both families.
    std::uint32_t hash(const base::FourTuple& flow) const;
    // The same of an IPv4 flow, from the fields of its header in host order.
    std::uint32_t hash_v4(
        std::uint32_t peer, std::uint32_t local, std::uint32_t peer_port, std::uint32_t local_port) const
    {
        return word_hash(peer, 0) ^ word_hash(local, 4) ^ word_hash(peer_port << 16 | local_port, 8);
    }
    // What the local port adds to hash(): for a flow whose local port is 0, hash(flow) ^ of_local_port(p, flow) is its
    // hash with local port p.
    std::uint32_t of_local_port(std::uint16_t port, const base::FourTuple& flow) const;
    // Hash of an address pair only: fragments, ICMP, other protocols.
    std::uint32_t hash_pair(const base::IpAddr& local, const base::IpAddr& peer) const;
    base::CpuId cpu_of_hash(std::uint32_t hash) const { return table_[hash % steering_entries]; }
    base::CpuId cpu_of(const base::FourTuple& flow) const { return cpu_of_hash(hash(flow)); }

    unsigned cpus() const { return cpus_; }
    const std::array<unsigned char, toeplitz_key_bytes>& key() const { return key_; }
    const std::array<base::CpuId, steering_entries>& table() const { return table_; }
    // Contribution to the hash of one input byte: element position * 256 + value, positions 0..35. For programs that
    // compute the same hash elsewhere (TAP steering).
    const std::uint32_t* byte_hash() const { return byte_hash_.get(); }

private:
    void build_tables();
    std::uint32_t hash_bytes(const unsigned char* bytes, unsigned n, unsigned position) const;
    std::uint32_t word_hash(std::uint32_t host_order, unsigned position) const
    {
        const std::uint32_t* row = byte_hash_.get() + std::size_t{position} * 256;
        return row[host_order >> 24] ^ row[256 + (host_order >> 16 & 0xff)] ^ row[512 + (host_order >> 8 & 0xff)] ^
               row[768 + (host_order & 0xff)];
    }

    unsigned cpus_;                                     // c
    std::array<unsigned char, toeplitz_key_bytes> key_; // c
    std::array<base::CpuId, steering_entries> table_;   // c
    // byte_hash_[position * 256 + value]: contribution of one input byte, so a hash is 12 (or 36) loads and xors.
    std::unique_ptr<std::uint32_t[]> byte_hash_; // c
};

} // namespace netmsg
