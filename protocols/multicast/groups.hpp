// The groups that this host's sockets have joined, of both families, as one CPU knows them: every CPU has its own copy,
// which the walk of a socket's join or close brings up to date, so a datagram is matched where it arrives. Reports
// (RFC 3376, RFC 3810) about a change are sent by the CPU that a hash of the group names; a query is answered by the
// CPU that heard it (docs/decisions/0023-multicast.md). GroupState: owner = its domain's CPU; everything o.
#pragma once

#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "protocols/multicast/source_filter.hpp"
#include "protocols/stack.hpp"
#include "protocols/wire/group_report.hpp"

namespace protocols {

struct Socket;

struct GroupKey {
    base::IpAddr group;
    std::uint32_t interface = 0;
    bool operator==(const GroupKey&) const = default;
};
struct GroupHash {
    base::SipKey key;
    std::size_t operator()(const GroupKey& k) const { return base::siphash(key, &k, sizeof k); }
};
static_assert(std::has_unique_object_representations_v<GroupKey>);

struct GroupMember {
    const Socket* socket = nullptr; // identity only
    SourceFilter filter;
};
struct Group {
    std::vector<GroupMember> members;
    SourceFilter filter; // merged over them
};

struct alignas(base::apart) GroupState {
    explicit GroupState(Domain& d);
    ~GroupState();

    std::unordered_map<GroupKey, Group, GroupHash> groups;
    struct Report; // group_reports.cpp: what this CPU sends by the clock
    std::list<Report> reports;
    // Until when a link's router is one that speaks an older version, by that version (RFC 3376 7.2.1, RFC 3810 8.2.1).
    struct Querier {
        base::Instant igmp1{};
        base::Instant igmp2{};
        base::Instant mld1{};
    };
    std::vector<Querier> queriers; // by interface index - 1
};

// What the socket has joined is `now`, on this CPU.
void groups_update_here(Domain& d, const Socket& so, const std::vector<Membership>& now);
// Does anybody here want this group from this source on this interface? Groups that every host is in aside.
bool groups_admit(Domain& d, const base::IpAddr& group, std::uint32_t interface, const base::IpAddr& source);
// Does this socket, whose copies are given? `all`: IP_MULTICAST_ALL.
bool group_admits(const std::vector<Membership>& joined, bool all, const base::IpAddr& group, std::uint32_t interface,
    const base::IpAddr& source);

// ---- Reports: group_reports.cpp

void group_changed(Domain& d, const GroupKey& key, const SourceFilter& before);
void group_query(Domain& d, Interface& in, bool v6, const wire::GroupQuery& q);
// The query (data at its IGMP or ICMPv6 header, verified) is an older version's: every CPU learns so.
void group_tell_version(Domain& d, const netmsg::Packet& p, bool v6);
// IGMP from the link (data at the IGMP header). Takes the packet.
void igmp_input(Domain& d, const IpIn& ip, netmsg::Packet& p);
// Sends one MLDv2 record: what duplicate detection joins (RFC 3810 6.1).
void mld_send_record(Domain& d, Interface& out, const wire::GroupRecord& record);

// ---- Socket options: so_groups.cpp, so_source_lists.cpp

// The interface that an option names by its number, else by its address, else by the route to the group; null: none.
Interface* group_interface(Domain& d, const base::IpAddr& group, const base::IpAddr& address, std::uint32_t index);
Membership* find_membership(Socket& so, const base::IpAddr& group, std::uint32_t interface);
void leave_group(Socket& so, const Membership& known);

// True when the option is one about groups, with the result in `error`. The socket's list may be another afterwards.
bool so_set_group_option(
    Domain& d, Socket& so, int level, int name, const void* value, std::uint32_t size, base::Error& error);

// IP_MSFILTER, MCAST_MSFILTER: the whole list of a group's sources, in pieces (sockbuf::FilterPiece).
bool is_source_list(int level, int name);
base::Error so_set_source_list(Domain& d, Socket& so, int level, const void* value, std::uint32_t size);
// `value` holds what is asked for and then the answer, `size` its room and then the bytes of the answer.
base::Error so_get_source_list(Domain& d, Socket& so, int level, int name, void* value, std::uint32_t& size);

} // namespace protocols
