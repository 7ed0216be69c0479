// What a host tells the link's routers of its groups over IPv6 (RFC 3810), where that is not as over IPv4: queries to
// groups of chosen sources, and what is joined before there is an address that routers believe.
#include <netinet/in.h>

#include "protocols/multicast/groups.hpp"
#include "tests/protocols/nd_link.hpp"

using namespace test;
using base::Error;
using protocols::StackCounters;
using sockbuf::SlotKind;
using wire::RecordType;

namespace {

constexpr std::size_t report_at = 62; // behind Ethernet, IPv6 and the router alert

struct Told {
    RecordType type{};
    base::IpAddr from;
    std::vector<base::IpAddr> sources;
};

// What was said of the group, in order.
std::vector<Told> told(const std::vector<Bytes>& sent, const base::IpAddr& group)
{
    std::vector<Told> all;
    for (const Bytes& f : sent) {
        if (f.size() <= report_at + 8 || f[20] != wire::next_hop_by_hop || f[report_at] != wire::mld2_report) {
            continue;
        }
        std::size_t at = report_at + 8;
        for (unsigned n = base::load_be16(f.data() + report_at + 6); n != 0; --n) {
            Told t{static_cast<RecordType>(f[at]), base::IpAddr::v6(f.data() + 22), {}};
            bool asked = base::IpAddr::v6(f.data() + at + 4) == group;
            std::size_t end = at + 20 + base::load_be16(f.data() + at + 2) * 16U;
            for (at += 20; at != end; at += 16) {
                t.sources.push_back(base::IpAddr::v6(f.data() + at));
            }
            if (asked) {
                all.push_back(t);
            }
        }
    }
    return all;
}

// To a group, from the link's router, with a router alert.
Ip6Fields alerting(const base::IpAddr& group, std::uint8_t hop_limit)
{
    Ip6Fields f = from_router();
    f.hop_limit = hop_limit;
    f.destination = group;
    f.to = wire::multicast_mac_v6(group);
    Bytes alert(8);
    wire::emit_router_alert(alert.data(), 0);
    f.kinds = {wire::next_hop_by_hop};
    f.extensions = {alert};
    return f;
}

// RFC 3810 5.1.15: a query about a group and sources of it goes to the group, a general one to all nodes.
Bytes query(const base::IpAddr& group, const std::vector<base::IpAddr>& sources, std::uint8_t hop_limit = 1)
{
    Ip6Fields f = alerting(group, hop_limit);
    Bytes q(28);
    q[0] = wire::mld_query;
    base::store_be16(q.data() + 4, 1000);
    std::memcpy(q.data() + 8, (group == wire::all_nodes() ? base::IpAddr{} : group).bytes(), 16);
    base::store_be16(q.data() + 26, static_cast<std::uint16_t>(sources.size()));
    for (const base::IpAddr& s : sources) {
        q.insert(q.end(), s.bytes(), s.bytes() + 16);
    }
    return ip6_frame(f, with_checksum6(f, wire::protocol_icmp6, q, 2));
}

Error join(TestSocket& s, int name, const base::IpAddr& group, const base::IpAddr& source = {}, std::uint32_t in = 1)
{
    sockbuf::GroupRequest r{};
    std::memcpy(r.group, group.bytes(), 16);
    std::memcpy(r.source, source.bytes(), 16);
    r.interface = in;
    return s.set(IPPROTO_IPV6, name, &r, sizeof r);
}

} // namespace

