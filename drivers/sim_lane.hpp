// One sending CPU to one receiving CPU of the wire between two stacks, as a network card would do it: the receiver
// posts empty packets of its own pool, the sender fills them ("DMA") and hands them back. So bytes are copied once and
// memory never leaves its stack. The sides are p (sender) and q (receiver); each runs on one CPU. Where shards send,
// all of them share a lane and take its lock for the copy, as drivers take the lock of a transmit queue.
//
// Invariant: posted + filled + what the two sides hold in a call <= slots, so `filled` never overflows.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "lwkt/cpu.hpp"
#include "lwkt/ipiq.hpp"
#include "lwkt/shard_lock.hpp"
#include "netmsg/packet_pool.hpp"

namespace drivers {

class SimLane {
public:
    static constexpr std::uint32_t small_frame_max = netmsg::packet_buffer_bytes - netmsg::packet_headroom;

    // `small` and `large` are how many empty packets without and with a large buffer the receiver keeps posted; `large`
    // may be 0. `shared`: by all senders.
    SimLane(std::uint32_t small, std::uint32_t large, bool shared);

    // Sender. Copies the packet over; false when no posted packet is left that holds it.
    bool send(const netmsg::Packet& p, netmsg::Csum csum);
    // Sender, once per batch: makes what was sent visible to a receiver that is about to sleep, and wakes one that is.
    void publish(lwkt::Cpu& receiver);

    // Receiver. The next filled packet, or null.
    netmsg::Packet* receive();
    // Receiver: posts empty packets as far as the pool has any. False when it has not.
    bool refill(netmsg::PacketPool& pool);
    // Receiver, after it stored its sleep word.
    bool pending() const;
    // Receiver, when the sender is known to be gone: frees what is posted and filled.
    void drain();

private:
    bool send_locked(const netmsg::Packet& p, netmsg::Csum csum);

    bool shared_;                                     // c: many senders
    lwkt::SpinLock senders_;                          // held by the sender, when shared
    lwkt::Ipiq<netmsg::Packet*> posted_small_;        // q produces
    lwkt::Ipiq<netmsg::Packet*> posted_large_;        // q produces
    lwkt::Ipiq<netmsg::Packet*> filled_;              // p produces
    alignas(base::apart) std::uint32_t sent_ = 0;     // p
    std::atomic<std::uint32_t> published_{0};         // p: seq_cst, the sent_ that q must see before it sleeps
    alignas(base::apart) std::uint32_t received_ = 0; // q
    std::uint32_t missing_small_;                     // q: not posted, to be refilled
    std::uint32_t missing_large_;                     // q
};

} // namespace drivers
