// See netif_output.hpp. Segmentation comes last, so that everything above it is done once for many segments (decision
// 0031). Runs on the CPU that sends.
#include "protocols/netif_output.hpp"

#include "netmsg/gso.hpp"
#include "protocols/wire/ethernet.hpp"

namespace protocols {

namespace {

[[gnu::noinline]] void cut(Interface& out, netmsg::Packet& super)
{
    Domain& d = out.stack->domain(base::current_cpu);
    netmsg::PacketQueue segments;
    std::uint32_t link = out.netif->info().ethernet ? wire::ethernet_header_bytes : 0;
    bool done = netmsg::gso_segment(super, link, d.stack.pool(), segments);
    super.free();
    if (!done) { // what TCP made has a sound header
        return count(d.counters.gso_no_memory);
    }
    count(d.counters.gso_cut);
    count(d.counters.gso_segments, segments.size());
    while (lwkt::Message* m = segments.pop()) {
        out.netif->transmit(static_cast<netmsg::Packet&>(*m));
    }
}

} // namespace

void netif_output(Interface& out, netmsg::Packet& p)
{
    p.netif = out.netif;
    if (netmsg::cut_in_software(out.netif->info(), p.gso)) {
        return cut(out, p);
    }
    out.netif->transmit(p);
}

void link_transmit(Interface& out, const base::MacAddr& to, std::uint16_t type, netmsg::Packet& p)
{
    wire::emit_ethernet(p.push(wire::ethernet_header_bytes), {to, out.netif->info().mac, type});
    p.csum_start = static_cast<std::uint16_t>(p.csum_start + wire::ethernet_header_bytes);
    netif_output(out, p);
}

} // namespace protocols
