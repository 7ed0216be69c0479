// Who serialises the protocol state (decision 0006). The protocol code does not know.
//   message   a CPU per thread; whoever wants something of it sends it a message
//   inline    a CPU is run by the application thread that adopted it
//   giant     one shard under one lock; whoever wants something of it takes the lock and does it
//   striped   many shards, a lock each
// A shard is a lwkt::Cpu whose "protocol thread" is whoever holds its lock.
#pragma once

#include <cstdint>

namespace lwkt {

enum class Discipline : std::uint8_t { message, inline_, giant, striped };
enum class LockKind : std::uint8_t { mutex, spin, queue };

constexpr bool uses_locks(Discipline d)
{
    return d == Discipline::giant || d == Discipline::striped;
}

} // namespace lwkt
