// See gso.hpp. Header fields by RFC 791, RFC 8200 and RFC 9293 3.1.
#include "drivers/gso.hpp"

#include <algorithm>

#include "base/endian.hpp"
#include "drivers/frame_checksum.hpp"

namespace drivers {
namespace {

constexpr unsigned flag_fin = 0x01;
constexpr unsigned flag_psh = 0x08;
constexpr unsigned flag_cwr = 0x80;
constexpr std::uint32_t ipv6_header_bytes = 40;

struct Layout { // offsets from data
    bool v6 = false;
    std::uint32_t ip = 0;
    std::uint32_t tcp = 0;
    std::uint32_t payload = 0;
};

std::uint32_t byte_at(const netmsg::Packet& p, std::uint32_t offset)
{
    return std::to_integer<std::uint32_t>(p.data[offset]);
}

bool find_layout(const netmsg::Packet& p, std::uint32_t link_header_bytes, Layout& at)
{
    at.v6 = p.gso == netmsg::Gso::tcp6;
    at.ip = link_header_bytes;
    std::uint32_t ip_min = at.v6 ? ipv6_header_bytes : 20;
    if ((p.gso != netmsg::Gso::tcp4 && !at.v6) || p.gso_size == 0 || at.ip + ip_min > p.size) {
        return false;
    }
    if (byte_at(p, at.ip) >> 4 != (at.v6 ? 6U : 4U)) {
        return false;
    }
    at.tcp = at.ip + (at.v6 ? ipv6_header_bytes : (byte_at(p, at.ip) & 0xf) * 4);
    if (at.tcp < at.ip + ip_min || at.tcp + 20 > p.size || byte_at(p, at.ip + (at.v6 ? 6 : 9)) != 6) {
        return false;
    }
    std::uint32_t tcp_bytes = (byte_at(p, at.tcp + 12) >> 4) * 4;
    at.payload = at.tcp + tcp_bytes;
    return tcp_bytes >= 20 && at.payload <= p.size;
}

std::uint16_t complement(const FrameSum& sum)
{
    return static_cast<std::uint16_t>(~sum.folded());
}

void fix_ip(netmsg::Packet& p, const Layout& at, std::uint32_t index)
{
    std::byte* ip = p.data + at.ip;
    if (at.v6) {
        base::store_be16(ip + 4, static_cast<std::uint16_t>(p.total() - at.tcp));
        return;
    }
    base::store_be16(ip + 2, static_cast<std::uint16_t>(p.total() - at.ip));
    base::store_be16(ip + 4, static_cast<std::uint16_t>(base::load_be16(ip + 4) + index));
    base::store_be16(ip + 10, 0);
    FrameSum sum;
    sum.add(ip, at.tcp - at.ip);
    base::store_be16(ip + 10, complement(sum));
}

void fix_tcp(netmsg::Packet& p, const Layout& at, std::uint32_t offset, bool first, bool last)
{
    std::byte* tcp = p.data + at.tcp;
    base::store_be32(tcp + 4, base::load_be32(tcp + 4) + offset);
    unsigned flags = std::to_integer<unsigned>(tcp[13]);
    flags &= last ? ~0U : ~(flag_fin | flag_psh);
    flags &= first ? ~0U : ~flag_cwr;
    tcp[13] = static_cast<std::byte>(flags);
    base::store_be16(tcp + 16, 0);
    FrameSum sum = frame_sum(p, at.tcp);
    FrameSum pseudo; // both parts have an even length, so their order does not matter
    pseudo.add(p.data + at.ip + (at.v6 ? 8 : 12), at.v6 ? 32 : 8);
    pseudo.add_word(p.total() - at.tcp);
    pseudo.add_word(6);
    sum.add_word(pseudo.folded());
    base::store_be16(tcp + 16, complement(sum));
    p.csum = netmsg::Csum::valid;
}

netmsg::Packet* make_segment(
    const netmsg::Packet& super, const Layout& at, netmsg::PacketPool& pool, std::uint32_t offset, std::uint32_t n)
{
    netmsg::Packet* p = pool.allocate();
    if (p == nullptr) {
        return nullptr;
    }
    netmsg::copy_metadata(*p, super);
    p->gso = netmsg::Gso::none;
    p->gso_size = 0;
    if (!pool.append(*p, super, 0, at.payload) || !pool.append(*p, super, at.payload + offset, n)) {
        pool.release(*p);
        return nullptr;
    }
    return p;
}

} // namespace

bool gso_segment(
    const netmsg::Packet& super, std::uint32_t link_header_bytes, netmsg::PacketPool& pool, netmsg::PacketQueue& out)
{
    Layout at;
    if (!find_layout(super, link_header_bytes, at)) {
        return false;
    }
    netmsg::PacketQueue segments;
    std::uint32_t payload = super.total() - at.payload;
    std::uint32_t index = 0;
    for (std::uint32_t offset = 0; offset < payload || index == 0; offset += super.gso_size, ++index) {
        std::uint32_t n = std::min<std::uint32_t>(super.gso_size, payload - offset);
        netmsg::Packet* p = make_segment(super, at, pool, offset, n);
        if (p == nullptr) {
            while (lwkt::Message* m = segments.pop()) {
                pool.release(static_cast<netmsg::Packet&>(*m));
            }
            return false;
        }
        fix_ip(*p, at, index);
        fix_tcp(*p, at, offset, index == 0, offset + n == payload);
        segments.push(*p);
    }
    while (lwkt::Message* m = segments.pop()) {
        out.push(*m);
    }
    return true;
}

bool finish_checksum(netmsg::Packet& p)
{
    std::uint32_t field = std::uint32_t{p.csum_start} + p.csum_offset;
    if (field + 2 > p.size) {
        return false;
    }
    auto value = complement(frame_sum(p, p.csum_start));
    // RFC 768: a computed zero is sent as all ones; to TCP both mean the same.
    base::store_be16(p.data + field, value == 0 ? 0xffff : value);
    p.csum = netmsg::Csum::valid;
    return true;
}

} // namespace drivers
