// A link between two stacks of this process, each with a set of CPUs of its own, in threads or stepped: the in-memory
// wire of benchmarks, and with impairments the wire of TCP's tests. Every impairment is drawn from the seed by the
// sending CPU, so in a stepped world a seed gives the same run.
//
// Threads: each side's queues are its CPUs'. attach, detach and set() are for control threads. Both clocks must be the
// same, or both real.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "netmsg/netif.hpp"
#include "netmsg/steering.hpp"

namespace drivers {

// What happens to frames of one direction, in this order: congestion marks, loss, corruption, duplication, rate and
// queue, delay, reordering.
struct Impairments {
    double mark = 0;    // probabilities per frame; this one of those that are ECN-capable: they get CE (RFC 3168)
    double loss = 0;    //
    double corrupt = 0; // one bit flipped behind the link header, checksums finished before and to be verified
    double duplicate = 0;
    double reorder = 0;                       // held back by reorder_hold beyond the delay
    base::Micros reorder_hold{1000};          //
    base::Micros delay{0};                    //
    std::uint64_t rate_bits_per_s = 0;        // 0 = no limit
    std::uint32_t queue_bytes_max = 1U << 20; // waiting for the rate; what comes on top is dropped
};

struct SimLinkSide {
    std::string name;
    base::MacAddr mac;
    const netmsg::Steering* steering = nullptr; // receive-side scaling; null = sending CPU modulo receiving CPUs
    Impairments send;                           // of what this side sends
};

// Sees frames go by, link header first: for tests of one OS thread.
struct SimLinkWatch {
    virtual ~SimLinkWatch() = default;
    virtual void sent(unsigned side, const netmsg::Packet& frame) = 0;  // before anything happens to it
    virtual void taken(unsigned side, const netmsg::Packet& frame) = 0; // by the other side, as it arrives there
};

struct SimLinkOptions {
    SimLinkSide a{"sim0", {{0x02, 0, 0, 0, 0, 0x0a}}, nullptr, {}};
    SimLinkSide b{"sim1", {{0x02, 0, 0, 0, 0, 0x0b}}, nullptr, {}};
    std::uint32_t mtu = 1500;
    bool ethernet = true; // false: bare IP packets
    bool tso = true;      // takes super-segments
    bool gso = false;     // without tso: they are cut in software, above the link
    bool gro = false;     // received segments are joined, above the link
    bool split = false;   // cuts super-segments into frames before the impairments, as a network card would
    bool csum_offload =
        true; // takes Csum::partial, and receivers need not verify; false: sums are finished and unknown
    std::uint32_t held_frames_max = 4096; // per sending CPU, in the sender's pool: delayed, or waiting for the receiver
    // Empty packets that a receiving CPU keeps posted, of its pool: small ones, and with large buffers where frames
    // need them. Shared out among the sending CPUs, at least 32 and 4 for each.
    std::uint32_t posted_small = 1024;
    std::uint32_t posted_large = 128;
    std::uint64_t seed = 1;
    SimLinkWatch* watch = nullptr; // outlives the link
};

struct SimLinkCounters { // sums over the CPUs of a sending side; approximate while threads run
    std::uint64_t marked = 0;
    std::uint64_t lost = 0;
    std::uint64_t corrupted = 0;
    std::uint64_t duplicated = 0;
    std::uint64_t reordered = 0;
    std::uint64_t queue_full = 0; // by rate and queue_bytes_max
    std::uint64_t held_full = 0;  // by held_frames_max or the pool
};

struct SimWire;

struct SimLink {
    std::unique_ptr<netmsg::Netif> a;
    std::unique_ptr<netmsg::Netif> b;
    std::shared_ptr<SimWire> wire; // what the two have in common; lives as long as either of them

    // Impairments of what a side (0 = a, 1 = b) sends from now on. Only while its CPUs are stepped or stopped.
    void set(unsigned side, const Impairments& impairments);
    SimLinkCounters counters(unsigned side) const;
};

SimLink make_sim_link(const SimLinkOptions& options);

} // namespace drivers
