// ARP packets (RFC 826 "Packet Reception"): answer what asks for us, learn from those who talk to us, update those we
// know, and tell the other CPUs. Runs on the CPU of arrival; questions go out on the CPU that asks.
#include <algorithm>
#include <cstring>

#include "protocols/arp.hpp"
#include "protocols/dhcp/dhcp_client.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/netif_output.hpp"
#include "protocols/wire/arp.hpp"
#include "protocols/wire/ethernet.hpp"

namespace protocols {

namespace {

void transmit(Domain& d, Interface& out, const base::MacAddr& to, const wire::Arp& a)
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

bool has_address(const Domain& d, const Interface& in, std::uint32_t address)
{
    const Ipv4Address* own = ipv4_find_address(d, address, in.index);
    return own != nullptr && !own->tentative;
}

bool tentative(const Domain& d, const Interface& in, std::uint32_t address)
{
    const auto& all = d.ipv4->addresses;
    return std::any_of(all.begin(), all.end(),
        [&](const Ipv4Address& own) { return own.addr == address && own.interface == in.index && own.tentative; });
}

void request(Domain& d, Interface& out, const base::MacAddr& to, std::uint32_t source, std::uint32_t target)
{
    count(d.counters.arp_out_requests);
    transmit(d, out, to, {wire::arp_request, out.netif->info().mac, source, base::MacAddr{}, target});
}

// Whoever was asked may answer, wherever routes say it is; who only talks to us is learned of if it is on the link.
void learn(Domain& d, const Interface& in, const wire::Arp& a, bool for_us)
{
    bool on_link = ipv4_on_link(d, in, a.sender_v4);
    if (!on_link) {
        count(d.counters.arp_off_link);
    }
    NeighborNews news;
    news.interface = in.index;
    news.address = base::IpAddr::v4(a.sender_v4);
    news.mac = a.sender_mac;
    news.create = a.operation == wire::arp_request && for_us && on_link;
    bool changed = neighbor_take(d, news);
    bool answer_to_us = a.operation == wire::arp_reply && for_us; // perhaps to another CPU's question
    if (changed || answer_to_us) {
        neighbor_tell_others(d, news);
    }
}

// An address that nobody can have (RFC 1122 3.2.1.3).
bool no_host(const Domain& d, std::uint32_t address)
{
    return ipv4_is_broadcast(d, address) || address >> 24 == 127;
}

void input(Domain& d, Interface& in, const wire::Arp& a)
{
    count(a.operation == wire::arp_request ? d.counters.arp_in_requests : d.counters.arp_in_replies);
    if (a.sender_mac == in.netif->info().mac) {
        return; // our own broadcast came back
    }
    bool wanted = a.sender_v4 == 0 && tentative(d, in, a.target_v4) && !has_address(d, in, a.target_v4);
    if (tentative(d, in, a.sender_v4) || wanted) {
        return dhcp_conflict(
            d, in, a.sender_v4 != 0 ? a.sender_v4 : a.target_v4); // RFC 5227 2.1.1: it has it, or wants it
    }
    if (has_address(d, in, a.sender_v4)) {
        count(d.counters.arp_conflicts); // RFC 5227 2.4: somebody else uses our address
        return;
    }
    // Of any interface: the weak host model, as Linux (arp_ignore 0). 127/8 is on no link.
    bool for_us = ipv4_is_local(d, a.target_v4) && a.target_v4 >> 24 != 127;
    if (a.sender_v4 != 0) { // 0 is a probe (RFC 5227 2.1.1), which teaches nothing
        if (no_host(d, a.sender_v4)) {
            return count(d.counters.arp_off_link);
        }
        if (ipv4_is_local(d, a.sender_v4)) {
            return; // of another interface of ours: on this link it is nobody's
        }
        learn(d, in, a, for_us);
    }
    if (for_us && a.operation == wire::arp_request) { // of a stranger too: it has us for a neighbour
        count(d.counters.arp_out_replies);
        transmit(d, in, a.sender_mac, {wire::arp_reply, in.netif->info().mac, a.target_v4, a.sender_mac, a.sender_v4});
    }
}

} // namespace

void arp_solicit(Domain& d, const NeighborEntry& e)
{
    Interface& out = d.stack.interface(e.interface);
    std::uint32_t source = interface_source(d, out, e.address).v4();
    base::MacAddr to = e.status == NeighborStatus::probing ? e.mac : base::MacAddr::broadcast();
    request(d, out, to, source, e.address.v4());
}

void arp_probe(Domain& d, Interface& out, std::uint32_t address)
{
    request(d, out, base::MacAddr::broadcast(), 0, address);
}

void arp_announce(Domain& d, Interface& out, std::uint32_t address)
{
    request(d, out, base::MacAddr::broadcast(), address, address);
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
