// Sources of packets (RFC 1122 3.2.1.3, RFC 4862 5.5.4, RFC 5227 2.1). A host has an address while one of its CPUs has
// it: each hears of a change by itself, and a packet that one takes may be answered by another that has not heard yet,
// or has. In the end all have heard the same (World::check_agreement, check_ipv4). What waits for its neighbour is
// looked at when it leaves, what a wire holds is not.
#include "tests/sim/sim_watch.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/wire/arp.hpp"
#include "protocols/wire/ethernet.hpp"
#include "protocols/wire/igmp.hpp"
#include "tests/sim/sim_world.hpp"

namespace sim {

namespace {

namespace wire = protocols::wire;

constexpr unsigned char mld2_report = 143; // RFC 3810 5.2

bool has_v4(const protocols::Domain& d, std::uint32_t address)
{
    const auto& all = d.ipv4->addresses;
    return address >> 24 != 127 && std::any_of(all.begin(), all.end(), [&](const protocols::Ipv4Address& own) {
        return own.addr == address && !own.tentative;
    });
}

bool has_v6(const protocols::Domain& d, const base::IpAddr& address, std::uint32_t interface, base::Instant now)
{
    const auto& all = d.ipv6->addresses;
    return std::any_of(all.begin(), all.end(), [&](const protocols::Ipv6Address& own) {
        return own.addr.on_wire() == address && own.usable(now) &&
               (own.interface == interface || !own.addr.is_link_scoped());
    });
}

// Who has no address yet, or probes for one, says so (RFC 3376 4.2.13, RFC 4862 5.4.2, RFC 3810 5.2.13, RFC 4861 4.1).
bool may_be_nameless(const Frame& f)
{
    if (f.source.is_v4()) {
        return f.protocol == wire::protocol_igmp;
    }
    return f.protocol == wire::protocol_icmp6 &&
           (f.start[0] == wire::nd_neighbor_solicitation || f.start[0] == wire::nd_router_solicitation ||
               f.start[0] == mld2_report);
}

} // namespace

void LinkWatch::sent(unsigned side, const netmsg::Packet& frame)
{
    // What was due while a CPU was paused it does in that order when it goes on: a segment may be due before the end of
    // its address that came meanwhile.
    const auto& sender = node[side]->cpus[base::current_cpu];
    bool goes_on = sender.paused_until != base::Instant{} && world->now() - sender.paused_until < base::millis(1);
    base::Instant at = goes_on ? sender.paused_since : world->now();
    auto has_address = [&](const base::IpAddr& a) {
        bool had = false;
        for (std::size_t cpu = 0; cpu < node[side]->size() && !had; ++cpu) {
            const protocols::Domain& d = node[side]->stack->domain(static_cast<base::CpuId>(cpu));
            had = a.is_v4() ? has_v4(d, a.v4())
                            : (has_v6(d, a, interface[side], world->now()) || has_v6(d, a, interface[side], at));
        }
        return had;
    };
    auto check = [&](bool good, const base::IpAddr& source, const char* what) {
        if (!good) {
            world->violation(fmt::format("{} leaves node {} CPU {} from {}, which is no address of it", what,
                node[side]->index, base::current_cpu, base::to_string(source)));
        }
    };
    unsigned char bytes[wire::ethernet_header_bytes + wire::arp_bytes];
    if (link_header != 0 && frame.total() >= sizeof bytes) {
        frame.copy_out(0, bytes, sizeof bytes);
        auto ethernet = wire::parse_ethernet(bytes, sizeof bytes);
        if (ethernet && ethernet->type == wire::ethertype_arp) {
            auto arp = wire::parse_arp(bytes + wire::ethernet_header_bytes, wire::arp_bytes);
            check(arp && (arp->sender_v4 == 0 || has_address(base::IpAddr::v4(arp->sender_v4))),
                base::IpAddr::v4(arp ? arp->sender_v4 : 0), "ARP");
            return;
        }
    }
    Frame f;
    if (!f.parse(frame, link_header)) {
        return;
    }
    bool good = f.source.is_any() ? may_be_nameless(f) : has_address(f.source);
    check(good, f.source, f.is_tcp() ? "a TCP segment" : f.is_datagram() ? "a datagram" : "a packet");
    if (marks) {
        world->marks().sent(f, off[side]);
    }
    if (f.is_tcp()) {
        FlowKey key = flow_key({f.source, f.tcp.source_port}, {f.destination, f.tcp.destination_port});
        world->needless().sent(*node[side], f, key);
        world->timing().sent(*node[side], f, key);
    }
}

void LinkWatch::taken(unsigned side, const netmsg::Packet& frame)
{
    Frame f;
    if (!f.parse(frame, link_header)) {
        return;
    }
    if (marks) {
        world->marks().taken(f);
    }
    if (f.is_tcp()) {
        world->timing().taken(
            *node[1 - side], f, flow_key({f.source, f.tcp.source_port}, {f.destination, f.tcp.destination_port}));
    }
}

} // namespace sim
