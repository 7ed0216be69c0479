// Fragmentation on output (RFC 791 3.2): a datagram longer than the route's MTU is copied into packets of its own per
// fragment, so the original's pieces (a socket's ring) are free at once.
#include "netmsg/gso.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv4.hpp"

namespace protocols {

namespace {

// One fragment with payload [offset, offset + bytes) of p; null without memory.
netmsg::Packet* make_fragment(
    Domain& d, wire::Ipv4Header h, const netmsg::Packet& p, std::uint32_t offset, std::uint32_t bytes)
{
    netmsg::Packet* f = d.stack.pool().allocate();
    if (f == nullptr) {
        return nullptr;
    }
    h.total_bytes = static_cast<std::uint16_t>(wire::ipv4_header_bytes + bytes);
    h.fragment_offset = static_cast<std::uint16_t>(offset);
    h.more_fragments = wire::ipv4_header_bytes + offset + bytes < p.total();
    wire::emit_ipv4(f->put(wire::ipv4_header_bytes), h);
    f->l3 = f->data;
    f->csum = netmsg::Csum::valid;
    if (!d.stack.pool().append(*f, p, wire::ipv4_header_bytes + offset, bytes)) {
        f->free();
        return nullptr;
    }
    return f;
}

} // namespace

base::Error ipv4_fragment(Domain& d, const Route& route, const wire::Ipv4Header& h, netmsg::Packet& p)
{
    if (p.csum == netmsg::Csum::partial) { // no device can do it over several packets
        INVARIANT(netmsg::finish_checksum(p));
    }
    INVARIANT(route.mtu >= wire::ipv4_header_bytes + 8);
    std::uint32_t payload = p.total() - wire::ipv4_header_bytes;
    std::uint32_t step = (route.mtu - wire::ipv4_header_bytes) & ~7U;
    count(d.counters.frag_out_datagrams);
    for (std::uint32_t offset = 0; offset < payload; offset += step) {
        netmsg::Packet* f = make_fragment(d, h, p, offset, std::min(step, payload - offset));
        if (f == nullptr) {
            return refuse(p, d.counters.ip_out_no_memory, base::Error::no_buffers);
        }
        count(d.counters.frag_out_created);
        ipv4_transmit(d, route, *f);
    }
    p.free();
    return base::Error::none;
}

} // namespace protocols
