// The ARP table: lookup on the fast path (one hash, one compare), the states of an entry and its retries, the packets
// that wait. Owner: the domain's CPU.
#include "protocols/arp_table.hpp"

#include "protocols/icmp.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/wire/ethernet.hpp"

namespace protocols {

namespace {

ArpEntry*& bucket(Domain& d, std::uint32_t interface, std::uint32_t address)
{
    std::uint32_t key[2] = {address, interface};
    return d.arp->table[base::siphash(d.table_key, key, sizeof key) % ArpState::buckets];
}

Interface& interface_of(Domain& d, const ArpEntry& e)
{
    return *d.stack.interfaces()[e.interface - 1];
}

netmsg::Packet* pop(netmsg::PacketQueue& q)
{
    return static_cast<netmsg::Packet*>(q.pop());
}

// Nobody answered: the entry ends and whoever waited hears of it (RFC 1122 2.3.2.2, 3.3.1.4).
void fail(Domain& d, ArpEntry& e)
{
    count(d.counters.arp_failed);
    netmsg::PacketQueue orphans;
    while (netmsg::Packet* p = pop(e.waiting)) {
        orphans.push(*p);
    }
    arp_end(d, e); // first: what a socket sends in answer asks anew
    while (netmsg::Packet* p = pop(orphans)) {
        icmp_local_unreachable(d, *p, wire::unreachable_host);
        p->free();
    }
}

void on_retry(lwkt::Timer& t)
{
    auto& e = static_cast<ArpEntry&>(t);
    if (e.attempts >= arp_attempts_max) {
        fail(e.domain, e);
    } else {
        arp_ask(e.domain, e);
    }
}

// Room for another entry: the neighbour whose confirmation is the oldest goes.
bool evict(Domain& d)
{
    ArpEntry* oldest = d.arp->known.front();
    if (oldest == nullptr) {
        return false;
    }
    count(d.counters.arp_evicted);
    arp_end(d, *oldest);
    return true;
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

} // namespace

ArpEntry::ArpEntry(Domain& d) : lwkt::Timer(on_retry), domain(d)
{
}

ArpState::ArpState(Domain& d) : requests(500, 100), updates(1000, 200)
{
    for (unsigned i = 0; i < arp_entries_max; ++i) {
        unused.push_back(entries.emplace_back(d));
    }
}

ArpEntry* arp_find(Domain& d, std::uint32_t interface, std::uint32_t address)
{
    ArpEntry* e = bucket(d, interface, address);
    while (e != nullptr && (e->address != address || e->interface != interface)) {
        e = e->chain;
    }
    return e;
}

ArpEntry* arp_make(Domain& d, std::uint32_t interface, std::uint32_t address)
{
    ArpState& s = *d.arp;
    if (s.resolving_count >= arp_resolving_max || (s.unused.empty() && !evict(d))) {
        count(d.counters.arp_table_full);
        return nullptr;
    }
    ArpEntry& e = *s.unused.pop_front();
    e.address = address;
    e.interface = interface;
    e.status = ArpStatus::incomplete;
    e.attempts = 0;
    ArpEntry*& head = bucket(d, interface, address);
    e.chain = head;
    head = &e;
    s.resolving.push_back(e);
    ++s.resolving_count;
    return &e;
}

void arp_end(Domain& d, ArpEntry& e)
{
    INVARIANT(e.waiting.empty());
    ArpEntry** at = &bucket(d, e.interface, e.address);
    while (*at != &e) {
        at = &(*at)->chain;
    }
    *at = e.chain;
    d.wheel.cancel(e);
    if (e.status == ArpStatus::incomplete) {
        --d.arp->resolving_count;
    }
    e.status = ArpStatus::unused;
    e.link.unlink();
    d.arp->unused.push_back(e);
}

void arp_confirm(Domain& d, ArpEntry& e, const base::MacAddr& mac)
{
    if (e.status == ArpStatus::incomplete) {
        --d.arp->resolving_count;
    }
    e.mac = mac;
    e.status = ArpStatus::reachable;
    e.attempts = 0;
    // RFC 4861 6.3.2: between 0.5 and 1.5 times the base, so that hosts do not ask in step.
    auto base_us = static_cast<std::uint32_t>(arp_reachable.count());
    e.fresh_until = d.now() + arp_reachable / 2 + base::Micros{d.random.below(base_us)};
    d.wheel.cancel(e);
    e.link.unlink();
    d.arp->known.push_back(e);
    Interface& out = interface_of(d, e);
    while (netmsg::Packet* p = pop(e.waiting)) {
        link_transmit(out, e.mac, wire::ethertype_ipv4, *p);
    }
}

void arp_ask(Domain& d, ArpEntry& e)
{
    d.wheel.arm(e, d.now() + arp_retry);
    if (!d.arp->requests.take(d.now())) {
        count(d.counters.arp_rate_limited); // asked again at the retry
        return;
    }
    ++e.attempts;
    Interface& out = interface_of(d, e);
    std::uint32_t source = interface_source(out, base::IpAddr::v4(e.address)).v4();
    count(d.counters.arp_out_requests);
    base::MacAddr to = e.status == ArpStatus::probing ? e.mac : base::MacAddr::broadcast();
    arp_transmit(d, out, to, {wire::arp_request, out.netif->info().mac, source, base::MacAddr{}, e.address});
}

const base::MacAddr* arp_lookup(Domain& d, Interface& out, std::uint32_t next_hop)
{
    ArpEntry* e = arp_find(d, out.index, next_hop);
    if (e == nullptr || e->status == ArpStatus::incomplete) {
        return nullptr;
    }
    if (e->fresh_until < d.now() && e->status == ArpStatus::reachable) {
        e->status = ArpStatus::probing;
        e->attempts = 0;
        arp_ask(d, *e);
    }
    return &e->mac;
}

void arp_resolve(Domain& d, Interface& out, std::uint32_t next_hop, netmsg::Packet& p)
{
    ArpEntry* e = arp_find(d, out.index, next_hop);
    if (e == nullptr) {
        e = arp_make(d, out.index, next_hop);
        if (e == nullptr) {
            p.free();
            return;
        }
        arp_ask(d, *e);
    }
    netmsg::Packet* own = own_bytes(d, p);
    if (own == nullptr) {
        count(d.counters.arp_queue_dropped);
        return;
    }
    count(d.counters.arp_queued);
    e->waiting.push(*own);
    if (e->waiting.size() > arp_queue_max) {
        count(d.counters.arp_queue_dropped);
        pop(e->waiting)->free(); // RFC 1122 2.3.2.2: at least the latest packet is kept
    }
}

void link_transmit(Interface& out, const base::MacAddr& to, std::uint16_t type, netmsg::Packet& p)
{
    wire::emit_ethernet(p.push(wire::ethernet_header_bytes), {to, out.netif->info().mac, type});
    p.csum_start = static_cast<std::uint16_t>(p.csum_start + wire::ethernet_header_bytes);
    p.netif = out.netif;
    p.netif->transmit(p);
}

} // namespace protocols
