// The IPv6 addresses of this host as one CPU knows them: configured ones, link-local and autoconfigured ones (RFC 4862)
// with stable interface identifiers (RFC 7217), and which of them a packet leaves from (RFC 6724). Lifetimes are looked
// at when an address is used; kept routes hear of their ends (ipv6_lifetimes.cpp). Owner: the domain's CPU.
#include <algorithm>
#include <cstring>

#include "protocols/ip.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"

namespace protocols {

namespace {

constexpr base::Micros two_hours = base::seconds(7200); // RFC 4862 5.5.3 e
constexpr std::uint8_t attempts_max = 3;                // RFC 7217 7: IDGEN_RETRIES
constexpr unsigned identifier_bits = 64;                // RFC 2464 4

base::Instant until(base::Instant now, std::uint32_t seconds)
{
    return seconds == wire::nd_forever ? base::never : now + base::seconds(seconds);
}

// RFC 7217 5: F(Prefix, Net_Iface, DAD_Counter, secret). Reserved identifiers (RFC 5453) are too rare to be met and
// refused by the next counter.
base::IpAddr stable_address(const Domain& d, const Interface& in, const base::IpAddr& prefix, std::uint8_t attempt)
{
    struct {
        unsigned char prefix[8];
        char name[16] = {};
        std::uint64_t counter;
    } input;
    std::memcpy(input.prefix, prefix.on_wire().bytes(), sizeof input.prefix);
    const std::string& name = in.netif->info().name;
    name.copy(input.name, sizeof input.name);
    input.counter = attempt;
    unsigned char bytes[16];
    std::uint64_t identifier = 0;
    for (; (identifier >> 7) == 0 || (identifier >> 7) == 0xfdffffffffffff80U >> 7; input.counter += 256) {
        identifier = base::siphash(d.stack.address_secret(), &input, sizeof input);
    }
    std::memcpy(bytes, input.prefix, sizeof input.prefix);
    std::memcpy(bytes + 8, &identifier, sizeof identifier);
    return base::IpAddr::v6(bytes).in_zone(in.index);
}

Ipv6Address* find(Domain& d, const base::IpAddr& a, std::uint32_t interface)
{
    for (Ipv6Address& own : d.ipv6->addresses) {
        if (own.addr == a && own.interface == interface) {
            return &own;
        }
    }
    return nullptr;
}

void drop_expired(Domain& d)
{
    std::erase_if(d.ipv6->addresses, [&](const Ipv6Address& a) { return a.valid_until <= d.now(); });
}

// What is over makes room.
bool has_room(Domain& d, std::uint32_t interface)
{
    drop_expired(d);
    auto mine = std::count_if(d.ipv6->addresses.begin(), d.ipv6->addresses.end(),
        [&](const Ipv6Address& a) { return a.interface == interface; });
    return static_cast<unsigned>(mine) < addresses_per_interface_max;
}

void add(Domain& d, const Interface& in, Ipv6Address a)
{
    if (find(d, a.addr, in.index) != nullptr) {
        return;
    }
    a.interface = in.index;
    a.usable_at = ipv6_start_detection(d, in, a.addr);
    d.ipv6->addresses.push_back(a);
    ++d.route_generation;
    ipv6_turns_at(d, a.usable_at);
    ipv6_turns_at(d, a.preferred_until);
    ipv6_turns_at(d, a.valid_until);
}

void add_stable(Domain& d, const Interface& in, const base::IpAddr& prefix, std::uint8_t attempt, base::Instant valid,
    base::Instant preferred)
{
    Ipv6Address a;
    a.addr = stable_address(d, in, prefix, attempt);
    a.length = identifier_bits;
    a.autoconf = true;
    a.attempt = attempt;
    a.valid_until = valid;
    a.preferred_until = preferred;
    add(d, in, a);
}

base::IpAddr link_local_prefix()
{
    static constexpr unsigned char b[16] = {0xfe, 0x80};
    return base::IpAddr::v6(b);
}

void take_on_link(Domain& d, const Interface& in, const wire::NdPrefix& p)
{
    auto& list = d.ipv6->prefixes;
    base::Prefix prefix{p.addr, p.length};
    base::Instant end = until(d.now(), p.valid_s);
    ipv6_turns_at(d, end);
    auto at = std::find_if(list.begin(), list.end(),
        [&](const OnLinkPrefix& known) { return known.prefix == prefix && known.interface == in.index; });
    if (at != list.end()) {
        d.route_generation += (at->until > d.now()) != (end > d.now()) ? 1 : 0;
        at->until = end;
        return;
    }
    if (p.valid_s == 0) {
        return;
    }
    std::erase_if(list, [&](const OnLinkPrefix& known) { return known.until <= d.now(); });
    if (list.size() == prefixes_max) {
        return count(d.counters.nd_prefixes_refused);
    }
    list.push_back({prefix, in.index, end});
    ++d.route_generation;
}

// RFC 4862 5.5.3 e: an unauthenticated advertisement cannot end an address sooner than two hours from now.
void refresh(Domain& d, Ipv6Address& a, const wire::NdPrefix& p)
{
    base::Instant now = d.now();
    base::Instant preferred = until(now, p.preferred_s);
    d.route_generation += (a.preferred_until > now) != (preferred > now) ? 1 : 0;
    a.preferred_until = preferred;
    base::Instant wanted = until(now, p.valid_s);
    if (wanted - now > two_hours || wanted > a.valid_until) {
        a.valid_until = wanted;
    } else if (a.valid_until - now > two_hours) {
        a.valid_until = now + two_hours;
    }
    ipv6_turns_at(d, a.preferred_until);
    ipv6_turns_at(d, a.valid_until);
}

void autoconfigure(Domain& d, const Interface& in, const wire::NdPrefix& p)
{
    if (p.preferred_s > p.valid_s || p.length != 128 - identifier_bits) {
        return count(d.counters.nd_prefixes_refused); // RFC 4862 5.5.3 c, d
    }
    bool known = false;
    drop_expired(d); // one that is over is no address any more: it is probed for again (RFC 4862 5.4)
    for (Ipv6Address& a : d.ipv6->addresses) {
        if (a.autoconf && a.interface == in.index && base::Prefix{p.addr, p.length}.contains(a.addr)) {
            refresh(d, a, p);
            known = true;
        }
    }
    if (known || p.valid_s == 0) {
        return;
    }
    if (!has_room(d, in.index)) {
        return count(d.counters.nd_prefixes_refused);
    }
    add_stable(d, in, p.addr, 0, until(d.now(), p.valid_s), until(d.now(), p.preferred_s));
}

// RFC 6724 3.1, RFC 4291 2.7: numbers that compare like the sizes of scopes.
unsigned scope(const base::IpAddr& a)
{
    if (a.is_multicast_v6()) {
        return a.bytes()[1] & 0xf;
    }
    return a.is_link_local_v6() || a == base::IpAddr::loopback_v6() ? 2 : 0xe;
}

// RFC 6724 2.1, those rows of the default table that an address of ours can meet.
unsigned label(const base::IpAddr& a)
{
    const unsigned char* b = a.bytes();
    if ((b[0] & 0xfe) == 0xfc) {
        return 13;
    }
    std::uint32_t first = base::load_be32(b);
    return first >> 16 == 0x2002 ? 2 : first == 0x20010000 ? 5 : 1;
}

unsigned common_bits(const base::IpAddr& a, const base::IpAddr& b, unsigned most)
{
    unsigned n = 0;
    while (n < most && ((a.bytes()[n / 8] ^ b.bytes()[n / 8]) >> (7 - n % 8) & 1) == 0) {
        ++n;
    }
    return n;
}

void note_announced(Domain& d, const Interface& in, const base::IpAddr& router, const wire::NdPrefix& p)
{
    auto& list = d.ipv6->announced;
    base::Prefix prefix{p.addr, p.length};
    auto over = [&](const AnnouncedPrefix& a) { return a.until <= d.now(); };
    std::erase_if(list, over);
    auto at = std::find_if(list.begin(), list.end(),
        [&](const AnnouncedPrefix& a) { return a.prefix == prefix && a.router == router && a.interface == in.index; });
    base::Instant end = until(d.now(), p.valid_s);
    ipv6_turns_at(d, end);
    if (at != list.end()) {
        at->until = end;
        d.route_generation += over(*at) ? 1 : 0;
    } else if (p.valid_s != 0 && list.size() < announced_max) {
        list.push_back({prefix, router, in.index, end});
        ++d.route_generation;
    }
}

enum class Announced : std::uint8_t { by_nobody, by_others, by_next_hop };

Announced announced(Domain& d, const Ipv6Address& a, const base::IpAddr& next_hop)
{
    Announced by = Announced::by_nobody;
    for (const AnnouncedPrefix& p : d.ipv6->announced) {
        if (p.interface != a.interface || p.until <= d.now() || !p.prefix.contains(a.addr)) {
            continue;
        }
        if (p.router == next_hop) {
            return Announced::by_next_hop;
        }
        by = Announced::by_others;
    }
    return by;
}

// Rule 5.5: positive if the next hop advertised the prefix of `a`, and others that of `b`.
int by_next_hop(Domain& d, const Ipv6Address& a, const Ipv6Address& b, const base::IpAddr& next_hop)
{
    if (d.ipv6->announced.size() < 2 || !next_hop.is_link_local_v6()) {
        return 0;
    }
    Announced of_a = announced(d, a, next_hop);
    Announced of_b = announced(d, b, next_hop);
    bool decides = of_a != of_b && of_a != Announced::by_nobody && of_b != Announced::by_nobody;
    return !decides ? 0 : of_a == Announced::by_next_hop ? 1 : -1;
}

// RFC 6724 5: is `a` better than `b`? Rules 4 (home addresses) and 7 (temporary ones) decide nothing here, nor does
// 5: those compared are all the outgoing interface's, or none is.
bool better(Domain& d, const Ipv6Address& a, const Ipv6Address& b, const base::IpAddr& to, const base::IpAddr& next_hop)
{
    base::Instant now = d.now();
    if (a.addr == to || b.addr == to) { // rule 1
        return a.addr == to;
    }
    unsigned scope_a = scope(a.addr);
    unsigned scope_b = scope(b.addr);
    if (scope_a != scope_b) { // rule 2
        return scope_a < scope_b ? scope_a >= scope(to) : scope_b < scope(to);
    }
    bool deprecated_a = a.preferred_until <= now;
    bool deprecated_b = b.preferred_until <= now;
    if (deprecated_a != deprecated_b) { // rule 3
        return deprecated_b;
    }
    if (int by = by_next_hop(d, a, b, next_hop); by != 0) {
        return by > 0;
    }
    bool label_a = label(a.addr) == label(to);
    bool label_b = label(b.addr) == label(to);
    if (label_a != label_b) { // rule 6
        return label_a;
    }
    return common_bits(a.addr, to, a.length) > common_bits(b.addr, to, b.length); // rule 8
}

// `out`: of this interface; null = of any.
const Ipv6Address* best_of(
    Domain& d, const Interface* out, const base::IpAddr& destination, const base::IpAddr& next_hop)
{
    const Ipv6Address* best = nullptr;
    for (const Ipv6Address& a : d.ipv6->addresses) {
        bool candidate = (out == nullptr || a.interface == out->index) && a.usable(d.now());
        if (candidate && (best == nullptr || better(d, a, *best, destination, next_hop))) {
            best = &a;
        }
    }
    return best;
}

// News of it may come when the address is in use here already: the CPU that heard of the other host decided.
void duplicate_here(Domain& d, const Interface& in, const base::IpAddr& a)
{
    Ipv6Address* own = find(d, a, in.index);
    if (own == nullptr || own->duplicate) {
        return;
    }
    count(d.counters.nd_duplicates);
    own->duplicate = true;
    ++d.route_generation;
    ipv6_stop_detection(d, a);
    Ipv6Address old = *own; // making room moves the addresses
    if (old.autoconf && old.attempt + 1 < attempts_max && has_room(d, in.index)) {
        add_stable(d, in, old.addr, static_cast<std::uint8_t>(old.attempt + 1), old.valid_until, old.preferred_until);
    }
}

void duplicate_dispatch(lwkt::Message& m)
{
    Domain& d = forwarded_domain(m);
    auto& p = static_cast<netmsg::Packet&>(m);
    base::IpAddr a = base::IpAddr::v6(p.data);
    const Interface& in = received_on(d, p);
    p.free();
    duplicate_here(d, in, a);
}

} // namespace

void ipv6_attach(Domain& d, const Interface& in)
{
    d.ipv6->links.resize(in.index);
    for (const InterfaceAddress& a : in.addresses6) {
        Ipv6Address own;
        own.addr = a.addr.in_zone(in.index);
        own.length = a.length;
        add(d, in, own);
    }
    if (!in.ipv6 || !in.netif->info().ethernet) {
        return;
    }
    auto is_link_local = [](const InterfaceAddress& a) { return a.addr.is_link_local_v6(); };
    if (std::none_of(in.addresses6.begin(), in.addresses6.end(), is_link_local)) {
        add_stable(d, in, link_local_prefix(), 0, base::never, base::never); // RFC 4862 5.3
    }
    if (in.slaac) {
        ipv6_start_solicitation(d, in);
    }
}

bool ipv6_is_local(Domain& d, const base::IpAddr& a)
{
    for (const Ipv6Address& own : d.ipv6->addresses) {
        if (own.addr == a && own.usable(d.now())) {
            return true;
        }
    }
    return false;
}

bool is_local(Domain& d, const base::IpAddr& a)
{
    return a.is_v4() ? ipv4_is_local(d, a.v4()) : ipv6_is_local(d, a);
}

const Ipv6Address* ipv6_find_address(Domain& d, const base::IpAddr& a, std::uint32_t interface)
{
    return find(d, a, interface);
}

base::IpAddr ipv6_source(Domain& d, const Interface& out, const base::IpAddr& destination, const base::IpAddr& next_hop)
{
    const Ipv6Address* own = best_of(d, &out, destination, next_hop);
    base::IpAddr source = own != nullptr ? own->addr : base::IpAddr{};
    bool reaches = own != nullptr && scope(source) >= scope(destination);
    if (reaches || next_hop.is_any() || destination.is_multicast_v6() || destination.is_link_scoped()) {
        return source;
    }
    // RFC 6724 4 leaves it at the outgoing interface's. As Linux: a link without a prefix of its own leads on from
    // addresses of the loopback, say.
    const Ipv6Address* other = best_of(d, nullptr, destination, next_hop);
    return other != nullptr && scope(other->addr) >= scope(destination) ? other->addr : source;
}

bool ipv6_announced_by(Domain& d, const base::IpAddr& address, const base::IpAddr& router)
{
    const auto& all = d.ipv6->announced;
    return std::any_of(all.begin(), all.end(), [&](const AnnouncedPrefix& p) {
        return p.router == router && p.until > d.now() && p.prefix.contains(address);
    });
}

base::IpAddr ipv6_link_source(Domain& d, const Interface& out)
{
    for (const Ipv6Address& a : d.ipv6->addresses) {
        if (a.interface == out.index && a.addr.is_link_local_v6() && a.usable(d.now())) {
            return a.addr;
        }
    }
    return {};
}

base::Instant ipv6_link_source_at(Domain& d, const Interface& out)
{
    base::Instant soonest = base::never;
    for (const Ipv6Address& a : d.ipv6->addresses) {
        if (a.interface == out.index && a.addr.is_link_local_v6() && a.tentative(d.now())) {
            soonest = std::min(soonest, a.usable_at);
        }
    }
    return soonest;
}

void ipv6_take_prefix(Domain& d, const Interface& in, const base::IpAddr& router, const wire::NdPrefix& p)
{
    if (p.addr.is_link_local_v6() || p.addr.is_multicast_v6()) {
        return; // RFC 4861 6.3.4, RFC 4862 5.5.3 b
    }
    if (p.on_link || p.autonomous) {
        note_announced(d, in, router, p);
    }
    if (p.on_link) {
        take_on_link(d, in, p);
    }
    if (p.autonomous && in.slaac) {
        autoconfigure(d, in, p);
    }
}

void ipv6_duplicate(Domain& d, Interface& in, const base::IpAddr& a)
{
    if (!ipv6_tell_duplicate(d, in, a)) {
        ipv6_tell_duplicate_later(d, in, a);
    }
    duplicate_here(d, in, a);
}

bool ipv6_tell_duplicate(Domain& d, Interface& in, const base::IpAddr& a)
{
    if (d.stack.cpus() == 1) {
        return true;
    }
    netmsg::Packet* p = d.stack.pool().allocate();
    if (p == nullptr) {
        count(d.counters.ip_out_no_memory);
        return false;
    }
    std::memcpy(p->put(16), a.bytes(), 16);
    p->netif = in.netif;
    bool all = tell_all_cpus(d, *p, duplicate_dispatch);
    p->free();
    return all;
}

// RFC 6437 3: the same for all packets of a flow, and nobody can tell which flows share one.
std::uint32_t ipv6_flow_label(const Domain& d, const base::FourTuple& flow)
{
    return static_cast<std::uint32_t>(base::siphash(d.ipv6->label_key, &flow, sizeof flow)) & 0xfffff;
}

} // namespace protocols
