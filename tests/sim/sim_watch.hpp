// What looks at the frames of one wire as they leave a stack and reach the other: congestion marks, that nothing leaves
// from an address that its host does not have at that moment, no segment without need, and what is paced at its pace.
// One OS thread.
#pragma once

#include <cstdint>

#include "drivers/sim_link.hpp"
#include "tests/sim/sim_marks.hpp"

namespace sim {

struct Node;

struct LinkWatch final : drivers::SimLinkWatch {
    void sent(unsigned side, const netmsg::Packet& frame) override;
    void taken(unsigned side, const netmsg::Packet& frame) override;

    World* world = nullptr;
    Node* node[2] = {};
    std::uint32_t interface[2] = {};
    std::uint32_t link_header = 0;
    bool marks = false;
    bool off[2] = {}; // ECN
};

} // namespace sim
