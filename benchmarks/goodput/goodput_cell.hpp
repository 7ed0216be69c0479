// One cell of the goodput grid, and what its link does to every frame: the same on all sides that are compared.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "drivers/sim_link.hpp"

namespace bench {

struct GoodputCell {
    double loss = 0; // of a frame, in each direction
    std::uint32_t rtt_us = 1000;
    std::uint32_t flows = 1;
    std::uint32_t seed = 1;
    std::uint32_t mbit_per_s = 100;
    double seconds = 10;
    std::string congestion = "cubic";
};

struct GoodputResult {
    std::uint64_t bytes = 0;   // that the receiving applications got within the time, connecting included
    std::uint32_t mss = 0;     // of the first connection
    std::uint32_t refused = 0; // frames that no impairment dropped, but something else on the way: must be 0
    std::string counters;      // JSON members, for the reader
};

inline constexpr std::uint32_t frame_bytes_max = 1514;
inline constexpr std::uint32_t queue_frames_min = 100;
inline constexpr std::uint32_t held_frames_max = 8192; // a window in flight and a queue, at 200 ms and 100 Mbit/s

// A queue of one bandwidth-delay product, but a hundred frames at least; no ECN. Super-segments are cut before anything
// is drawn, so that a loss is a frame's.
inline drivers::SimLinkOptions goodput_link(const GoodputCell& c)
{
    drivers::Impairments i;
    i.loss = c.loss;
    i.delay = base::Micros{c.rtt_us / 2};
    i.rate_bits_per_s = std::uint64_t{c.mbit_per_s} * 1'000'000;
    std::uint64_t product = i.rate_bits_per_s / 8 * c.rtt_us / 1'000'000;
    i.queue_bytes_max =
        static_cast<std::uint32_t>(std::max<std::uint64_t>(product, std::uint64_t{queue_frames_min} * frame_bytes_max));
    drivers::SimLinkOptions o;
    o.a.send = o.b.send = i;
    o.split = true;
    o.csum_offload = false; // what the kernel leaves unfinished is finished before the wire
    o.held_frames_max = held_frames_max;
    o.seed = c.seed;
    return o;
}

// Of a socket, each way: twelve fair shares of what the whole link can hold for 64 flows, and three times all of it for
// one: what came behind the first hole of a slow start that went too far waits here, while as much goes on.
inline unsigned buffer_shift(const GoodputCell& c)
{
    return c.flows == 1 ? 24 : c.flows <= 8 ? 22 : 20;
}

inline constexpr std::uint16_t goodput_port = 7100;

// Ours, two stacks in virtual time.
GoodputResult goodput_virtual(const GoodputCell& cell);
// Ours, two stacks in real time, each behind a TAP of a namespace (gn0, gf0) that forwards to the relay.
GoodputResult goodput_tap(const GoodputCell& cell, const std::string& near, const std::string& far);
// The kernel's, between two namespaces whose devices gp0 the relay joins.
GoodputResult goodput_kernel(const GoodputCell& cell, const std::string& near, const std::string& far);

} // namespace bench
