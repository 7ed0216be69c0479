// What a CPU sends by the clock for IPv6: probes for duplicate addresses (RFC 4862 5.4) with the reports that join the
// address's group (RFC 3810 6.1), solicitations for routers (RFC 4861 6.3.7), answers to multicast queries (RFC 3810
// 6.2). Each is done by one CPU, which address or interface decides. Owner: the domain's CPU.
#include <algorithm>
#include <cstring>

#include "base/endian.hpp"
#include "protocols/icmp.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/neighbor.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/ethernet.hpp"
#include "protocols/wire/mld.hpp"

namespace protocols {

namespace {

constexpr unsigned router_solicitations_max = 3;                   // RFC 4861 10
constexpr base::Micros router_solicitation_gap = base::seconds(4); // RFC 4861 10
constexpr std::uint32_t first_delay_us = 1'000'000;                // RFC 4861 10: MAX_RTR_SOLICITATION_DELAY
constexpr unsigned reports_to_join = 2;                            // RFC 3810 9.1: the robustness variable
constexpr std::uint8_t nd_hop_limit = 255;

base::IpAddr mld_routers()
{
    static constexpr unsigned char b[16] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16};
    return base::IpAddr::v6(b);
}

enum class Kind : std::uint8_t { detect, solicit, report };

} // namespace

struct Ipv6State::Job : lwkt::Timer {
    Job(Domain& d, Kind k, std::uint32_t on, const base::IpAddr& a);
    Domain& domain; // c
    Kind kind;
    std::uint32_t interface;
    base::IpAddr address; // detect
    unsigned step = 0;
};

namespace {

using Job = Ipv6State::Job;

Interface& interface_of(const Job& j)
{
    return *j.domain.stack.interfaces()[j.interface - 1];
}

// A message behind `extension_bytes` of extension header: with its checksum and an IPv6 header to `to`; null = to
// whom the destination says.
void transmit(Domain& d, Interface& out, const base::IpAddr& source, const base::IpAddr& destination,
    const base::MacAddr* to, std::uint8_t hop_limit, std::uint32_t extension_bytes, netmsg::Packet& p)
{
    std::byte* icmp = p.data + extension_bytes;
    std::uint32_t bytes = p.size - extension_bytes;
    auto sum = wire::pseudo_header(source, destination, wire::protocol_icmp6, bytes);
    sum.add(icmp, bytes);
    base::store_be16(icmp + 2, sum.finish());
    wire::Ipv6Header h;
    h.payload_bytes = static_cast<std::uint16_t>(p.size);
    h.next_header = extension_bytes != 0 ? wire::next_hop_by_hop : wire::protocol_icmp6;
    h.hop_limit = hop_limit;
    h.source = source.on_wire();
    h.destination = destination.on_wire();
    wire::emit_ipv6(p.push(wire::ipv6_header_bytes), h);
    p.l3 = p.data;
    p.csum = netmsg::Csum::valid;
    if (to == nullptr) {
        ipv6_transmit(d, Route{&out, destination, source, out.netif->info().mtu}, p);
        return;
    }
    count(d.counters.ip6_out);
    link_transmit(out, *to, wire::ethertype_ipv6, p);
}

void send_report(Domain& d, Interface& out, std::uint8_t type, const std::vector<base::IpAddr>& groups)
{
    netmsg::Packet* p = groups.empty() ? nullptr : d.stack.pool().allocate();
    if (p == nullptr) {
        return;
    }
    wire::emit_router_alert(p->put(wire::router_alert_bytes), wire::protocol_icmp6);
    wire::emit_mld2_report(p->put(wire::mld_report_bytes), static_cast<std::uint16_t>(groups.size()));
    for (const base::IpAddr& g : groups) {
        wire::emit_mld2_record(p->put(wire::mld_record_bytes), type, g);
    }
    count(d.counters.mld_out_reports);
    // RFC 3590 4: "::" is the source while there is no other
    transmit(d, out, ipv6_link_source(d, out), mld_routers(), nullptr, 1, wire::router_alert_bytes, *p);
}

std::vector<base::IpAddr> groups_of(Domain& d, const Interface& in)
{
    std::vector<base::IpAddr> groups;
    for (const Ipv6Address& a : d.ipv6->addresses) {
        base::IpAddr group = wire::solicited_node(a.addr);
        bool ours = a.interface == in.index && !a.duplicate && a.valid_until > d.now();
        if (ours && std::find(groups.begin(), groups.end(), group) == groups.end()) {
            groups.push_back(group);
        }
    }
    return groups;
}

void probe(Domain& d, Interface& out, const base::IpAddr& address)
{
    wire::NdMessage m;
    m.type = wire::nd_neighbor_solicitation;
    m.target = address.on_wire();
    nd_send(d, out, base::IpAddr{}, wire::solicited_node(address), nullptr, m);
}

void solicit_routers(Domain& d, Interface& out)
{
    wire::NdMessage m;
    m.type = wire::nd_router_solicitation;
    base::IpAddr source = ipv6_link_source(d, out);
    if (!source.is_any()) { // RFC 4861 4.1: without an address of its own no link-layer option
        m.mac = out.netif->info().mac;
    }
    count(d.counters.nd_out_router_solicitations);
    nd_send(d, out, source, wire::all_routers(), nullptr, m);
}

// When to go on; nothing: it is done.
std::optional<base::Micros> run(Domain& d, Job& j)
{
    Interface& out = interface_of(j);
    Ipv6Link& link = d.ipv6->link(j.interface);
    unsigned step = j.step++;
    switch (j.kind) {
    case Kind::detect: {
        unsigned probes = d.stack.options().duplicate_probes;
        if (step < reports_to_join) {
            send_report(d, out, wire::mld_to_exclude, {wire::solicited_node(j.address)});
        }
        if (step < probes) {
            probe(d, out, j.address);
        }
        return j.step < std::max(probes, reports_to_join) ? std::optional{link.retransmit} : std::nullopt;
    }
    case Kind::solicit:
        if (link.router_seen) {
            return std::nullopt;
        }
        solicit_routers(d, out);
        return j.step < router_solicitations_max ? std::optional{router_solicitation_gap} : std::nullopt;
    case Kind::report:
        send_report(d, out, wire::mld_is_exclude, groups_of(d, out));
        return std::nullopt;
    }
    return std::nullopt;
}

void on_timer(lwkt::Timer& t)
{
    auto& j = static_cast<Job&>(t);
    Domain& d = j.domain;
    if (auto next = run(d, j)) {
        d.wheel.arm(j, d.now() + *next);
    } else {
        d.ipv6->jobs.remove_if([&](const Job& each) { return &each == &j; });
    }
}

// RFC 4862 5.4.2: hosts that start together do not probe together; every CPU comes to the same delay.
base::Micros start_delay(const Domain& d, const base::IpAddr& a)
{
    return base::Micros{
        static_cast<std::int64_t>(base::siphash(d.stack.address_secret(), a.bytes(), 16) % first_delay_us)};
}

} // namespace

