// What a CPU of the disciplines giant and striped has besides: a lock, and a service thread for its timers. "The
// protocol thread" of such a CPU is whoever holds the lock. Private to lwkt.
//
// A visit: take the lock, become the CPU, run the caller's operation and what is queued, release. Only then what must
// not be done under a lock: system calls (after_release) and visits to the CPUs that were sent something, one at a
// time. So a thread holds at most one shard lock, and none across a system call.
//
// No work is lost: a sender publishes, changes `news`, tries the lock; a holder releases, then changes `news`. Both are
// read-modify-writes of one word, so whichever comes second sees everything that the other did before.
#pragma once

#include <atomic>
#include <cstdint>

#include "lwkt/cpu_impl.hpp"
#include "lwkt/service.hpp"
#include "lwkt/shard_lock.hpp"

namespace lwkt {

// The second and third lock of an operation where each has three (CpuSetOptions::locks_per_operation): its socket's
// buffers. Sockets share them by number.
struct SocketLocks {
    static constexpr std::uint32_t count = 4096;

    alignas(64) ShardLock snd;
    alignas(64) ShardLock rcv;
};

struct Shard {
    Shard(LockKind kind, Service& of, SocketLocks* locks) : service(of), socket_locks(locks) { lock.choose(kind); }

    ShardLock lock;
    Service& service;                                         // c
    SocketLocks* socket_locks;                                // c: element i for socket i; null = one lock is enough
    alignas(base::apart) std::atomic<std::uint32_t> news{0};  // any thread: 1 = published since the last visit
    std::atomic<std::uint32_t> for_service{0};                // any thread: the service thread shall visit
    std::atomic<std::int64_t> deadline_us{Service::never_us}; // o: when something is due without a visit
    // Threads of other sets (the far side of a link) that have noted this shard for a visit. A set that stops closes
    // its shards and waits for those visitors, as it joins its own threads.
    alignas(base::apart) std::atomic<std::uint32_t> expected{0}; // visitors add and subtract
    std::atomic<bool> closed{false};                             // who starts and stops the set
};

// What this thread does with shards. Plain data: it outlives the thread_local destructors.
struct Visitor {
    static constexpr unsigned dirty_max = 256; // power of two
    static constexpr unsigned deferred_max = 128;
    struct Deferred {
        void (*function)(void*);
        void* argument;
    };

    struct Noted {
        Cpu* cpu;
        bool expected; // it is of another set, and counted there
    };

    Cpu* inside = nullptr;  // whose lock this thread holds
    CpuSet* home = nullptr; // the set that this thread's operation is of; it outlives the operation
    bool settling = false;  // after a release, running what was left for it
    unsigned dirty_begin = 0;
    unsigned dirty_end = 0;
    unsigned deferred = 0;
    Noted dirty[dirty_max] = {}; // a ring: CPUs that were sent something, of any set
    Deferred calls[deferred_max] = {};

    bool busy() const { return inside != nullptr || settling; }
    void note(Cpu& cpu);
};

extern constinit thread_local Visitor visitor;

} // namespace lwkt
