// What the DHCP client sends (RFC 2131 4.4.1, table 5), and the datagrams that carry it: also from 0.0.0.0, which no
// socket can. Owner: the domain's CPU.
#include <algorithm>
#include <cstring>

#include "base/endian.hpp"
#include "protocols/dhcp/dhcp_client.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/udp.hpp"

namespace protocols {

namespace {

wire::DhcpMessage message(const DhcpClient& c, wire::DhcpType type)
{
    wire::DhcpMessage m;
    m.type = type;
    m.xid = c.xid;
    m.mac = c.in.netif->info().mac;
    m.asks = true;
    auto since = (c.domain.now() - c.began) / base::seconds(1);
    m.seconds = static_cast<std::uint16_t>(std::min<std::int64_t>(since, 0xffff));
    if (c.phase == DhcpPhase::requesting) {
        m.seconds = c.seconds;
    }
    return m;
}

void send(DhcpClient& c, const wire::DhcpMessage& m, std::uint32_t source, std::uint32_t destination)
{
    Domain& d = c.domain;
    IpOut ip;
    ip.source = base::IpAddr::v4(source);
    ip.destination = base::IpAddr::v4(destination);
    ip.protocol = wire::protocol_udp;
    ip.dont_fragment = false;
    Route route{&c.in, ip.destination, ip.source, c.in.netif->info().mtu};
    if (destination != limited_broadcast && !route_lookup_by(d, ip.destination, c.in.index, route)) {
        return count(d.counters.ip_out_no_route); // asked again later, and by broadcast in the end
    }
    netmsg::Packet* p = d.stack.pool().allocate();
    if (p == nullptr) {
        return count(d.counters.ip_out_no_memory);
    }
    unsigned char bytes[wire::dhcp_emit_max];
    std::uint32_t size = wire::emit_dhcp(bytes, m);
    auto length = static_cast<std::uint16_t>(wire::udp_header_bytes + size);
    wire::emit_udp(p->put(wire::udp_header_bytes), {wire::dhcp_client_port, wire::dhcp_server_port, length, 0});
    std::memcpy(p->put(size), bytes, size);
    wire::Checksum sum = wire::pseudo_header(ip.source, ip.destination, wire::protocol_udp, length);
    sum.add(p->data, length);
    std::uint16_t value = sum.finish();
    base::store_be16(p->data + 6, value == 0 ? 0xffff : value);
    p->csum = netmsg::Csum::valid;
    count(d.counters.dhcp_out);
    ip_output(d, route, ip, *p);
}

} // namespace

void dhcp_send_discover(DhcpClient& c)
{
    wire::DhcpMessage m = message(c, wire::DhcpType::discover);
    m.broadcast = true; // a datagram to an address that is not ours yet would be dropped
    c.seconds = m.seconds;
    send(c, m, 0, limited_broadcast);
}

void dhcp_send_request(DhcpClient& c)
{
    wire::DhcpMessage m = message(c, wire::DhcpType::request);
    if (c.phase == DhcpPhase::requesting || c.phase == DhcpPhase::rebooting) {
        m.broadcast = true;
        m.requested = c.offered;
        m.server = c.offered_by; // 0, so not there, when rebooting (RFC 2131 4.3.2)
        return send(c, m, 0, limited_broadcast);
    }
    m.client = c.lease.own.addr;
    send(c, m, c.lease.own.addr, c.phase == DhcpPhase::renewing ? c.lease.server : limited_broadcast);
}

void dhcp_send_decline(DhcpClient& c)
{
    wire::DhcpMessage m = message(c, wire::DhcpType::decline);
    m.seconds = 0;
    m.requested = c.lease.own.addr;
    m.server = c.lease.server;
    send(c, m, 0, limited_broadcast);
}

void dhcp_send_release(DhcpClient& c)
{
    wire::DhcpMessage m = message(c, wire::DhcpType::release);
    m.seconds = 0;
    m.client = c.lease.own.addr;
    m.server = c.lease.server;
    send(c, m, c.lease.own.addr, c.lease.server);
}

} // namespace protocols
