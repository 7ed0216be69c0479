// IPv4 addresses and routes that change under living connections: an end of a link loses and gets back its addresses,
// its prefix length, its MTU, and the route to what lies behind the other end. Told as a DHCP client does it (decision
// 0027): by one CPU an interface, in order, again while somebody could not be told. What is away comes back within
// seconds, in the drain at once, and then every CPU knows what the world knows.
#include <fmt/format.h>

#include <algorithm>

#include "protocols/ipv4.hpp"
#include "tests/sim/sim_world.hpp"

namespace sim {

namespace {

using Kind = protocols::Ipv4Change::Kind;

constexpr std::uint8_t length_first = 24;
constexpr std::uint8_t length_other = 25;
constexpr std::uint32_t mtu_of_lease = 700;
constexpr std::uint32_t away_us = 800'000;
constexpr std::uint32_t away_long_us = 8'000'000;

std::uint32_t address_v4(std::size_t link, unsigned side, unsigned number)
{
    return static_cast<std::uint32_t>(0x0a000001 + (link << 8) + side + number * 10);
}

// In the order of an interface's changes, which may be told twice.
void tell(protocols::Domain& d, std::deque<protocols::Ipv4Change>& untold)
{
    while (!untold.empty() && protocols::ipv4_change(d, untold.front())) {
        untold.pop_front();
    }
}

} // namespace

base::IpAddr link_address_v4(std::size_t link, unsigned side, unsigned number)
{
    return base::IpAddr::v4(address_v4(link, side, number));
}

// Of a node, and on none of its links: the other ends of its links have routes to it.
base::IpAddr address_behind_v4(unsigned node)
{
    return base::IpAddr::v4(0x0aff0001 + node);
}

void World::begin_ipv4(std::size_t link, unsigned side)
{
    Link& l = *links_[link];
    Node& node = *nodes_[l.config.ends[side]];
    Ipv4End& e = l.ipv4[side];
    e.in = node.stack->interfaces()[l.index_at[side] - 1].get();
    e.route = {{address_behind_v4(l.config.ends[1 - side]), 32}, link_address_v4(link, 1 - side, 0), e.in};
    std::string error;
    INVARIANT(node.stack->add_route(e.route.destination, e.route.gateway, error));
    e.has_address[1] = false; // it comes in the course of things
}

protocols::Ipv4Address World::ipv4_of(const Link& l, unsigned side, unsigned number) const
{
    const Ipv4End& e = l.ipv4[side];
    protocols::Ipv4Address a = protocols::ipv4_address(*e.in, address_v4(l.number, side, number), e.length);
    a.mtu = e.mtu;
    return a;
}

void World::post_ipv4(Link& l, unsigned side)
{
    Ipv4End& e = l.ipv4[side];
    Node& node = *nodes_[l.config.ends[side]];
    auto cpu = static_cast<base::CpuId>(e.in->index % node.size());
    node.post(cpu, [&node, &e, cpu](lwkt::Cpu&) { tell(node.stack->domain(cpu), e.untold); });
}

void World::say_ipv4(Link& l, unsigned side, const protocols::Ipv4Change& c)
{
    l.ipv4[side].untold.push_back(c);
    post_ipv4(l, side);
}

void World::set_ipv4_address(Link& l, unsigned side, unsigned number, bool there)
{
    l.ipv4[side].has_address[number] = there;
    note(there ? "IPv4 address" : "no IPv4 address", l.number, side, number);
    say_ipv4(l, side, {there ? Kind::set_address : Kind::remove_address, ipv4_of(l, side, number), {}});
}

void World::set_ipv4_route(Link& l, unsigned side, bool there)
{
    Ipv4End& e = l.ipv4[side];
    e.has_route = there;
    note(there ? "IPv4 route" : "no IPv4 route", l.number, side);
    say_ipv4(l, side, {there ? Kind::add_route : Kind::remove_route, {}, e.route});
}

// What an address says besides itself; another length is another network.
void World::set_ipv4_properties(Link& l, unsigned side, std::uint8_t length, std::uint32_t mtu)
{
    l.ipv4[side].length = length;
    l.ipv4[side].mtu = mtu;
    for (unsigned number = 0; number < ipv4_addresses; ++number) {
        if (l.ipv4[side].has_address[number]) {
            set_ipv4_address(l, side, number, true);
        }
    }
}

void World::change_ipv4()
{
    Link& l = *links_[random_.below(static_cast<std::uint32_t>(links_.size()))];
    unsigned side = random_.below(2);
    Ipv4End& e = l.ipv4[side];
    e.until = now() + base::Micros{1 + random_.below(random_.chance(0.2) ? away_long_us : away_us)};
    switch (random_.below(4)) {
    case 0:
        return set_ipv4_address(l, side, 0, !e.has_address[0]);
    case 1:
        return set_ipv4_address(l, side, 1, !e.has_address[1]);
    case 2:
        return set_ipv4_route(l, side, !e.has_route);
    default:
        return set_ipv4_properties(
            l, side, random_.chance(0.5) ? length_other : length_first, random_.chance(0.5) ? mtu_of_lease : 0);
    }
}

void World::give_back_ipv4(bool all)
{
    for (auto& l : links_) {
        for (unsigned side = 0; config_.ipv4_changes > 0 && side < 2; ++side) {
            Ipv4End& e = l->ipv4[side];
            if (!all && e.until > now()) {
                continue;
            }
            e.until = base::never;
            for (unsigned number = 0; number < ipv4_addresses; ++number) {
                if (!e.has_address[number]) {
                    set_ipv4_address(*l, side, number, true);
                }
            }
            if (!e.has_route) {
                set_ipv4_route(*l, side, true);
            }
        }
    }
}

// Some CPU had no memory to be told.
void World::tell_ipv4_again()
{
    for (auto& l : links_) {
        for (unsigned side = 0; side < 2; ++side) {
            if (!l->ipv4[side].untold.empty()) {
                post_ipv4(*l, side);
            }
        }
    }
}

void World::check_ipv4()
{
    for (auto& l : links_) {
        for (unsigned side = 0; config_.ipv4_changes > 0 && side < 2; ++side) {
            Node& node = *nodes_[l->config.ends[side]];
            for (std::size_t cpu = 0; cpu < node.size(); ++cpu) {
                const protocols::Ipv4State& s = *node.stack->domain(static_cast<base::CpuId>(cpu)).ipv4;
                auto knows = [&](unsigned number) {
                    return std::count(s.addresses.begin(), s.addresses.end(), ipv4_of(*l, side, number)) == 1;
                };
                auto on = std::count_if(s.addresses.begin(), s.addresses.end(),
                    [&](const auto& a) { return a.interface == l->index_at[side]; });
                auto routes = std::count_if(
                    s.routes.begin(), s.routes.end(), [&](const auto& r) { return r.interface == l->ipv4[side].in; });
                bool routed = std::count(s.routes.begin(), s.routes.end(), l->ipv4[side].route) == 1;
                if (!knows(0) || !knows(1) || on != ipv4_addresses || !routed || routes != 2) { // its network, too
                    violation(fmt::format("node {} CPU {}: {} addresses and {} routes of IPv4 by interface {}, which "
                                          "are not what it was told",
                        node.index, cpu, on, routes, l->index_at[side]));
                }
            }
        }
    }
}

// Those that the world knows an end to have.
void World::changing_addresses(const Link& l, unsigned side, std::vector<base::IpAddr>& out) const
{
    if (config_.ipv4_changes > 0) {
        if (l.ipv4[side].has_address[1]) {
            out.push_back(link_address_v4(l.number, side, 1));
        }
        out.push_back(address_behind_v4(l.config.ends[side]));
    }
}

} // namespace sim
