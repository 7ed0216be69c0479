// What a DHCP lease means here: which of its parameters are believed, and the address and routes that it puts in force
// on every CPU. Owner: the domain's CPU.
#include <algorithm>
#include <bit>
#include <iterator>

#include "protocols/dhcp/dhcp_client.hpp"

namespace protocols {

namespace {

constexpr std::uint32_t mtu_min = 576; // less than every host takes (RFC 791) is no help but an attack

// From the mask, or without a sane one from the address's class (RFC 1122 3.2.1.3).
std::uint8_t prefix_length(const wire::DhcpMessage& m)
{
    auto ones = static_cast<std::uint8_t>(std::countl_one(m.mask));
    bool contiguous = ones == 32 || m.mask << ones == 0;
    if (ones != 0 && contiguous) {
        return ones;
    }
    return m.yours >> 31 == 0 ? 8 : m.yours >> 30 == 2 ? 16 : 24;
}

// A host's address (RFC 1122 3.2.1.3), and neither the network's nor its broadcast address.
bool is_host(std::uint32_t address, std::uint8_t length)
{
    std::uint32_t first = address >> 24;
    std::uint32_t host = length == 32 ? 0 : ~std::uint32_t{0} >> length;
    bool special = length < 31 && ((address & host) == 0 || (address & host) == host);
    return first != 0 && first != 127 && first < 224 && !special;
}

void change(DhcpClient& c, const Ipv4Change& what)
{
    bool in_order = c.untold.empty(); // nothing overtakes what has to be said again
    if (!in_order || !ipv4_change(c.domain, what)) {
        c.untold.push_back(what);
        c.domain.wheel.arm(c.retell, c.domain.now() + base::millis(in_order ? 100 : 0));
    }
}

bool has(const std::vector<RouteEntry>& routes, const RouteEntry& r)
{
    return std::find(routes.begin(), routes.end(), r) != routes.end();
}

// Whether what stays comes first in `fresh` as it came before: then what is new goes behind it as it is.
bool same_order(const std::vector<RouteEntry>& before, const std::vector<RouteEntry>& fresh)
{
    std::vector<RouteEntry> stay;
    std::copy_if(
        before.begin(), before.end(), std::back_inserter(stay), [&](const RouteEntry& r) { return has(fresh, r); });
    return std::equal(stay.begin(), stay.end(), fresh.begin());
}

// RFC 3442: what these say goes before the routers. A router is on the lease's network, or on one that they themselves
// say to be on the link.
std::vector<RouteEntry> classless_routes(const DhcpClient& c, const wire::DhcpMessage& m, const Ipv4Address& own)
{
    auto covers = [](const wire::DhcpRoute& r, std::uint32_t address) {
        return r.length == 0 || (r.destination ^ address) >> (32 - r.length) == 0;
    };
    const wire::DhcpRoutes& all = m.routes;
    auto on_link = [&](std::uint32_t router) {
        return own.on_network(router) || std::any_of(all.at, all.at + all.count, [&](const wire::DhcpRoute& r) {
            return r.router == 0 && covers(r, router);
        });
    };
    std::vector<RouteEntry> routes;
    for (unsigned i = 0; i < all.count; ++i) {
        const wire::DhcpRoute& r = all.at[i];
        std::uint32_t first = r.destination >> 24;
        bool somewhere = first != 127 && first < 224 && (r.length == 0 || first != 0);
        bool by_router =
            r.router != m.yours && is_host(r.router, own.on_network(r.router) ? own.length : 32) && on_link(r.router);
        base::IpAddr gateway = r.router == 0 ? base::IpAddr{} : base::IpAddr::v4(r.router);
        RouteEntry entry{{base::IpAddr::v4(r.destination), r.length}, gateway, &c.in, Origin::lease};
        if (somewhere && (r.router == 0 || by_router) && !has(routes, entry)) {
            routes.push_back(entry);
        }
    }
    return routes;
}

std::vector<RouteEntry> default_routes(const DhcpClient& c, const wire::DhcpMessage& m, const Ipv4Address& own)
{
    std::vector<RouteEntry> routes;
    for (unsigned i = 0; i < m.routers.count; ++i) {
        std::uint32_t router = m.routers.at[i];
        RouteEntry r{{base::IpAddr::any_v4(), 0}, base::IpAddr::v4(router), &c.in, Origin::lease};
        if (own.on_network(router) && router != m.yours && is_host(router, own.length) && !has(routes, r)) {
            routes.push_back(r);
        }
    }
    return routes;
}

} // namespace

bool dhcp_acceptable(const wire::DhcpMessage& m)
{
    return m.lease_s != 0 && m.server != 0 && is_host(m.yours, prefix_length(m));
}

DhcpLease dhcp_lease(const DhcpClient& c, const wire::DhcpMessage& m)
{
    DhcpLease l;
    l.own = ipv4_address(c.in, m.yours, prefix_length(m));
    l.own.origin = Origin::lease;
    if (m.broadcast_address != m.yours && l.own.on_network(m.broadcast_address) && l.own.broadcast != 0) {
        l.own.broadcast = m.broadcast_address;
    }
    std::uint32_t device = c.in.netif->info().mtu;
    l.own.mtu = m.mtu >= mtu_min && m.mtu < device ? m.mtu : 0;
    l.server = m.server;
    l.dns = m.dns;
    l.routes = m.routes.given ? classless_routes(c, m, l.own) : default_routes(c, m, l.own);
    if (m.lease_s == wire::dhcp_forever) {
        return l;
    }
    // RFC 2131 4.4.5: half and seven eighths of the lease unless the server has other times, in order.
    base::Micros lease = base::seconds(m.lease_s);
    base::Micros rebind = m.rebind_s != 0 && m.rebind_s < m.lease_s ? base::seconds(m.rebind_s) : lease * 7 / 8;
    base::Micros renew = base::seconds(m.renew_s);
    renew = m.renew_s != 0 && renew < rebind ? renew : std::min(lease / 2, rebind);
    l.renew_at = c.asked_at + renew;
    l.rebind_at = c.asked_at + rebind;
    l.ends_at = c.asked_at + lease;
    return l;
}

void dhcp_try(DhcpClient& c, DhcpLease fresh)
{
    c.lease = std::move(fresh);
    c.lease.own.tentative = true;
    change(c, {Ipv4Change::Kind::set_address, c.lease.own, {}});
}

void dhcp_apply(DhcpClient& c, DhcpLease fresh)
{
    fresh.own.tentative = false;
    std::vector<RouteEntry> before; // in force
    if (!c.lease.own.tentative) {
        before = c.lease.routes;
    }
    change(c, {Ipv4Change::Kind::set_address, fresh.own, {}});
    bool in_order = same_order(before, fresh.routes);
    for (const RouteEntry& r : fresh.routes) {
        if (!in_order) { // it goes behind the others, one after the other
            change(c, {Ipv4Change::Kind::remove_route, {}, r});
        }
        change(c, {Ipv4Change::Kind::add_route, {}, r});
    }
    for (const RouteEntry& r : before) {
        if (!has(fresh.routes, r)) {
            change(c, {Ipv4Change::Kind::remove_route, {}, r});
        }
    }
    c.lease = std::move(fresh);
}

void dhcp_drop(DhcpClient& c)
{
    if (c.lease.own.addr == 0) {
        return;
    }
    for (const RouteEntry& r : c.lease.routes) {
        change(c, {Ipv4Change::Kind::remove_route, {}, r});
    }
    change(c, {Ipv4Change::Kind::remove_address, c.lease.own, {}});
    c.lease = {};
}

} // namespace protocols
