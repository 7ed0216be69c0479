#include "protocols/ip.hpp"

#include "netmsg/gso.hpp"
#include "protocols/netif_output.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/udp.hpp"

namespace protocols {

namespace {

constexpr std::uint8_t hops_max = 4; // arrival, fragment owner, flow owner, and one for a table that changed

} // namespace

bool forward_to_cpu(Domain& d, base::CpuId to, netmsg::Packet& p, lwkt::Message::Dispatch next, lwkt::Shed shed)
{
    if (p.hops >= hops_max) {
        drop(p, d.counters.steer_hops);
        return false;
    }
    ++p.hops;
    p.dispatch = next;
    p.reply_port = &d.stack.domain(to).port;
    p.cls = lwkt::Class::net;
    if (!d.cpu.try_send(to, p, shed)) {
        drop(p, d.counters.steer_shed);
        return false;
    }
    count(d.counters.steer_forwarded);
    return true;
}

Domain& forwarded_domain(lwkt::Message& m)
{
    Domain& d = static_cast<DomainPort*>(m.reply_port)->domain;
    base::assert_on(d.cpu.owner());
    return d;
}

Interface& received_on(Domain& d, const netmsg::Packet& p)
{
    return d.stack.interface(p.netif->info().index);
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
        all &= forward_to_cpu(d, static_cast<base::CpuId>(cpu), *copy, next, lwkt::Shed::last);
    }
    return all;
}

void ip_loop(Domain& d, const Route& route, const netmsg::Packet& p, lwkt::Message::Dispatch next)
{
    netmsg::Packet* copy = d.stack.pool().clone(p);
    if (copy == nullptr) {
        return count(d.counters.ip_out_no_memory);
    }
    copy->netif = route.interface->netif;
    copy->stamp = d.now();
    copy->broadcast = true;
    copy->csum = netmsg::Csum::valid; // never left this host
    copy->hops = 0;
    forward_to_cpu(d, d.id(), *copy, next);
}

bool checksum_correct(const IpIn& ip, std::uint8_t protocol, const netmsg::Packet& p)
{
    wire::Checksum sum = wire::pseudo_header(ip.source, ip.destination, protocol, p.total());
    iovec pieces[netmsg::packet_pieces_max + 1];
    sum.add(pieces, p.span(0, p.total(), pieces));
    return sum.correct();
}

std::uint32_t longest_cut(const netmsg::Packet& p, std::uint32_t ip_header_bytes)
{
    constexpr std::uint32_t tcp_offset_at = 12;
    bool udp = p.gso == netmsg::Gso::udp;
    std::uint32_t tcp = udp ? 0 : (std::to_integer<std::uint32_t>(p.data[tcp_offset_at]) >> 4) * 4;
    return ip_header_bytes + (udp ? wire::udp_header_bytes : tcp) + p.gso_size;
}

bool transmit_without_link(Domain& d, const Route& route, netmsg::Packet& p)
{
    const netmsg::NetifInfo& info = route.interface->netif->info();
    if (p.csum == netmsg::Csum::partial && !info.tx_csum && !netmsg::cut_in_software(info, p.gso)) {
        count(d.counters.ip_out_checksum);
        INVARIANT(netmsg::finish_checksum(p)); // its header is ours
    }
    if (info.ethernet) {
        return false;
    }
    netif_output(*route.interface, p);
    return true;
}

} // namespace protocols