Ipv6State::Job::Job(Domain& d, Kind k, std::uint32_t on, const base::IpAddr& a)
    : lwkt::Timer(on_timer), domain(d), kind(k), interface(on), address(a)
{
}

Ipv6State::Ipv6State(Domain& d) : label_key{d.random.next(), d.random.next()}
{
    for (auto& id : next_id) {
        id = static_cast<std::uint32_t>(d.random.next());
    }
}

Ipv6State::~Ipv6State() = default;

base::Instant ipv6_start_detection(Domain& d, const Interface& in, const base::IpAddr& a)
{
    unsigned probes = d.stack.options().duplicate_probes;
    if (!in.netif->info().ethernet || in.netif->info().loopback) {
        return {};
    }
    base::Micros delay = start_delay(d, a);
    const netmsg::Steering& steering = d.stack.steering();
    if (steering.cpu_of_hash(steering.hash_pair(a, a)) == d.id()) {
        Job& j = d.ipv6->jobs.emplace_back(d, Kind::detect, in.index, a);
        d.wheel.arm(j, d.now() + delay);
    }
    return probes == 0 ? base::Instant{} : d.now() + delay + probes * d.ipv6->link(in.index).retransmit;
}

void ipv6_stop_detection(Domain& d, const base::IpAddr& a)
{
    d.ipv6->jobs.remove_if([&](const Job& j) { return j.kind == Kind::detect && j.address == a; });
}

void ipv6_start_solicitation(Domain& d, const Interface& in)
{
    if (in.index % d.stack.cpus() == d.id()) {
        Job& j = d.ipv6->jobs.emplace_back(d, Kind::solicit, in.index, base::IpAddr{});
        d.wheel.arm(j, d.now() + base::Micros{d.random.below(first_delay_us)});
    }
}

void mld_answer(Domain& d, Interface& in, base::Micros within)
{
    auto bound = static_cast<std::uint32_t>(std::clamp<std::int64_t>(within.count(), 1, 0x7fffffff));
    base::Instant at = d.now() + base::Micros{d.random.below(bound)};
    for (Job& j : d.ipv6->jobs) {
        if (j.kind == Kind::report && j.interface == in.index) { // RFC 3810 6.2: the sooner answer covers both
            d.wheel.arm(j, std::min(at, static_cast<lwkt::Timer&>(j).deadline()));
            return;
        }
    }
    Job& j = d.ipv6->jobs.emplace_back(d, Kind::report, in.index, base::IpAddr{});
    d.wheel.arm(j, at);
}

void nd_send(Domain& d, Interface& out, const base::IpAddr& source, const base::IpAddr& destination,
    const base::MacAddr* to, const wire::NdMessage& m)
{
    netmsg::Packet* p = d.stack.pool().allocate();
    if (p == nullptr) {
        return count(d.counters.ip_out_no_memory);
    }
    unsigned char bytes[wire::nd_emit_max];
    std::uint32_t n = wire::emit_nd(bytes, m);
    std::memcpy(p->put(n), bytes, n);
    if (m.type == wire::nd_neighbor_solicitation) {
        count(d.counters.nd_out_solicitations);
    } else if (m.type == wire::nd_neighbor_advertisement) {
        count(d.counters.nd_out_advertisements);
    }
    transmit(d, out, source, destination, to, nd_hop_limit, 0, *p);
}

bool tell_all_cpus(Domain& d, const netmsg::Packet& p, lwkt::Message::Dispatch next)
{
    bool all = true;
    for (std::size_t cpu = 0; cpu < d.stack.cpus(); ++cpu) {
        if (cpu == d.id()) {
            continue;
        }
        netmsg::Packet* copy = d.stack.pool().clone(p);
        if (copy == nullptr) {
            count(d.counters.ip_out_no_memory);
            all = false;
            continue;
        }
        copy->hops = 0;
        ipv4_forward(d, static_cast<base::CpuId>(cpu), *copy, next, lwkt::Shed::last);
    }
    return all;
}

} // namespace protocols
