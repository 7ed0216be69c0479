// Groups: who is in one gets its datagrams, from which sources, on every CPU; and what the link's routers are told.
// Both families.
#include "base/endian.hpp"
#include "protocols/multicast/groups.hpp"
#include "protocols/multicast/source_filter.hpp"
#include "protocols/wire/igmp.hpp"
#include "protocols/wire/mld.hpp"
#include "tests/protocols/frames6.hpp"
#include "tests/protocols/host.hpp"

using namespace test;
using base::Error;
using protocols::SourceFilter;
using protocols::StackCounters;
using sockbuf::SlotKind;
using wire::RecordType;

namespace {

base::IpAddr group(unsigned n = 1)
{
    return base::parse_ip((over_v6() ? "ff15::" : "239.1.2.") + std::to_string(n)).value();
}

// The option that joins and its like, by the names that both families have (RFC 3678).
Error change(TestSocket& s, int name, const base::IpAddr& g, const base::IpAddr& source = {}, std::uint32_t index = 1)
{
    sockbuf::GroupRequest r{};
    std::memcpy(r.group, g.bytes(), 16);
    std::memcpy(r.source, source.bytes(), 16);
    r.interface = index;
    return s.set(over_v6() ? IPPROTO_IPV6 : IPPROTO_IP, name, &r, sizeof r);
}

struct Told {
    RecordType type{};
    std::vector<base::IpAddr> sources;
    bool operator==(const Told&) const = default;
};

base::IpAddr address_at(const Bytes& frame, std::size_t at)
{
    return over_v6() ? base::IpAddr::v6(frame.data() + at) : base::IpAddr::v4(base::load_be32(frame.data() + at));
}

// Where the IGMP message of a frame begins, or MLD's; 0: it is none.
std::size_t message_at(const Bytes& f)
{
    if (over_v6()) {
        return f.size() > 62 && f[12] == 0x86 && f[20] == wire::next_hop_by_hop ? 62 : 0;
    }
    return f.size() > 38 && f[12] == 0x08 && f[23] == wire::protocol_igmp ? 38 : 0;
}

// What the reports among `sent` say about the group, in order; each is checked for form.
std::vector<Told> told(const std::vector<Bytes>& sent, const base::IpAddr& g)
{
    std::vector<Told> all;
    std::size_t width = over_v6() ? 16 : 4;
    for (const Bytes& f : sent) {
        std::size_t at = message_at(f);
        if (at == 0 || f[at] != (over_v6() ? wire::mld2_report : wire::igmp3_report)) {
            continue;
        }
        CHECK(f[over_v6() ? 21 : 22] == 1); // hop limit
        CHECK((over_v6() || wire::has_router_alert_v4(f.data() + 14)));
        CHECK((over_v6() || wire::checksum(f.data() + at, f.size() - at) == 0));
        CHECK((over_v6() || base::load_be32(f.data() + 30) == wire::igmp3_routers_v4));
        std::size_t r = at + 8;
        for (unsigned n = base::load_be16(f.data() + at + 6); n != 0; --n) {
            Told t{static_cast<RecordType>(f[r]), {}};
            unsigned sources = base::load_be16(f.data() + r + 2);
            bool ours = address_at(f, r + 4) == g;
            r += 4 + width;
            for (; sources != 0; --sources, r += width) {
                t.sources.push_back(address_at(f, r));
            }
            if (ours) {
                all.push_back(t);
            }
        }
        CHECK(r == f.size());
    }
    return all;
}

struct Members {
    explicit Members(unsigned cpus = 4) : p(1, cpus), sender(p.world, p.a, SlotKind::datagram)
    {
        REQUIRE(sender.bind(at("10.0.0.1", 500)) == Error::none);
        p.world.advance(base::seconds(5)); // solicited-node groups are told
        p.b.link->sent.clear();
    }
    std::unique_ptr<TestSocket> member(base::CpuId cpu, bool joins = true, std::uint16_t port = 7)
    {
        auto s = std::make_unique<TestSocket>(p.world, p.b, SlotKind::datagram, cpu);
        REQUIRE(s->set(SOL_SOCKET, SO_REUSEADDR, 1) == Error::none);
        if (joins) {
            REQUIRE(change(*s, MCAST_JOIN_GROUP, group()) == Error::none);
        }
        REQUIRE(s->bind(at("0.0.0.0", port)) == Error::none);
        return s;
    }
    void send(const base::IpAddr& to = group())
    {
        sender.send(Bytes{1, 2, 3}, {to, 7});
        p.world.settle();
    }
    Pair p;
    TestSocket sender;
};

bool got(TestSocket& s)
{
    Bytes b;
    return s.receive(b) && b == Bytes{1, 2, 3};
}

// A query of IGMP or MLD by the newest version, of the link's router at B.
Bytes query(const base::IpAddr& about, unsigned version, std::uint32_t source_v4 = 0x0a000063)
{
    bool old = version < (over_v6() ? 2 : 3);
    if (over_v6()) {
        Ip6Fields f = from_router();
        f.hop_limit = 1;
        f.to = wire::multicast_mac_v6(wire::all_nodes());
        Bytes alert(8);
        wire::emit_router_alert(alert.data(), 0);
        f.kinds = {wire::next_hop_by_hop};
        f.extensions = {alert};
        Bytes q(old ? 24 : 28);
        q[0] = wire::mld_query;
        base::store_be16(q.data() + 4, 1000);
        std::memcpy(q.data() + 8, about.bytes(), 16);
        return ip6_frame(f, with_checksum6(f, wire::protocol_icmp6, q, 2));
    }
    Bytes q(old ? 8 : 12);
    q[0] = wire::igmp_query;
    q[1] = version == 1 ? 0 : 10; // a second
    base::store_be32(q.data() + 4, about.is_any() ? 0 : about.v4());
    base::store_be16(q.data() + 2, wire::checksum(q.data(), q.size()));
    Bytes b(wire::igmp_header_bytes);
    wire::emit_igmp_ipv4(b.data(), source_v4, wire::all_hosts_v4, 1, static_cast<std::uint32_t>(q.size()));
    b.insert(b.end(), q.begin(), q.end());
    return ethernet(wire::multicast_mac(wire::all_hosts_v4), mac(0x63), wire::ethertype_ipv4, b);
}

} // namespace