TEST_CASE("RFC 3810 5.1.15: a query to a group is heard by who wants of it other sources than the router")
{
    Link t({.cpus = 2, .address6 = "fd00::1"});
    base::IpAddr group = ip6("ff3e::8000:1");
    base::IpAddr source = ip6("2001:db8::5");
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(join(s, MCAST_JOIN_SOURCE_GROUP, group, source) == Error::none);
    REQUIRE(s.bind(at("::", 7)) == Error::none);
    t.world.advance(base::seconds(3));
    t.h.link->sent.clear();
    t.in(query(group, {source, ip6("2001:db8::6")}), 1);
    t.world.advance(base::millis(1100));
    auto answers = told(t.h.link->sent, group);
    REQUIRE(answers.size() == 1);
    CHECK((answers[0].type == RecordType::is_include && answers[0].sources == std::vector{source}));
    t.h.link->sent.clear();
    t.in(query(group, {}), 0);
    t.world.advance(base::millis(1100));
    CHECK(told(t.h.link->sent, group).size() == 1);
    t.h.link->sent.clear();
    t.in(query(group, {}, 2), 0); // not from the link
    t.in(query(ip6("ff3e::8000:2"), {}), 0);
    Ip6Fields other = to_us("2001:db8::6");
    other.destination = group;
    other.to = wire::multicast_mac_v6(group);
    t.in(ip6_frame(other, udp6_datagram(other, 9, 7, Bytes(3))));
    t.in(icmp6_frame(other, wire::icmp6_echo, 0, 1, Bytes(8)));
    t.world.advance(base::millis(1100));
    Bytes got;
    CHECK(!s.receive(got));
    CHECK(t.h.link->sent.empty());
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 3810 5.2.13, RFC 3590 4: what was said without an address is said again once there is one")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 3, .address6 = "fd00::1", .duplicate_probes = 1});
    base::IpAddr group = ip6("ff15::1");
    TestSocket s(world, h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(join(s, MCAST_JOIN_GROUP, group) == Error::none);
    world.advance(base::seconds(6));
    for (const base::IpAddr& each : {group, wire::solicited_node(ip6("fd00::1"))}) {
        auto all = told(h.link->sent, each);
        REQUIRE(!all.empty());
        CHECK(all.front().from.is_any());
        CHECK(all.back().from.is_link_local_v6());
        CHECK(all.back().type == RecordType::to_exclude);
        CHECK(all.size() <= 4);
    }
    h.link->sent.clear();
    REQUIRE(s.close() == Error::none);
    world.advance(base::seconds(6));
    auto all = told(h.link->sent, group);
    REQUIRE(all.size() == 2);
    CHECK((all[0].type == RecordType::to_include && all[0].from.is_link_local_v6()));
}

TEST_CASE("an IPv6 group is joined without naming an interface before there is an address, as on Linux")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.address6 = nullptr, .slaac = true, .duplicate_probes = 1});
    TestSocket s(world, h, SlotKind::datagram, 0, 18, AF_INET6);
    for (const char* group : {"ff15::1", "ff02::fb"}) {
        ipv6_mreq r{};
        std::memcpy(&r.ipv6mr_multiaddr, ip6(group).bytes(), 16);
        CHECK(s.set(IPPROTO_IPV6, IPV6_JOIN_GROUP, &r, sizeof r) == Error::none);
    }
    REQUIRE(s.bind(at("::", 7)) == Error::none);
    Ip6Fields f = to_us("fe80::2");
    f.destination = ip6("ff02::fb");
    f.to = wire::multicast_mac_v6(f.destination);
    h.link->inject(ip6_frame(f, udp6_datagram(f, 9, 7, Bytes(3))), 0);
    world.settle();
    Bytes got;
    CHECK(s.receive(got));
}

TEST_CASE("RFC 3810 5.1.15: ... and nothing but a query: a group whose members want nothing of the source is silent")
{
    Link t;
    base::IpAddr group = ip6("ff3e::8000:1");
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(join(s, MCAST_JOIN_SOURCE_GROUP, group, ip6("2001:db8::5")) == Error::none);
    REQUIRE(s.bind(at("::", 7)) == Error::none);
    t.world.advance(base::seconds(3));
    t.h.link->sent.clear();
    Ip6Fields f = alerting(group, 1);
    t.in(icmp6_frame(f, wire::icmp6_echo, 0, 1, Bytes(8)));
    f.next = wire::protocol_udp;
    t.in(ip6_frame(f, udp6_datagram(f, 9, 7, Bytes(3))));
    t.world.advance(base::seconds(2));
    Bytes got;
    CHECK(!s.receive(got));
    CHECK(t.h.link->sent.empty());
    CHECK(t.h.counted(&StackCounters::ip_in_not_ours) == 2);
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 3376 4.2.16, RFC 3810 5.2.15: a report is no longer than the link takes")
{
    std::uint32_t mtu = GENERATE(1280U, 1500U);
    Link t({.mtu = mtu, .address6 = "fd00::1"});
    std::vector<std::unique_ptr<TestSocket>> members;
    char group[32];
    for (unsigned i = 0; i < 100; ++i) { // five sockets, twenty groups each
        if (i % 20 == 0) {
            members.push_back(std::make_unique<TestSocket>(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6));
        }
        std::snprintf(group, sizeof group, "ff15::%x", i + 1);
        REQUIRE(join(*members.back(), MCAST_JOIN_GROUP, ip6(group)) == Error::none);
    }
    t.world.advance(base::seconds(3));
    t.h.link->sent.clear();
    t.in(query(wire::all_nodes(), {}, 1));
    t.world.advance(base::millis(1100));
    for (unsigned i = 0; i < 100; ++i) {
        std::snprintf(group, sizeof group, "ff15::%x", i + 1);
        CHECK(told(t.h.link->sent, ip6(group)).size() == 1);
    }
    for (const Bytes& f : t.h.link->sent) {
        CHECK(f.size() <= mtu + 14);
    }
}
