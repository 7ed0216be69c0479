// See dead_gateways.hpp.
#include "protocols/dead_gateways.hpp"

#include <algorithm>

#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/neighbor.hpp"

namespace protocols {

namespace {

// RFC 1122 3.3.1.4: no continuous pinging. Packets that have no better way ask too.
constexpr base::Micros wait_first = base::seconds(10);
constexpr base::Micros wait_max = base::seconds(80);

bool is_gateway(const Domain& d, std::uint32_t interface, const base::IpAddr& address)
{
    auto leads = [&](const RouteEntry& r) { return r.gateway == address && r.interface->index == interface; };
    auto advertised = [&](const AdvertisedRoute& r) { return r.addr == address && r.interface == interface; };
    const auto& routes = address.is_v4() ? d.ipv4->routes : d.stack.routes6();
    const auto& said = d.ipv6->advertised;
    return std::any_of(routes.begin(), routes.end(), leads) || std::any_of(said.begin(), said.end(), advertised);
}

auto find(const std::list<DeadGateway>& list, std::uint32_t interface, const base::IpAddr& address)
{
    return std::find_if(list.begin(), list.end(),
        [&](const DeadGateway& g) { return g.address == address && g.interface == interface; });
}

void on_timer(lwkt::Timer& t)
{
    auto& g = static_cast<DeadGateway&>(t);
    Domain& d = g.domain;
    if (!is_gateway(d, g.interface, g.address)) {
        d.dead_gateways->list.remove_if([&](const DeadGateway& each) { return &each == &g; });
        return;
    }
    g.wait = std::min(g.wait * 2, wait_max);
    d.wheel.arm(g, d.now() + g.wait);
    neighbor_ask(d, g.interface, g.address);
}

} // namespace

DeadGateway::DeadGateway(Domain& d, std::uint32_t on, const base::IpAddr& a)
    : lwkt::Timer(on_timer), domain(d), interface(on), address(a), wait(wait_first)
{
}

void gateway_failed(Domain& d, std::uint32_t interface, const base::IpAddr& address)
{
    base::assert_on(d.cpu.owner());
    if (gateway_dead(d, interface, address) || !is_gateway(d, interface, address)) {
        return;
    }
    count(d.counters.gateways_died);
    DeadGateway& g = d.dead_gateways->list.emplace_back(d, interface, address);
    d.wheel.arm(g, d.now() + g.wait);
    ++d.route_generation;
}

void gateway_answered(Domain& d, std::uint32_t interface, const base::IpAddr& address)
{
    base::assert_on(d.cpu.owner());
    auto& list = d.dead_gateways->list;
    auto at = find(list, interface, address);
    if (at == list.end()) {
        return;
    }
    count(d.counters.gateways_returned);
    list.erase(at);
    ++d.route_generation;
}

bool gateway_dead(const Domain& d, std::uint32_t interface, const base::IpAddr& address)
{
    const auto& list = d.dead_gateways->list;
    return !list.empty() && find(list, interface, address) != list.end();
}

const RouteEntry* choose_route(
    const Domain& d, const std::vector<RouteEntry>& routes, const base::IpAddr& destination, const Interface* by)
{
    const RouteEntry* first = nullptr;
    for (const RouteEntry& e : routes) {
        if (first != nullptr && e.destination.length < first->destination.length) {
            break;
        }
        if ((by != nullptr && e.interface != by) || !e.destination.contains(destination)) {
            continue;
        }
        if (e.gateway.is_any() || !gateway_dead(d, e.interface->index, e.gateway)) {
            return &e;
        }
        first = first == nullptr ? &e : first;
    }
    return first;
}

} // namespace protocols
