// See groups.hpp.
#include "protocols/multicast/groups.hpp"

#include "protocols/ipv6.hpp"
#include "protocols/multicast/group_jobs.hpp"
#include "protocols/socket/socket.hpp"
#include "protocols/wire/igmp.hpp"

namespace protocols {

namespace {

bool every_host_is_in(const base::IpAddr& group)
{
    static constexpr unsigned char all_nodes[14] = {};
    if (group.is_v4()) {
        return group.v4() == wire::all_hosts_v4;
    }
    base::IpAddr plain = group.on_wire();
    const unsigned char* b = plain.bytes();
    return b[0] == 0xff && (b[1] == 1 || b[1] == 2) && b[15] == 1 && std::memcmp(b + 2, all_nodes, 13) == 0;
}

SourceFilter merge_all(const Group& g)
{
    SourceFilter all;
    for (const GroupMember& m : g.members) {
        all = merged(all, m.filter);
    }
    return all;
}

// The socket is a member with `filter`, or with none is no member.
void set_member(Domain& d, const GroupKey& key, const Socket& so, const SourceFilter* filter)
{
    GroupState& s = *d.groups;
    Group& g = s.groups[key];
    std::erase_if(g.members, [&](const GroupMember& m) { return m.socket == &so; });
    if (filter != nullptr) {
        g.members.push_back({&so, *filter});
    }
    SourceFilter before = std::move(g.filter);
    g.filter = merge_all(g);
    bool same = before == g.filter;
    if (g.members.empty()) {
        s.groups.erase(key);
    }
    if (!same) {
        group_changed(d, key, before);
    }
}

} // namespace

GroupState::GroupState(Domain& d) : groups(0, GroupHash{d.table_key})
{
}

GroupState::~GroupState() = default;

void groups_update_here(Domain& d, const Socket& so, const std::vector<Membership>& now)
{
    base::assert_on(d.cpu.owner());
    std::vector<GroupKey> left;
    for (const auto& [key, group] : d.groups->groups) {
        auto is_key = [&k = key](const Membership& m) { return m.group == k.group && m.interface == k.interface; };
        bool was = std::any_of(
            group.members.begin(), group.members.end(), [&](const GroupMember& m) { return m.socket == &so; });
        if (was && std::none_of(now.begin(), now.end(), is_key)) {
            left.push_back(key);
        }
    }
    for (const GroupKey& key : left) {
        set_member(d, key, so, nullptr);
    }
    for (const Membership& m : now) {
        set_member(d, {m.group, m.interface}, so, &m.filter);
    }
}

bool groups_admit(Domain& d, const base::IpAddr& group, std::uint32_t interface, const base::IpAddr& source)
{
    if (group.is_multicast_v6() && group_scope(group) == reserved_scope) {
        return false; // RFC 4291 2.7: neither sent nor taken
    }
    if (every_host_is_in(group)) {
        return true;
    }
    auto at = d.groups->groups.find({group, interface});
    return at != d.groups->groups.end() && at->second.filter.admits(source.on_wire());
}

bool group_admits(const std::vector<Membership>& joined, bool all, const base::IpAddr& group, std::uint32_t interface,
    const base::IpAddr& source)
{
    for (const Membership& m : joined) {
        if (m.group == group && m.interface == interface) {
            return m.filter.admits(source.on_wire());
        }
    }
    return all; // ip(7), IP_MULTICAST_ALL: what another socket of the host has joined
}

} // namespace protocols
