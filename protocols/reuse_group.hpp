// Sockets that share a port by SO_REUSEPORT, and which of them takes a flow: the one with the highest weight
// (rendezvous hashing), so when a socket leaves only its own flows move, and when one comes only those that it takes.
// Linux divides the hash range anew on each change and moves more. Pure; any thread.
#pragma once

#include <cstdint>

namespace protocols {

// `hash`: of the flow, keyed. `member`: drawn at random when the socket bound, the same on every CPU.
inline std::uint64_t reuse_weight(std::uint64_t hash, std::uint64_t member)
{
    std::uint64_t x = hash ^ member; // two rounds of multiply and shift: every bit of the input moves every bit
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ULL;
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ULL;
    return x ^ (x >> 32);
}

} // namespace protocols
