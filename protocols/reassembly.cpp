// See reassembly.hpp. RFC 815's bookkeeping is replaced by an ordered list. Bounded in datagrams, fragments and bytes
// per CPU and in time; fragments that overlap condemn their whole datagram (RFC 5722 3, RFC 8200 4.5), exact duplicates
// are ignored, tiny first fragments refused (RFC 1858, RFC 3128).
#include "protocols/reassembly.hpp"

#include <cstring>

#include "base/endian.hpp"
#include "base/plant.hpp"
#include "protocols/icmp.hpp"
#include "protocols/ip.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"

namespace protocols {

namespace {

constexpr std::uint32_t first_fragment_min = 8;      // ports, and UDP's whole header
constexpr std::uint32_t first_fragment_tcp_min = 20; // flags, so that filters on our way saw them
constexpr std::uint8_t ecn_field = 3;                // all of it: CE

bool is_v6(const netmsg::Packet& p)
{
    return std::to_integer<unsigned>(p.l3[0]) >> 4 == 6;
}

std::uint32_t offset_of(const netmsg::Packet& p)
{
    if (is_v6(p)) { // its fragment header stands before the payload
        return wire::read_ipv6_fragment(p.data - wire::ipv6_fragment_bytes).offset;
    }
    return (base::load_be16(p.l3 + 6) & 0x1fffU) * 8U;
}

netmsg::Packet* as_packet(lwkt::Message* m)
{
    return static_cast<netmsg::Packet*>(m);
}

void free_pieces(Domain& d, Reassembly& r)
{
    while (r.pieces != nullptr) {
        netmsg::Packet* p = as_packet(r.pieces);
        r.pieces = p->next;
        p->next = nullptr;
        p->free();
    }
    d.reassembly->fragments -= r.count;
    d.reassembly->fragment_bytes -= r.bytes;
    r.count = 0;
    r.bytes = 0;
}

void end(Domain& d, Reassembly& r)
{
    free_pieces(d, r);
    d.wheel.cancel(r);
    r.link.unlink();
    d.reassembly->unused.push_back(r);
}

// RFC 1122 3.3.2, RFC 8200 4.5: the sender learns of the timeout if its first fragment came.
void on_timeout(lwkt::Timer& t)
{
    auto& r = static_cast<Reassembly&>(t);
    Domain& d = r.domain;
    count(d.counters.frag_timeout);
    if (r.pieces != nullptr && offset_of(*as_packet(r.pieces)) == 0) {
        netmsg::Packet& first = *as_packet(r.pieces);
        if (is_v6(first)) {
            icmp6_send_error(d, ipv6_describe(d, first, r.protocol), first, wire::icmp6_time_exceeded,
                wire::exceeded_reassembly, /*rest=*/0);
        } else {
            icmp_send_error(
                d, ipv4_describe(d, first), first, wire::icmp_time_exceeded, wire::exceeded_reassembly, /*rest=*/0);
        }
    }
    end(d, r);
}

Reassembly* find(Domain& d, const Fragment& f)
{
    auto& list = d.reassembly->reassembling; // at most reassembly_datagrams_max
    bool v4 = f.source.is_v4();
    for (Reassembly* r = list.front(); r != nullptr; r = list.next(*r)) {
        if (r->id == f.id && r->source == f.source && r->destination == f.destination &&
            (!v4 || r->protocol == f.protocol)) {
            return r;
        }
    }
    return nullptr;
}

// A new datagram; the oldest one makes room.
Reassembly& begin(Domain& d, const Fragment& f)
{
    ReassemblyState& s = *d.reassembly;
    if (s.unused.empty()) {
        count(d.counters.frag_limit);
        end(d, *s.reassembling.front());
    }
    Reassembly& r = *s.unused.pop_front();
    r.source = f.source;
    r.destination = f.destination;
    r.id = f.id;
    r.protocol = f.protocol;
    r.poisoned = false;
    r.total = 0;
    s.reassembling.push_back(r);
    d.wheel.arm(r, d.now() + (f.source.is_v4() ? reassembly_lifetime_v4 : reassembly_lifetime_v6));
    return r;
}

void condemn(Domain& d, Reassembly& r, std::atomic<std::uint64_t>& reason)
{
    count(reason);
    free_pieces(d, r);
    r.poisoned = true; // until its time is over, so that late fragments start no new one
}

// What a fragment says that cannot be part of an honest datagram; null when it is fine. (That an IPv6 first fragment
// holds the whole header chain, RFC 7112, was looked at before.)
std::atomic<std::uint64_t>* objection(Domain& d, const Fragment& f)
{
    bool tcp = f.protocol == wire::protocol_tcp;
    if (f.bytes == 0 || (f.more && f.bytes % 8 != 0)) {
        return &d.counters.frag_malformed;
    }
    if (!f.source.is_v4()) {
        return nullptr;
    }
    if (f.offset == 0 && f.bytes < (tcp ? first_fragment_tcp_min : first_fragment_min)) {
        return &d.counters.frag_tiny;
    }
    if (tcp && f.offset == 8) {
        return &d.counters.frag_tiny; // would rewrite the flags (RFC 1858 3.2)
    }
    return nullptr;
}

enum class Placed { yes, duplicate, overlap };

// Hangs the fragment into the ordered list. Data at its payload.
Placed place(Reassembly& r, netmsg::Packet& p, std::uint32_t offset, std::uint32_t bytes)
{
    lwkt::Message** at = &r.pieces;
    for (; *at != nullptr; at = &(*at)->next) {
        const netmsg::Packet& other = *as_packet(*at);
        std::uint32_t begin_other = offset_of(other);
        if (begin_other == offset && other.total() == bytes) {
            return Placed::duplicate;
        }
        if (begin_other < offset + bytes && offset < begin_other + other.total()) {
            return Placed::overlap;
        }
        if (begin_other > offset && !base::planted(base::Plant::fragment_misplaced)) {
            break;
        }
    }
    p.next = *at;
    *at = &p;
    return Placed::yes;
}

// The end of the datagram as this fragment fixes it; false when it contradicts what is known.
bool fix_total(Reassembly& r, const Fragment& f)
{
    std::uint32_t ends = f.offset + f.bytes;
    if (!f.more) {
        if (r.total != 0 && r.total != ends) {
            return false;
        }
        r.total = ends;
        for (lwkt::Message* m = r.pieces; m != nullptr; m = m->next) {
            if (offset_of(*as_packet(m)) + as_packet(m)->total() > ends) {
                return false;
            }
        }
        return true;
    }
    return r.total == 0 || ends <= r.total;
}

// The header of the whole datagram: that of the first fragment, without what made it one.
void put_header(netmsg::Packet& whole, const netmsg::Packet& first, std::uint32_t payload)
{
    auto header = static_cast<std::uint32_t>(first.data - first.l3);
    if (!is_v6(first)) {
        std::memcpy(whole.put(header), first.l3, header);
        base::store_be16(whole.data + 2, static_cast<std::uint16_t>(header + payload));
        base::store_be16(whole.data + 6, 0);
        return;
    }
    auto h = wire::parse_ipv6_quote(first.l3, header);
    wire::Ipv6Chain chain;
    INVARIANT(h && wire::walk_ipv6_chain(first.l3, header, *h, chain).fault == wire::ChainFault::none);
    header -= wire::ipv6_fragment_bytes;
    std::memcpy(whole.put(header), first.l3, header);
    whole.data[chain.next_at] = static_cast<std::byte>(chain.protocol);
    base::store_be16(whole.data + 4, static_cast<std::uint16_t>(header - wire::ipv6_header_bytes + payload));
}

struct Marks {
    bool met = false;    // CE on some fragment
    bool unable = false; // Not-ECT on some
};

Marks marks_of(const Reassembly& r)
{
    Marks marks;
    for (lwkt::Message* m = r.pieces; m != nullptr; m = m->next) {
        const netmsg::Packet& p = *as_packet(m);
        unsigned first = base::load_be16(p.l3);
        unsigned ecn = (is_v6(p) ? first >> 4 : first) & ecn_field;
        marks.met |= ecn == ecn_field;
        marks.unable |= ecn == 0;
    }
    return marks;
}

// RFC 3168 5.3: one fragment that was marked marks the datagram.
void put_mark(netmsg::Packet& whole, const Reassembly& r)
{
    if (marks_of(r).met && !base::planted(base::Plant::mark_lost_in_reassembly)) {
        base::store_be16(
            whole.data, static_cast<std::uint16_t>(base::load_be16(whole.data) | (is_v6(whole) ? 0x30 : 0x03)));
    }
}

std::uint32_t header_of_whole(const netmsg::Packet& first)
{
    auto header = static_cast<std::uint32_t>(first.data - first.l3);
    return is_v6(first) ? header - wire::ipv6_fragment_bytes - wire::ipv6_header_bytes : header;
}

// One packet with the header of the first fragment and all payload, in buffers of its own.
netmsg::Packet* assemble(Domain& d, Interface& in, Reassembly& r)
{
    netmsg::Packet& first = *as_packet(r.pieces);
    netmsg::Packet* whole = d.stack.pool().allocate();
    if (whole == nullptr) {
        return nullptr;
    }
    put_header(*whole, first, r.total);
    for (lwkt::Message* m = r.pieces; m != nullptr; m = m->next) {
        if (!d.stack.pool().append(*whole, *as_packet(m), 0, as_packet(m)->total())) {
            whole->free();
            return nullptr;
        }
    }
    whole->l3 = whole->data;
    put_mark(*whole, r);
    whole->netif = first.netif;
    whole->stamp = first.stamp;
    whole->broadcast = first.broadcast;
    whole->hops = first.hops;
    whole->csum = in.netif->info().loopback ? netmsg::Csum::valid : netmsg::Csum::unknown;
    return whole;
}

netmsg::Packet* refuse(netmsg::Packet& p, std::atomic<std::uint64_t>& reason)
{
    drop(p, reason);
    return nullptr;
}

} // namespace

Reassembly::Reassembly(Domain& d) : lwkt::Timer(on_timeout), domain(d)
{
}

ReassemblyState::ReassemblyState(Domain& d)
{
    for (unsigned i = 0; i < reassembly_datagrams_max; ++i) {
        unused.push_back(datagrams.emplace_back(d));
    }
}

netmsg::Packet* reassemble(Domain& d, Interface& in, netmsg::Packet& p, const Fragment& f)
{
    ReassemblyState& s = *d.reassembly;
    count(d.counters.frag_in);
    Reassembly* r = find(d, f);
    if (auto* reason = objection(d, f); reason != nullptr) {
        if (r != nullptr && !r->poisoned) {
            condemn(d, *r, *reason);
            return refuse(p, d.counters.frag_refused);
        }
        return refuse(p, *reason);
    }
    if (r == nullptr) {
        r = &begin(d, f);
    }
    if (r->poisoned) {
        return refuse(p, d.counters.frag_refused);
    }
    if (s.fragments >= reassembly_fragments_max || s.fragment_bytes + f.bytes > reassembly_bytes_max) {
        return refuse(p, d.counters.frag_limit);
    }
    if (r->count >= reassembly_per_datagram_max) { // it will never be whole
        condemn(d, *r, d.counters.frag_limit);
        return refuse(p, d.counters.frag_refused);
    }
    p.l3 = p.data;
    p.pull(f.header_bytes);
    Placed placed = place(*r, p, f.offset, f.bytes);
    if (placed == Placed::duplicate) {
        return refuse(p, d.counters.frag_duplicate);
    }
    if (placed == Placed::yes) {
        ++r->count;
        r->bytes += f.bytes;
        ++s.fragments;
        s.fragment_bytes += f.bytes;
        r->protocol = f.offset == 0 ? f.protocol : r->protocol;
    }
    if (placed == Placed::overlap || !fix_total(*r, f)) {
        bool hung = placed == Placed::yes; // then it is freed with the others
        condemn(d, *r, d.counters.frag_overlap);
        return hung ? nullptr : refuse(p, d.counters.frag_refused);
    }
    if (r->total == 0 || r->bytes != r->total) {
        return nullptr; // no overlaps, so enough bytes are all bytes
    }
    const netmsg::Packet& first = *as_packet(r->pieces);
    if (offset_of(first) != 0 || header_of_whole(first) + r->total > wire::ipv4_packet_max) {
        condemn(d, *r, d.counters.frag_malformed); // later fragments had shorter headers than the first
        return nullptr;
    }
    if (Marks marks = marks_of(*r); marks.met && marks.unable) { // RFC 3168 5.3: neither with the mark nor without it
        condemn(d, *r, d.counters.frag_marks);
        return nullptr;
    }
    netmsg::Packet* whole = assemble(d, in, *r);
    count(whole != nullptr ? d.counters.frag_reassembled : d.counters.frag_no_memory);
    end(d, *r);
    return whole;
}

} // namespace protocols
