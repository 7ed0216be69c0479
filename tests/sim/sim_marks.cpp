#include "tests/sim/sim_marks.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/net_addr.hpp"
#include "protocols/wire/ipv4.hpp"
#include "protocols/wire/ipv6.hpp"
#include "protocols/wire/tcp_wire.hpp"
#include "tests/sim/sim_world.hpp"

namespace sim {

namespace {

namespace wire = protocols::wire;

constexpr unsigned char ce = 3;
constexpr unsigned unechoed_max = 16;   // what was marked may have been dropped behind the wire, and sent again
constexpr unsigned unanswered_max = 64; // a window that a loss has reduced already is not reduced again
constexpr std::uint32_t headers_max = 128;
constexpr std::uint32_t udp_header = 8;
constexpr std::uint16_t ephemeral_low = 32768; // services have ports below

std::int32_t after(std::uint32_t a, std::uint32_t b)
{
    return static_cast<std::int32_t>(a - b);
}

} // namespace

struct Marks::Parsed {
    base::IpAddr source;
    base::IpAddr destination;
    unsigned ecn = 0;
    unsigned protocol = 0;
    bool fragment = false;
    std::uint32_t id = 0;
    std::uint32_t offset = 0;
    std::uint32_t payload = 0; // bytes behind the IP headers
    wire::TcpHeader tcp;
    unsigned char start[udp_header + 16] = {}; // of the payload