TEST_CASE("RFC 3376 3.2: what an interface receives for two sockets")
{
    base::IpAddr a = ip("10.0.0.1");
    base::IpAddr b = ip("10.0.0.2");
    base::IpAddr c = ip("10.0.0.3");
    CHECK(protocols::merged({true, {a, b}}, {true, {b, c}}) == SourceFilter{true, {b}});
    CHECK(protocols::merged({true, {a, b}}, {false, {b, c}}) == SourceFilter{true, {a}});
    CHECK(protocols::merged({false, {b, c}}, {true, {a, b}}) == SourceFilter{true, {a}});
    CHECK(protocols::merged({false, {a}}, {false, {c}}) == SourceFilter{false, {a, c}});
    CHECK(SourceFilter{true, {a}}.admits(b));
    CHECK(!SourceFilter{true, {a}}.admits(a));
    CHECK(!SourceFilter{}.admits(a));
}

TEST_CASE("a group's datagram reaches every member, whatever CPUs they are on, and nobody else")
{
    Members m;
    auto one = m.member(0);
    auto two = m.member(3);
    auto quiet = m.member(2, false);
    REQUIRE(quiet->set(over_v6() ? IPPROTO_IPV6 : IPPROTO_IP, over_v6() ? IPV6_MULTICAST_ALL : IP_MULTICAST_ALL, 0) ==
            Error::none);
    for (std::uint16_t port = 600; port < 632; ++port) { // flows of all CPUs
        TestSocket s(m.p.world, m.p.a, SlotKind::datagram);
        REQUIRE(s.bind(at("10.0.0.1", port)) == Error::none);
        s.send(Bytes{1, 2, 3}, {group(), 7});
        CHECK(got(*one));
        CHECK(got(*two));
        CHECK(!got(*quiet));
        REQUIRE(s.close() == Error::none);
    }
    auto refused = over_v6() ? &StackCounters::ip_in_not_ours : &StackCounters::udp_in_no_member;
    std::uint64_t before = m.p.b.counted(refused);
    m.send(group(2));
    CHECK(!got(*one));
    CHECK(m.p.b.counted(refused) == before + 1);
    REQUIRE(change(*one, MCAST_LEAVE_GROUP, group()) == Error::none);
    m.send();
    CHECK(got(*two));
    CHECK(got(*one)); // IP_MULTICAST_ALL: another socket of the host is in it
    REQUIRE(two->close() == Error::none);
    m.send();
    CHECK(!got(*one));
    CHECK(m.p.b.packets_in_use() == 0);
}

