// Wraps any interface and spoils what passes: drops, flips a bit, doubles; on the way in and on the way out, by seed.
// For devices that reach the real world; between two stacks of one process sim_link does more.
//
// Threads: those of the wrapped interface; each CPU draws from a sequence of its own.
#pragma once

#include <memory>

#include "base/random.hpp"
#include "netmsg/netif.hpp"

namespace drivers {

struct Faults { // probabilities per packet
    double drop = 0;
    double corrupt = 0; // received packets lose Csum::valid; transmitted ones have their checksum
                        // finished first; super-segments leave as they are, the device would mend their checksums
    double duplicate = 0;
};

struct WrapFaultOptions {
    Faults in;
    Faults out;
    std::uint64_t seed = 1;
};

class WrapFault final : public netmsg::Netif {
public:
    WrapFault(std::unique_ptr<netmsg::Netif> inner, const WrapFaultOptions& options);
    ~WrapFault() override;

    bool attach(
        lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error) override;
    void detach() override;
    void transmit(netmsg::Packet& p) override;
    std::string describe() const override;

private:
    struct alignas(base::apart) PerCpu {
        base::Random random{0};
    };
    static void on_input(void* context, netmsg::Packet& p);
    netmsg::Packet* spoil(netmsg::Packet& p, const Faults& faults, netmsg::Packet*& twin);

    std::unique_ptr<netmsg::Netif> inner_; // c
    WrapFaultOptions options_;             // c
    netmsg::PacketPool* pool_ = nullptr;   // c after attach
    netmsg::InputFn input_ = nullptr;      // c after attach
    void* context_ = nullptr;              // c after attach
    std::unique_ptr<PerCpu[]> per_cpu_;    // element i: owner = CPU i
};

} // namespace drivers
