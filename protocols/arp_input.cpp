// Received ARP packets (RFC 826 "Packet Reception"): answer what asks for us, learn from those who talk to us, update
// those we know, and tell the other CPUs. Runs on the CPU of arrival; updates run on every CPU.
#include <cstring>

#include "protocols/arp_table.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/wire/ethernet.hpp"

namespace protocols {

namespace {

// What one CPU learned, carried to another in a packet. m.
struct ArpUpdate {
    std::uint32_t interface;
    std::uint32_t address;
    base::MacAddr mac;
    bool create; // learned by an exchange with us; else only those who wait for it or know it take it
};

bool take_update(Domain& d, const ArpUpdate& u);

void update_dispatch(lwkt::Message& m)
{
    Domain& d = forwarded_domain(m);
    auto& p = static_cast<netmsg::Packet&>(m);
    ArpUpdate u;
    std::memcpy(&u, p.data, sizeof u);
    p.free();
    count(d.counters.arp_updates_in);
    take_update(d, u);
}

void tell_others(Domain& d, const ArpUpdate& u)
{
    if (d.stack.cpus() == 1) {
        return;
    }
    if (!d.arp->updates.take(d.now())) {
        count(d.counters.arp_updates_shed); // the others ask for themselves when they need it
        return;
    }
    for (std::size_t cpu = 0; cpu < d.stack.cpus(); ++cpu) {
        if (cpu == d.id()) {
            continue;
        }
        netmsg::Packet* p = d.stack.pool().allocate();
        if (p == nullptr) {
            count(d.counters.arp_updates_shed);
            return;
        }
        std::memcpy(p->put(sizeof u), &u, sizeof u);
        ipv4_forward(d, static_cast<base::CpuId>(cpu), *p, update_dispatch, lwkt::Shed::last);
    }
}

// True when this CPU's table changed by it.
bool take_update(Domain& d, const ArpUpdate& u)
{
    ArpEntry* e = arp_find(d, u.interface, u.address);
    if (e == nullptr) {
        e = u.create ? arp_make(d, u.interface, u.address) : nullptr;
        if (e == nullptr) {
            return false;
        }
    }
    bool waited = e->status == ArpStatus::incomplete;
    bool changed = waited || e->mac != u.mac;
    arp_confirm(d, *e, u.mac);
    if (changed) {
        count(d.counters.arp_learned);
    }
    if (waited && !u.create) { // the answer to our question came in elsewhere: now everybody may know
        tell_others(d, {u.interface, u.address, u.mac, true});
    }
    return changed;
}

bool has_address(const Interface& in, std::uint32_t address)
{
    for (const InterfaceAddress& a : in.addresses) {
        if (a.addr == base::IpAddr::v4(address)) {
            return true;
        }
    }
    return false;
}

bool on_link(const Interface& in, std::uint32_t address)
{
    for (const InterfaceAddress& a : in.addresses) {
        if (base::Prefix{a.addr, a.length}.contains(base::IpAddr::v4(address))) {
            return true;
        }
    }
    return false;
}

void learn(Domain& d, const Interface& in, const wire::Arp& a, bool for_us)
{
    bool request_to_us = a.operation == wire::arp_request && for_us;
    bool changed = take_update(d, {in.index, a.sender_v4, a.sender_mac, request_to_us});
    bool answer_to_us = a.operation == wire::arp_reply && for_us; // perhaps to another CPU's question
    if (changed || answer_to_us) {
        tell_others(d, {in.index, a.sender_v4, a.sender_mac, request_to_us});
    }
}

void input(Domain& d, Interface& in, const wire::Arp& a)
{
    count(a.operation == wire::arp_request ? d.counters.arp_in_requests : d.counters.arp_in_replies);
    if (a.sender_mac == in.netif->info().mac) {
        return; // our own broadcast came back
    }
    if (has_address(in, a.sender_v4)) {
        count(d.counters.arp_conflicts); // RFC 5227 2.4: somebody else uses our address
        return;
    }
    bool for_us = has_address(in, a.target_v4);
    if (a.sender_v4 != 0) { // 0 is a probe (RFC 5227 2.1.1), which teaches nothing
        if (!on_link(in, a.sender_v4) || ipv4_is_broadcast(d.stack, a.sender_v4)) {
            count(d.counters.arp_off_link);
            return;
        }
        learn(d, in, a, for_us);
    }
    if (for_us && a.operation == wire::arp_request) {
        count(d.counters.arp_out_replies);
        arp_transmit(
            d, in, a.sender_mac, {wire::arp_reply, in.netif->info().mac, a.target_v4, a.sender_mac, a.sender_v4});
    }
}

} // namespace

void arp_transmit(Domain& d, Interface& out, const base::MacAddr& to, const wire::Arp& a)
{
    netmsg::Packet* p = d.stack.pool().allocate();
    if (p == nullptr) {
        count(d.counters.ip_out_no_memory);
        return;
    }
    wire::emit_arp(p->put(wire::arp_bytes), a);
    p->csum = netmsg::Csum::valid;
    link_transmit(out, to, wire::ethertype_arp, *p);
}

void arp_input(Domain& d, Interface& in, netmsg::Packet& p)
{
    base::assert_on(d.cpu.owner());
    auto a = p.pullup(wire::arp_bytes) ? wire::parse_arp(p.data, p.size) : std::nullopt;
    p.free();
    if (!a) {
        count(d.counters.arp_malformed);
        return;
    }
    input(d, in, *a);
}

} // namespace protocols
