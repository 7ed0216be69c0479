// See frame_flow.hpp.
#include "drivers/frame_flow.hpp"

#include "base/endian.hpp"

namespace drivers {
namespace {

constexpr unsigned protocol_tcp = 6;
constexpr unsigned protocol_udp = 17;

struct Found {
    base::FourTuple flow;
    std::uint32_t transport = 0; // offset of the ports; 0 = go by address pair
};

bool find_v4(const netmsg::Packet& p, std::uint32_t at, Found& found)
{
    unsigned char h[20];
    if (at + sizeof h > p.total()) {
        return false;
    }
    p.copy_out(at, h, sizeof h);
    found.flow.peer.addr = base::IpAddr::v4(base::load_be32(h + 12));
    found.flow.local.addr = base::IpAddr::v4(base::load_be32(h + 16));
    bool fragment = (base::load_be16(h + 6) & 0x3fff) != 0;
    if (!fragment && (h[9] == protocol_tcp || h[9] == protocol_udp)) {
        found.transport = at + (h[0] & 0xfU) * 4;
    }
    return true;
}

bool find_v6(const netmsg::Packet& p, std::uint32_t at, Found& found)
{
    unsigned char h[40];
    if (at + sizeof h > p.total()) {
        return false;
    }
    p.copy_out(at, h, sizeof h);
    found.flow.peer.addr = base::IpAddr::v6(h + 8);
    found.flow.local.addr = base::IpAddr::v6(h + 24);
    if (h[6] == protocol_tcp || h[6] == protocol_udp) {
        found.transport = at + static_cast<std::uint32_t>(sizeof h);
    }
    return true;
}

// 4, 6, or 0 for what is not IP. `at`: where the header would be, behind its type.
unsigned ip_version(const netmsg::Packet& p, std::uint32_t at)
{
    if (at == 0) {
        return p.size == 0 ? 0 : std::to_integer<unsigned>(p.data[0]) >> 4;
    }
    if (p.size < at) {
        return 0;
    }
    switch (base::load_be16(p.data + at - 2)) {
    case 0x0800:
        return 4;
    case 0x86dd:
        return 6;
    default:
        return 0;
    }
}

} // namespace

std::uint32_t network_offset(const netmsg::Packet& p, std::uint32_t link_header_bytes)
{
    bool tagged = link_header_bytes != 0 && p.size >= link_header_bytes + vlan_tag_bytes &&
                  base::load_be16(p.data + link_header_bytes - 2) == vlan_tag_type;
    return link_header_bytes + (tagged ? vlan_tag_bytes : 0);
}

base::CpuId frame_queue(const netmsg::Steering& steering, const netmsg::Packet& p, std::uint32_t link_header_bytes)
{
    Found found;
    std::uint32_t at = network_offset(p, link_header_bytes);
    unsigned version = ip_version(p, at);
    if (!(version == 4 && find_v4(p, at, found)) && !(version == 6 && find_v6(p, at, found))) {
        return 0;
    }
    if (found.transport == 0 || found.transport + 4 > p.total()) {
        return steering.cpu_of_hash(steering.hash_pair(found.flow.local.addr, found.flow.peer.addr));
    }
    unsigned char ports[4];
    p.copy_out(found.transport, ports, sizeof ports);
    found.flow.peer.port = base::load_be16(ports);
    found.flow.local.port = base::load_be16(ports + 2);
    return steering.cpu_of(found.flow);
}

} // namespace drivers