TEST_CASE("sources: only those asked for, or all but those refused")
{
    Members m;
    auto s = m.member(1, false);
    REQUIRE(change(*s, MCAST_JOIN_SOURCE_GROUP, group(), ip("10.0.0.9")) == Error::none);
    m.send();
    CHECK(!got(*s));
    REQUIRE(change(*s, MCAST_JOIN_SOURCE_GROUP, group(), ip("10.0.0.1")) == Error::none);
    m.send();
    CHECK(got(*s));
    CHECK(change(*s, MCAST_BLOCK_SOURCE, group(), ip("10.0.0.1")) == Error::invalid);
    REQUIRE(change(*s, MCAST_LEAVE_SOURCE_GROUP, group(), ip("10.0.0.1")) == Error::none);
    CHECK(change(*s, MCAST_LEAVE_SOURCE_GROUP, group(), ip("10.0.0.1")) == Error::address_not_available);
    REQUIRE(change(*s, MCAST_LEAVE_SOURCE_GROUP, group(), ip("10.0.0.9")) == Error::none); // the last: it has left
    REQUIRE(change(*s, MCAST_JOIN_GROUP, group()) == Error::none);
    REQUIRE(change(*s, MCAST_BLOCK_SOURCE, group(), ip("10.0.0.1")) == Error::none);
    m.send();
    CHECK(!got(*s));
    REQUIRE(change(*s, MCAST_UNBLOCK_SOURCE, group(), ip("10.0.0.1")) == Error::none);
    m.send();
    CHECK(got(*s));
}

TEST_CASE("a membership that never said which sources may become one of some sources, as on Linux")
{
    Members m;
    auto s = m.member(1);
    CHECK(change(*s, MCAST_LEAVE_SOURCE_GROUP, group(), ip("10.0.0.9")) == Error::address_not_available);
    m.send();
    CHECK(got(*s));
    REQUIRE(change(*s, MCAST_JOIN_SOURCE_GROUP, group(), ip("10.0.0.9")) == Error::none);
    m.send();
    CHECK(!got(*s));
    CHECK(change(*s, MCAST_BLOCK_SOURCE, group(), ip("10.0.0.9")) == Error::invalid);
    REQUIRE(change(*s, MCAST_JOIN_SOURCE_GROUP, group(), ip("10.0.0.1")) == Error::none);
    m.send();
    CHECK(got(*s));
}

namespace {

// MCAST_MSFILTER, one piece.
Error set_list(TestSocket& s, sockbuf::FilterPiece piece, const std::vector<base::IpAddr>& sources)
{
    unsigned char value[sockbuf::request_data_max];
    piece.count = static_cast<std::uint8_t>(sources.size());
    std::memcpy(value, &piece, sizeof piece);
    for (std::size_t i = 0; i < sources.size(); ++i) {
        std::memcpy(value + sizeof piece + i * 16, sources[i].bytes(), 16);
    }
    return s.set(over_v6() ? IPPROTO_IPV6 : IPPROTO_IP, MCAST_MSFILTER, value,
        static_cast<std::uint32_t>(sizeof piece + sources.size() * 16));
}

sockbuf::FilterPiece list_of(const base::IpAddr& g, bool exclude, unsigned total, unsigned first = 0)
{
    sockbuf::FilterPiece piece{};
    std::memcpy(piece.group, g.bytes(), 16);
    piece.interface = 1;
    piece.exclude = exclude ? 1 : 0;
    piece.total = static_cast<std::uint8_t>(total);
    piece.first = static_cast<std::uint8_t>(first);
    return piece;
}

} // namespace

