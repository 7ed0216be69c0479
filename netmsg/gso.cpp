// See gso.hpp. Header fields by RFC 791, RFC 8200 and RFC 9293 3.1.
#include "netmsg/gso.hpp"

#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "base/endian.hpp"
#include "base/internet_checksum.hpp"
#include "base/net_addr.hpp"

namespace netmsg {
namespace {

constexpr unsigned flag_fin = 0x01;
constexpr unsigned flag_psh = 0x08;
constexpr unsigned flag_cwr = 0x80;
constexpr std::uint16_t protocol_tcp = 6;
constexpr std::uint32_t ipv6_header_bytes = 40;
constexpr std::uint32_t header_bytes_max = 60; // of IPv4 and TCP

struct Layout { // offsets from data
    bool v6 = false;
    std::uint32_t ip = 0;
    std::uint32_t tcp = 0;
    std::uint32_t payload = 0;
    base::Checksum ip_sum;  // of the IPv4 header without what differs: length, identification, checksum
    base::Checksum tcp_sum; // of addresses, protocol and TCP header, without length, sequence number, flags, checksum
};

std::uint32_t byte_at(const Packet& p, std::uint32_t offset)
{
    return std::to_integer<std::uint32_t>(p.data[offset]);
}

bool find_layout(const Packet& p, std::uint32_t link_header_bytes, Layout& at)
{
    at.v6 = p.gso == Gso::tcp6;
    at.ip = link_header_bytes;
    std::uint32_t ip_min = at.v6 ? ipv6_header_bytes : 20;
    if ((p.gso != Gso::tcp4 && !at.v6) || p.gso_size == 0 || at.ip + ip_min > p.size) {
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

// With the fields at these offsets as zeros.
void add_without(
    base::Checksum& sum, const std::byte* header, std::uint32_t n, std::initializer_list<std::uint32_t> words)
{
    std::byte copy[header_bytes_max];
    std::memcpy(copy, header, n);
    for (std::uint32_t at : words) {
        std::memset(copy + at, 0, 2);
    }
    sum.add(copy, n);
}

void sum_headers(const Packet& p, Layout& at)
{
    const std::byte* ip = p.data + at.ip;
    if (!at.v6) {
        add_without(at.ip_sum, ip, at.tcp - at.ip, {2, 4, 10});
    }
    if (at.v6) { // what loops has zones in it, and no sum has
        at.tcp_sum.add(base::IpAddr::v6(ip + 8).on_wire().bytes(), 16);
        at.tcp_sum.add(base::IpAddr::v6(ip + 24).on_wire().bytes(), 16);
    } else {
        at.tcp_sum.add(ip + 12, 8);
    }
    at.tcp_sum.add16(protocol_tcp);
    add_without(at.tcp_sum, p.data + at.tcp, at.payload - at.tcp, {4, 6, 12, 16});
}

void fix_ip(Packet& p, const Layout& at, std::uint32_t index, std::uint32_t text)
{
    std::byte* ip = p.data + at.ip;
    if (at.v6) {
        base::store_be16(ip + 4, static_cast<std::uint16_t>(at.payload - at.tcp + text));
        return;
    }
    auto total = static_cast<std::uint16_t>(at.payload - at.ip + text);
    auto id = static_cast<std::uint16_t>(base::load_be16(ip + 4) + index);
    base::Checksum sum = at.ip_sum;
    sum.add16(total);
    sum.add16(id);
    base::store_be16(ip + 2, total);
    base::store_be16(ip + 4, id);
    base::store_be16(ip + 10, sum.finish());
}

// All but the checksum, and what of the sum is known before the text.
base::Checksum fix_tcp(Packet& p, const Layout& at, std::uint32_t offset, std::uint32_t text, bool last)
{
    std::byte* tcp = p.data + at.tcp;
    std::uint32_t seq = base::load_be32(tcp + 4) + offset;
    unsigned flags = base::load_be16(tcp + 12); // with the data offset in front
    flags &= last ? ~0U : ~(flag_fin | flag_psh);
    flags &= offset == 0 ? ~0U : ~flag_cwr;
    base::store_be32(tcp + 4, seq);
    base::store_be16(tcp + 12, static_cast<std::uint16_t>(flags));
    base::Checksum sum = at.tcp_sum;
    sum.add32(seq);
    sum.add16(static_cast<std::uint16_t>(flags));
    sum.add32(at.payload - at.tcp + text);
    return sum;
}

// Copies [offset, offset + n) of `from` behind what is in `to`, and sums it on the way. False without memory.
bool copy_text(
    Packet& to, const Packet& from, std::uint32_t offset, std::uint32_t n, PacketPool& pool, base::Checksum& sum)
{
    iovec parts[packet_pieces_max + 1];
    unsigned count = from.span(offset, n, parts);
    if (n > to.tailroom()) {
        sum.add(parts, count);
        return pool.append(to, from, offset, n);
    }
    for (unsigned i = 0; i < count; ++i) {
        auto bytes = static_cast<std::uint32_t>(parts[i].iov_len);
        sum.copy(to.put(bytes), parts[i].iov_base, bytes);
    }
    return true;
}

Packet* make_segment(const Packet& super, const Layout& at, PacketPool& pool, std::uint32_t index)
{
    Packet* p = pool.allocate();
    if (p == nullptr) {
        return nullptr;
    }
    std::uint32_t offset = index * super.gso_size;
    std::uint32_t left = super.total() - at.payload - offset;
    std::uint32_t n = std::min<std::uint32_t>(super.gso_size, left);
    copy_metadata(*p, super);
    p->gso = Gso::none;
    p->gso_size = 0;
    std::memcpy(p->put(at.payload), super.data, at.payload);
    fix_ip(*p, at, index, n);
    base::Checksum sum = fix_tcp(*p, at, offset, n, n == left);
    if (!copy_text(*p, super, at.payload + offset, n, pool, sum)) {
        pool.release(*p);
        return nullptr;
    }
    base::store_be16(p->data + at.tcp + 16, sum.finish());
    p->csum = Csum::valid;
    return p;
}

} // namespace

bool gso_segment(const Packet& super, std::uint32_t link_header_bytes, PacketPool& pool, PacketQueue& out)
{
    Layout at;
    if (!find_layout(super, link_header_bytes, at)) {
        return false;
    }
    sum_headers(super, at);
    PacketQueue segments;
    std::uint32_t text = super.total() - at.payload;
    std::uint32_t count = text == 0 ? 1 : (text + super.gso_size - 1) / super.gso_size;
    for (std::uint32_t index = 0; index < count; ++index) {
        Packet* p = make_segment(super, at, pool, index);
        if (p == nullptr) {
            while (lwkt::Message* m = segments.pop()) {
                pool.release(static_cast<Packet&>(*m));
            }
            return false;
        }
        segments.push(*p);
    }
    while (lwkt::Message* m = segments.pop()) {
        out.push(*m);
    }
    return true;
}

bool finish_checksum(Packet& p)
{
    std::uint32_t field = std::uint32_t{p.csum_start} + p.csum_offset;
    if (field + 2 > p.size) {
        return false;
    }
    iovec parts[packet_pieces_max + 1];
    base::Checksum sum;
    sum.add(parts, p.span(p.csum_start, p.total() - p.csum_start, parts));
    std::uint16_t value = sum.finish();
    // RFC 768: a computed zero is sent as all ones; to TCP both mean the same.
    base::store_be16(p.data + field, value == 0 ? 0xffff : value);
    p.csum = Csum::valid;
    return true;
}

} // namespace netmsg
