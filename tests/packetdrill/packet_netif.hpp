// An interface without a link: what the stack transmits is kept as bare IP packets with the time it left, what the tool
// injects is received. Nothing is offloaded, so what leaves is as it would be on a wire.
//
// Threads: transmit and the poller on CPU 0, which must be the only one; inject and take on any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

#include "netmsg/netif.hpp"

namespace packetdrill {

using Bytes = std::vector<std::byte>;

struct Emitted {
    Bytes packet;
    std::int64_t time_us = 0; // on the clock given
};

class PacketNetif final : public netmsg::Netif {
public:
    PacketNetif(std::uint32_t mtu, std::function<std::int64_t()> clock_us);
    ~PacketNetif() override;

    bool attach(
        lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error) override;
    void detach() override;
    void transmit(netmsg::Packet& p) override;
    std::string describe() const override { return "packets by hand"; }

    void inject(const void* packet, std::size_t bytes);
    // The packet that left first; false when none has within `patience` of real time.
    bool take(Emitted& out, std::chrono::milliseconds patience);

private:
    struct Queue;
    std::function<std::int64_t()> clock_us_; // c
    std::unique_ptr<Queue> queue_;
    std::mutex mutex_;
    std::condition_variable emitted_;
    std::deque<Emitted> out_; // under mutex_
    std::deque<Bytes> in_;    // under mutex_
};

} // namespace packetdrill
