// Reassembly (RFC 791 3.2, RFC 815's bookkeeping replaced by an ordered list): runs on the CPU that the address pair
// hashes to. Bounded in datagrams, fragments and bytes per CPU and in time; fragments that overlap condemn their whole
// datagram (RFC 5722 3), exact duplicates are ignored, tiny first fragments refused (RFC 1858, RFC 3128).
#include "base/endian.hpp"
#include "protocols/icmp.hpp"
#include "protocols/ipv4.hpp"

namespace protocols {

namespace {

constexpr std::uint32_t first_fragment_min = 8;      // ports, and UDP's whole header
constexpr std::uint32_t first_fragment_tcp_min = 20; // flags, so that filters on our way saw them

std::uint32_t offset_of(const netmsg::Packet& p)
{
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
    d.ipv4->fragments -= r.count;
    d.ipv4->fragment_bytes -= r.bytes;
    r.count = 0;
    r.bytes = 0;
}

void end(Domain& d, Reassembly& r)
{
    free_pieces(d, r);
    d.wheel.cancel(r);
    r.link.unlink();
    d.ipv4->unused.push_back(r);
}

// RFC 1122 3.3.2: the sender learns of the timeout if its first fragment came.
void on_timeout(lwkt::Timer& t)
{
    auto& r = static_cast<Reassembly&>(t);
    Domain& d = r.domain;
    count(d.counters.frag_timeout);
    if (r.pieces != nullptr && offset_of(*as_packet(r.pieces)) == 0) {
        netmsg::Packet& first = *as_packet(r.pieces);
        icmp_send_error(
            d, ipv4_describe(d, first), first, wire::icmp_time_exceeded, wire::exceeded_reassembly, /*rest=*/0);
    }
    end(d, r);
}

Reassembly* find(Domain& d, const wire::Ipv4Header& h)
{
    auto& list = d.ipv4->reassembling; // at most reassembly_datagrams_max
    for (Reassembly* r = list.front(); r != nullptr; r = list.next(*r)) {
        if (r->id == h.id && r->source == h.source && r->destination == h.destination && r->protocol == h.protocol) {
            return r;
        }
    }
    return nullptr;
}

// A new datagram; the oldest one makes room.
Reassembly& begin(Domain& d, const wire::Ipv4Header& h)
{
    Ipv4State& s = *d.ipv4;
    if (s.unused.empty()) {
        count(d.counters.frag_limit);
        end(d, *s.reassembling.front());
    }
    Reassembly& r = *s.unused.pop_front();
    r.source = h.source;
    r.destination = h.destination;
    r.id = h.id;
    r.protocol = h.protocol;
    r.poisoned = false;
    r.total = 0;
    s.reassembling.push_back(r);
    d.wheel.arm(r, d.now() + reassembly_lifetime);
    return r;
}

void condemn(Domain& d, Reassembly& r, std::atomic<std::uint64_t>& reason)
{
    count(reason);
    free_pieces(d, r);
    r.poisoned = true; // until its time is over, so that late fragments start no new one
}

// What a fragment says that cannot be part of an honest datagram; null when it is fine.
std::atomic<std::uint64_t>* objection(Domain& d, const wire::Ipv4Header& h)
{
    std::uint32_t bytes = h.payload_bytes();
    bool tcp = h.protocol == wire::protocol_tcp;
    if (bytes == 0 || (h.more_fragments && bytes % 8 != 0)) {
        return &d.counters.frag_malformed;
    }
    if (h.fragment_offset == 0 && bytes < (tcp ? first_fragment_tcp_min : first_fragment_min)) {
        return &d.counters.frag_tiny;
    }
    if (tcp && h.fragment_offset == 8) {
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
        if (begin_other > offset) {
            break;
        }
    }
    p.next = *at;
    *at = &p;
    return Placed::yes;
}

// The end of the datagram as this fragment fixes it; false when it contradicts what is known.
bool fix_total(Reassembly& r, const wire::Ipv4Header& h)
{
    std::uint32_t ends = h.fragment_offset + h.payload_bytes();
    if (!h.more_fragments) {
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

// One packet with the header of the first fragment and all payload, in buffers of its own.
netmsg::Packet* assemble(Domain& d, Interface& in, Reassembly& r)
{
    netmsg::Packet& first = *as_packet(r.pieces);
    netmsg::Packet* whole = d.stack.pool().allocate();
    if (whole == nullptr) {
        return nullptr;
    }
    auto header = static_cast<std::uint32_t>(first.data - first.l3);
    std::memcpy(whole->put(header), first.l3, header);
    for (lwkt::Message* m = r.pieces; m != nullptr; m = m->next) {
        if (!d.stack.pool().append(*whole, *as_packet(m), 0, as_packet(m)->total())) {
            whole->free();
            return nullptr;
        }
    }
    base::store_be16(whole->data + 2, static_cast<std::uint16_t>(header + r.total));
    base::store_be16(whole->data + 6, 0);
    whole->l3 = whole->data;
    whole->netif = first.netif;
    whole->stamp = first.stamp;
    whole->broadcast = first.broadcast;
    whole->hops = first.hops;
    whole->csum = in.netif->info().loopback ? netmsg::Csum::valid : netmsg::Csum::unknown;
    return whole;
}

netmsg::Packet* refuse(netmsg::Packet& p, std::atomic<std::uint64_t>& reason)
{
    count(reason);
    p.free();
    return nullptr;
}

} // namespace

Reassembly::Reassembly(Domain& d) : lwkt::Timer(on_timeout), domain(d)
{
}

Ipv4State::Ipv4State(Domain& d)
{
    for (unsigned i = 0; i < reassembly_datagrams_max; ++i) {
        unused.push_back(datagrams.emplace_back(d));
    }
    for (auto& id : next_id) {
        id = static_cast<std::uint16_t>(d.random.next());
    }
    atomic_id = static_cast<std::uint16_t>(d.random.next());
}

Ipv4State::~Ipv4State() = default;

netmsg::Packet* ipv4_reassemble(Domain& d, Interface& in, netmsg::Packet& p, const wire::Ipv4Header& h)
{
    Ipv4State& s = *d.ipv4;
    count(d.counters.frag_in);
    Reassembly* r = find(d, h);
    if (auto* reason = objection(d, h); reason != nullptr) {
        if (r != nullptr && !r->poisoned) {
            condemn(d, *r, *reason);
            return refuse(p, d.counters.frag_refused);
        }
        return refuse(p, *reason);
    }
    if (r == nullptr) {
        r = &begin(d, h);
    }
    if (r->poisoned) {
        return refuse(p, d.counters.frag_refused);
    }
    if (s.fragments >= reassembly_fragments_max || s.fragment_bytes + h.payload_bytes() > reassembly_bytes_max ||
        r->count >= reassembly_per_datagram_max) {
        return refuse(p, d.counters.frag_limit);
    }
    p.l3 = p.data;
    p.pull(h.header_bytes);
    Placed placed = place(*r, p, h.fragment_offset, h.payload_bytes());
    if (placed == Placed::duplicate) {
        return refuse(p, d.counters.frag_duplicate);
    }
    if (placed == Placed::yes) {
        ++r->count;
        r->bytes += h.payload_bytes();
        ++s.fragments;
        s.fragment_bytes += h.payload_bytes();
    }
    if (placed == Placed::overlap || !fix_total(*r, h)) {
        bool hung = placed == Placed::yes; // then it is freed with the others
        condemn(d, *r, d.counters.frag_overlap);
        return hung ? nullptr : refuse(p, d.counters.frag_refused);
    }
    if (r->total == 0 || r->bytes != r->total) {
        return nullptr; // no overlaps, so enough bytes are all bytes
    }
    if (offset_of(*as_packet(r->pieces)) != 0 ||
        static_cast<std::uint32_t>(as_packet(r->pieces)->data - as_packet(r->pieces)->l3) + r->total >
            wire::ipv4_packet_max) {
        condemn(d, *r, d.counters.frag_malformed); // later fragments had shorter headers than the first
        return nullptr;
    }
    netmsg::Packet* whole = assemble(d, in, *r);
    count(whole != nullptr ? d.counters.frag_reassembled : d.counters.frag_no_memory);
    end(d, *r);
    return whole;
}

} // namespace protocols
