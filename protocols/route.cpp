// Which interface, neighbour and source address a destination takes, for IPv4 here, and the path MTUs learned for
// destinations of both families. Owner: the domain's CPU.
#include <algorithm>
#include <cstring>

#include "base/plant.hpp"
#include "protocols/dead_gateways.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/path_mtu.hpp"
#include "protocols/stack.hpp"

namespace protocols {

namespace {

constexpr base::Micros pmtu_lifetime = base::seconds(600); // RFC 1191 6.3: ten minutes before a larger one is tried

PmtuEntry& pmtu_slot(Domain& d, const base::IpAddr& destination)
{
    std::uint64_t h = base::siphash(d.table_key, destination.bytes(), 16);
    return d.ipv4->pmtu[h % pmtu_slots];
}

// Null: nothing is known of the path.
const PmtuEntry* pmtu_find(Domain& d, const base::IpAddr& destination)
{
    if (d.ipv4->pmtu_entries == 0) {
        return nullptr;
    }
    const PmtuEntry& p = pmtu_slot(d, destination);
    return p.mtu != 0 && p.destination == destination ? &p : nullptr;
}

// Kept routes are decided again, so what follows may be longer.
void on_pmtu_timer(lwkt::Timer& timer)
{
    Domain& d = static_cast<PmtuTimer&>(timer).domain;
    base::Instant next = base::never;
    for (PmtuEntry& p : d.ipv4->pmtu) {
        if (p.mtu != 0 && p.expires <= d.now()) {
            p = {};
            --d.ipv4->pmtu_entries;
        } else if (p.mtu != 0) {
            next = std::min(next, p.expires);
        }
    }
    if (next != base::never) {
        d.wheel.arm(timer, next);
    }
    ++d.route_generation;
}

// What we send at most; the entry keeps what was said.
std::uint32_t in_force(const PmtuEntry& p)
{
    return std::max(p.mtu, p.destination.is_v4() ? pmtu_min : wire::ipv6_mtu_min);
}

// RFC 1122 3.3.6, RFC 1112 6.2: for the link, whatever route leads to it.
bool of_link_scope(const base::IpAddr& destination)
{
    return destination.is_multicast_v4() || destination == base::IpAddr::v4(limited_broadcast);
}

// What leaves from the address may be as long as all say who gave it to us.
std::uint32_t mtu_from(const Domain& d, const Interface& out, const base::IpAddr& source)
{
    std::uint32_t mtu = out.netif->info().mtu;
    for (const Ipv4Address& own : d.ipv4->addresses) {
        if (own.addr == source.v4() && own.interface == out.index && !own.tentative && own.mtu != 0) {
            mtu = std::min(mtu, own.mtu);
        }
    }
    return mtu;
}

bool fill(Domain& d, const base::IpAddr& destination, const RouteEntry& entry, Route& out)
{
    const base::IpAddr& towards = entry.gateway.is_any() ? destination : entry.gateway;
    out.interface = entry.interface;
    out.next_hop = of_link_scope(destination) ? destination : towards;
    out.source = interface_source(d, *entry.interface, towards);
    if (out.source.is_any()) {
        return false; // no address yet, or none any more
    }
    route_set_mtu(d, destination, out);
    out.generation = d.route_generation;
    return true;
}

// Limited broadcast and groups without a route leave by the first interface that has a link.
Interface* first_link(const Stack& s)
{
    for (const auto& interface : s.interfaces()) {
        if (!interface->netif->info().loopback) {
            return interface.get();
        }
    }
    return nullptr;
}

} // namespace

PmtuTimer::PmtuTimer(Domain& d) : lwkt::Timer(on_pmtu_timer), domain(d)
{
}

bool route_lookup(Domain& d, const base::IpAddr& destination, Route& out, const base::IpAddr& source)
{
    if (!destination.is_v4()) {
        return ipv6_route_lookup(d, destination, out, source);
    }
    const Stack& s = d.stack;
    if (ipv4_is_local(d, destination.v4())) {
        if (s.loopback() == nullptr) {
            return false;
        }
        out = Route{s.loopback(), destination, destination, s.loopback()->netif->info().mtu, d.route_generation};
        return true;
    }
    if (const RouteEntry* entry = choose_route(d, d.ipv4->routes, destination, nullptr); entry != nullptr) {
        return fill(d, destination, *entry, out);
    }
    Interface* link = of_link_scope(destination) ? first_link(s) : nullptr;
    if (link == nullptr) {
        return false;
    }
    return fill(d, destination, RouteEntry{{}, {}, link}, out);
}

bool route_lookup_by(
    Domain& d, const base::IpAddr& destination, std::uint32_t interface, Route& out, const base::IpAddr& source)
{
    const auto& all = d.stack.interfaces();
    if (interface > all.size()) {
        return false;
    }
    if (interface == 0 || is_local(d, destination)) {
        return route_lookup(d, destination, out, source);
    }
    if (!destination.is_v4()) {
        return ipv6_route_by(d, destination, *all[interface - 1], out, source);
    }
    Interface* by = all[interface - 1].get();
    const RouteEntry* entry = choose_route(d, d.ipv4->routes, destination, by);
    return fill(d, destination, entry != nullptr ? *entry : RouteEntry{{}, {}, by}, out);
}

bool route_renew(Domain& d, const base::IpAddr& source, const base::IpAddr& destination, Route& kept)
{
    Route fresh;
    bool ours = is_local(d, source) || base::planted(base::Plant::gone_address_used);
    if (!route_lookup(d, destination, fresh, source) || !ours) {
        return false;
    }
    // Also where the table had no room to remember it: a path is not wider for that.
    bool same_way = fresh.interface == kept.interface && fresh.next_hop == kept.next_hop;
    if (same_way && kept.narrow_until > d.now() && kept.mtu < fresh.mtu) {
        fresh.mtu = kept.mtu;
        fresh.narrow_until = kept.narrow_until;
    }
    kept = fresh;
    return true;
}

std::uint32_t route_device_mtu(const Domain& d, const Route& route)
{
    const Interface& out = *route.interface;
    std::uint32_t mtu = out.netif->info().mtu;
    if (out.netif->info().loopback) {
        return mtu;
    }
    if (route.next_hop.is_v4()) {
        return mtu_from(d, out, route.source);
    }
    std::uint32_t said = d.ipv6->link(out.index).mtu;
    return said != 0 ? std::min(mtu, said) : mtu;
}

std::uint32_t pmtu_lookup(Domain& d, const base::IpAddr& destination, std::uint32_t mtu)
{
    const PmtuEntry* p = pmtu_find(d, destination);
    return p != nullptr ? std::min(mtu, in_force(*p)) : mtu;
}

void route_set_mtu(Domain& d, const base::IpAddr& destination, Route& r)
{
    std::uint32_t device = route_device_mtu(d, r);
    r.mtu = pmtu_lookup(d, destination, device);
    r.narrow_until = r.mtu < device ? pmtu_find(d, destination)->expires : base::Instant{};
}

bool path_cuts(Domain& d, const base::IpAddr& destination)
{
    const PmtuEntry* p = destination.is_v4() ? pmtu_find(d, destination) : nullptr;
    return p != nullptr && p->mtu < pmtu_min;
}

std::uint32_t pmtu_learn(Domain& d, const base::IpAddr& destination, std::uint32_t mtu)
{
    base::assert_on(d.cpu.owner());
    const PmtuEntry* known = pmtu_find(d, destination);
    if (known != nullptr && known->mtu <= mtu) {
        return in_force(*known); // errors only lower it (RFC 1191 3)
    }
    std::uint32_t before = known != nullptr ? in_force(*known) : 0;
    PmtuEntry& p = pmtu_slot(d, destination);
    if (p.mtu == 0) {
        ++d.ipv4->pmtu_entries;
    }
    p = PmtuEntry{destination, std::max(mtu, 1U), d.now() + pmtu_lifetime};
    if (!d.ipv4->pmtu_timer.armed()) {
        d.wheel.arm(d.ipv4->pmtu_timer, p.expires);
    }
    if (in_force(p) != before) {
        ++d.route_generation; // RFC 1191 6.5: all connections of the path hear of it
    }
    count(d.counters.pmtu_learned);
    return in_force(p);
}

} // namespace protocols
