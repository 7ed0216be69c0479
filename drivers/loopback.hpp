// The loopback interface: what is transmitted on a CPU is received on the same CPU by its next poll, never inside the
// transmit call, so input does not nest. Checksums are not computed (Csum::valid on receive) unless asked for.
//
// Threads: queue i is CPU i's alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "netmsg/netif.hpp"

namespace drivers {

struct LoopbackOptions {
    std::string name = "lo";
    std::uint32_t mtu = 65535;
    std::uint32_t queue_packets_max = 4096; // per CPU; more is dropped and counted
    bool checksums = false;                 // computed and verified, as on a plain wire: for comparisons
    bool super_segments = true;             // TCP segments of up to 64 KiB whatever the MTU; else
    bool gso = true;                        // they are cut in front of this wire, instead of made one by one,
    bool gro = true;                        // and joined behind it
};

class Loopback final : public netmsg::Netif {
public:
    explicit Loopback(const LoopbackOptions& options = {});
    ~Loopback() override;

    bool attach(
        lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error) override;
    void detach() override;
    void transmit(netmsg::Packet& p) override;
    std::string describe() const override;

private:
    struct Queue;
    std::uint32_t queue_packets_max_; // c
    netmsg::Csum received_;           // c: what is said of the checksums of received packets
    lwkt::CpuSet* set_ = nullptr;     // c after attach
    std::unique_ptr<Queue[]> queues_; // element i: owner = CPU i
};

} // namespace drivers
