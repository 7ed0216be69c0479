// See vnet_header.hpp. Fields are little-endian on a little-endian host with and without VIRTIO_F_VERSION_1.
#include "drivers/vnet_header.hpp"

#include <cstring>

namespace drivers {
namespace {

// struct virtio_net_hdr_mrg_rxbuf; <linux/virtio_net.h> of Linux 6.1 is not C++.
struct Header {
    std::uint8_t flags = 0;
    std::uint8_t gso_type = 0;
    std::uint16_t hdr_len = 0;
    std::uint16_t gso_size = 0;
    std::uint16_t csum_start = 0;
    std::uint16_t csum_offset = 0;
    std::uint16_t num_buffers = 0;
};
static_assert(sizeof(Header) == vnet_header_bytes);

constexpr std::uint8_t flag_needs_csum = 1;
constexpr std::uint8_t flag_data_valid = 2;
constexpr std::uint8_t gso_none = 0;
constexpr std::uint8_t gso_tcp4 = 1;
constexpr std::uint8_t gso_tcp6 = 4;
constexpr std::uint8_t gso_udp_l4 = 5;
constexpr std::uint8_t gso_ecn = 0x80;
constexpr std::uint32_t tcp_header_min = 20;
constexpr std::uint32_t udp_header_bytes = 8;

bool gso_of(std::uint8_t type, netmsg::Gso& gso)
{
    switch (type & ~gso_ecn) {
    case gso_none:
        gso = netmsg::Gso::none;
        return true;
    case gso_tcp4:
        gso = netmsg::Gso::tcp4;
        return true;
    case gso_tcp6:
        gso = netmsg::Gso::tcp6;
        return true;
    case gso_udp_l4:
        gso = netmsg::Gso::udp;
        return true;
    default: // UFO included: never offered
        return false;
    }
}

bool csum_fits(const netmsg::Packet& p)
{
    return std::uint32_t{p.csum_start} + p.csum_offset + 2 <= p.total();
}

} // namespace

bool take_vnet_header(const void* header, netmsg::Packet& p)
{
    Header h;
    std::memcpy(&h, header, sizeof h);
    if (!gso_of(h.gso_type, p.gso)) {
        return false;
    }
    bool needs_csum = (h.flags & flag_needs_csum) != 0;
    if (p.gso != netmsg::Gso::none) {
        // A super-frame has no checksum of its own: whoever cut it up would have finished it.
        if (h.gso_size == 0 || h.hdr_len > p.total() || !needs_csum) {
            return false;
        }
        p.gso_size = h.gso_size;
    }
    if (needs_csum) {
        p.csum_start = h.csum_start;
        p.csum_offset = h.csum_offset;
        if (!csum_fits(p)) {
            return false;
        }
    }
    // Either way the bytes were verified below us, or never left this host.
    bool valid = needs_csum || (h.flags & flag_data_valid) != 0;
    p.csum = valid ? netmsg::Csum::valid : netmsg::Csum::unknown;
    return true;
}

bool make_vnet_header(const netmsg::Packet& p, std::uint32_t link_header_bytes, void* header)
{
    Header h;
    if (p.csum == netmsg::Csum::partial) {
        if (!csum_fits(p)) {
            return false;
        }
        h.flags = flag_needs_csum;
        h.csum_start = p.csum_start;
        h.csum_offset = p.csum_offset;
    }
    // A super-segment that one segment holds is an ordinary packet, and the kernel refuses anything else.
    if (p.gso == netmsg::Gso::udp) {
        std::uint32_t header_bytes = p.csum_start + udp_header_bytes;
        if (p.csum != netmsg::Csum::partial || p.csum_start < link_header_bytes || p.gso_size == 0 ||
            header_bytes > p.size) {
            return false;
        }
        if (p.total() - header_bytes > p.gso_size) {
            h.gso_type = gso_udp_l4;
            h.gso_size = p.gso_size;
            h.hdr_len = static_cast<std::uint16_t>(header_bytes);
        }
    } else if (p.gso == netmsg::Gso::tcp4 || p.gso == netmsg::Gso::tcp6) {
        if (p.csum != netmsg::Csum::partial || p.csum_start < link_header_bytes || p.gso_size == 0 ||
            p.csum_start + tcp_header_min > p.size) {
            return false;
        }
        std::uint32_t tcp_bytes = (std::to_integer<std::uint32_t>(p.data[p.csum_start + 12]) >> 4) * 4;
        std::uint32_t header_bytes = p.csum_start + tcp_bytes;
        if (tcp_bytes < tcp_header_min || header_bytes > p.total()) {
            return false;
        }
        if (p.total() - header_bytes > p.gso_size) {
            h.gso_type = p.gso == netmsg::Gso::tcp4 ? gso_tcp4 : gso_tcp6;
            h.gso_size = p.gso_size;
            h.hdr_len = static_cast<std::uint16_t>(header_bytes);
            bool cwr = (std::to_integer<unsigned>(p.data[p.csum_start + 13]) & 0x80U) != 0;
            h.gso_type = static_cast<std::uint8_t>(h.gso_type | (cwr ? gso_ecn : 0));
        }
    }
    std::memcpy(header, &h, sizeof h);
    return true;
}

} // namespace drivers
