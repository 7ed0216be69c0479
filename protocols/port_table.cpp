// See port_table.hpp. Control path only: the hash map of reservations may allocate.
#include "protocols/port_table.hpp"

#include <algorithm>
#include <unordered_map>
#include <vector>

namespace protocols {

namespace {

// 0.0.0.0 meets every IPv4 address, "::" every address, or with IPV6_V6ONLY every IPv6 one.
bool overlap(const PortReservation& x, const PortReservation& y)
{
    const base::IpAddr& a = x.local.addr;
    const base::IpAddr& b = y.local.addr;
    if (a == b) {
        return true;
    }
    if (a == base::IpAddr{} || b == base::IpAddr{}) {
        return !((x.v6_only && b.is_v4()) || (y.v6_only && a.is_v4()));
    }
    return (a.is_any() || b.is_any()) && a.is_v4() == b.is_v4();
}

bool conflict(const PortReservation& a, const PortReservation& b)
{
    if (!overlap(a, b)) {
        return false;
    }
    bool shared = a.reuse_port && b.reuse_port && a.user_id == b.user_id;
    bool reused = a.reuse_addr && b.reuse_addr && !a.listening && !b.listening;
    return !shared && !reused;
}

} // namespace

struct alignas(base::apart) PortTable::Impl {
    std::unordered_map<std::uint16_t, std::vector<PortReservation>> by_port;
    std::unordered_map<const Socket*, std::uint16_t> port_of;

    PortReservation* find(const Socket* owner)
    {
        auto port = port_of.find(owner);
        if (port == port_of.end()) {
            return nullptr;
        }
        auto& list = by_port[port->second];
        return &*std::find_if(list.begin(), list.end(), [&](const PortReservation& r) { return r.owner == owner; });
    }
};

PortTable::PortTable() : impl_(std::make_unique<Impl>())
{
}
PortTable::~PortTable() = default;

base::Error PortTable::reserve(const PortReservation& r)
{
    auto& list = impl_->by_port[r.local.port];
    for (const PortReservation& other : list) {
        if (conflict(r, other)) {
            return base::Error::address_in_use;
        }
    }
    list.push_back(r);
    impl_->port_of[r.owner] = r.local.port;
    return base::Error::none;
}

void PortTable::release(const Socket* owner)
{
    auto port = impl_->port_of.find(owner);
    if (port == impl_->port_of.end()) {
        return;
    }
    auto list = impl_->by_port.find(port->second);
    std::erase_if(list->second, [&](const PortReservation& r) { return r.owner == owner; });
    if (list->second.empty()) {
        impl_->by_port.erase(list);
    }
    impl_->port_of.erase(port);
}

base::Error PortTable::set_listening(const Socket* owner)
{
    PortReservation* mine = impl_->find(owner);
    if (mine == nullptr) {
        return base::Error::invalid;
    }
    PortReservation as_listener = *mine;
    as_listener.listening = true;
    for (const PortReservation& other : impl_->by_port[mine->local.port]) {
        if (other.owner != owner && other.listening && conflict(as_listener, other)) {
            return base::Error::address_in_use;
        }
    }
    mine->listening = true;
    return base::Error::none;
}

void PortTable::clear_listening(const Socket* owner)
{
    if (PortReservation* mine = impl_->find(owner); mine != nullptr) {
        mine->listening = false;
    }
}

const Socket* PortTable::conflicting(const PortReservation& r, base::CpuId& cpu) const
{
    auto list = impl_->by_port.find(r.local.port);
    if (list != impl_->by_port.end()) {
        for (const PortReservation& other : list->second) {
            if (conflict(r, other)) {
                cpu = other.cpu;
                return other.owner;
            }
        }
    }
    return nullptr;
}

bool PortTable::any_on_port(std::uint16_t port) const
{
    return impl_->by_port.contains(port);
}

std::size_t PortTable::size() const
{
    return impl_->port_of.size();
}

} // namespace protocols
