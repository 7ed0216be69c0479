// IP_MSFILTER and MCAST_MSFILTER (RFC 3678 4.1.3, 5.1.3): all sources of a group at once, with the errors of Linux. A
// list comes in pieces that wait at the membership (Membership::coming) until it is whole. Runs on the socket's owner;
// a walk tells every CPU afterwards.
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "protocols/multicast/groups.hpp"
#include "protocols/socket/so_message.hpp"

namespace protocols {

namespace {

using base::Error;
using sockbuf::FilterPiece;

constexpr std::size_t address_bytes = 16;

bool is_group(int level, const base::IpAddr& a)
{
    return level == IPPROTO_IP ? a.is_multicast_v4() : a.is_multicast_v6();
}

base::IpAddr interface_address(const FilterPiece& p)
{
    return p.address != 0 ? base::IpAddr::v4(p.address) : base::IpAddr{};
}

Error take_piece(Membership& m, const FilterPiece& p, const unsigned char* sources)
{
    if (p.first == 0) {
        m.coming.clear();
    }
    if (p.first != m.coming.size() || p.first + p.count > p.total || p.total > sockbuf::filter_sources_max) {
        return Error::invalid;
    }
    for (std::size_t i = 0; i < p.count; ++i) {
        m.coming.push_back(base::IpAddr::v6(sources + i * address_bytes));
    }
    if (m.coming.size() < p.total) {
        return Error::none;
    }
    SourceFilter whole{p.exclude != 0, {}};
    for (const base::IpAddr& source : m.coming) {
        whole.add(source);
    }
    m.filter = std::move(whole);
    m.coming = {};
    return Error::none;
}

} // namespace

bool is_source_list(int level, int name)
{
    return (level == IPPROTO_IP && name == IP_MSFILTER) ||
           ((level == IPPROTO_IP || level == IPPROTO_IPV6) && name == MCAST_MSFILTER);
}

Error so_set_source_list(Domain& d, Socket& so, int level, const void* value, std::uint32_t size)
{
    FilterPiece p{};
    if (size < sizeof p) {
        return Error::invalid;
    }
    std::memcpy(&p, value, sizeof p);
    base::IpAddr group = base::IpAddr::v6(p.group);
    if (p.count > sockbuf::filter_fits(size) || !is_group(level, group)) {
        return Error::invalid;
    }
    const Interface* in = group_interface(d, group, interface_address(p), p.interface);
    if (in == nullptr) {
        return Error::no_device;
    }
    Membership* known = find_membership(so, group.in_zone(in->index), in->index);
    if (p.total == 0 && p.exclude == 0) { // RFC 3376 3.1: INCLUDE of nothing is no membership
        if (known == nullptr) {
            return Error::address_not_available;
        }
        leave_group(so, *known);
        return Error::none;
    }
    bool by_route = level == IPPROTO_IPV6 && p.interface == 0; // as Linux: only to leave
    return known == nullptr || by_route ? Error::invalid
                                        : take_piece(*known, p, static_cast<const unsigned char*>(value) + sizeof p);
}

Error so_get_source_list(Domain& d, Socket& so, int level, int name, void* value, std::uint32_t& size)
{
    FilterPiece p{};
    if (size < sizeof p) {
        return Error::invalid;
    }
    std::memcpy(&p, value, sizeof p);
    base::IpAddr group = base::IpAddr::v6(p.group);
    if (!is_group(level, group)) {
        return Error::invalid;
    }
    std::uint32_t index = p.interface; // as Linux: this one names the interface of the membership itself
    if (name == IP_MSFILTER) {
        const Interface* in = group_interface(d, group, interface_address(p), p.interface);
        if (in == nullptr) {
            return Error::no_device;
        }
        index = in->index;
    }
    const Membership* known = find_membership(so, group.in_zone(index), index);
    if (known == nullptr) {
        return Error::address_not_available;
    }
    const auto& sources = known->filter.sources;
    std::size_t first = std::min<std::size_t>(p.first, sources.size());
    std::size_t count = std::min<std::size_t>(sources.size() - first, sockbuf::filter_fits(size));
    p.exclude = known->filter.exclude ? 1 : 0;
    p.total = static_cast<std::uint8_t>(sources.size());
    p.first = static_cast<std::uint8_t>(first);
    p.count = static_cast<std::uint8_t>(count);
    auto* out = static_cast<unsigned char*>(value);
    std::memcpy(out, &p, sizeof p);
    for (std::size_t i = 0; i < count; ++i) {
        std::memcpy(out + sizeof p + i * address_bytes, sources[first + i].bytes(), address_bytes);
    }
    size = static_cast<std::uint32_t>(sizeof p + count * address_bytes);
    return Error::none;
}

} // namespace protocols
