// What path MTU discovery does about paths that take less than it believes (RFC 1191 3); the rest is in stack.hpp and
// route.cpp. Owner: the domain's CPU.
#pragma once

#include <cstdint>

#include "protocols/stack.hpp"

namespace protocols {

// Over IPv4, as Linux (min_pmtu): a forged error must not make us send confetti.
inline constexpr std::uint32_t pmtu_min = 552;

// The route's MTU: what its interface takes, or less if path MTU discovery learned so.
void route_set_mtu(Domain& d, const base::IpAddr& destination, Route& r);

// A router of the path takes less than pmtu_min: what is sent without DF gets there in fragments, with it nothing does.
bool path_cuts(Domain& d, const base::IpAddr& destination);

} // namespace protocols
