// See gro.hpp. What is compared is bytes of headers with bytes of headers; the rules are those of Linux's GRO, where it
// asks for more than TCP input does so does this. Each segment's checksum is verified before it is joined, on the copy.
#include "protocols/gro.hpp"

#include <bit>
#include <cstring>
#include <utility>

#include "base/endian.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/tcp_wire.hpp"

namespace protocols {

namespace {

constexpr std::uint32_t ip_bytes_max = 65535; // what the length fields can say
constexpr std::uint8_t ecn_field = 3;         // in TOS and traffic class
constexpr std::uint8_t ecn_ce = 3;
constexpr std::uint32_t v4_total_at = 2;
constexpr std::uint32_t v4_fragment_at = 6; // two octets, and TTL
constexpr std::uint32_t v4_protocol_at = 9;
constexpr std::uint32_t v4_checksum_at = 10;
constexpr std::uint32_t v4_addresses_at = 12;
constexpr std::uint32_t v6_payload_at = 4;
constexpr std::uint32_t v6_protocol_at = 6;
constexpr std::uint32_t v6_hops_at = 7;
constexpr std::uint32_t v6_addresses_at = 8;
constexpr std::uint32_t tcp_seq_at = 4;
constexpr std::uint32_t tcp_ack_at = 8;
constexpr std::uint32_t tcp_flags_at = 12; // with the data offset in front
constexpr std::uint32_t tcp_window_at = 14;

unsigned octet(const netmsg::Packet& p, std::uint32_t at)
{
    return std::to_integer<unsigned>(p.data[at]);
}

template <std::uint32_t n>
bool same_bytes(const netmsg::Packet& a, const netmsg::Packet& b, std::uint32_t at)
{
    return std::memcmp(a.data + at, b.data + at, n) == 0;
}

// Usually the timestamps.
bool same_options(const netmsg::Packet& a, const netmsg::Packet& b, std::uint32_t from, std::uint32_t to)
{
    return to - from == 12 ? same_bytes<12>(a, b, from) : std::memcmp(a.data + from, b.data + from, to - from) == 0;
}

std::uint8_t protocol_of(const netmsg::Packet& p, bool v6)
{
    std::uint32_t at = v6 ? v6_protocol_at : v4_protocol_at;
    return p.size > at ? static_cast<std::uint8_t>(octet(p, at)) : std::uint8_t{0};
}

// Of addresses, protocol and TCP header, without what differs between segments that follow one another.
wire::Checksum sum_of_flow(const netmsg::Packet& p, std::uint32_t tcp, std::uint32_t text, bool v6)
{
    std::byte header[wire::tcp_header_max_bytes];
    std::memcpy(header, p.data + tcp, text - tcp);
    std::memset(header + tcp_seq_at, 0, 4);
    std::memset(header + tcp_flags_at, 0, 2);
    std::memset(header + wire::tcp_checksum_at, 0, 2);
    wire::Checksum sum;
    if (v6) { // what loops has zones in it, and no sum has
        sum.add(base::IpAddr::v6(p.data + v6_addresses_at).on_wire().bytes(), 16);
        sum.add(base::IpAddr::v6(p.data + v6_addresses_at + 16).on_wire().bytes(), 16);
    } else {
        sum.add(p.data + v4_addresses_at, 8);
    }
    sum.add16(wire::protocol_tcp);
    sum.add(header, text - tcp);
    return sum;
}

// And of that.
void add_differences(wire::Checksum& sum, const netmsg::Packet& p, std::uint32_t tcp, std::uint32_t bytes)
{
    sum.add32(bytes);
    sum.add32(base::load_be32(p.data + tcp + tcp_seq_at));
    sum.add16(base::load_be16(p.data + tcp + tcp_flags_at));
    sum.add16(base::load_be16(p.data + tcp + wire::tcp_checksum_at));
}

} // namespace

GroState::GroState(Domain& d) : domain_(d)
{
    d.cpu.add_rollup(*this);
}

GroState::~GroState()
{
    domain_.cpu.remove_rollup(*this);
}

// False when it is no TCP segment that lies as those do that can be joined: in the packet's own buffer, behind an IP
// header without options or extensions.
bool GroState::find(const netmsg::Packet& p, bool v6, Place& at)
{
    at.v6 = v6;
    at.tcp = v6 ? wire::ipv6_header_bytes : wire::ipv4_header_bytes;
    if (p.size < at.tcp + wire::tcp_header_min_bytes || (v6 ? octet(p, 0) >> 4 != 6 : octet(p, 0) != 0x45)) {
        return false;
    }
    std::uint32_t ip_bytes =
        v6 ? at.tcp + base::load_be16(p.data + v6_payload_at) : base::load_be16(p.data + v4_total_at);
    constexpr unsigned fragment = 0x3fff; // more to come, or an offset
    if (!v6 && (base::load_be16(p.data + v4_fragment_at) & fragment) != 0) {
        return false;
    }
    at.flags = base::load_be16(p.data + at.tcp + tcp_flags_at);
    at.text = at.tcp + (at.flags >> 12) * 4;
    if (at.text < at.tcp + wire::tcp_header_min_bytes || at.text > p.size || ip_bytes < at.text ||
        ip_bytes > p.total()) {
        return false;
    }
    at.len = ip_bytes - at.text;
    unsigned tos = v6 ? base::load_be16(p.data) >> 4 : octet(p, 1);
    constexpr unsigned plain = wire::tcp_fin | wire::tcp_syn | wire::tcp_rst | wire::tcp_urg | wire::tcp_ack;
    at.joinable = at.len != 0 && ip_bytes == p.size && p.piece_count == 0 && p.gso == netmsg::Gso::none &&
                  !p.broadcast && (at.flags & plain) == wire::tcp_ack && (tos & ecn_field) != ecn_ce;
    return true;
}

bool GroState::same_flow(const Held& h, const Interface& in, const netmsg::Packet& p, const Place& at)
{
    return h.packet != nullptr && h.in == &in && h.at.v6 == at.v6 && // addresses, and the ports behind them
           (at.v6 ? same_bytes<32 + 4>(*h.packet, p, v6_addresses_at)
                  : same_bytes<8 + 4>(*h.packet, p, v4_addresses_at));
}

// Everything but the sequence number, PSH, lengths, checksums and IPv4's identification is the same, and the number is
// the next one.
bool GroState::follows(const Held& h, const netmsg::Packet& p, const Place& at)
{
    const netmsg::Packet& first = *h.packet;
    bool same_ip = at.v6 ? same_bytes<4>(first, p, 0) && octet(first, v6_hops_at) == octet(p, v6_hops_at)
                         : same_bytes<2>(first, p, 0) && same_bytes<3>(first, p, v4_fragment_at);
    return at.joinable && same_ip && base::load_be32(p.data + at.tcp + tcp_seq_at) == h.next &&
           ((h.at.flags ^ at.flags) & ~unsigned{wire::tcp_psh}) == 0 && same_bytes<4>(first, p, at.tcp + tcp_ack_at) &&
           same_bytes<2>(first, p, at.tcp + tcp_window_at) &&
           same_options(first, p, at.tcp + wire::tcp_header_min_bytes, at.text) && at.len <= h.at.len &&
           first.total() + at.len <= ip_bytes_max;
}

// The first one is not going up alone: what was not verified is now.
bool GroState::start(Held& h)
{
    netmsg::Packet& p = *h.packet;
    h.sum = sum_of_flow(p, h.at.tcp, h.at.text, h.at.v6);
    if (p.csum == netmsg::Csum::unknown) {
        if (!h.at.v6 && wire::checksum(p.data, wire::ipv4_header_bytes) != 0) { // alone IP input finds it
            return false;
        }
        wire::Checksum sum = h.sum;
        add_differences(sum, p, h.at.tcp, p.size - h.at.tcp);
        sum.add(p.data + h.at.text, h.at.len);
        if (!sum.correct()) {
            return false;
        }
        p.csum = netmsg::Csum::valid;
    }
    return true;
}

// Copies the text behind what is there. False: it is not what it seemed (a wrong checksum), or there is no memory.
bool GroState::join(Held& h, netmsg::Packet& p, const Place& at)
{
    netmsg::Packet& whole = *h.packet;
    bool verified = p.csum != netmsg::Csum::unknown;
    if (h.segments == 1 && !(start(h) && (whole.large != nullptr || domain_.stack.pool().add_large(whole)))) {
        return false;
    }
    // IP input does not see this header.
    if (!at.v6 && !verified && wire::checksum(p.data, wire::ipv4_header_bytes) != 0) {
        return false;
    }
    std::byte* to = whole.large->bytes + whole.piece_bytes;
    if (verified) {
        std::memcpy(to, p.data + at.text, at.len);
    } else {
        wire::Checksum sum = h.sum;
        add_differences(sum, p, at.tcp, at.text - at.tcp + at.len);
        sum.copy(to, p.data + at.text, at.len);
        if (!sum.correct()) {
            return false;
        }
    }
    if (whole.piece_count == 0) {
        whole.add_piece(to, 0);
    }
    whole.pieces[0].iov_len += at.len;
    whole.piece_bytes += at.len;
    whole.data[at.tcp + tcp_flags_at + 1] |= p.data[at.tcp + tcp_flags_at + 1] & std::byte{wire::tcp_psh};
    h.next += at.len;
    ++h.segments;
    p.free();
    return true;
}

void GroState::hold(Held& h, Interface& in, netmsg::Packet& p, const Place& at)
{
    flush(h);
    ++count_;
    h = {&p, &in, at, base::load_be32(p.data + at.tcp + tcp_seq_at) + at.len, 1, {}};
}

// Up to IP, with a header that says what is behind it.
void GroState::flush(Held& h)
{
    if (h.packet == nullptr) {
        return;
    }
    netmsg::Packet& p = *std::exchange(h.packet, nullptr);
    --count_;
    if (h.segments > 1) {
        count(domain_.counters.gro_joined);
        count(domain_.counters.gro_segments, h.segments);
        p.gso = h.at.v6 ? netmsg::Gso::tcp6 : netmsg::Gso::tcp4;
        p.gso_size = static_cast<std::uint16_t>(h.at.len);
        if (h.at.v6) {
            base::store_be16(p.data + v6_payload_at, static_cast<std::uint16_t>(p.total() - h.at.tcp));
        } else {
            auto total = static_cast<std::uint16_t>(p.total());
            std::uint16_t sum = wire::checksum_update16(
                base::load_be16(p.data + v4_checksum_at), base::load_be16(p.data + v4_total_at), total);
            base::store_be16(p.data + v4_total_at, total);
            base::store_be16(p.data + v4_checksum_at, sum);
        }
    }
    h.at.v6 ? ipv6_input(domain_, *h.in, p) : ipv4_input(domain_, *h.in, p);
}

bool GroState::receive(Interface& in, netmsg::Packet& p, bool v6)
{
    if (count_ == 0 && p.size < gro_text_min) {
        return false; // requests and answers
    }
    Place at;
    if (protocol_of(p, v6) != wire::protocol_tcp) {
        return false;
    }
    if (!find(p, v6, at)) {
        rollup(); // of a held flow perhaps
        return false;
    }
    std::uint32_t ports = base::load_be32(p.data + at.tcp);
    Held& h = held_[(ports * 0x9e3779b1U) >> (32 - std::bit_width(gro_flows - 1))];
    if (same_flow(h, in, p, at)) {
        bool ends = (at.flags & wire::tcp_psh) != 0 || at.len < h.at.len;
        if (follows(h, p, at) && join(h, p, at)) {
            if (ends) {
                flush(h);
            }
            return true;
        }
        flush(h);
    }
    if (!at.joinable || at.len < gro_text_min || (at.flags & wire::tcp_psh) != 0) {
        return false;
    }
    hold(h, in, p, at);
    return true;
}

void GroState::rollup()
{
    for (unsigned i = 0; count_ != 0 && i < gro_flows; ++i) {
        flush(held_[i]);
    }
}

} // namespace protocols
