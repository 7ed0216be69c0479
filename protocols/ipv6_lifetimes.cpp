// What of a CPU's IPv6 state begins or ceases to hold by the clock: addresses, prefixes, routes of routers. Look-ups
// compare with the clock themselves; kept routes are told here, by one timer, which may also fire for what was
// prolonged since. Owner: the domain's CPU.
#include <algorithm>

#include "protocols/ipv6.hpp"

namespace protocols {

namespace {

// RFC 4861 6.3.5: what a router said goes with it.
void drop_routes(Domain& d)
{
    auto over = [&](const AdvertisedRoute& r) { return r.until <= d.now(); };
    auto& list = d.ipv6->advertised;
    for (auto at = std::find_if(list.begin(), list.end(), over); at != list.end();
         at = std::find_if(list.begin(), list.end(), over)) {
        nd_route_over(d, *at);
    }
}

void on_timer(lwkt::Timer& t)
{
    Domain& d = static_cast<Ipv6Turn&>(t).domain;
    ++d.route_generation;
    drop_routes(d);
    for (const Ipv6Address& a : d.ipv6->addresses) {
        if (!a.duplicate) {
            ipv6_turns_at(d, a.usable_at);
            ipv6_turns_at(d, a.preferred_until); // another is preferred then (RFC 6724 5, rule 3)
            ipv6_turns_at(d, a.valid_until);
        }
    }
    for (const OnLinkPrefix& p : d.ipv6->prefixes) {
        ipv6_turns_at(d, p.until);
    }
    for (const AdvertisedRoute& r : d.ipv6->advertised) {
        ipv6_turns_at(d, r.until);
    }
    for (const AnnouncedPrefix& p : d.ipv6->announced) {
        ipv6_turns_at(d, p.until);
    }
}

} // namespace

Ipv6Turn::Ipv6Turn(Domain& d) : lwkt::Timer(on_timer), domain(d)
{
}

void ipv6_turns_at(Domain& d, base::Instant at)
{
    Ipv6Turn& turn = d.ipv6->turn;
    if (at > d.now() && at != base::never && (!turn.armed() || at < turn.deadline())) {
        d.wheel.arm(turn, at);
    }
}

} // namespace protocols
