// See tcp_peer.hpp.
#include "tests/fuzz/tcp_peer.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "base/endian.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/ipv6.hpp"

namespace fuzz {

namespace wire = protocols::wire;
using base::IpAddr;

IpAddr stack_address(bool v6)
{
    return v6 ? base::parse_ip("fd00::1").value() : IpAddr::v4(0xc0a80001);
}

IpAddr peer_address(bool v6)
{
    return v6 ? base::parse_ip("fd00::2").value() : IpAddr::v4(0xc0a80002);
}

namespace {

std::uint32_t ip_bytes(bool v6)
{
    return v6 ? wire::ipv6_header_bytes : 20;
}

void put_ip_header(std::vector<unsigned char>& b, bool v6, std::uint8_t tos)
{
    if (v6) {
        wire::Ipv6Header h;
        h.traffic_class = tos;
        h.payload_bytes = static_cast<std::uint16_t>(b.size() - wire::ipv6_header_bytes);
        h.next_header = 6;
        h.hop_limit = 64;
        h.source = peer_address(true);
        h.destination = stack_address(true);
        wire::emit_ipv6(b.data(), h);
        return;
    }
    b[0] = 0x45;
    b[1] = tos;
    base::store_be16(&b[2], static_cast<std::uint16_t>(b.size()));
    b[8] = 64;
    b[9] = 6;
    base::store_be32(&b[12], peer_address(false).v4());
    base::store_be32(&b[16], stack_address(false).v4());
    base::store_be16(&b[10], wire::checksum(b.data(), 20));
}

// Near what the stack expects of the peer.
std::uint32_t sequence(Choices& c, const PeerFlow& f, const protocols::Tcb* t)
{
    std::uint32_t next = t != nullptr ? t->rcv.nxt.raw() : f.next;
    std::uint32_t edge = t != nullptr ? t->rcv.adv.raw() : f.edge;
    std::uint32_t base[] = {next, next, next, edge, t != nullptr ? t->rcv.irs.raw() : f.next, next + (edge - next) / 2};
    unsigned which = c.below(7);
    return which == 6 ? c.word() : base[which] + static_cast<std::uint32_t>(c.delta());
}

// Near what the stack has sent.
std::uint32_t acknowledgement(Choices& c, const PeerFlow& f, const protocols::Tcb* t)
{
    std::uint32_t una = t != nullptr ? t->snd.una.raw() : f.stack_una;
    std::uint32_t next = t != nullptr ? t->snd.nxt.raw() : f.stack_next;
    std::uint32_t base[] = {next, next, una, una + (next - una) / 2, t != nullptr ? t->snd.iss.raw() : una};
    unsigned which = c.below(6);
    return which == 5 ? c.word() : base[which] + static_cast<std::uint32_t>(c.delta());
}

std::uint16_t some_flags(Choices& c)
{
    static constexpr std::uint16_t common[] = {wire::tcp_ack, wire::tcp_ack | wire::tcp_psh, wire::tcp_syn,
        wire::tcp_syn | wire::tcp_ack, wire::tcp_fin | wire::tcp_ack, wire::tcp_rst, wire::tcp_rst | wire::tcp_ack,
        wire::tcp_ack | wire::tcp_urg, wire::tcp_ack | wire::tcp_ece, wire::tcp_syn | wire::tcp_ece | wire::tcp_cwr};
    unsigned which = c.below(12);
    std::uint16_t accurate = which == 11 ? wire::tcp_ae : std::uint16_t{0};
    return which < std::size(common) ? common[which] : static_cast<std::uint16_t>(c.byte() | accurate);
}

void some_options(Choices& c, const PeerFlow& f, const protocols::Tcb* t, wire::TcpHeader& h)
{
    std::uint8_t which = c.byte();
    wire::TcpOptions& o = h.options;
    if (h.has(wire::tcp_syn)) {
        static constexpr std::uint16_t sizes[] = {1460, 536, 88, 1, 8, 65535, 48, 1220};
        o.mss = (which & 1) != 0 ? sizes[c.below(8)] : 0;
        o.has_scale = (which & 2) != 0;
        o.scale = o.has_scale ? c.byte() % 16 : 0;
        o.sack_permitted = (which & 4) != 0;
    }
    bool known = f.timestamps || h.has(wire::tcp_syn);
    o.has_timestamp = (which & 8) != 0 ? !known : known;
    o.ts_val = f.ts + ((which & 16) != 0 ? static_cast<std::uint32_t>(c.delta()) : 0);
    o.ts_ecr = f.stack_ts + ((which & 32) != 0 ? static_cast<std::uint32_t>(c.delta()) : 0);
    if (!h.has(wire::tcp_syn) && (which & 64) != 0) {
        o.sack_count = static_cast<std::uint8_t>(1 + c.below(o.has_timestamp ? 3 : 4));
        for (unsigned i = 0; i < o.sack_count; ++i) {
            o.sack[i].start = base::Seq{acknowledgement(c, f, t)};
            o.sack[i].end = o.sack[i].start + static_cast<std::uint32_t>(c.delta());
        }
    }
}

std::uint32_t some_size(Choices& c)
{
    switch (c.below(6)) {
    case 0:
    case 1:
        return 0;
    case 2:
        return 1;
    case 3:
        return c.byte();
    case 4:
        return 1000 + c.byte();
    default:
        return c.half() % 1500; // what an unfragmented packet of 1500 octets and one buffer hold
    }
}

std::uint16_t some_window(Choices& c)
{
    static constexpr std::uint16_t windows[] = {65535, 65535, 8192, 0, 1, 100, 536, 32768};
    unsigned which = c.below(9);
    return which < std::size(windows) ? windows[which] : c.half();
}

} // namespace

std::string describe(const std::vector<unsigned char>& packet)
{
    std::uint32_t ip = ip_bytes(packet[0] >> 4 == 6);
    wire::TcpHeader h;
    if (packet.size() < ip || !wire::tcp_parse(&packet[ip], packet.size() - ip, h)) {
        return std::to_string(packet.size()) + " bytes";
    }
    static constexpr char letters[] = "FSRP.UEW";
    std::string flags;
    for (unsigned i = 0; i < 8; ++i) {
        flags += (h.flags >> i & 1) != 0 ? std::string(1, letters[i]) : "";
    }
    std::string text = std::to_string(h.source_port) + " to " + std::to_string(h.destination_port) + " " + flags +
                       " seq " + std::to_string(h.seq.raw()) + " size " +
                       std::to_string(packet.size() - ip - h.header_bytes) + " ack " + std::to_string(h.ack.raw()) +
                       " window " + std::to_string(h.window);
    for (unsigned i = 0; i < h.options.sack_count; ++i) {
        text += " sack " + std::to_string(h.options.sack[i].start.raw()) + ":" +
                std::to_string(h.options.sack[i].end.raw());
    }
    return text + (h.options.has_timestamp
                          ? " ts " + std::to_string(h.options.ts_val) + " " + std::to_string(h.options.ts_ecr)
                          : "");
}

std::vector<unsigned char> Peer::build(PeerFlow& f, unsigned flow, wire::TcpHeader& h, std::uint32_t size,
    std::span<const std::uint8_t> raw_options, std::uint8_t tos)
{
    h.source_port = static_cast<std::uint16_t>(peer_port + flow);
    h.destination_port = f.local;
    unsigned char header[wire::tcp_header_max_bytes] = {};
    std::uint32_t header_bytes = 0;
    if (raw_options.empty()) {
        header_bytes = wire::tcp_emit(h, header);
    } else { // bytes that no honest host sends
        wire::TcpHeader plain = h;
        plain.options = {};
        wire::tcp_emit(plain, header);
        std::copy(raw_options.begin(), raw_options.end(), header + 20);
        header_bytes = 20 + static_cast<std::uint32_t>((raw_options.size() + 3) & ~std::size_t{3});
        header[12] = static_cast<unsigned char>(header_bytes / 4 << 4);
    }
    std::uint32_t ip = ip_bytes(f.v6);
    std::vector<unsigned char> b(ip + header_bytes + size);
    put_ip_header(b, f.v6, tos);
    std::copy(header, header + header_bytes, &b[ip]);
    std::uint32_t first = h.seq.raw() + (h.has(wire::tcp_syn) ? 1 : 0);
    for (std::uint32_t i = 0; i < size; ++i) {
        b[ip + header_bytes + i] = content(first + i, from_peer);
    }
    wire::Checksum sum = wire::pseudo_header(peer_address(f.v6), stack_address(f.v6), 6, header_bytes + size);
    sum.add(&b[ip], header_bytes + size);
    base::store_be16(&b[ip + wire::tcp_checksum_at], sum.finish());
    return b;
}

std::vector<unsigned char> Peer::segment(Choices& c, unsigned flow, const protocols::Tcb* t)
{
    PeerFlow& f = flows[flow];
    wire::TcpHeader h;
    h.flags = some_flags(c);
    h.seq = base::Seq{sequence(c, f, t)};
    h.ack = h.has(wire::tcp_ack) || c.below(8) == 7 ? base::Seq{acknowledgement(c, f, t)} : base::Seq{0};
    h.window = some_window(c);
    h.urgent = h.has(wire::tcp_urg) ? c.half() : 0;
    std::uint32_t size = some_size(c);
    f.ts += 1;
    std::span<const std::uint8_t> raw;
    if (c.below(8) == 7) {
        raw = c.bytes(1 + c.below(40));
    } else {
        some_options(c, f, t, h);
    }
    std::uint8_t tos = c.below(4); // ECN field
    return build(f, flow, h, size, raw, tos);
}

std::vector<unsigned char> Peer::answer(unsigned flow, std::uint32_t syn_text)
{
    PeerFlow& f = flows[flow];
    if (!f.moved || (f.last_flags & wire::tcp_rst) != 0) {
        return {};
    }
    f.moved = false;
    wire::TcpHeader h;
    bool syn = (f.last_flags & (wire::tcp_syn | wire::tcp_ack)) == wire::tcp_syn;
    h.flags = wire::tcp_ack | (syn ? wire::tcp_syn : 0);
    h.seq = base::Seq{f.next};
    h.ack = base::Seq{f.stack_next};
    h.window = 65535;
    if (syn) {
        h.options.mss = 1460;
        h.options.has_scale = h.options.sack_permitted = true;
    }
    h.options.has_timestamp = f.timestamps;
    h.options.ts_val = ++f.ts;
    h.options.ts_ecr = f.stack_ts;
    f.stack_una = f.stack_next;
    return build(f, flow, h, syn ? syn_text : 0, {}, 0);
}

std::vector<unsigned char> Peer::text(unsigned flow, std::uint32_t size, bool fin)
{
    PeerFlow& f = flows[flow];
    wire::TcpHeader h;
    h.flags = static_cast<std::uint16_t>(wire::tcp_ack | wire::tcp_psh | (fin ? wire::tcp_fin : 0));
    h.seq = base::Seq{f.next};
    h.ack = base::Seq{f.stack_next};
    h.window = 65535;
    h.options.has_timestamp = f.timestamps;
    h.options.ts_val = ++f.ts;
    h.options.ts_ecr = f.stack_ts;
    return build(f, flow, h, size, {}, 0);
}

// Whole, sound, for a peer's port, and with the octets that belong there.
void Peer::observe(const tcp_test::Captured& packet)
{
    const unsigned char* b = packet.bytes.data();
    std::size_t size = packet.bytes.size();
    bool v6 = b[0] >> 4 == 6;
    std::uint32_t ip = ip_bytes(v6);
    if (size < ip + 20 || b[v6 ? 6 : 9] != 6) {
        return; // ICMP, or a report of group membership
    }
    INVARIANT(v6 || (b[0] == 0x45 && base::load_be16(b + 2) == size && wire::checksum(b, 20) == 0));
    IpAddr source = v6 ? IpAddr::v6(b + 8) : IpAddr::v4(base::load_be32(b + 12));
    IpAddr destination = v6 ? IpAddr::v6(b + 24) : IpAddr::v4(base::load_be32(b + 16));
    wire::TcpHeader h;
    INVARIANT(wire::tcp_parse(b + ip, size - ip, h));
    auto length = static_cast<std::uint32_t>(size - ip);
    wire::Checksum sum = wire::pseudo_header(source, destination, 6, length);
    sum.add(b + ip, length);
    INVARIANT(sum.correct());
    if (destination != peer_address(v6) || h.destination_port < peer_port ||
        h.destination_port >= peer_port + peer_flows) {
        return; // a spoiled packet named somebody else
    }

    PeerFlow& f = flows[h.destination_port - peer_port];
    std::uint32_t text = length - h.header_bytes;
    std::uint32_t first = h.seq.raw() + (h.has(wire::tcp_syn) ? 1 : 0);
    for (std::uint32_t i = 0; i < text; ++i) {
        INVARIANT(b[ip + h.header_bytes + i] == content(first + i, from_stack));
    }
    INVARIANT(!h.has(wire::tcp_rst) || text == 0);
    f.local = h.source_port;
    f.last_flags = h.flags;
    if (h.has(wire::tcp_rst)) {
        return;
    }
    std::uint32_t end = first + text + (h.has(wire::tcp_fin) ? 1 : 0);
    if (h.has(wire::tcp_syn)) {
        f.stack_una = h.seq.raw();
        f.stack_next = end;
        f.timestamps = h.options.has_timestamp;
        f.moved = true;
    } else if (static_cast<std::int32_t>(end - f.stack_next) > 0) {
        f.stack_next = end;
        f.moved = true;
    }
    if (h.has(wire::tcp_ack)) {
        f.next = h.ack.raw();
        f.edge = h.ack.raw() + h.window;
    }
    if (h.options.has_timestamp) {
        f.stack_ts = h.options.ts_val;
    }
}

} // namespace fuzz
