// Where an IPv6 destination goes (RFC 4861 5.2, RFC 4191 3.2): this host, the link, or the longest of configured
// routes, advertised prefixes and advertised routes, of which the default routers are the shortest; of routers one that
// gave us the source's prefix (RFC 8028), and in its stead whom it redirected to. Owner: the domain's CPU; configured
// routes are shared and constant.
#include <algorithm>
#include <tuple>

#include "protocols/dead_gateways.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/neighbor.hpp"
#include "protocols/path_mtu.hpp"

namespace protocols {

namespace {

RedirectEntry& redirect_slot(Domain& d, const base::IpAddr& destination, const base::IpAddr& router)
{
    base::IpAddr key[2] = {destination, router}; // its zone says which link
    return d.ipv6->redirects[base::siphash(d.table_key, key, sizeof key) % redirect_slots];
}

// Null: what goes there by this router is not redirected.
const RedirectEntry* find_redirect(Domain& d, const base::IpAddr& destination, const base::IpAddr& router)
{
    if (d.ipv6->redirect_count == 0) {
        return nullptr;
    }
    const RedirectEntry& r = redirect_slot(d, destination, router);
    return r.interface != 0 && r.destination == destination && r.router == router ? &r : nullptr;
}

// Of any router; null: nothing was redirected there.
const RedirectEntry* find_redirected_to(Domain& d, const base::IpAddr& destination, const base::IpAddr& next_hop)
{
    const auto& all = d.ipv6->redirects;
    const auto* at =
        d.ipv6->redirect_count == 0 ? all.end() : std::find_if(all.begin(), all.end(), [&](const RedirectEntry& r) {
            return r.interface != 0 && r.destination == destination && r.next_hop == next_hop;
        });
    return at == all.end() ? nullptr : at;
}

bool fill(Domain& d, const base::IpAddr& destination, Interface& out, const base::IpAddr& next_hop, Route& route)
{
    route.interface = &out;
    route.next_hop = next_hop;
    route.source = ipv6_source(d, out, destination, next_hop);
    route_set_mtu(d, destination, route);
    route.generation = d.route_generation;
    return !route.source.is_any();
}

Interface* of_index(Domain& d, std::uint32_t index)
{
    const auto& all = d.stack.interfaces();
    return index >= 1 && index <= all.size() ? all[index - 1].get() : nullptr;
}

// Groups leave by their zone's interface, those without a zone by the first link.
Interface* first_link(Domain& d)
{
    for (const auto& in : d.stack.interfaces()) {
        if (in->ipv6 && !in->netif->info().loopback) {
            return in.get();
        }
    }
    return nullptr;
}

// What decides between ways to one destination.
struct Choice {
    const Interface* by = nullptr; // only over this interface; null = over any
    base::IpAddr source;           // unspecified: it follows from the way
};

// RFC 4191 3.2: one that is not dead before the longest prefix, then who gave us the source's prefix (RFC 8028 3.2:
// others may drop what comes from it) before the preferred one; among equals one that works before one of which nothing
// is known (RFC 4861 6.3.6), then the first.
const AdvertisedRoute* choose_router(Domain& d, const base::IpAddr& destination, const Choice& c)
{
    using Rank = std::tuple<bool, std::uint8_t, bool, std::int8_t, bool>;
    const AdvertisedRoute* chosen = nullptr;
    Rank best;
    for (const AdvertisedRoute& r : d.ipv6->advertised) {
        bool admitted = r.until > d.now() && (c.by == nullptr || r.interface == c.by->index);
        if (!admitted || !r.destination.contains(destination)) {
            continue;
        }
        Rank rank{!gateway_dead(d, r.interface, r.addr), r.destination.length, ipv6_announced_by(d, c.source, r.addr),
            r.preference, neighbor_works(d, r.interface, r.addr)};
        if (chosen == nullptr || rank > best) {
            chosen = &r;
            best = rank;
        }
    }
    return chosen;
}

// True when there were such.
template <class Which>
bool forget_redirects(Domain& d, const Which& which)
{
    unsigned before = d.ipv6->redirect_count;
    for (RedirectEntry& r : d.ipv6->redirects) {
        if (r.interface != 0 && which(r)) {
            r = {};
            --d.ipv6->redirect_count;
        }
    }
    return d.ipv6->redirect_count != before;
}

// Those that the router said, and those that lead to it.
void forget_redirects_of(Domain& d, std::uint32_t interface, const base::IpAddr& router)
{
    forget_redirects(d, [&](const RedirectEntry& r) {
        return r.interface == interface && (r.router == router || r.next_hop == router);
    });
}

struct Way {
    int length = -1;  // of the prefix
    bool dead = true; // its gateway does not answer, or there is none
    Interface* out = nullptr;
    base::IpAddr next_hop;
};

Way longest(Domain& d, const base::IpAddr& destination, const Choice& c)
{
    Way way;
    if (const RouteEntry* e = choose_route(d, d.stack.routes6(), destination, c.by); e != nullptr) {
        bool dead = !e->gateway.is_any() && gateway_dead(d, e->interface->index, e->gateway);
        way = {e->destination.length, dead, e->interface, e->gateway.is_any() ? destination : e->gateway};
    }
    for (const OnLinkPrefix& p : d.ipv6->prefixes) {
        bool admitted = c.by == nullptr || p.interface == c.by->index;
        if (admitted && p.prefix.length > way.length && p.until > d.now() && p.prefix.contains(destination)) {
            way = {p.prefix.length, false, of_index(d, p.interface), destination};
        }
    }
    if (const AdvertisedRoute* r = choose_router(d, destination, c); r != nullptr) {
        bool dead = gateway_dead(d, r->interface, r->addr);
        int length = r->destination.length;
        // What is configured goes before what is advertised and as long, while its gateway lives.
        if (way.dead == dead ? length > way.length : way.dead && length >= way.length) {
            way = {length, dead, of_index(d, r->interface), r->addr};
        }
    }
    return way;
}

// The way there, and where the route has the source to choose, by a router that gave us that, of whatever interface the
// choice admits: what is asked again with that source, for a connection that has it, leads the same way.
bool follow(Domain& d, const base::IpAddr& destination, const Choice& c, Route& out)
{
    Way way = longest(d, destination, c);
    if (way.out == nullptr || !fill(d, destination, *way.out, way.next_hop, out)) {
        return false;
    }
    if (c.source.is_any() && !d.ipv6->announced.empty()) {
        way = longest(d, destination, {c.by, out.source});
    }
    if (way.out != out.interface) {
        out.interface = way.out;
        route_set_mtu(d, destination, out);
    }
    const RedirectEntry* r = find_redirect(d, destination, way.next_hop);
    out.next_hop = r != nullptr ? r->next_hop : way.next_hop;
    return true;
}

} // namespace

bool ipv6_route_lookup(Domain& d, const base::IpAddr& destination, Route& out, const base::IpAddr& source)
{
    if (ipv6_is_local(d, destination)) {
        Interface* lo = d.stack.loopback();
        if (lo == nullptr) {
            return false;
        }
        out = Route{lo, destination, destination, lo->netif->info().mtu, d.route_generation};
        return true;
    }
    if (destination == base::IpAddr::loopback_v6() || destination.is_any()) {
        return false;
    }
    if (destination.is_link_scoped() || destination.is_multicast_v6()) {
        bool choose = destination.zone() == 0 && destination.is_multicast_v6();
        Interface* link = choose ? first_link(d) : of_index(d, destination.zone());
        if (link == nullptr || !link->ipv6) {
            return false; // RFC 4007 6: without its zone a link-local address means nothing
        }
        return fill(d, destination.in_zone(link->index), *link, destination.in_zone(link->index), out);
    }
    return follow(d, destination, {nullptr, source}, out);
}

bool ipv6_route_by(Domain& d, const base::IpAddr& destination, Interface& by, Route& out, const base::IpAddr& source)
{
    base::IpAddr to = destination.on_wire().in_zone(by.index);
    if (!by.ipv6) {
        return false;
    }
    if (to.is_link_scoped() || to.is_multicast_v6()) {
        return fill(d, to, by, to, out);
    }
    return follow(d, to, {&by, source}, out); // RFC 5942 4: what nobody says to be on the link is not
}

// RFC 4861 8.1, RFC 8028 3.4: believed from the router that goes there for sockets that chose the interface, or for one
// of our addresses.
bool nd_redirect_believable(Domain& d, Interface& in, const base::IpAddr& from, const wire::NdMessage& m)
{
    base::IpAddr destination = m.destination.in_zone(in.index);
    bool on_link = m.target == m.destination;
    bool sane = on_link || m.target.is_link_local_v6();
    if (!sane || destination.is_link_scoped() || destination.is_any() || ipv6_is_local(d, destination)) {
        return false;
    }
    auto goes_by = [&](const base::IpAddr& source) { return longest(d, destination, {&in, source}).next_hop == from; };
    const auto& own = d.ipv6->addresses;
    return find_redirected_to(d, destination, from) != nullptr || goes_by({}) ||
           std::any_of(
               own.begin(), own.end(), [&](const Ipv6Address& a) { return a.usable(d.now()) && goes_by(a.addr); });
}

void ipv6_take_redirect(Domain& d, Interface& in, const base::IpAddr& from, const wire::NdMessage& m)
{
    base::IpAddr destination = m.destination;
    // One to whom it was redirected speaks of the way by the router that did it.
    const RedirectEntry* before = find_redirected_to(d, destination, from);
    RedirectEntry said{destination, m.target.in_zone(in.index), before != nullptr ? before->router : from, in.index};
    RedirectEntry& r = redirect_slot(d, destination, said.router);
    if (r.interface == 0) {
        ++d.ipv6->redirect_count;
    }
    if (r != said) {
        r = said;
        ++d.route_generation;
    }
}

void nd_router_lost(Domain& d, std::uint32_t interface, const base::IpAddr& address)
{
    ++d.route_generation;
    std::erase_if(
        d.ipv6->advertised, [&](const AdvertisedRoute& r) { return r.interface == interface && r.addr == address; });
    forget_redirects_of(d, interface, address);
}

void nd_route_changed(Domain& d, const base::Prefix& destination)
{
    ++d.route_generation;
    forget_redirects(d, [&](const RedirectEntry& r) { return destination.contains(r.destination); });
}

void nd_route_over(Domain& d, const AdvertisedRoute& route)
{
    AdvertisedRoute gone = route; // it may be the one in the list
    ++d.route_generation;
    std::erase_if(d.ipv6->advertised, [&](const AdvertisedRoute& r) {
        return r.interface == gone.interface && r.addr == gone.addr && r.destination == gone.destination;
    });
    forget_redirects_of(d, gone.interface, gone.addr);
}

void ipv6_next_hop_failed(Domain& d, std::uint32_t interface, const base::IpAddr& address)
{
    bool any =
        forget_redirects(d, [&](const RedirectEntry& r) { return r.interface == interface && r.next_hop == address; });
    d.route_generation += any ? 1 : 0;
}

} // namespace protocols
