// The wire between two embedded stacks: a simulated link, without impairments unless asked for.
#pragma once

#include <string>

#include "drivers/sim_link.hpp"
#include "embed/stack.hpp"

namespace embed {

// Before either stack starts; both in the same simulation or both with threads. Addresses as "10.0.0.1/24". Frames
// arrive on the CPU that owns their flow. `link` keeps the wire's controls (impairments, counters). False with `error`.
bool join(Stack& a, const std::string& a_address, Stack& b, const std::string& b_address,
    drivers::SimLinkOptions options, drivers::SimLink& link, std::string& error);

} // namespace embed