TEST_CASE("a list of sources in pieces holds from the piece with which it is whole")
{
    Members m;
    auto s = m.member(1);
    auto sender = ip("10.0.0.1");
    REQUIRE(set_list(*s, list_of(group(), true, 3), {ip("10.0.0.7"), sender}) == Error::none);
    m.send();
    CHECK(got(*s)); // the old list
    REQUIRE(set_list(*s, list_of(group(), true, 3, 2), {ip("10.0.0.9")}) == Error::none);
    m.send();
    CHECK(!got(*s));
    REQUIRE(set_list(*s, list_of(group(), false, 2), {ip("10.0.0.9"), sender}) == Error::none);
    m.send();
    CHECK(got(*s));
    REQUIRE(set_list(*s, list_of(group(), false, 1), {ip("10.0.0.9")}) == Error::none);
    m.send();
    CHECK(!got(*s));

    auto ask = list_of(group(), false, 0);
    s->message.level = over_v6() ? IPPROTO_IPV6 : IPPROTO_IP;
    s->message.name = MCAST_MSFILTER;
    s->message.size = 308;
    std::memcpy(s->message.option, &ask, sizeof ask);
    REQUIRE(s->call(netmsg::SocketOp::get_option) == Error::none);
    std::memcpy(&ask, s->message.option, sizeof ask);
    CHECK(s->message.size == sizeof ask + 16);
    CHECK((ask.exclude == 0 && ask.total == 1 && ask.first == 0 && ask.count == 1));
    CHECK(std::memcmp(s->message.option + sizeof ask, ip("10.0.0.9").bytes(), 16) == 0);
}

TEST_CASE("what lists of sources fail with, and what a hostile one meets")
{
    Members m(2);
    auto s = m.member(0);
    CHECK(set_list(*s, list_of(group(2), true, 0), {}) == Error::invalid); // not a member
    CHECK(set_list(*s, list_of(group(2), false, 0), {}) == Error::address_not_available);
    CHECK(set_list(*s, list_of(ip("10.0.0.9"), true, 0), {}) == Error::invalid);
    auto elsewhere = list_of(group(), true, 0);
    elsewhere.interface = 99;
    CHECK(set_list(*s, elsewhere, {}) == Error::no_device);
    CHECK(set_list(*s, list_of(group(), true, 2, 1), {ip("10.0.0.9")}) == Error::invalid); // without its first piece
    CHECK(set_list(*s, list_of(group(), true, 1), {ip("10.0.0.9"), ip("10.0.0.8")}) == Error::invalid);
    CHECK(set_list(*s, list_of(group(), true, 65), {ip("10.0.0.9")}) == Error::invalid);
    auto more_than_there_is = list_of(group(), true, 2);
    more_than_there_is.count = 2;
    CHECK(s->set(over_v6() ? IPPROTO_IPV6 : IPPROTO_IP, MCAST_MSFILTER, &more_than_there_is,
              sizeof more_than_there_is) == Error::invalid);
    CHECK(s->set(over_v6() ? IPPROTO_IPV6 : IPPROTO_IP, MCAST_MSFILTER, &more_than_there_is, 4) == Error::invalid);
    auto by_route = list_of(group(), true, 0);
    by_route.interface = 0;
    CHECK(set_list(*s, by_route, {}) == (over_v6() ? Error::invalid : Error::none)); // as Linux
    REQUIRE(set_list(*s, list_of(group(), false, 0), {}) == Error::none);            // leaves
    CHECK(change(*s, MCAST_LEAVE_GROUP, group()) == Error::address_not_available);
}

TEST_CASE("a source of link scope is one of the membership's interface")
{
    if (!over_v6()) {
        return;
    }
    base::IpAddr source = base::parse_ip("fe80::9").value();
    std::vector<protocols::Membership> joined{{group(), 1, {false, {source}}, {}}};
    CHECK(protocols::group_admits(joined, true, group(), 1, source.in_zone(1)));
    CHECK(!protocols::group_admits(joined, true, group(), 1, base::parse_ip("fe80::8").value().in_zone(1)));
}

TEST_CASE("what joining and leaving fail with")
{
    Members m(2);
    auto s = m.member(0);
    CHECK(change(*s, MCAST_JOIN_GROUP, group()) == Error::address_in_use);
    CHECK(change(*s, MCAST_LEAVE_GROUP, group(2)) == Error::address_not_available);
    CHECK(change(*s, MCAST_JOIN_GROUP, ip("10.0.0.9")) == Error::invalid);
    CHECK(change(*s, MCAST_JOIN_GROUP, group(2), {}, 99) == Error::no_device);
    unsigned n = 2;
    while (change(*s, MCAST_JOIN_GROUP, group(n)) == Error::none) {
        ++n;
    }
    CHECK(n == 21);
    CHECK(change(*s, MCAST_JOIN_GROUP, group(n)) == Error::no_buffers);
    TestSocket stream(m.p.world, m.p.b, SlotKind::stream);
    CHECK(change(stream, MCAST_JOIN_GROUP, group()) == Error::protocol);
}

