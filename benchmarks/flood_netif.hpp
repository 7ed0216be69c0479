// A network card that offers packets at a given rate, whatever the stack does with them: how many have arrived is
// computed from the clock when a CPU polls its queue, and what the queue has no room for is lost as a card loses it,
// without costing the CPU anything. Every CPU has a queue with frames whose flow it owns (receive-side scaling). Bare
// IP. What the stack sends is counted and dropped, but a SYN is answered, so that the flood may belong to a connection.
//
// Threads: queue i is CPU i's alone; offer() and the counts: any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "netmsg/netif.hpp"
#include "netmsg/steering.hpp"

namespace bench {

// What floods in, in equal parts of the kinds that are chosen.
enum FloodKind : unsigned {
    flood_udp_unread = 1,    // to a socket that nobody reads
    flood_udp_closed = 2,    // to a port without a socket
    flood_syn = 4,           // from more places than the SYN cache holds: cookies
    flood_no_connection = 8, // segments of no connection
    flood_established = 16,  // data that a connection had already; needs one per CPU, see FloodNetif::connected
    flood_mixed = 31,
    flood_udp_read = 32, // to a socket that is read
};

inline constexpr std::uint16_t flood_unread_port = 6001;
inline constexpr std::uint16_t flood_closed_port = 6002;
inline constexpr std::uint16_t flood_listen_port = 6003;
inline constexpr std::uint16_t flood_read_port = 6004;
inline constexpr std::uint16_t flood_peer_port = 6005; // of the peer that answers a SYN

inline const base::IpAddr flood_local = base::IpAddr::v4(0x0a090001); // 10.9.0.1/16
inline const base::IpAddr flood_peer = base::IpAddr::v4(0x0a090002);

class FloodNetif final : public netmsg::Netif {
public:
    explicit FloodNetif(const netmsg::Steering& steering);
    ~FloodNetif() override;

    bool attach(
        lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error) override;
    void detach() override;
    void transmit(netmsg::Packet& p) override;
    std::string describe() const override { return "flood"; }

    // From now on packets of these kinds arrive at each queue at this rate; 0 = none.
    void offer(unsigned kinds, double packets_per_s_and_cpu);
    std::uint64_t lost() const; // for want of room in a queue
    std::uint64_t taken() const;
    bool connected(base::CpuId cpu) const; // a SYN of that CPU has been answered

private:
    struct Queue;
    const netmsg::Steering& steering_; // c
    lwkt::CpuSet* set_ = nullptr;      // c after attach
    std::unique_ptr<Queue[]> queues_;  // element i: owner = CPU i
};

} // namespace bench
