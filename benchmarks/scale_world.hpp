// Work for the counts of bench-scale: stacks of any number of CPUs in virtual time, and what one operation costs in
// messages between those CPUs. Nothing here depends on the machine or on its clock: a seed gives the same counts.
// One OS thread.
//
// Loopback: one stack plays both sides; a packet is received on the CPU that sent it, so what its other end owns is
// forwarded. Link: clients in one stack, servers in another, and the wire delivers to the owner, as RSS does.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bench {

enum class ScaleWork { conn, rr, udp };
enum class ScaleWire { loopback, link };

struct ScaleRun {
    ScaleWork work = ScaleWork::conn;
    ScaleWire wire = ScaleWire::link;
    std::size_t cpus = 1; // of each stack, at most 64
    std::uint64_t seed = 1;
    std::size_t operations = 1024;
    std::size_t concurrency = 64;
};

// Sums over the CPUs of all stacks, for `operations` operations; set-up is not in them.
struct ScaleCounts {
    std::uint64_t operations = 0;
    std::uint64_t messages = 0;   // between CPUs of one stack, frees included
    std::uint64_t frees = 0;      // those of the messages that need no doorbell
    std::uint64_t forwarded = 0;  // packets that arrived on a CPU that does not own them; each is also a message
    std::uint64_t batches = 0;    // runs of messages to one CPU after which the sender looked at the target
    std::uint64_t busiest = 0;    // packets received by the CPU that received most
    std::uint64_t packets = 0;    // received by all
    std::uint64_t walks_port = 0; // messages of set-up: listen or bind of one socket

    // Cache lines that move between CPUs of one stack, by this rule: a message takes its line there and back home; a
    // forwarded packet takes the other lines of its descriptor and the line of its headers likewise; ring slots hold
    // eight messages to a line, written here and read there; each batch publishes one index. Not counted: what the
    // wire or the application's own threads move, which is the same on one CPU.
    double line_transfers() const;
};

ScaleCounts run_scale(const ScaleRun& run);

} // namespace bench
