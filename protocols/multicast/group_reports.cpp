// Reports of memberships to the link's routers, IGMP (RFC 3376) and MLD (RFC 3810) by the same steps: state changes
// twice, answers to queries once, in the older versions' messages while such a querier is about. Owner: the domain's
// CPU.
#include <algorithm>
#include <optional>

#include "base/endian.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/multicast/group_jobs.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/ethernet.hpp"
#include "protocols/wire/igmp.hpp"
#include "protocols/wire/mld.hpp"

namespace protocols {

namespace {

using wire::GroupRecord;
using wire::RecordType;
using Report = GroupState::Report;

constexpr unsigned reports_of_change = 2;                          // RFC 3376 8.1: the robustness variable
constexpr std::uint32_t unsolicited_interval_us = 1'000'000;       // RFC 3376 8.11, RFC 3810 9.11
constexpr base::Micros older_querier_timeout = base::seconds(260); // RFC 3376 8.12: 2 * 125 + 10
constexpr std::uint32_t message_max = 1400;                        // fits a packet's own buffer
constexpr std::uint32_t headers_max = 48;                          // IPv6 and the router alert

base::IpAddr link_group_v6(unsigned char last)
{
    unsigned char b[16] = {0xff, 0x02};
    b[15] = last;
    return base::IpAddr::v6(b);
}

// RFC 3376 6, RFC 3810 6: of these groups no report is ever sent.
bool reported(const base::IpAddr& group)
{
    if (group.is_v4()) {
        return group.v4() != wire::all_hosts_v4;
    }
    return (group.bytes()[1] & 0xf) > 1 && group.on_wire() != link_group_v6(1);
}

GroupState::Querier& querier(Domain& d, std::uint32_t interface)
{
    auto& all = d.groups->queriers;
    if (all.size() < interface) {
        all.resize(d.stack.interfaces().size());
    }
    return all[interface - 1];
}

// The version that the link's router understands (RFC 3376 7.2.1): the oldest heard lately.
unsigned version_on(Domain& d, std::uint32_t interface, bool v6)
{
    const GroupState::Querier& q = querier(d, interface);
    if (v6) {
        return q.mld1 > d.now() ? 1 : 2;
    }
    return q.igmp1 > d.now() ? 1 : q.igmp2 > d.now() ? 2 : 3;
}

// An IGMP or MLD message at data: checksum, headers, off to the link.
void transmit(Domain& d, Interface& out, const base::IpAddr& to, netmsg::Packet& p)
{
    count(d.counters.group_out_reports);
    if (!to.is_v4()) {
        wire::emit_router_alert(p.push(wire::router_alert_bytes), wire::protocol_icmp6);
        // RFC 3590 4: "::" is the source while there is no other
        return ipv6_send_on_link(d, out, ipv6_link_source(d, out), to, nullptr, 1, wire::router_alert_bytes, p);
    }
    base::store_be16(p.data + 2, wire::checksum(p.data, p.size));
    std::uint32_t bytes = p.size;
    base::IpAddr source = interface_source(d, out, to);
    wire::emit_igmp_ipv4(
        p.push(wire::igmp_header_bytes), source.v4(), to.v4(), static_cast<std::uint16_t>(d.random.next()), bytes);
    p.l3 = p.data;
    p.csum = netmsg::Csum::valid;
    ipv4_transmit(d, Route{&out, to, source, out.netif->info().mtu}, p);
}

// RFC 3376 4.2.16: sources that one message cannot hold go into further ones, but for those that are excluded, of which
// as many are named as fit.
std::vector<GroupRecord> fitting(const std::vector<GroupRecord>& records, std::uint32_t longest)
{
    std::vector<GroupRecord> out;
    for (const GroupRecord& r : records) {
        std::size_t most = (longest - wire::group_report_bytes - 20) / (r.group.is_v4() ? 4 : 16);
        bool excludes = r.type == RecordType::is_exclude || r.type == RecordType::to_exclude;
        for (std::size_t at = 0; at == 0 || (at < r.sources.size() && !excludes); at += most) {
            auto from = r.sources.begin() + static_cast<std::ptrdiff_t>(at);
            auto n = static_cast<std::ptrdiff_t>(std::min(most, r.sources.size() - at));
            out.push_back({r.type, r.group, {from, from + n}});
        }
    }
    return out;
}

void send_records(Domain& d, Interface& out, bool v6, const std::vector<GroupRecord>& all)
{
    base::IpAddr to = v6 ? link_group_v6(0x16) : base::IpAddr::v4(wire::igmp3_routers_v4);
    std::uint32_t link = route_device_mtu(d, Route{&out, to, v6 ? base::IpAddr{} : interface_source(d, out, to)});
    std::uint32_t longest = std::min(message_max, link - headers_max);
    std::vector<GroupRecord> records = fitting(all, longest);
    for (std::size_t first = 0; first < records.size();) {
        std::size_t end = first;
        std::uint32_t bytes = wire::group_report_bytes;
        while (end < records.size() && (end == first || bytes + wire::record_bytes(records[end]) <= longest)) {
            bytes += wire::record_bytes(records[end++]);
        }
        netmsg::Packet* p = d.stack.pool().allocate();
        if (p == nullptr) {
            return count(d.counters.ip_out_no_memory);
        }
        auto n = static_cast<std::uint16_t>(end - first);
        wire::emit_group_report(p->put(wire::group_report_bytes), v6 ? wire::mld2_report : wire::igmp3_report, n);
        for (; first < end; ++first) {
            wire::emit_group_record(p->put(wire::record_bytes(records[first])), records[first]);
        }
        transmit(d, out, to, *p);
    }
}

// In the messages before sources were known: one about each group (RFC 2236 3, RFC 2710 4).
void send_old(Domain& d, Interface& out, unsigned version, const base::IpAddr& group, bool leaves)
{
    bool v6 = !group.is_v4();
    if (leaves && !v6 && version == 1) {
        return; // RFC 1112: one leaves in silence
    }
    netmsg::Packet* p = d.stack.pool().allocate();
    if (p == nullptr) {
        return count(d.counters.ip_out_no_memory);
    }
    base::IpAddr to = group;
    if (v6) {
        wire::emit_mld1(p->put(wire::mld1_bytes), leaves ? wire::mld1_done : wire::mld1_report, group);
        to = leaves ? link_group_v6(2) : group;
    } else {
        std::uint8_t joins = version == 1 ? wire::igmp1_report : wire::igmp2_report;
        wire::emit_igmp(p->put(wire::igmp_bytes), leaves ? wire::igmp2_leave : joins, group.v4());
        to = leaves ? base::IpAddr::v4(wire::all_routers_v4) : group;
    }
    transmit(d, out, to, *p);
}

SourceFilter filter_of(Domain& d, const GroupKey& key)
{
    auto at = d.groups->groups.find(key);
    return at == d.groups->groups.end() ? SourceFilter{} : at->second.filter;
}

// RFC 3376 5.1: what tells a router how the interface's state changed.
std::vector<GroupRecord> changes(const Report& r, const SourceFilter& now)
{
    base::IpAddr group = r.key.group.on_wire();
    if (r.whole || r.before.exclude != now.exclude) {
        return {{now.exclude ? RecordType::to_exclude : RecordType::to_include, group, now.sources}};
    }
    std::vector<GroupRecord> records;
    auto more = difference(now.sources, r.before.sources);
    auto fewer = difference(r.before.sources, now.sources);
    if (!more.empty()) {
        records.push_back({now.exclude ? RecordType::block : RecordType::allow, group, more});
    }
    if (!fewer.empty()) {
        records.push_back({now.exclude ? RecordType::allow : RecordType::block, group, fewer});
    }
    return records;
}

// RFC 3376 5.2: the state of a group, or of it what a query asks about sources.
std::optional<GroupRecord> state_of(const GroupKey& key, const SourceFilter& f, const std::vector<base::IpAddr>& asked)
{
    base::IpAddr group = key.group.on_wire();
    if (f.nothing()) {
        return std::nullopt;
    }
    if (asked.empty()) {
        return GroupRecord{f.exclude ? RecordType::is_exclude : RecordType::is_include, group, f.sources};
    }
    auto wanted = f.exclude ? difference(asked, f.sources) : common(asked, f.sources);
    return wanted.empty() ? std::nullopt : std::optional{GroupRecord{RecordType::is_include, group, wanted}};
}

void send_change(Domain& d, const Report& r)
{
    Interface& out = d.stack.interface(r.key.interface);
    bool v6 = !r.key.group.is_v4();
    SourceFilter now = filter_of(d, r.key);
    unsigned version = version_on(d, r.key.interface, v6);
    if (version == (v6 ? 2U : 3U)) {
        send_records(d, out, v6, changes(r, now));
    } else {
        send_old(d, out, version, r.key.group, now.nothing());
    }
}

void send_answer(Domain& d, const Report& r)
{
    Interface& out = d.stack.interface(r.key.interface);
    bool everything = r.key.group.is_any();
    std::vector<GroupRecord> records;
    for (const auto& [key, group] : d.groups->groups) {
        bool asked = key.interface == r.key.interface && key.group.is_v4() != r.v6 && reported(key.group) &&
                     (everything || key.group == r.key.group);
        if (auto record = asked ? state_of(key, group.filter, r.asked) : std::nullopt) {
            records.push_back(std::move(*record));
        }
    }
    if (r.v6) {
        for (const base::IpAddr& g : ipv6_solicited_groups(d, out)) {
            if (everything || g == r.key.group.on_wire()) {
                records.push_back({RecordType::is_exclude, g, {}});
            }
        }
    }
    unsigned version = version_on(d, r.key.interface, r.v6);
    if (version == (r.v6 ? 2U : 3U)) {
        return send_records(d, out, r.v6, records);
    }
    for (const GroupRecord& record : records) {
        send_old(d, out, version, record.group, false);
    }
}

// RFC 3810 5.2.13: what comes from "::" routers do not believe. When they will; never: they have, or nothing says so.
base::Instant believed_at(Domain& d, const Report& r)
{
    const Interface& out = d.stack.interface(r.key.interface);
    return r.v6 && ipv6_link_source(d, out).is_any() ? ipv6_link_source_at(d, out) : base::never;
}

void on_timer(lwkt::Timer& t)
{
    auto& r = static_cast<Report&>(t);
    Domain& d = r.domain;
    if (r.answers) {
        send_answer(d, r);
    } else {
        send_change(d, r);
        if (--r.left != 0) {
            return d.wheel.arm(r, d.now() + base::Micros{1 + d.random.below(unsolicited_interval_us)});
        }
        if (base::Instant at = believed_at(d, r); at != base::never) { // RFC 3590 4: then all of it again
            r.whole = true;
            r.left = reports_of_change;
            return d.wheel.arm(r, at);
        }
    }
    d.groups->reports.remove_if([&](const Report& each) { return &each == &r; });
}

Report* pending(Domain& d, bool answers, const GroupKey& key, bool v6)
{
    auto& all = d.groups->reports;
    auto at = std::find_if(
        all.begin(), all.end(), [&](const Report& r) { return r.answers == answers && r.v6 == v6 && r.key == key; });
    return at == all.end() ? nullptr : &*at;
}

bool has_routers(const Interface& in)
{
    return in.netif->info().ethernet && !in.netif->info().loopback;
}

void remember_version(Domain& d, Interface& in, bool v6, unsigned version)
{
    GroupState::Querier& q = querier(d, in.index);
    base::Instant until = d.now() + older_querier_timeout;
    if (v6 && version == 1) {
        q.mld1 = until;
    } else if (!v6 && version < 3) {
        (version == 1 ? q.igmp1 : q.igmp2) = until;
    }
}

// Another CPU heard an older querier; it answers, all of us know.
template <bool v6>
void heard(lwkt::Message& m)
{
    Domain& d = forwarded_domain(m);
    auto& p = static_cast<netmsg::Packet&>(m);
    Interface& in = received_on(d, p);
    auto q = v6 ? wire::parse_mld_query(p.data, p.size) : wire::parse_igmp_query(p.data, p.size);
    if (q) {
        remember_version(d, in, v6, q->version);
    }
    p.free();
}

// RFC 3376 9.1: where a general query has no business.
bool to_some_group(const base::IpAddr& a)
{
    return a.is_multicast_v4() && a.v4() != wire::all_hosts_v4;
}

} // namespace

GroupState::Report::Report(Domain& d, const GroupKey& of, bool six) : lwkt::Timer(on_timer), domain(d), key(of), v6(six)
{
}

void mld_send_record(Domain& d, Interface& out, const GroupRecord& record)
{
    if (version_on(d, out.index, true) == 1) {
        send_old(d, out, 1, record.group, false);
    } else {
        send_records(d, out, true, {record});
    }
}

void group_changed(Domain& d, const GroupKey& key, const SourceFilter& before)
{
    const netmsg::Steering& steering = d.stack.steering();
    bool mine = steering.cpu_of_hash(steering.hash_pair(key.group, key.group)) == d.id();
    if (!mine || !reported(key.group) || !has_routers(d.stack.interface(key.interface))) {
        return;
    }
    bool v6 = !key.group.is_v4();
    if (Report* r = pending(d, false, key, v6); r != nullptr) {
        r->whole = true; // two changes at once: the whole state says both (RFC 3376 5.1)
        r->left = reports_of_change;
        return d.wheel.arm(*r, d.now());
    }
    Report& r = d.groups->reports.emplace_back(d, key, v6);
    r.before = before;
    r.left = reports_of_change;
    d.wheel.arm(r, d.now());
}

void group_query(Domain& d, Interface& in, bool v6, const wire::GroupQuery& q)
{
    if (!has_routers(in)) {
        return;
    }
    count(d.counters.group_in_queries);
    remember_version(d, in, v6, q.version);
    constexpr std::uint32_t tick_us = 1000; // what the longest names, 2.3 hours, is more of microseconds than 2^32
    std::uint32_t ticks = std::clamp(q.response_ms, 1U, 10'000'000U);
    base::Instant at = d.now() + base::millis(d.random.below(ticks)) + base::Micros{d.random.below(tick_us)};
    Report* general = pending(d, true, {{}, in.index}, v6);
    if (general != nullptr && general->deadline() <= at) {
        return; // RFC 3376 5.2 rule 1: the sooner answer says it all
    }
    GroupKey key{q.group.is_any() ? base::IpAddr{} : q.group.in_zone(in.index), in.index};
    Report* r = pending(d, true, key, v6);
    if (r == nullptr) {
        if (d.groups->reports.size() >= reports_max) {
            return; // a router that asks about thousands of groups at once is none
        }
        r = &d.groups->reports.emplace_back(d, key, v6);
        r->answers = true;
        r->asked = q.sources;
        return d.wheel.arm(*r, at);
    }
    if (r->asked != q.sources) {
        r->asked.clear(); // rules 4 and 5, and a little more: about all sources
    }
    d.wheel.arm(*r, std::min(at, r->deadline()));
}

void group_tell_version(Domain& d, const netmsg::Packet& p, bool v6)
{
    (void)tell_all_cpus(
        d, p, v6 ? heard<true> : heard<false>); // whoever hears nothing speaks the newer version until the next query
}

void igmp_input(Domain& d, const IpIn& ip, netmsg::Packet& p)
{
    base::assert_on(d.cpu.owner());
    bool good = p.pullup(p.total()) && (p.csum == netmsg::Csum::valid || wire::checksum(p.data, p.size) == 0);
    auto q = good ? wire::parse_igmp_query(p.data, p.size) : std::nullopt;
    // RFC 3376 9.1: what should not come from beyond the link; a query of version 1 has no router alert
    bool believed = q && ip.ttl == 1 && (q->version == 1 || wire::has_router_alert_v4(p.l3)) &&
                    !(q->group.is_any() && to_some_group(ip.destination));
    if (!believed) {
        return drop(p, d.counters.group_in_ignored); // the reports of others, too
    }
    if (q->version < 3) {
        group_tell_version(d, p, false);
    }
    group_query(d, *ip.interface, false, *q);
    p.free();
}

} // namespace protocols
