// Received neighbour discovery (RFC 4861) and multicast queries (RFC 3810): which messages are believed, answers to
// solicitations, what neighbours say of themselves, duplicate addresses (RFC 4862 5.4). Runs on the CPU of arrival;
// what a router says is told to every CPU (nd_router.cpp).
#include "base/plant.hpp"
#include "netmsg/packet_pool.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/multicast/groups.hpp"
#include "protocols/neighbor.hpp"
#include "protocols/wire/ethernet.hpp"
#include "protocols/wire/mld.hpp"

namespace protocols {

namespace {

constexpr std::uint8_t nd_hop_limit = 255;

// What is longer than a packet's own buffer, as on a link of jumbo frames, is read in a large one. Nothing: malformed,
// or no memory.
std::optional<wire::NdMessage> read_message(Domain& d, netmsg::Packet& p)
{
    if (p.pullup(p.total())) {
        return wire::parse_nd(p.data, p.size);
    }
    netmsg::Packet* whole = d.stack.pool().allocate();
    if (whole == nullptr) {
        return std::nullopt;
    }
    std::optional<wire::NdMessage> m;
    if (p.total() <= netmsg::large_buffer_bytes && d.stack.pool().add_large(*whole)) {
        p.copy_out(0, whole->large->bytes, p.total());
        m = wire::parse_nd(whole->large->bytes, p.total());
    }
    whole->free();
    return m;
}

// RFC 4861 6.1.2, 7.1.1, 7.1.2, 8.1: how a message must have come.
bool well_addressed(const IpIn& ip, const wire::NdMessage& m)
{
    if (ip.ttl != nd_hop_limit) {
        return false; // a router on the way would have lowered it: it is from this link
    }
    switch (m.type) {
    case wire::nd_neighbor_solicitation: {
        bool to_group = ip.destination == wire::solicited_node(m.target).in_zone(ip.interface->index);
        return !ip.source.is_any() || (to_group && !m.mac);
    }
    case wire::nd_neighbor_advertisement:
        return !ip.destination.is_multicast_v6() || !m.solicited;
    default:
        return ip.source.is_link_local_v6();
    }
}

void answer(Domain& d, const IpIn& ip, const base::IpAddr& target)
{
    Interface& in = *ip.interface;
    wire::NdMessage m;
    m.type = wire::nd_neighbor_advertisement;
    m.target = target.on_wire();
    m.solicited = !ip.source.is_any();
    m.override_known = true;
    m.router = in.router;
    m.mac = in.netif->info().mac;
    // RFC 4861 7.2.4: who only probes for our address has none to be answered at
    nd_send(d, in, target, ip.source.is_any() ? wire::all_nodes() : ip.source, nullptr, m);
}

// A bridge's port may reflect; the Ethernet header lies in front of the IP header, for what came in fragments is no
// neighbour discovery.
bool is_from_us(const Interface& in, const netmsg::Packet& p)
{
    INVARIANT(p.l3 - p.buffer >= std::ptrdiff_t{wire::ethernet_header_bytes});
    auto frame = wire::parse_ethernet(p.l3 - wire::ethernet_header_bytes, wire::ethernet_header_bytes);
    return frame && frame->source == in.netif->info().mac;
}

void take_solicitation(Domain& d, const IpIn& ip, const wire::NdMessage& m, const netmsg::Packet& p)
{
    count(d.counters.nd_in_solicitations);
    Interface& in = *ip.interface;
    if (is_from_us(in, p)) {
        return;
    }
    base::IpAddr target = m.target.in_zone(in.index);
    const Ipv6Address* own = ipv6_find_address(d, target, in.index);
    if (own == nullptr) {
        return;
    }
    if (own->tentative(d.now())) { // RFC 4862 5.4.3: another one who probes for it; who only asks gets no answer
        return ip.source.is_any() ? ipv6_duplicate(d, in, target) : void();
    }
    if (!own->usable(d.now())) {
        return;
    }
    if (m.mac && !ip.source.is_any()) { // RFC 4861 7.2.3
        NeighborNews news;
        news.interface = in.index;
        news.address = ip.source;
        news.mac = *m.mac;
        news.create = true;
        news.confirmed = false;
        if (neighbor_take(d, news)) {
            neighbor_tell_others(d, news);
        }
    }
    answer(d, ip, target);
}

void take_advertisement(Domain& d, const IpIn& ip, const wire::NdMessage& m)
{
    count(d.counters.nd_in_advertisements);
    Interface& in = *ip.interface;
    base::IpAddr target = m.target.in_zone(in.index);
    if (const Ipv6Address* own = ipv6_find_address(d, target, in.index); own != nullptr) {
        if (own->tentative(d.now())) { // RFC 4862 5.4.4
            return ipv6_duplicate(d, in, target);
        }
        if (own->usable(d.now())) {
            return count(d.counters.nd_conflicts); // somebody else uses our address
        }
    } // else it is theirs: a duplicate, or we had it once
    NeighborNews news;
    news.interface = in.index;
    news.address = target;
    news.has_mac = m.mac.has_value();
    news.mac = m.mac.value_or(base::MacAddr{});
    news.confirmed = m.solicited;
    news.replaces = m.override_known;
    news.says_router = true;
    news.router = m.router;
    bool changed = neighbor_take(d, news);
    if (changed || m.solicited) { // perhaps the answer to another CPU's question
        neighbor_tell_others(d, news);
    }
}

// Data at the IP header of a copy of what was validated.
void router_dispatch(lwkt::Message& msg)
{
    Domain& d = forwarded_domain(msg);
    auto& p = static_cast<netmsg::Packet&>(msg);
    Interface& in = received_on(d, p);
    auto h = wire::parse_ipv6_quote(p.data, p.size);
    wire::Ipv6Chain chain;
    INVARIANT(h && wire::walk_ipv6_chain(p.data, p.size, *h, chain).fault == wire::ChainFault::none);
    p.pull(chain.bytes);
    auto m = read_message(d, p);
    p.free();
    if (m) {
        nd_router_message(d, in, h->source.in_zone(in.index), *m);
    }
}

} // namespace

void nd_input(Domain& d, const IpIn& ip, netmsg::Packet& p)
{
    base::assert_on(d.cpu.owner());
    auto m = read_message(d, p);
    if (!m || !well_addressed(ip, *m) || !ip.interface->netif->info().ethernet) {
        return drop(p, d.counters.nd_in_malformed);
    }
    switch (m->type) {
    case wire::nd_neighbor_solicitation:
        take_solicitation(d, ip, *m, p);
        break;
    case wire::nd_neighbor_advertisement:
        take_advertisement(d, ip, *m);
        break;
    default:
        if (m->type == wire::nd_redirect && !nd_redirect_believable(d, *ip.interface, ip.source, *m)) {
            return drop(p, d.counters.nd_redirects_refused);
        }
        count(m->type == wire::nd_redirect ? d.counters.nd_in_redirects : d.counters.nd_in_routers);
        p.push(static_cast<std::uint32_t>(p.data - p.l3));
        if (!base::planted(base::Plant::advertisement_kept_here)) {
            tell_all_cpus(d, p, router_dispatch);
        }
        nd_router_message(d, *ip.interface, ip.source, *m);
    }
    p.free();
}

void mld_input(Domain& d, const IpIn& ip, netmsg::Packet& p)
{
    base::assert_on(d.cpu.owner());
    wire::Ipv6Chain chain;
    auto headers = static_cast<std::uint32_t>(p.data - p.l3);
    auto h = wire::parse_ipv6_quote(p.l3, headers);
    bool walked = h && wire::walk_ipv6_chain(p.l3, headers, *h, chain).fault == wire::ChainFault::none;
    auto q = p.pullup(p.total()) ? wire::parse_mld_query(p.data, p.size) : std::nullopt;
    // RFC 3810 6.2: from the link, by a router
    bool believed = walked && chain.router_alert && ip.ttl == 1 && ip.source.is_link_local_v6();
    if (!q || !believed || !ip.interface->netif->info().ethernet) {
        return drop(p, d.counters.nd_in_malformed);
    }
    if (q->version == 1) {
        group_tell_version(d, p, true);
    }
    group_query(d, *ip.interface, true, *q);
    p.free();
}

namespace {

// RFC 4861 7.2.2: that of the packet which waits, so that the neighbour need not ask for it when it answers.
base::IpAddr soliciting_source(Domain& d, const Interface& out, const NeighborEntry& e)
{
    constexpr std::uint32_t source_at = 8;
    const auto* p = static_cast<const netmsg::Packet*>(e.waiting.front());
    if (p != nullptr && p->size >= source_at + 16) {
        base::IpAddr source = base::IpAddr::v6(p->data + source_at).in_zone(out.index);
        const Ipv6Address* own = ipv6_find_address(d, source, out.index);
        if (own != nullptr && own->usable(d.now())) {
            return source;
        }
    }
    return ipv6_source(d, out, e.address);
}

} // namespace

void nd_solicit(Domain& d, const NeighborEntry& e)
{
    Interface& out = d.stack.interface(e.interface);
    wire::NdMessage m;
    m.type = wire::nd_neighbor_solicitation;
    m.target = e.address.on_wire();
    base::IpAddr source = soliciting_source(d, out, e);
    if (source.is_any()) {
        return; // nobody could answer
    }
    m.mac = out.netif->info().mac;
    bool by_unicast = e.status == NeighborStatus::probing; // RFC 4861 7.3.3
    nd_send(d, out, source, by_unicast ? e.address : wire::solicited_node(e.address), by_unicast ? &e.mac : nullptr, m);
}

} // namespace protocols
