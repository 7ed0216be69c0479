// The ground under lwIP: the platform routines that arch/cc.h names, and the wire, a netif that queues a copy of each
// packet and hands it in again on the next turn, never inside the transmit call. One of it per process; used by whoever
// may use lwIP's core (its one thread, or the holder of its lock), but the heap and the checksum by any thread.
#pragma once

#include <cstdint>

namespace lwip_bench {

// Prints "bench-lwip: ..." and exits with 1.
[[noreturn, gnu::format(printf, 1, 2)]] void fail(const char* format, ...);

struct WireOptions {
    unsigned mss = 1460;
    bool checksums = true;         // made by the sender, verified by the receiver
    bool fast_routines = true;     // checksum and heap of lwip_port.cpp; else lwIP's own checksum, and malloc
    std::uint64_t corrupt_nth = 0; // flip a bit in the nth packet with payload; 0: in none
    void (*on_first)() = nullptr;  // a packet was put on the wire when it was empty
};

struct WireCounters {
    std::uint64_t packets = 0;
    std::uint64_t bytes = 0;
    std::uint64_t drops = 0; // queue full or no memory
    std::uint64_t corrupted = 0;
};

class Wire {
public:
    // lwip_init, if lwIP has no thread that does it, and the netif, whose address is both ends of every connection.
    explicit Wire(const WireOptions& options);

    // Hands in a batch of what was there at the beginning. False: there was nothing.
    bool turn();
    bool pending() const; // something is on the wire

    WireCounters counters; // any time
    const WireOptions options;
};

std::uint64_t now_ns();
// Where lwIP has no thread: reads the clock for it, runs its timers; returns the time.
std::uint64_t tick_ns();

// How many elements of a pool of lwIP are in use, and their size.
unsigned pool_used(int pool);
unsigned pool_element_bytes(int pool);
// Leaves only `count` free TCP PCBs. lwIP takes the oldest TIME-WAIT for a new connection when there is no other.
void limit_tcp_pcbs(unsigned count);
// Bytes that lwIP holds of its heap now.
std::uint64_t heap_used_bytes();

} // namespace lwip_bench
