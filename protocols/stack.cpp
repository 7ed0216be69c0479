// A stack's construction: domains, interfaces, routes. On the thread that builds it, before the CPUs run.
#include "protocols/stack.hpp"

#include <algorithm>

#include "protocols/dhcp/dhcp_client.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/netif_input.hpp"

namespace protocols {

Stack::Stack(lwkt::CpuSet& set, const StackOptions& options)
    : set_(set), options_(options), ephemeral_(options.ephemeral_low, options.ephemeral_high), random_(options.seed),
      steering_(static_cast<unsigned>(set.size()), random_), pool_(set, options.packets)
{
    INVARIANT(!set.running());
    for (std::size_t i = 0; i < set.size(); ++i) {
        domains_.push_back(std::make_unique<Domain>(*this, set.cpu(static_cast<base::CpuId>(i)), random_.next()));
    }
    address_secret_ = {options.address_secret[0], options.address_secret[1]};
    if (options.address_secret[0] == 0 && options.address_secret[1] == 0) {
        address_secret_.k0 = random_.next();
        address_secret_.k1 = random_.next();
    }
    fastopen_secret_.k0 = random_.next();
    fastopen_secret_.k1 = random_.next();
}

Stack::~Stack()
{
    INVARIANT(!set_.running());
    for (auto& netif : netifs_) {
        netif->detach();
    }
    domains_.clear();
}

Interface* Stack::add_interface(
    std::unique_ptr<netmsg::Netif> netif, std::vector<InterfaceAddress> addresses, std::string& error, bool slaac)
{
    auto interface = std::make_unique<Interface>();
    interface->netif = netif.get();
    for (const InterfaceAddress& a : addresses) {
        (a.addr.is_v4() ? interface->addresses : interface->addresses6).push_back(a);
    }
    interface->slaac = slaac;
    interface->ipv6 = slaac || !interface->addresses6.empty();
    interface->index = static_cast<std::uint32_t>(interfaces_.size() + 1);
    interface->stack = this;
    netif->set_index(interface->index);
    if (!netif->attach(set_, pool_, netif_input, interface.get(), error)) {
        return nullptr;
    }
    bool loopback = netif->info().loopback;
    netifs_.push_back(std::move(netif));
    interfaces_.push_back(std::move(interface));
    Interface* added = interfaces_.back().get();
    for (auto& parent : interfaces_) {
        if (added->netif->info().vlan_parent == parent->netif) {
            parent->vlans.push_back(added);
        }
    }
    for (auto& domain : domains_) {
        ipv6_attach(*domain, *added);
        for (const InterfaceAddress& a : added->addresses) {
            ipv4_change_here(*domain, {Ipv4Change::Kind::set_address, ipv4_address(*added, a.addr.v4(), a.length), {}});
        }
    }
    if (loopback) {
        loopback_ = added; // reached through is_local(), not through routes
        return added;
    }
    for (const InterfaceAddress& a : added->addresses6) {
        insert_route(routes6_, RouteEntry{base::Prefix{a.addr, a.length}, base::IpAddr{}, added});
    }
    return added;
}

bool Stack::add_route(const base::Prefix& destination, const base::IpAddr& gateway, std::string& error)
{
    for (const auto& interface : interfaces_) {
        if (interface->netif->info().loopback) {
            continue;
        }
        bool in_zone = gateway.zone() == interface->index && interface->ipv6;
        for (const InterfaceAddress& a : gateway.is_v4() ? interface->addresses : interface->addresses6) {
            in_zone |= !gateway.is_link_scoped() && base::Prefix{a.addr, a.length}.contains(gateway);
        }
        if (in_zone) {
            add_route_everywhere(RouteEntry{destination, gateway, interface.get()});
            return true;
        }
    }
    error = "gateway " + base::to_string(gateway) + " is on no interface's network";
    return false;
}

void Stack::start_dhcp(Interface& in)
{
    in.dhcp = true;
    dhcp_start(*domains_[dhcp_owner(*domains_[0], in)], in);
}

void Stack::add_route_everywhere(const RouteEntry& entry)
{
    if (!entry.destination.addr.is_v4()) {
        return insert_route(routes6_, entry);
    }
    for (auto& domain : domains_) {
        ipv4_change_here(*domain, {Ipv4Change::Kind::add_route, {}, entry});
    }
}

void insert_route(std::vector<RouteEntry>& routes, const RouteEntry& entry)
{
    auto at = std::find_if(routes.begin(), routes.end(),
        [&](const RouteEntry& r) { return r.destination.length < entry.destination.length; });
    routes.insert(at, entry);
}

} // namespace protocols