TEST_CASE("an IPv6 group is left where it was joined when no interface is named, IPv4's where the route leads")
{
    Members m(2);
    auto s = m.member(0, false);
    REQUIRE(change(*s, MCAST_JOIN_GROUP, group(), {}, 2) == Error::none);
    Error left = change(*s, MCAST_LEAVE_GROUP, group(), {}, 0);
    CHECK(left == (over_v6() ? Error::none : Error::address_not_available));
}

TEST_CASE("a bind to a group of interface or link scope says which link")
{
    if (!over_v6()) {
        return;
    }
    Members m(2);
    TestSocket s(m.p.world, m.p.b, SlotKind::datagram);
    CHECK(s.bind(at("ff02::fb", 7)) == Error::invalid);
    CHECK(s.bind(at("ff01::fb", 7)) == Error::invalid);
    CHECK(s.bind({ip("ff02::fb").in_zone(1), 7}) == Error::none);
}

TEST_CASE("a datagram to a group comes back to members on its own host, unless its sender does not want that")
{
    Members m;
    auto s = m.member(2);
    TestSocket here(m.p.world, m.p.b, SlotKind::datagram, 1);
    REQUIRE(here.bind(at("10.0.0.2", 900)) == Error::none);
    here.send(Bytes{1, 2, 3}, {group(), 7});
    m.p.world.settle();
    CHECK(got(*s));
    CHECK(!m.p.b.link->sent.empty()); // and it left
    Bytes large(3000, 5);             // in fragments outside, whole here
    here.send(large, {group(), 7});
    m.p.world.settle();
    Bytes back;
    REQUIRE(s->receive(back));
    CHECK(back == large);
    REQUIRE(here.set(over_v6() ? IPPROTO_IPV6 : IPPROTO_IP, over_v6() ? IPV6_MULTICAST_LOOP : IP_MULTICAST_LOOP, 0) ==
            Error::none);
    here.send(Bytes{1, 2, 3}, {group(), 7});
    m.p.world.settle();
    CHECK(!got(*s));
    CHECK(m.p.b.packets_in_use() == 0);
}

TEST_CASE("RFC 1122 3.2.1.7: a group's datagram without a hop to go reaches members here and not the link")
{
    Members m;
    auto s = m.member(2);
    TestSocket here(m.p.world, m.p.b, SlotKind::datagram, 1);
    REQUIRE(here.bind(at("10.0.0.2", 900)) == Error::none);
    REQUIRE(here.set(over_v6() ? IPPROTO_IPV6 : IPPROTO_IP, over_v6() ? IPV6_MULTICAST_HOPS : IP_MULTICAST_TTL, 0) ==
            Error::none);
    m.p.world.advance(base::seconds(3)); // the reports
    m.p.b.link->sent.clear();
    here.send(Bytes{1, 2, 3}, {group(), 7});
    CHECK(got(*s));
    Bytes large(3000, 5); // as long as would be cut
    here.send(large, {group(), 7});
    Bytes back;
    REQUIRE(s->receive(back));
    CHECK(back == large);
    CHECK(m.p.b.link->sent.empty());
    CHECK(m.p.b.counted(&StackCounters::ip_out_host_only) == 2);
    CHECK(m.p.b.packets_in_use() == 0);
}

TEST_CASE("RFC 4291 2.7, 2.7.1: groups of interface scope stay on the host, to those of scope 0 nothing is sent")
{
    if (!over_v6()) {
        return;
    }
    Members m;
    auto s = m.member(2);
    base::IpAddr inside = ip("ff01::77");
    base::IpAddr reserved = ip("ff00::77");
    REQUIRE(change(*s, MCAST_JOIN_GROUP, inside) == Error::none);
    REQUIRE(change(*s, MCAST_JOIN_GROUP, reserved) == Error::none);
    TestSocket here(m.p.world, m.p.b, SlotKind::datagram, 1);
    REQUIRE(here.bind(at("10.0.0.2", 900)) == Error::none);
    m.p.world.advance(base::seconds(3));
    m.p.b.link->sent.clear();
    here.send(Bytes{1, 2, 3}, {inside, 7});
    CHECK(got(*s));
    here.send(Bytes{1, 2, 3}, {reserved, 7});
    CHECK(!got(*s));
    CHECK(m.p.b.link->sent.empty());
    CHECK(m.p.b.counted(&StackCounters::ip_out_host_only) == 2);
}

