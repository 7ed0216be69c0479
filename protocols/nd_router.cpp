// What routers say (RFC 4861 6.3.4, 8.3; RFC 4191), applied on every CPU to its own copy: default routers, routes,
// prefixes, addresses, the link's parameters, redirects. Owner: the domain's CPU.
#include <algorithm>

#include "protocols/ipv6.hpp"
#include "protocols/neighbor.hpp"

namespace protocols {

namespace {

constexpr std::uint32_t reachable_most_ms = 3'600'000; // RFC 4861 6.2.1
constexpr std::uint32_t retransmit_least_ms = 100;     // an advertisement must not make us flood the link,
constexpr std::uint32_t retransmit_most_ms = 60'000;   // nor stop asking: RFC 7048 4, MAX_RETRANS_TIMER

// The link-layer address, where the message says it, and that it is a router's (RFC 4861 6.3.4, 8.3).
void learn_mac(Domain& d, const Interface& in, const base::IpAddr& address, const wire::NdMessage& m, bool router)
{
    NeighborNews news;
    news.interface = in.index;
    news.address = address;
    news.has_mac = m.mac.has_value();
    news.mac = m.mac.value_or(base::MacAddr{});
    news.create = true;
    news.confirmed = false;
    news.says_router = router; // a redirect to a host says nothing about routers
    news.router = router;
    neighbor_take(d, news); // every CPU hears the message itself
}

bool is_default(const base::Prefix& p)
{
    return p.length == 0;
}

// RFC 4191 3.1: a route is known by its prefix and its router.
void take_route(Domain& d, const Interface& in, const base::IpAddr& from, const wire::NdRoute& said)
{
    auto& list = d.ipv6->advertised;
    auto at = std::find_if(list.begin(), list.end(), [&](const AdvertisedRoute& r) {
        return r.addr == from && r.interface == in.index && r.destination == said.destination;
    });
    if (said.life_s == 0) {
        if (at != list.end()) {
            nd_route_over(d, *at); // RFC 4861 6.3.5: what went through it finds another way
        }
        return;
    }
    base::Instant until = said.life_s == wire::nd_forever ? base::never : d.now() + base::seconds(said.life_s);
    ipv6_turns_at(d, until);
    if (at != list.end()) {
        bool changed = at->until <= d.now() || at->preference != said.preference;
        at->until = until;
        at->preference = said.preference;
        return changed ? nd_route_changed(d, said.destination) : void();
    }
    std::erase_if(list, [&](const AdvertisedRoute& r) { return r.until <= d.now(); });
    bool fallback = is_default(said.destination);
    auto alike = std::count_if(
        list.begin(), list.end(), [&](const AdvertisedRoute& r) { return is_default(r.destination) == fallback; });
    if (alike >= (fallback ? routers_max : advertised_routes_max)) {
        return count(d.counters.nd_prefixes_refused);
    }
    list.push_back({from, in.index, until, said.destination, said.preference});
    nd_route_changed(d, said.destination);
}

void take_routes(Domain& d, const Interface& in, const base::IpAddr& from, const wire::NdMessage& m)
{
    wire::NdRoute fallback{{}, m.preference, m.router_life_s};
    for (unsigned i = 0; i < m.route_count; ++i) {
        if (is_default(m.routes[i].destination)) {
            fallback = m.routes[i]; // RFC 4191 3.1: goes before the header
        } else {
            take_route(d, in, from, m.routes[i]);
        }
    }
    take_route(d, in, from, fallback);
}

void take_parameters(Domain& d, const Interface& in, const wire::NdMessage& m)
{
    Ipv6Link& link = d.ipv6->link(in.index);
    link.router_seen |= m.router_life_s != 0; // RFC 4861 6.3.7: one that is no router ends no search
    link.hop_limit = m.hop_limit != 0 ? m.hop_limit : link.hop_limit;
    if (m.reachable_ms != 0 && m.reachable_ms <= reachable_most_ms) {
        link.reachable = base::millis(m.reachable_ms);
    }
    if (m.retransmit_ms != 0 && m.retransmit_ms <= retransmit_most_ms) {
        link.retransmit = base::millis(std::max(m.retransmit_ms, retransmit_least_ms));
    }
    bool sane = m.mtu >= wire::ipv6_mtu_min && m.mtu <= in.netif->info().mtu; // RFC 4861 6.3.4
    if (sane && m.mtu != link.mtu) {
        link.mtu = m.mtu;
        ++d.route_generation;
    }
}

void take_advertisement(Domain& d, const Interface& in, const base::IpAddr& from, const wire::NdMessage& m)
{
    if (!in.slaac) {
        return; // the administrator configures this interface
    }
    take_routes(d, in, from, m);
    take_parameters(d, in, m);
    learn_mac(d, in, from, m, true);
    for (unsigned i = 0; i < m.prefix_count; ++i) {
        ipv6_take_prefix(d, in, from, m.prefixes[i]);
    }
}

} // namespace

void nd_router_message(Domain& d, Interface& in, const base::IpAddr& from, const wire::NdMessage& m)
{
    base::assert_on(d.cpu.owner());
    if (m.type == wire::nd_router_advertisement) {
        return take_advertisement(d, in, from, m);
    }
    ipv6_take_redirect(d, in, from, m);
    learn_mac(d, in, m.target.in_zone(in.index), m, m.target != m.destination);
}

} // namespace protocols
