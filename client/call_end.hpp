// What ends a wait besides its socket: the program closed the descriptor under the call, or put something else in its
// place, and sends a signal that comes before the call sleeps (runtimes that close under their readers do so). Where
// somebody counts a socket's descriptors, the call looks at their number before it sleeps. One thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace client {

// Of the socket that this thread's call is about; null: nobody counts, or the call must not end so. Not in static TLS:
// this is in libraries too that are opened late (tests/packetdrill).
using DescriptorCount = const std::atomic<std::uint32_t>*;
inline constinit thread_local DescriptorCount call_descriptors = nullptr;

inline bool call_is_abandoned()
{
    return call_descriptors != nullptr && call_descriptors->load(std::memory_order_seq_cst) == 0;
}

class CountedBy {
public:
    explicit CountedBy(DescriptorCount count) : before_(std::exchange(call_descriptors, count)) {}
    ~CountedBy() { call_descriptors = before_; }
    CountedBy(const CountedBy&) = delete;
    CountedBy& operator=(const CountedBy&) = delete;

private:
    DescriptorCount before_;
};

} // namespace client