    bool parse(const netmsg::Packet& frame, std::uint32_t link);
    bool is_tcp() const { return protocol == wire::protocol_tcp && !fragment && tcp.header_bytes != 0; }
    bool is_datagram() const { return protocol == wire::protocol_udp; }
    std::uint32_t text() const { return payload - std::min<std::uint32_t>(payload, tcp.header_bytes); }

private:
    bool parse_v4(const unsigned char* h, std::uint32_t n, std::uint32_t& headers);
    bool parse_v6(const unsigned char* h, std::uint32_t n, std::uint32_t& headers);
};

bool Marks::Parsed::parse_v4(const unsigned char* h, std::uint32_t n, std::uint32_t& headers)
{
    auto v4 = wire::parse_ipv4_quote(h, n);
    if (!v4 || v4->total_bytes < v4->header_bytes) {
        return false;
    }
    source = base::IpAddr::v4(v4->source);
    destination = base::IpAddr::v4(v4->destination);
    ecn = v4->tos & ce;
    protocol = v4->protocol;
    fragment = v4->fragment();
    id = v4->id;
    offset = v4->fragment_offset;
    headers = v4->header_bytes;
    payload = v4->payload_bytes();
    return true;
}

bool Marks::Parsed::parse_v6(const unsigned char* h, std::uint32_t n, std::uint32_t& headers)
{
    auto v6 = wire::parse_ipv6_quote(h, n);
    wire::Ipv6Chain chain;
    if (!v6 || wire::walk_ipv6_chain(h, n, *v6, chain).fault != wire::ChainFault::none) {
        return false;
    }
    source = v6->source;
    destination = v6->destination;
    ecn = v6->traffic_class & ce;
    protocol = chain.protocol;
    fragment = chain.fragment;
    id = chain.part.id;
    offset = chain.part.offset;
    headers = chain.bytes;
    payload = v6->total_bytes() - std::min(v6->total_bytes(), chain.bytes);
    return true;
}

bool Marks::Parsed::parse(const netmsg::Packet& frame, std::uint32_t link)
{
    unsigned char bytes[headers_max] = {};
    std::uint32_t n = std::min(frame.total() - std::min(frame.total(), link), headers_max);
    frame.copy_out(link, bytes, n);
    std::uint32_t headers = 0;
    unsigned version = bytes[0] >> 4;
    bool good = version == 4 ? parse_v4(bytes, n, headers) : version == 6 && parse_v6(bytes, n, headers);
    if (!good || headers >= n) {
        return false;
    }
    if (protocol == wire::protocol_tcp && !fragment && !wire::tcp_parse(bytes + headers, n - headers, tcp)) {
        return false;
    }
    std::memcpy(start, bytes + headers, std::min<std::size_t>(n - headers, sizeof start));
    return true;
}

Marks::Key Marks::key_of(const Parsed& p, bool reverse)
{
    Key key{};
    std::uint32_t last = p.is_tcp() ? std::uint32_t{p.tcp.source_port} << 16 | p.tcp.destination_port : p.id;
    if (reverse) {
        last = last << 16 | last >> 16;
    }
    std::memcpy(key.data(), (reverse ? p.destination : p.source).bytes(), 16);
    std::memcpy(key.data() + 16, (reverse ? p.source : p.destination).bytes(), 16);
    std::memcpy(key.data() + 32, &last, sizeof last);
    return key;
}

void Marks::segment_sent(const Parsed& p, bool off)
{
    bool opens = p.tcp.has(wire::tcp_syn);
    if (opens || p.tcp.has(wire::tcp_rst)) {
        flows_.erase(key_of(p, false));
        flows_.erase(key_of(p, true));
    }
    if (off && (p.ecn != 0 || p.tcp.has(wire::tcp_ece) || p.tcp.has(wire::tcp_cwr))) {
        world_.violation("a stack with ECN switched off sends " + base::to_string(p.source) + " ECN");
    }
    if (opens || p.tcp.has(wire::tcp_rst)) {
        return;
    }
    if (auto theirs = flows_.find(key_of(p, true)); theirs != flows_.end() && p.tcp.has(wire::tcp_ack)) {
        Flow& f = theirs->second;
        if (p.tcp.has(wire::tcp_ece)) {
            ++echoes_;
            f.unechoed = 0;
            f.marked = false;
        } else if (f.marked && after(p.tcp.ack.raw(), f.marked_end) >= 0) {
            f.marked = false;
            if (++f.unechoed >= unechoed_max) {
                world_.violation("text to " + base::to_string(p.source) + " is marked, and the mark is not echoed");
            }
        }
    }
    Flow& mine = flows_[key_of(p, false)];
    std::uint32_t end = p.tcp.seq.raw() + p.text();
    bool new_text = p.text() != 0 && (!mine.known || after(end, mine.sent_end) > 0);
    if (p.tcp.has(wire::tcp_cwr)) {
        mine.told = false;
        mine.unanswered = 0;
    } else if (mine.told && new_text && ++mine.unanswered >= unanswered_max && world_.config().loses_nothing) {
        world_.violation("the sender at " + base::to_string(p.source) + " is told of marks and does not answer");
    }
    if (new_text) {
        mine.known = true;
        mine.sent_end = end;
    }
}

void Marks::segment_taken(const Parsed& p)
{
    if (p.tcp.has(wire::tcp_syn) || p.tcp.has(wire::tcp_rst)) {
        return;
    }
    Flow& theirs = flows_[key_of(p, false)];
    if (p.text() != 0 && p.ecn == ce) {
        theirs.marked = true;
        theirs.marked_end = p.tcp.seq.raw() + p.text();
    } else if (p.tcp.has(wire::tcp_cwr)) {
        theirs.marked = false; // the echo ends
    }
    if (auto mine = flows_.find(key_of(p, true)); mine != flows_.end() && p.tcp.has(wire::tcp_ack)) {
        mine->second.told = p.tcp.has(wire::tcp_ece);
        mine->second.unanswered = mine->second.told ? mine->second.unanswered : 0;
    }
}

void Marks::fragment_taken(const Parsed& p)
{
    Datagram whole;
    Datagram& d = p.fragment ? datagrams_[key_of(p, false)] : whole;
    d.marked |= p.ecn == ce;
    if (p.offset == 0) {
        Name name{0, 0, base::load_be16(p.start + 2) < ephemeral_low ? 1U : 0U};
        std::memcpy(name.data(), p.start + udp_header, 16);
        if (d.named && d.name != name) {
            unsure_.insert(name);
        }
        d.named = true;
        d.name = name;
    }
    if (d.marked && d.named) {
        marked_datagrams_.insert(d.name);
    }
}

void Marks::sent(const netmsg::Packet& frame, std::uint32_t link_header, bool off)
{
    Parsed p;
    if (p.parse(frame, link_header) && p.is_tcp()) {
        segment_sent(p, off);
    }
}

void Marks::taken(const netmsg::Packet& frame, std::uint32_t link_header)
{
    Parsed p;
    if (!p.parse(frame, link_header)) {
        return;
    }
    if (p.is_tcp()) {
        segment_taken(p);
    } else if (p.is_datagram()) {
        fragment_taken(p);
    }
}

} // namespace sim