TEST_CASE("RFC 3376 5.1, RFC 3810 6.1: a change is told twice, by one CPU; the last to leave says so")
{
    Members m;
    auto one = m.member(0);
    auto two = m.member(3);
    m.p.world.advance(base::seconds(3));
    CHECK(told(m.p.b.link->sent, group()) == std::vector<Told>(2, Told{RecordType::to_exclude, {}}));
    m.p.b.link->sent.clear();
    REQUIRE(one->close() == Error::none);
    m.p.world.advance(base::seconds(3));
    CHECK(told(m.p.b.link->sent, group()).empty());
    REQUIRE(two->close() == Error::none);
    m.p.world.advance(base::seconds(3));
    CHECK(told(m.p.b.link->sent, group()) == std::vector<Told>(2, Told{RecordType::to_include, {}}));
    m.p.b.link->sent.clear();
    auto s = m.member(1, false);
    base::IpAddr nine = ip("10.0.0.9");
    REQUIRE(change(*s, MCAST_JOIN_SOURCE_GROUP, group(), nine) == Error::none);
    m.p.world.advance(base::seconds(3));
    CHECK(told(m.p.b.link->sent, group()) == std::vector<Told>(2, Told{RecordType::allow, {nine}}));
    m.p.b.link->sent.clear();
    REQUIRE(change(*s, MCAST_LEAVE_SOURCE_GROUP, group(), nine) == Error::none);
    m.p.world.advance(base::seconds(3));
    CHECK(told(m.p.b.link->sent, group()) == std::vector<Told>(2, Told{RecordType::block, {nine}}));
}

TEST_CASE("RFC 3376 5.2, RFC 3810 6.2: a query is answered once, about the group it names or about all")
{
    Members m;
    auto s = m.member(2);
    REQUIRE(change(*s, MCAST_JOIN_GROUP, group(2)) == Error::none);
    REQUIRE(change(*s, MCAST_BLOCK_SOURCE, group(2), ip("10.0.0.9")) == Error::none);
    m.p.world.advance(base::seconds(3));
    m.p.b.link->sent.clear();
    unsigned newest = over_v6() ? 2 : 3;
    m.p.b.link->inject(query({}, newest), 1);
    m.p.b.link->inject(query({}, newest), 1);
    m.p.world.advance(base::millis(1100));
    CHECK(told(m.p.b.link->sent, group()) == std::vector<Told>{{RecordType::is_exclude, {}}});
    CHECK(told(m.p.b.link->sent, group(2)) == std::vector<Told>{{RecordType::is_exclude, {ip("10.0.0.9")}}});
    m.p.b.link->sent.clear();
    m.p.b.link->inject(query(group(2), newest), 3);
    m.p.world.advance(base::millis(1100));
    CHECK(told(m.p.b.link->sent, group()).empty());
    CHECK(told(m.p.b.link->sent, group(2)).size() == 1);
    m.p.b.link->sent.clear();
    m.p.b.link->inject(query(group(2), newest, 0), 3); // a switch without an address may ask (RFC 4541 2.1.1)
    m.p.world.advance(base::millis(1100));
    CHECK(told(m.p.b.link->sent, group(2)).size() == 1);
    m.p.b.link->sent.clear();
    m.p.b.link->inject(query(group(9), newest), 3); // not ours
    m.p.world.advance(base::millis(1100));
    CHECK(m.p.b.link->sent.empty());
    CHECK(m.p.b.packets_in_use() == 0);
}

TEST_CASE("RFC 3376 4.1.1, RFC 3810 5.1.3: an answer may take as long as the longest times that a query can name")
{
    Members m;
    auto s = m.member(2);
    m.p.world.advance(base::seconds(3));
    m.p.b.link->sent.clear();
    Bytes q = query({}, over_v6() ? 2 : 3);
    if (over_v6()) {
        Ip6Fields f = from_router();
        Bytes message(q.begin() + 62, q.end());
        base::store_be16(message.data() + 2, 0);
        base::store_be16(message.data() + 4, 0xf063); // 4295 s
        message = with_checksum6(f, wire::protocol_icmp6, message, 2);
        std::copy(message.begin(), message.end(), q.begin() + 62);
    } else {
        q[39] = 0xff; // 3174 s
        base::store_be16(q.data() + 40, 0);
        base::store_be16(q.data() + 40, wire::checksum(q.data() + 38, 12));
    }
    for (int i = 0; i < 3; ++i) { // of several times the soonest
        m.p.b.link->inject(q, 1);
    }
    m.p.world.advance(base::seconds(2));
    CHECK(m.p.b.link->sent.empty());
    m.p.world.advance(base::seconds(4300));
    CHECK(told(m.p.b.link->sent, group()).size() == 1);
}

