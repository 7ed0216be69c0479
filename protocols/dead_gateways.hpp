// Gateways that do not answer, and which route is taken because of that (RFC 1122 3.3.1.2, 3.3.1.4; RFC 4861 6.3.6).
// The neighbour table says who fell silent and who is back; while one is dead it is asked again with growing distance.
// Every CPU finds out for itself. DeadGateways: owner = its domain's CPU; everything o.
#pragma once

#include <cstdint>
#include <list>
#include <vector>

#include "base/net_addr.hpp"
#include "lwkt/timer_wheel.hpp"
#include "protocols/stack.hpp"

namespace protocols {

struct DeadGateway : lwkt::Timer {
    DeadGateway(Domain& d, std::uint32_t on, const base::IpAddr& a);

    Domain& domain; // c
    std::uint32_t interface;
    base::IpAddr address;
    base::Micros wait; // before it is asked the next time
};

struct alignas(base::apart) DeadGateways {
    std::list<DeadGateway> list; // empty but for trouble; at most one for each gateway of a route
};

// A neighbour does not answer. If it is a gateway, kept routes are decided again.
void gateway_failed(Domain& d, std::uint32_t interface, const base::IpAddr& address);
// A neighbour is known: if it was a dead gateway, the routes go back to it.
void gateway_answered(Domain& d, std::uint32_t interface, const base::IpAddr& address);
bool gateway_dead(const Domain& d, std::uint32_t interface, const base::IpAddr& address);

// Of the routes (longest prefix first) with the longest prefix the first whose gateway is not dead; the first of all
// when every one is. `by`: only over this interface; null = over any. Null: no route.
const RouteEntry* choose_route(
    const Domain& d, const std::vector<RouteEntry>& routes, const base::IpAddr& destination, const Interface* by);

} // namespace protocols
