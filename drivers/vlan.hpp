// A VLAN of an Ethernet interface (IEEE 802.1Q): what is sent gets the tag and leaves by the parent; what the parent
// receives with the tag the stack hands to this interface (protocols/netif_input.cpp), which has no queue of its own.
// MAC address, offloads and, unless told otherwise, MTU are the parent's.
//
// Threads: those of the parent, which outlives this.
#pragma once

#include <string>

#include "netmsg/netif.hpp"

namespace drivers {

struct VlanOptions {
    std::string name;
    std::uint16_t id = 1;  // 1 to 4094
    std::uint32_t mtu = 0; // 0 = the parent's
};

class Vlan final : public netmsg::Netif {
public:
    Vlan(netmsg::Netif& parent, const VlanOptions& options);

    bool attach(
        lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error) override;
    void detach() override {}
    void transmit(netmsg::Packet& p) override;
    std::string describe() const override;

private:
    netmsg::Netif& parent_; // c
};

} // namespace drivers