TEST_CASE("RFC 3376 7.2.1, RFC 3810 8.2.1: while an older querier is about, every CPU speaks its language")
{
    for (unsigned version = 1; version <= (over_v6() ? 1U : 2U); ++version) {
        Members m;
        m.p.b.link->inject(query({}, version), 1);
        m.p.world.advance(base::seconds(11));
        m.p.b.link->sent.clear();
        auto s = m.member(2);
        m.p.world.advance(base::seconds(3));
        REQUIRE(s->close() == Error::none);
        m.p.world.advance(base::seconds(3));
        std::vector<unsigned> types;
        for (const Bytes& f : m.p.b.link->sent) {
            if (std::size_t at = message_at(f); at != 0) {
                types.push_back(f[at]);
                CHECK(address_at(f, at + (over_v6() ? 8 : 4)) == group());
            }
        }
        using Types = std::vector<unsigned>;
        CHECK(types == (over_v6() ? Types{wire::mld1_report, wire::mld1_report, wire::mld1_done, wire::mld1_done}
                           : version == 1
                               ? Types{wire::igmp1_report, wire::igmp1_report}
                               : Types{wire::igmp2_report, wire::igmp2_report, wire::igmp2_leave, wire::igmp2_leave}));
        m.p.world.advance(base::seconds(260));
        m.p.b.link->sent.clear();
        auto later = m.member(2);
        m.p.world.advance(base::seconds(3));
        CHECK(told(m.p.b.link->sent, group()).size() == 2);
    }
}

TEST_CASE("RFC 3376 9.1: a query from beyond the link, without router alert or with a wrong checksum is not believed")
{
    if (over_v6()) {
        return; // test_nd.cpp
    }
    Members m(1);
    auto s = m.member(0);
    m.p.world.advance(base::seconds(3));
    m.p.b.link->sent.clear();
    Bytes good = query({}, 3);
    Bytes far = good;
    far[22] = 2;
    base::store_be16(far.data() + 24, static_cast<std::uint16_t>(base::load_be16(far.data() + 24) - 0x100));
    Bytes wrong = good;
    wrong.back() ^= 1;
    Bytes cut = good; // says that sources follow
    cut[14 + 24 + 11] = 9;
    base::store_be16(cut.data() + 40, static_cast<std::uint16_t>(base::load_be16(cut.data() + 40) - 9));
    Bytes elsewhere = good; // a general query, to a group that we are in
    base::store_be32(elsewhere.data() + 30, group().v4());
    base::store_be16(elsewhere.data() + 24, 0);
    base::store_be16(elsewhere.data() + 24, wire::checksum(elsewhere.data() + 14, 24));
    base::MacAddr to = wire::multicast_mac(group().v4());
    std::copy(to.bytes.begin(), to.bytes.end(), elsewhere.begin());
    for (const Bytes& f : {far, wrong, cut, elsewhere}) {
        m.p.b.link->inject(f, 0);
    }
    m.p.world.advance(base::seconds(2));
    CHECK(m.p.b.link->sent.empty());
    CHECK(m.p.b.counted(&StackCounters::group_in_ignored) == 4);
    Bytes to_us = elsewhere; // RFC 3376 4.1.12: any of our addresses will do
    base::store_be32(to_us.data() + 30, 0x0a000002);
    base::store_be16(to_us.data() + 24, 0);
    base::store_be16(to_us.data() + 24, wire::checksum(to_us.data() + 14, 24));
    std::copy_n(m.p.b.link->info().mac.bytes.begin(), 6, to_us.begin());
    m.p.b.link->inject(to_us, 0);
    m.p.world.advance(base::seconds(2));
    CHECK(m.p.b.link->sent.size() == 1);
    m.p.b.link->sent.clear();
    m.p.b.link->inject(good, 0);
    m.p.world.advance(base::seconds(2));
    CHECK(m.p.b.link->sent.size() == 1);
}
