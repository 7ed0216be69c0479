// What a CPU sends by the clock for IPv6: probes for duplicate addresses (RFC 4862 5.4) with the reports that join the
// address's group (RFC 3810 6.1), solicitations for routers (RFC 4861 6.3.7). Each is done by one CPU, which address or
// interface decides. And what another CPU could not be told of a duplicate. Owner: the domain's CPU.
#include <algorithm>
#include <cstring>

#include "base/endian.hpp"
#include "protocols/icmp.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/multicast/groups.hpp"
#include "protocols/neighbor.hpp"
#include "protocols/netif_output.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/ethernet.hpp"

namespace protocols {

namespace {

constexpr base::Micros router_solicitation_gap = base::seconds(4);        // RFC 7559 2: IRT,
constexpr base::Micros router_solicitation_gap_max = base::seconds(3600); // MRT
constexpr std::uint32_t first_delay_us = 1'000'000;                       // RFC 4861 10: MAX_RTR_SOLICITATION_DELAY
constexpr unsigned reports_to_join = 2;                                   // RFC 3810 9.1: the robustness variable
constexpr std::uint8_t nd_hop_limit = 255;

constexpr base::Micros tell_again = base::millis(100);

enum class Kind : std::uint8_t { detect, solicit, tell };

} // namespace

struct Ipv6State::Job : lwkt::Timer {
    Job(Domain& d, Kind k, std::uint32_t on, const base::IpAddr& a);
    Domain& domain; // c
    Kind kind;
    std::uint32_t interface;
    base::IpAddr address; // detect, tell
    unsigned step = 0;
    base::Micros wait{}; // solicit: before the next
};

namespace {

using Job = Ipv6State::Job;

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

// RFC 7559 2 (RFC 8415 15): twice as long as before, up to an hour, and a tenth more or less, for ever.
base::Micros next_wait(Domain& d, base::Micros before)
{
    base::Micros wait =
        before.count() == 0 ? router_solicitation_gap : std::min(2 * before, router_solicitation_gap_max);
    auto tenth = static_cast<std::uint32_t>(wait.count() / 10);
    return wait - wait / 10 + base::Micros{d.random.below(2 * tenth)};
}

// When to go on; nothing: it is done.
std::optional<base::Micros> run(Domain& d, Job& j)
{
    Interface& out = j.domain.stack.interface(j.interface);
    Ipv6Link& link = d.ipv6->link(j.interface);
    unsigned step = j.step++;
    switch (j.kind) {
    case Kind::detect: {
        unsigned probes = d.stack.options().duplicate_probes;
        unsigned steps = std::max(probes, reports_to_join);
        if (step < reports_to_join || step >= steps) {
            mld_send_record(d, out, {wire::RecordType::to_exclude, wire::solicited_node(j.address), {}});
        }
        if (step < probes) {
            probe(d, out, j.address);
        }
        if (j.step < steps) {
            return link.retransmit;
        }
        // RFC 3810 5.2.13, RFC 3590 4: what came from "::" routers do not believe; once more from an address.
        base::Instant at = ipv6_link_source(d, out).is_any() ? ipv6_link_source_at(d, out) : base::never;
        return at != base::never ? std::optional{at - d.now()} : std::nullopt;
    }
    case Kind::solicit:
        if (link.router_seen) {
            return std::nullopt;
        }
        solicit_routers(d, out);
        return j.wait = next_wait(d, j.wait);
    case Kind::tell:
        return ipv6_tell_duplicate(d, out, j.address) ? std::nullopt : std::optional{tell_again};
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

Ipv6State::Ipv6State(Domain& d) : label_key{d.random.next(), d.random.next()}, turn(d)
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

void ipv6_tell_duplicate_later(Domain& d, const Interface& in, const base::IpAddr& a)
{
    d.wheel.arm(d.ipv6->jobs.emplace_back(d, Kind::tell, in.index, a), d.now() + tell_again);
}

void ipv6_start_solicitation(Domain& d, const Interface& in)
{
    if (in.index % d.stack.cpus() == d.id()) {
        Job& j = d.ipv6->jobs.emplace_back(d, Kind::solicit, in.index, base::IpAddr{});
        d.wheel.arm(j, d.now() + base::Micros{d.random.below(first_delay_us)});
    }
}

std::vector<base::IpAddr> ipv6_solicited_groups(Domain& d, const Interface& in)
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

void ipv6_send_on_link(Domain& d, Interface& out, const base::IpAddr& source, const base::IpAddr& destination,
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
    ipv6_send_on_link(d, out, source, destination, to, nd_hop_limit, 0, *p);
}

} // namespace protocols
