// setsockopt about groups (ip(7), ipv6(7), RFC 3678): joining and leaving, sources, the interface to send by; values
// and errors as Linux has them. The socket's list is changed here, on its owner; a walk tells every CPU afterwards.
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "protocols/ipv4.hpp"
#include "protocols/multicast/groups.hpp"
#include "protocols/socket/so_message.hpp"

namespace protocols {

namespace {

using base::Error;

constexpr std::size_t memberships_max = 20; // net.ipv4.igmp_max_memberships

enum class Change : std::uint8_t { join, leave, join_source, leave_source, block, unblock };

struct Wish {
    Change change{};
    base::IpAddr group;
    base::IpAddr source;
    base::IpAddr address; // of the interface; unspecified = by its number or by route
    std::uint32_t interface = 0;
};

template <typename T>
bool read(const void* value, std::uint32_t size, T& out)
{
    if (size < sizeof out) {
        return false;
    }
    std::memcpy(&out, value, sizeof out);
    return true;
}

base::IpAddr from_v4(const in_addr& a)
{
    return base::IpAddr::v4(ntohl(a.s_addr));
}

struct Name {
    int level;
    int name;
    Change change;
};
constexpr Name names[] = {
    {IPPROTO_IP, IP_ADD_MEMBERSHIP, Change::join},
    {IPPROTO_IP, IP_DROP_MEMBERSHIP, Change::leave},
    {IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, Change::join_source},
    {IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, Change::leave_source},
    {IPPROTO_IP, IP_BLOCK_SOURCE, Change::block},
    {IPPROTO_IP, IP_UNBLOCK_SOURCE, Change::unblock},
    {IPPROTO_IPV6, IPV6_JOIN_GROUP, Change::join},
    {IPPROTO_IPV6, IPV6_LEAVE_GROUP, Change::leave},
};
// The same names at both levels; the client sends them as sockbuf::GroupRequest.
constexpr Name protocol_independent[] = {
    {0, MCAST_JOIN_GROUP, Change::join},
    {0, MCAST_LEAVE_GROUP, Change::leave},
    {0, MCAST_JOIN_SOURCE_GROUP, Change::join_source},
    {0, MCAST_LEAVE_SOURCE_GROUP, Change::leave_source},
    {0, MCAST_BLOCK_SOURCE, Change::block},
    {0, MCAST_UNBLOCK_SOURCE, Change::unblock},
};

bool about_source(Change c)
{
    return c != Change::join && c != Change::leave;
}

bool read_v4(int name, const void* value, std::uint32_t size, Wish& w)
{
    if (about_source(w.change)) {
        ip_mreq_source r{};
        bool good = read(value, size, r);
        w.group = from_v4(r.imr_multiaddr);
        w.source = from_v4(r.imr_sourceaddr);
        w.address = from_v4(r.imr_interface);
        return good && name != 0;
    }
    ip_mreq r{};
    ip_mreqn with_index{};
    if (!read(value, size, r)) {
        return false;
    }
    w.group = from_v4(r.imr_multiaddr);
    w.address = from_v4(r.imr_interface);
    if (read(value, size, with_index)) {
        w.interface = static_cast<std::uint32_t>(with_index.imr_ifindex);
    }
    return true;
}

// Nothing: no such option. Error::invalid in `error`: it cannot be read.
std::optional<Wish> read_wish(int level, int name, const void* value, std::uint32_t size, Error& error)
{
    auto same = [&](const Name& n) { return n.name == name && (n.level == 0 || n.level == level); };
    const auto* any = std::find_if(std::begin(protocol_independent), std::end(protocol_independent), same);
    const auto* own = std::find_if(std::begin(names), std::end(names), same);
    Wish w;
    bool good = false;
    if (any != std::end(protocol_independent)) {
        w.change = any->change;
        sockbuf::GroupRequest r{};
        good = read(value, size, r);
        w.group = base::IpAddr::v6(r.group);
        w.source = base::IpAddr::v6(r.source);
        w.interface = r.interface;
    } else if (own != std::end(names) && level == IPPROTO_IP) {
        w.change = own->change;
        good = read_v4(name, value, size, w);
    } else if (own != std::end(names)) {
        w.change = own->change;
        ipv6_mreq r{};
        good = read(value, size, r);
        w.group = base::IpAddr::v6(&r.ipv6mr_multiaddr);
        w.interface = r.ipv6mr_interface;
    } else {
        return std::nullopt;
    }
    bool group = level == IPPROTO_IP ? w.group.is_multicast_v4() : w.group.is_multicast_v6();
    error = good && group ? Error::none : Error::invalid;
    return w;
}

Error join(Socket& so, Membership* known, const Membership& fresh)
{
    if (known != nullptr) {
        return Error::address_in_use;
    }
    if (so.groups.size() >= memberships_max) {
        return Error::no_buffers;
    }
    so.groups.push_back(fresh);
    return Error::none;
}

Error change_source(Socket& so, const Wish& w, Membership* known, const Membership& fresh)
{
    bool includes = w.change == Change::join_source || w.change == Change::leave_source;
    if (w.change == Change::join_source && known == nullptr) {
        Membership with = fresh;
        with.filter = {false, {w.source}};
        return join(so, nullptr, with);
    }
    bool every_source = known != nullptr && known->filter.exclude && known->filter.sources.empty();
    if (known == nullptr || (known->filter.exclude == includes && !every_source)) {
        return Error::invalid; // the other kind of membership, or none
    }
    if (w.change == Change::join_source && every_source) { // as Linux: one that never said which may become the other
        known->filter = {false, {w.source}};
        return Error::none;
    }
    if (w.change == Change::join_source || w.change == Change::block) {
        if (known->filter.sources.size() >= sockbuf::filter_sources_max) {
            return Error::no_buffers;
        }
        return known->filter.add(w.source) ? Error::none : Error::address_not_available;
    }
    if (!known->filter.remove(w.source)) {
        return Error::address_not_available;
    }
    if (known->filter.nothing()) {
        leave_group(so, *known); // RFC 3376 3.1: INCLUDE of nothing is no membership
    }
    return Error::none;
}

// As Linux: without a number an IPv6 group is left where it was joined last.
Membership* joined_anywhere(Socket& so, const Wish& w)
{
    bool anywhere = w.change == Change::leave && !w.group.is_v4() && w.interface == 0;
    auto at = std::find_if(so.groups.rbegin(), so.groups.rend(),
        [&](const Membership& m) { return anywhere && m.group.on_wire() == w.group.on_wire(); });
    return at == so.groups.rend() ? nullptr : &*at;
}

Error apply(Domain& d, Socket& so, const Wish& w)
{
    if (Membership* known = joined_anywhere(so, w); known != nullptr) {
        leave_group(so, *known);
        return Error::none;
    }
    Interface* in = group_interface(d, w.group, w.address, w.interface);
    if (in == nullptr) {
        return Error::no_device;
    }
    Membership fresh{w.group.in_zone(in->index), in->index, {true, {}}, {}};
    Membership* known = find_membership(so, fresh.group, fresh.interface);
    switch (w.change) {
    case Change::join:
        return join(so, known, fresh);
    case Change::leave:
        if (known == nullptr) {
            return Error::address_not_available;
        }
        leave_group(so, *known);
        return Error::none;
    default:
        return change_source(so, w, known, fresh);
    }
}

// IP_MULTICAST_IF: an address, or a structure that names an interface too.
Error set_interface_v4(Domain& d, Socket& so, const void* value, std::uint32_t size)
{
    ip_mreqn r{};
    if (size < sizeof(in_addr)) {
        return Error::invalid;
    }
    bool bare = size < sizeof(ip_mreq);
    std::memcpy(bare ? &r.imr_address : static_cast<void*>(&r), value,
        bare ? sizeof(in_addr) : std::min<std::size_t>(size, sizeof r));
    base::IpAddr address = from_v4(r.imr_address);
    auto index = static_cast<std::uint32_t>(r.imr_ifindex);
    Interface* in = index == 0 && address.is_any() ? nullptr : group_interface(d, {}, address, index);
    if (in == nullptr && (index != 0 || !address.is_any())) {
        return Error::address_not_available;
    }
    so.options.multicast_v4 = address.v4();
    so.options.multicast_interface = in != nullptr ? in->index : 0;
    return Error::none;
}

Error set_interface_v6(Domain& d, Socket& so, const void* value, std::uint32_t size)
{
    int index = 0;
    if (!read(value, size, index)) {
        return Error::invalid;
    }
    if (index < 0 || static_cast<std::size_t>(index) > d.stack.interfaces().size()) {
        return Error::no_device;
    }
    so.options.multicast_interface6 = static_cast<std::uint32_t>(index);
    return Error::none;
}

} // namespace

Interface* group_interface(Domain& d, const base::IpAddr& group, const base::IpAddr& address, std::uint32_t index)
{
    const auto& all = d.stack.interfaces();
    if (index != 0) {
        return index <= all.size() ? all[index - 1].get() : nullptr;
    }
    if (!address.is_any()) {
        auto has = [&](const auto& in) { return ipv4_find_address(d, address.v4(), in->index) != nullptr; };
        auto at = std::find_if(all.begin(), all.end(), has);
        return at == all.end() ? nullptr : at->get();
    }
    Route route;
    bool found = route_lookup(d, group, route);
    // An IPv6 group is joined before there is an address to send from, too, as on Linux.
    return found || !group.is_v4() ? route.interface : nullptr;
}

Membership* find_membership(Socket& so, const base::IpAddr& group, std::uint32_t interface)
{
    auto at = std::find_if(so.groups.begin(), so.groups.end(),
        [&](const Membership& m) { return m.group == group && m.interface == interface; });
    return at == so.groups.end() ? nullptr : &*at;
}

void leave_group(Socket& so, const Membership& known)
{
    so.groups.erase(so.groups.begin() + (&known - so.groups.data()));
}

bool so_set_group_option(
    Domain& d, Socket& so, int level, int name, const void* value, std::uint32_t size, base::Error& error)
{
    if ((level != IPPROTO_IP && level != IPPROTO_IPV6) || (level == IPPROTO_IPV6 && so.family != AF_INET6)) {
        return false;
    }
    bool by_v4 = level == IPPROTO_IP && name == IP_MULTICAST_IF;
    bool by_v6 = level == IPPROTO_IPV6 && name == IPV6_MULTICAST_IF;
    if (by_v4 || by_v6) {
        error = is_stream(so) ? (by_v4 ? Error::invalid : Error::no_protocol_option)
                : by_v4       ? set_interface_v4(d, so, value, size)
                              : set_interface_v6(d, so, value, size);
        return true;
    }
    if (is_source_list(level, name)) {
        error = so_set_source_list(d, so, level, value, size);
        return true;
    }
    std::optional<Wish> wish = read_wish(level, name, value, size, error);
    if (!wish) {
        return false;
    }
    if (is_stream(so)) {
        error = Error::protocol;
    } else if (error == Error::none) {
        error = apply(d, so, *wish);
    }
    return true;
}

} // namespace protocols
