// The neighbour table: lookup on the fast path (one hash, one compare), the states of an entry and its retries, the
// packets that wait. Owner: the domain's CPU.
#include "base/endian.hpp"
#include "protocols/dead_gateways.hpp"
#include "protocols/icmp.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/neighbor.hpp"
#include "protocols/netif_output.hpp"
#include "protocols/wire/ethernet.hpp"

namespace protocols {

namespace {

NeighborEntry*& bucket(Domain& d, std::uint32_t interface, const base::IpAddr& address)
{
    std::uint64_t hash;
    if (address.is_v4()) {
        std::uint32_t key[2] = {address.v4(), interface};
        hash = base::siphash(d.table_key, key, sizeof key);
    } else {
        hash = base::siphash(d.table_key, address.bytes(), 16) + interface;
    }
    return d.neighbors->table[hash % NeighborTable::buckets];
}

bool in_doubt(NeighborStatus s)
{
    return s == NeighborStatus::delaying || s == NeighborStatus::probing;
}

void set_status(NeighborEntry& e, NeighborStatus s)
{
    Domain& d = e.domain;
    d.neighbors_in_doubt += (in_doubt(s) ? 1U : 0U) - (in_doubt(e.status) ? 1U : 0U);
    d.neighbors->resolving_count +=
        (s == NeighborStatus::incomplete ? 1U : 0U) - (e.status == NeighborStatus::incomplete ? 1U : 0U);
    e.status = s;
}

// The first of those that wait; null = none does.
netmsg::Packet* pop(NeighborEntry& e)
{
    auto* p = static_cast<netmsg::Packet*>(e.waiting.pop());
    if (p != nullptr) {
        e.waiting_bytes -= p->total();
        --e.domain.neighbors->waiting_count;
    }
    return p;
}

void push(NeighborEntry& e, netmsg::Packet& p)
{
    e.waiting.push(p);
    e.waiting_bytes += p.total();
    ++e.domain.neighbors->waiting_count;
}

// More than a neighbour's share: as large a datagram as there is may wait in fragments, and sixteen packets always.
bool too_many_wait(const NeighborEntry& e)
{
    auto n = e.waiting.size();
    bool more_allowed = n <= neighbor_queue_max && e.waiting_bytes <= neighbor_queue_bytes_max &&
                        e.domain.neighbors->waiting_count <= neighbors_waiting_max;
    return n > neighbor_queue_least && !more_allowed;
}

void ask(Domain& d, NeighborEntry& e)
{
    bool v4 = e.address.is_v4();
    d.wheel.arm(e, d.now() + (v4 ? neighbor_retry : d.ipv6->link(e.interface).retransmit));
    if (!d.neighbors->requests.take(d.now())) {
        count(d.counters.neighbor_rate_limited); // asked again at the retry
        return;
    }
    ++e.attempts;
    if (v4) {
        arp_solicit(d, e);
    } else {
        nd_solicit(d, e);
    }
}

// Ends the entry; its queue must be empty.
void end(Domain& d, NeighborEntry& e)
{
    INVARIANT(e.waiting.empty());
    NeighborEntry** at = &bucket(d, e.interface, e.address);
    while (*at != &e) {
        at = &(*at)->chain;
    }
    *at = e.chain;
    d.wheel.cancel(e);
    set_status(e, NeighborStatus::unused);
    e.link.unlink();
    d.neighbors->unused.push_back(e);
}

// RFC 1122 3.2.1.3, RFC 4862 5.5.4: of a packet that waited the source may have gone meanwhile; then it goes too.
bool drop_without_source(Domain& d, const Interface& out, bool v4, netmsg::Packet& p)
{
    constexpr std::uint32_t source_v4_at = 12;
    constexpr std::uint32_t source_v6_at = 8;
    INVARIANT(p.size >= (v4 ? source_v4_at + 4 : source_v6_at + 16)); // we made its header
    base::IpAddr source = v4 ? base::IpAddr::v4(base::load_be32(p.data + source_v4_at))
                             : base::IpAddr::v6(p.data + source_v6_at).in_zone(out.index);
    if (source.is_any() || is_local(d, source)) {
        return false;
    }
    drop(p, d.counters.ip_out_no_route);
    return true;
}

// A packet that waited for a gateway in vain goes by another one if there is one now; false: the packet is the
// caller's.
bool send_elsewhere(Domain& d, const Interface& out, const base::IpAddr& instead_of, netmsg::Packet& p)
{
    constexpr std::uint32_t destination_v4_at = 16;
    constexpr std::uint32_t source_v6_at = 8;
    constexpr std::uint32_t destination_v6_at = 24;
    bool v4 = instead_of.is_v4();
    if (p.size < destination_v6_at + (v4 ? 0U : 16U)) {
        return false;
    }
    Route route;
    base::IpAddr to = v4 ? base::IpAddr::v4(base::load_be32(p.data + destination_v4_at))
                         : base::IpAddr::v6(p.data + destination_v6_at).in_zone(out.index);
    base::IpAddr from = v4 ? base::IpAddr{} : base::IpAddr::v6(p.data + source_v6_at);
    // Another interface may have other offloads than the packet was made for.
    if (!route_lookup(d, to, route, from) || route.next_hop == instead_of || route.interface != &out) {
        return false;
    }
    v4 ? ipv4_transmit(d, route, p) : ipv6_transmit(d, route, p);
    return true;
}

// Nobody answered: the entry ends and whoever waited hears of it (RFC 1122 2.3.2.2, 3.3.1.4; RFC 4861 7.2.2).
void fail(Domain& d, NeighborEntry& e)
{
    count(d.counters.neighbor_failed);
    netmsg::PacketQueue orphans;
    while (netmsg::Packet* p = pop(e)) {
        orphans.push(*p);
    }
    Interface& out = d.stack.interface(e.interface);
    base::IpAddr address = e.address;
    end(d, e); // first: what a socket sends in answer asks anew
    gateway_failed(d, out.index, address);
    if (!address.is_v4()) {
        ipv6_next_hop_failed(d, out.index, address);
    }
    while (auto* p = static_cast<netmsg::Packet*>(orphans.pop())) {
        p->netif = out.netif;
        if (drop_without_source(d, out, address.is_v4(), *p)) {
            continue;
        }
        if (send_elsewhere(d, out, address, *p)) {
            continue;
        }
        icmp_local_unreachable(d, *p, wire::unreachable_host);
        p->free();
    }
}

void on_timer(lwkt::Timer& t)
{
    auto& e = static_cast<NeighborEntry&>(t);
    if (e.status == NeighborStatus::delaying) {
        set_status(e, NeighborStatus::probing);
        e.attempts = 0;
        ask(e.domain, e);
    } else if (e.attempts >= neighbor_attempts_max) {
        fail(e.domain, e);
    } else {
        ask(e.domain, e);
    }
}

// Room for another entry: the neighbour whose confirmation is the oldest goes.
bool evict(Domain& d)
{
    NeighborEntry* oldest = d.neighbors->known.front();
    if (oldest == nullptr) {
        return false;
    }
    count(d.counters.neighbor_evicted);
    end(d, *oldest);
    return true;
}

enum class Asked : std::uint8_t { yes, no };

// A new entry in state incomplete; null when the table is full of resolutions. One that need not be asked for, since
// its link-layer address is known, is none (RFC 6583: those that exist go before a scan).
NeighborEntry* make(Domain& d, std::uint32_t interface, const base::IpAddr& address, Asked asked)
{
    NeighborTable& s = *d.neighbors;
    bool too_many = asked == Asked::yes && s.resolving_count >= neighbors_resolving_max;
    if (too_many || (s.unused.empty() && !evict(d))) {
        count(d.counters.neighbor_table_full);
        return nullptr;
    }
    NeighborEntry& e = *s.unused.pop_front();
    e.address = address;
    e.interface = interface;
    set_status(e, NeighborStatus::incomplete);
    e.attempts = 0;
    e.router = false;
    NeighborEntry*& head = bucket(d, interface, address);
    e.chain = head;
    head = &e;
    s.resolving.push_back(e);
    return &e;
}

// The entry's address is known and, until `fresh_until`, confirmed; what waits is sent.
void settle(Domain& d, NeighborEntry& e, base::Instant fresh_until)
{
    set_status(e, NeighborStatus::reachable);
    e.attempts = 0;
    e.fresh_until = fresh_until;
    d.wheel.cancel(e);
    e.link.unlink();
    d.neighbors->known.push_back(e);
    gateway_answered(d, e.interface, e.address);
    std::uint16_t type = e.address.is_v4() ? wire::ethertype_ipv4 : wire::ethertype_ipv6;
    Interface& out = d.stack.interface(e.interface);
    while (netmsg::Packet* p = pop(e)) {
        if (!drop_without_source(d, out, e.address.is_v4(), *p)) {
            link_transmit(out, e.mac, type, *p);
        }
    }
}

void confirm(Domain& d, NeighborEntry& e)
{
    // RFC 4861 6.3.2: between 0.5 and 1.5 times the base, so that hosts do not ask in step.
    base::Micros reachable = e.address.is_v4() ? neighbor_reachable : d.ipv6->link(e.interface).reachable;
    auto base_us = static_cast<std::uint32_t>(reachable.count());
    settle(d, e, d.now() + reachable / 2 + base::Micros{d.random.below(base_us)});
}

void make_stale(Domain& d, NeighborEntry& e)
{
    settle(d, e, d.now() - base::Micros{1});
}

// Pieces may lie in a socket's ring, which does not wait for a neighbour.
netmsg::Packet* own_bytes(Domain& d, netmsg::Packet& p)
{
    if (p.piece_count == 0 || p.large != nullptr) {
        return &p;
    }
    netmsg::Packet* copy = d.stack.pool().clone(p);
    p.free();
    return copy;
}

// True when it was not known.
bool take_router_flag(Domain& d, NeighborEntry& e, const NeighborNews& n)
{
    if (!n.says_router || e.router == n.router) {
        return false;
    }
    e.router = n.router;
    if (!n.router) {
        nd_router_lost(d, n.interface, n.address);
    }
    return true;
}

// RFC 4861 7.2.5, for an entry whose address is known. True when something changed.
bool revise(Domain& d, NeighborEntry& e, const NeighborNews& n)
{
    bool differs = n.has_mac && n.mac != e.mac;
    if (differs && !n.replaces) {
        if (e.status != NeighborStatus::reachable || e.fresh_until < d.now()) {
            return false;
        }
        make_stale(d, e); // somebody doubts it
        return true;
    }
    bool changed = take_router_flag(d, e, n) || differs;
    if (differs) {
        e.mac = n.mac;
    }
    if (n.confirmed) {
        confirm(d, e);
    } else if (differs) {
        make_stale(d, e);
    }
    return changed;
}

void news_dispatch(lwkt::Message& m)
{
    Domain& d = forwarded_domain(m);
    auto& p = static_cast<netmsg::Packet&>(m);
    NeighborNews n;
    std::memcpy(static_cast<void*>(&n), p.data, sizeof n);
    p.free();
    count(d.counters.neighbor_updates_in);
    neighbor_take(d, n);
}

} // namespace

NeighborEntry::NeighborEntry(Domain& d) : lwkt::Timer(on_timer), domain(d)
{
}

NeighborTable::NeighborTable(Domain& d) : requests(500, 100), updates(1000, 200)
{
    for (unsigned i = 0; i < neighbors_max; ++i) {
        unused.push_back(entries.emplace_back(d));
    }
}

NeighborEntry* neighbor_find(Domain& d, std::uint32_t interface, const base::IpAddr& address)
{
    NeighborEntry* e = bucket(d, interface, address);
    while (e != nullptr && (e->address != address || e->interface != interface)) {
        e = e->chain;
    }
    return e;
}

const base::MacAddr* neighbor_lookup(Domain& d, Interface& out, const base::IpAddr& next_hop)
{
    NeighborEntry* e = neighbor_find(d, out.index, next_hop);
    if (e == nullptr || e->status == NeighborStatus::incomplete) {
        return nullptr;
    }
    if (e->fresh_until < d.now() && e->status == NeighborStatus::reachable) {
        e->attempts = 0;
        if (next_hop.is_v4()) {
            set_status(*e, NeighborStatus::probing);
            ask(d, *e);
        } else {
            set_status(*e, NeighborStatus::delaying); // RFC 4861 7.3.3
            d.wheel.arm(*e, d.now() + neighbor_first_probe);
        }
    }
    return &e->mac;
}

bool neighbor_works(Domain& d, std::uint32_t interface, const base::IpAddr& address)
{
    const NeighborEntry* e = neighbor_find(d, interface, address);
    return e != nullptr && e->status != NeighborStatus::incomplete;
}

void neighbor_ask(Domain& d, std::uint32_t interface, const base::IpAddr& address)
{
    if (neighbor_find(d, interface, address) != nullptr) {
        return;
    }
    if (NeighborEntry* e = make(d, interface, address, Asked::yes); e != nullptr) {
        ask(d, *e);
    }
}

void neighbor_doubt(Domain& d, std::uint32_t interface, const base::IpAddr& address)
{
    NeighborEntry* e = neighbor_find(d, interface, address);
    if (e == nullptr || (e->status != NeighborStatus::reachable && e->status != NeighborStatus::delaying)) {
        return; // it is being asked
    }
    count(d.counters.neighbor_doubted);
    set_status(*e, NeighborStatus::probing);
    e->attempts = 0;
    ask(d, *e);
}

void neighbor_confirm(Domain& d, std::uint32_t interface, const base::IpAddr& address)
{
    NeighborEntry* e = neighbor_find(d, interface, address);
    if (e != nullptr && in_doubt(e->status)) {
        count(d.counters.neighbor_confirmed);
        confirm(d, *e);
    }
}

void neighbor_resolve(Domain& d, Interface& out, const base::IpAddr& next_hop, netmsg::Packet& p)
{
    NeighborEntry* e = neighbor_find(d, out.index, next_hop);
    bool unknown = e == nullptr;
    if (unknown) {
        e = make(d, out.index, next_hop, Asked::yes);
        if (e == nullptr) {
            p.free();
            return;
        }
    }
    netmsg::Packet* own = own_bytes(d, p);
    if (own == nullptr) {
        count(d.counters.neighbor_queue_dropped);
    } else {
        count(d.counters.neighbor_queued);
        push(*e, *own);
    }
    if (unknown) {
        ask(d, *e); // from the address that what waits has
    }
    while (too_many_wait(*e)) {
        count(d.counters.neighbor_queue_dropped);
        pop(*e)->free(); // RFC 1122 2.3.2.2, RFC 4861 7.2.2: at least the latest packet is kept
    }
}

bool neighbor_take(Domain& d, const NeighborNews& n)
{
    NeighborEntry* e = neighbor_find(d, n.interface, n.address);
    if (e == nullptr) {
        e = n.create && n.has_mac ? make(d, n.interface, n.address, Asked::no) : nullptr;
        if (e == nullptr) {
            return false;
        }
    }
    bool waited = e->status == NeighborStatus::incomplete;
    if (waited && !n.has_mac) {
        return false; // RFC 4861 7.2.5
    }
    bool changed = true;
    if (!waited) {
        changed = revise(d, *e, n);
    } else {
        take_router_flag(d, *e, n);
        e->mac = n.mac;
        n.confirmed ? confirm(d, *e) : make_stale(d, *e);
    }
    if (changed) {
        count(d.counters.neighbor_learned);
    }
    if (waited && !n.create) { // the answer to our question came in elsewhere: now everybody may know
        NeighborNews for_all = n;
        for_all.create = true;
        neighbor_tell_others(d, for_all);
    }
    return changed;
}

void neighbor_tell_others(Domain& d, const NeighborNews& n)
{
    if (d.stack.cpus() == 1) {
        return;
    }
    if (!d.neighbors->updates.take(d.now())) {
        count(d.counters.neighbor_updates_shed); // the others ask for themselves when they need it
        return;
    }
    for (std::size_t cpu = 0; cpu < d.stack.cpus(); ++cpu) {
        if (cpu == d.id()) {
            continue;
        }
        netmsg::Packet* p = d.stack.pool().allocate();
        if (p == nullptr) {
            count(d.counters.neighbor_updates_shed);
            return;
        }
        static_assert(std::is_trivially_copyable_v<NeighborNews>);
        std::memcpy(p->put(sizeof n), &n, sizeof n);
        forward_to_cpu(d, static_cast<base::CpuId>(cpu), *p, news_dispatch, lwkt::Shed::last);
    }
}

} // namespace protocols
