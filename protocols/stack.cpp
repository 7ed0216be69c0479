// A stack's construction: domains, interfaces, routes. On the thread that builds it, before the CPUs run.
#include "protocols/stack.hpp"

#include <algorithm>

#include "protocols/netif_input.hpp"

namespace protocols {

Stack::Stack(lwkt::CpuSet& set, const StackOptions& options)
    : set_(set), options_(options), random_(options.seed), steering_(static_cast<unsigned>(set.size()), random_),
      pool_(set, options.packets)
{
    INVARIANT(!set.running());
    for (std::size_t i = 0; i < set.size(); ++i) {
        domains_.push_back(std::make_unique<Domain>(*this, set.cpu(static_cast<base::CpuId>(i)), random_.next()));
    }
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
    std::unique_ptr<netmsg::Netif> netif, std::vector<InterfaceAddress> addresses, std::string& error)
{
    auto interface = std::make_unique<Interface>();
    interface->netif = netif.get();
    interface->addresses = std::move(addresses);
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
    if (loopback) {
        loopback_ = added; // reached through is_local(), not through routes
        return added;
    }
    for (const InterfaceAddress& a : added->addresses) {
        insert_route(RouteEntry{base::Prefix{a.addr, a.length}, base::IpAddr{}, added});
    }
    return added;
}

bool Stack::add_route(const base::Prefix& destination, const base::IpAddr& gateway, std::string& error)
{
    for (const auto& interface : interfaces_) {
        for (const InterfaceAddress& a : interface->addresses) {
            if (!interface->netif->info().loopback && base::Prefix{a.addr, a.length}.contains(gateway)) {
                insert_route(RouteEntry{destination, gateway, interface.get()});
                return true;
            }
        }
    }
    error = "gateway " + base::to_string(gateway) + " is on no interface's network";
    return false;
}

// Longest prefix first; among equals the earlier one stays first.
void Stack::insert_route(const RouteEntry& entry)
{
    auto at = std::find_if(routes_.begin(), routes_.end(),
        [&](const RouteEntry& r) { return r.destination.length < entry.destination.length; });
    routes_.insert(at, entry);
}

bool Stack::is_local(const base::IpAddr& a) const
{
    if (a.is_loopback_v4()) {
        return true;
    }
    for (const auto& interface : interfaces_) {
        for (const InterfaceAddress& own : interface->addresses) {
            if (own.addr == a) {
                return true;
            }
        }
    }
    return false;
}

} // namespace protocols
