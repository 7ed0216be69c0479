// The IPv4 addresses of this host and its routes as one CPU has them, and how changes reach every CPU: each gets a copy
// of what changed and applies it, and says nothing back. Owner: the domain's CPU.
#include <algorithm>
#include <cstring>

#include "base/plant.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"

namespace protocols {

namespace {

constexpr std::uint8_t broadcast_length_max = 30; // RFC 3021: two hosts on a /31, and no broadcast

Ipv4Address* find(Domain& d, const Ipv4Address& a)
{
    auto& all = d.ipv4->addresses;
    auto at = std::find_if(all.begin(), all.end(), [&](const Ipv4Address& own) {
        return own.addr == a.addr && own.interface == a.interface && own.origin == a.origin;
    });
    return at == all.end() ? nullptr : &*at;
}

RouteEntry connected(Domain& d, const Ipv4Address& a)
{
    std::uint32_t mask = a.length == 0 ? 0 : ~std::uint32_t{0} << (32 - a.length);
    return {{base::IpAddr::v4(a.addr & mask), a.length}, base::IpAddr{}, &d.stack.interface(a.interface),
        Origin::connected};
}

void remove_route_here(Domain& d, const RouteEntry& r)
{
    if (std::erase(d.ipv4->routes, r) != 0) {
        ++d.route_generation;
    }
}

// The address goes, and the network unless another address of the interface is in it.
void remove_address_here(Domain& d, const Ipv4Address& a)
{
    Ipv4Address* own = find(d, a);
    if (own == nullptr) {
        return;
    }
    Ipv4Address gone = *own;
    std::erase(d.ipv4->addresses, gone);
    ++d.route_generation;
    auto keeps = [&](const Ipv4Address& other) {
        return other.interface == gone.interface && !other.tentative && connected(d, other) == connected(d, gone);
    };
    if (std::none_of(d.ipv4->addresses.begin(), d.ipv4->addresses.end(), keeps)) {
        remove_route_here(d, connected(d, gone));
    }
}

void add_route_here(Domain& d, const RouteEntry& r)
{
    auto& routes = d.ipv4->routes;
    if (std::find(routes.begin(), routes.end(), r) == routes.end()) {
        insert_route(routes, r);
        ++d.route_generation;
    }
}

void set_address_here(Domain& d, const Ipv4Address& a)
{
    Ipv4Address* own = find(d, a);
    if (own != nullptr && *own == a) {
        return;
    }
    if (own != nullptr && own->length != a.length) { // another network
        remove_address_here(d, a);
        own = nullptr;
    }
    if (own != nullptr) {
        *own = a;
    } else {
        d.ipv4->addresses.push_back(a);
    }
    ++d.route_generation;
    // The loopback's are reached by is_local(), not by routes.
    if (!a.tentative && !d.stack.interface(a.interface).netif->info().loopback) {
        add_route_here(d, connected(d, a));
    }
}

void change_dispatch(lwkt::Message& m)
{
    Domain& d = forwarded_domain(m);
    auto& p = static_cast<netmsg::Packet&>(m);
    Ipv4Change c;
    std::memcpy(static_cast<void*>(&c), p.data, sizeof c);
    p.free();
    ipv4_change_here(d, c);
}

} // namespace

bool ipv4_is_local(const Domain& d, std::uint32_t address)
{
    for (const Ipv4Address& own : d.ipv4->addresses) {
        if (own.addr == address && !own.tentative) {
            return true;
        }
    }
    return address >> 24 == 127;
}

const Ipv4Address* ipv4_find_address(const Domain& d, std::uint32_t address, std::uint32_t interface)
{
    const Ipv4Address* found = nullptr;
    for (const Ipv4Address& own : d.ipv4->addresses) {
        if (own.addr != address || own.interface != interface) {
            continue;
        }
        if (!own.tentative) {
            return &own;
        }
        found = &own;
    }
    return found;
}

bool ipv4_on_link(const Domain& d, const Interface& in, std::uint32_t address)
{
    const auto& all = d.ipv4->routes;
    return std::any_of(all.begin(), all.end(), [&](const RouteEntry& r) {
        return r.interface == &in && r.gateway.is_any() && r.destination.contains(base::IpAddr::v4(address));
    });
}

bool ipv4_is_broadcast(const Domain& d, std::uint32_t address)
{
    if (address >> 28 == 0xe || address == limited_broadcast) {
        return true;
    }
    for (const Ipv4Address& own : d.ipv4->addresses) {
        if (own.broadcast == address && address != 0 && !own.tentative) {
            return true;
        }
    }
    return false;
}

base::IpAddr interface_source(const Domain& d, const Interface& out, const base::IpAddr& towards)
{
    const Ipv4Address* first = nullptr;
    for (const Ipv4Address& own : d.ipv4->addresses) {
        if (own.interface != out.index || own.tentative) {
            continue;
        }
        if (own.on_network(towards.v4())) {
            return base::IpAddr::v4(own.addr);
        }
        first = first == nullptr ? &own : first;
    }
    return first != nullptr ? base::IpAddr::v4(first->addr) : base::IpAddr::any_v4();
}

Ipv4Address ipv4_address(const Interface& in, std::uint32_t addr, std::uint8_t length)
{
    Ipv4Address a;
    a.addr = addr;
    a.length = length;
    a.interface = in.index;
    bool has_broadcast = length != 0 && length <= broadcast_length_max && !in.netif->info().loopback;
    a.broadcast = has_broadcast ? addr | (~std::uint32_t{0} >> length) : 0;
    return a;
}

void ipv4_change_here(Domain& d, const Ipv4Change& c)
{
    switch (c.kind) {
    case Ipv4Change::Kind::set_address:
        return set_address_here(d, c.address);
    case Ipv4Change::Kind::remove_address:
        return remove_address_here(d, c.address);
    case Ipv4Change::Kind::add_route:
        return add_route_here(d, c.route);
    case Ipv4Change::Kind::remove_route:
        return remove_route_here(d, c.route);
    }
}

bool ipv4_change(Domain& d, const Ipv4Change& c)
{
    base::assert_on(d.cpu.owner());
    ipv4_change_here(d, c);
    if (d.stack.cpus() == 1 || base::planted(base::Plant::ipv4_change_kept_here)) {
        return true;
    }
    netmsg::Packet* p = d.stack.pool().allocate();
    if (p == nullptr) {
        count(d.counters.ip_out_no_memory);
        return false;
    }
    static_assert(std::is_trivially_copyable_v<Ipv4Change>);
    std::memcpy(p->put(sizeof c), &c, sizeof c);
    bool all = tell_all_cpus(d, *p, change_dispatch);
    p->free();
    return all;
}

} // namespace protocols
