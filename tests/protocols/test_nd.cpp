// Neighbour discovery, address autoconfiguration and multicast listener reports: one host against hand-made frames in
// virtual time, a case for every rule of RFC 4861, RFC 4862 and RFC 3810 that binds a host.
#include "protocols/neighbor.hpp"
#include "protocols/wire/tcp_wire.hpp"
#include "tests/protocols/nd_link.hpp"

using namespace test;
using base::Error;
using protocols::NeighborStatus;
using protocols::StackCounters;
using sockbuf::SlotKind;

namespace {

const HostOptions automatic{.address6 = nullptr, .slaac = true, .duplicate_probes = 1};

} // namespace

TEST_CASE("RFC 4861 7.2.4: a solicitation for us is answered, solicited and overriding, with our link-layer address")
{
    Link t;
    t.in(solicit("fd00::1"));
    auto answers = t.sent(wire::nd_neighbor_advertisement);
    REQUIRE(answers.size() == 1);
    CHECK((answers[0].solicited && answers[0].override_known && !answers[0].router));
    CHECK((answers[0].target == ip6("fd00::1") && answers[0].mac == mac(1)));
    CHECK(t.h.link->sent[0][21] == 255);
    t.h.eth->router = true; // of an embedder that advertises
    t.in(solicit("fd00::1"));
    CHECK(t.sent(wire::nd_neighbor_advertisement).back().router);
    REQUIRE(t.neighbor("fd00::2") != nullptr); // 7.2.3: learned, but stale
    CHECK(t.neighbor("fd00::2")->fresh_until < t.world.clock.now());
    t.h.link->sent.clear();
    t.in(solicit("fd00::7"));
    CHECK(t.h.link->sent.empty());
    t.in(solicit("fd00::1", "::", false)); // somebody probes for it: told to all, not solicited
    answers = t.sent(wire::nd_neighbor_advertisement);
    REQUIRE(answers.size() == 1);
    CHECK(!answers[0].solicited);
    CHECK(slice(t.h.link->sent[0], 0, 6) == Bytes{0x33, 0x33, 0, 0, 0, 1});
}

TEST_CASE("RFC 4861 6.1.2, 7.1, 8.1: messages that did not come from the link, or not as they must, are dropped")
{
    Link t({.address6 = "fd00::1", .slaac = true});
    t.in(solicit("fd00::1", "fd00::2", true, 254));
    t.in(solicit("fd00::1", "::", true)); // an unspecified source with a link-layer option
    wire::NdMessage m;
    m.type = wire::nd_neighbor_advertisement;
    m.target = ip6("fd00::2");
    m.solicited = true;
    Ip6Fields f = to_us();
    f.destination = wire::all_nodes();
    f.to = wire::multicast_mac_v6(f.destination);
    t.in(nd_frame(f, m)); // solicited, but to a group
    Ip6Fields router = from_router();
    router.source = ip6("fd00::99"); // 6.1.2: not link-local
    t.in(router_advertisement({.prefix = "2001:db8::"}, router));
    CHECK(t.h.counted(&StackCounters::nd_in_malformed) == 4);
    CHECK(t.sent(wire::nd_neighbor_advertisement).empty());
    t.in(redirect("2001:db8::1", "fe80::98", "fd00::99"));
    CHECK(t.h.counted(&StackCounters::nd_in_malformed) == 5);
}

TEST_CASE("RFC 4861 7.2.2: three solicitations a second apart, packets wait, then they fail as address unreachable")
{
    Link t;
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.connect(at("fd00::2", 7)) == Error::none);
    for (int i = 0; i < 140; ++i) {
        s.send(Bytes(10));
    }
    CHECK(t.sent(wire::nd_neighbor_solicitation).size() == 1);
    CHECK(slice(t.h.link->sent[0], 0, 6) == Bytes{0x33, 0x33, 0xff, 0, 0, 2});
    CHECK(t.sent(wire::nd_neighbor_solicitation)[0].mac == mac(1));
    CHECK(t.h.packets_in_use() == 128);
    t.world.advance(base::millis(3100));
    CHECK(t.sent(wire::nd_neighbor_solicitation).size() == 3);
    CHECK(t.h.counted(&StackCounters::neighbor_failed) == 1);
    CHECK(t.h.counted(&StackCounters::udp_errors_in) == 128);
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 4861 7.2.2: a solicitation leaves from the address that the packet which waits for it has")
{
    Link t;
    auto source = [&] { return base::IpAddr::v6(t.h.link->sent.at(0).data() + 22); };
    TestSocket bound(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(bound.bind(at("fd00::1", 5)) == Error::none);
    bound.send(Bytes(1), at("fe80::2%1", 7));
    REQUIRE(t.sent(wire::nd_neighbor_solicitation).size() == 1);
    CHECK(source() == ip6("fd00::1"));
    t.h.link->sent.clear();
    TestSocket any(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(any.bind(at("::", 6)) == Error::none);
    any.send(Bytes(1), at("fe80::3%1", 7));
    REQUIRE(t.sent(wire::nd_neighbor_solicitation).size() == 1);
    CHECK(source().is_link_local_v6());
    t.world.advance(base::seconds(4));
    CHECK(t.h.packets_in_use() == 0);
}

TEST_CASE("RFC 4861 7.2.5: what an advertisement does to an entry")
{
    Link t;
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.connect(at("fd00::2", 7)) == Error::none);
    auto now = [&] { return t.world.clock.now(); };
    t.in(advertise("fd00::2", 2, true, true)); // nobody asked: no entry is made
    CHECK(t.neighbor("fd00::2") == nullptr);
    s.send(Bytes(1));
    t.in(advertise("fd00::2", 2, true, true, false, false)); // incomplete, without a link-layer address
    CHECK(t.neighbor("fd00::2")->status == NeighborStatus::incomplete);
    t.in(advertise("fd00::2", 2, true, true));
    CHECK(t.neighbor("fd00::2")->fresh_until > now());
    CHECK(t.h.packets_in_use() == 0);            // what waited went
    t.in(advertise("fd00::2", 3, false, false)); // another address, not overriding: only stale
    CHECK(t.neighbor("fd00::2")->mac == mac(2));
    CHECK(t.neighbor("fd00::2")->fresh_until < now());
    t.in(advertise("fd00::2", 3, false, true)); // overriding, unsolicited: taken, and stale
    CHECK(t.neighbor("fd00::2")->mac == mac(3));
    CHECK(t.neighbor("fd00::2")->fresh_until < now());
    t.in(advertise("fd00::2", 3, true, false)); // solicited with what is known: reachable
    CHECK(t.neighbor("fd00::2")->fresh_until > now());
}

TEST_CASE("RFC 4861 7.3.3: a stale neighbour is used for five seconds, then asked by unicast, then it is gone")
{
    Link t;
    t.in(solicit("fd00::1")); // known, stale
    t.h.link->sent.clear();
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.connect(at("fd00::2", 7)) == Error::none);
    s.send(Bytes(1));
    CHECK(t.h.link->sent.size() == 1);
    t.world.advance(base::millis(4900));
    CHECK(t.sent(wire::nd_neighbor_solicitation).empty());
    t.world.advance(base::millis(200));
    REQUIRE(t.sent(wire::nd_neighbor_solicitation).size() == 1);
    CHECK(slice(t.h.link->sent.back(), 0, 6) == Bytes{2, 0, 0, 0, 0, 2});
    t.world.advance(base::millis(3000));
    CHECK(t.sent(wire::nd_neighbor_solicitation).size() == 3);
    CHECK(t.neighbor("fd00::2") == nullptr);
}

TEST_CASE("what one CPU learns of a neighbour all use")
{
    Link t({.cpus = 3, .address6 = "fd00::1"});
    t.in(solicit("fd00::1"), 2);
    for (base::CpuId cpu = 0; cpu < 3; ++cpu) {
        REQUIRE(t.neighbor("fd00::2", cpu) != nullptr);
        CHECK(t.neighbor("fd00::2", cpu)->mac == mac(2));
    }
}

TEST_CASE("RFC 4862 5.4: an address is tentative until its probes went unanswered, and joins its group first")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 2, .address6 = "fd00::1", .duplicate_probes = 2});
    TestSocket s(world, h, SlotKind::datagram, 0, 18, AF_INET6);
    CHECK(s.bind(at("fd00::1", 5)) == Error::address_not_available);
    world.advance(base::millis(3100));
    CHECK(s.bind(at("fd00::1", 5)) == Error::none);
    unsigned probes = 0;
    unsigned reports = 0;
    unsigned from_address = 0;
    for (const Bytes& f : h.link->sent) {
        if (f[20] == wire::next_hop_by_hop) { // RFC 3810 5, 6.1: router alert, hop limit 1, to ff02::16
            ++reports;
            CHECK((f[21] == 1 && f[62] == wire::mld2_report &&
                   f[70] == static_cast<unsigned char>(wire::RecordType::to_exclude)));
            CHECK(slice(f, 38, 16) == slice(ip6_frame({.destination = ip6("ff02::16")}, {}), 38, 16));
            bool nowhere = slice(f, 22, 16) == Bytes(16); // RFC 3590 4: from "::" while there is no address,
            from_address += nowhere ? 0 : 1;              // and once more when there is
        } else {
            auto m = wire::parse_nd(f.data() + 54, static_cast<std::uint32_t>(f.size() - 54));
            REQUIRE((m && m->type == wire::nd_neighbor_solicitation && !m->mac));
            CHECK(slice(f, 22, 16) == Bytes(16));
            ++probes;
        }
    }
    CHECK(probes == 4); // fd00::1 and the link-local address, two each
    CHECK((reports == 6 && from_address == 2));
}

TEST_CASE("RFC 4862 5.4.3, 5.4.4: another one that has or probes for a tentative address makes it a duplicate")
{
    bool by_advertisement = GENERATE(true, false);
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 3, .address6 = "fd00::1", .duplicate_probes = 1});
    world.advance(base::millis(200));
    h.link->inject(by_advertisement ? advertise("fd00::1", 7, false, true) : solicit("fd00::1", "::", false), 1);
    world.settle();
    world.advance(base::seconds(5));
    for (base::CpuId cpu = 0; cpu < 3; ++cpu) {
        bool local = true;
        h.on(cpu, [&](protocols::Domain& d) { local = protocols::ipv6_is_local(d, ip6("fd00::1")); });
        CHECK(!local);
    }
    CHECK(h.counted(&StackCounters::nd_duplicates) == 3);
    h.link->sent.clear();
    h.link->inject(solicit("fd00::1"), 0); // never ours
    world.settle();
    CHECK(h.link->sent.empty());
}

TEST_CASE(
    "RFC 4862 5.4.3: who asks for a tentative address gets no answer; an advertised address of ours is a conflict")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.address6 = "fd00::1", .duplicate_probes = 3});
    world.advance(base::millis(500));
    h.link->sent.clear();
    h.link->inject(solicit("fd00::1"), 0);
    world.settle();
    CHECK(h.counted(&StackCounters::nd_out_advertisements) == 0);
    world.advance(base::seconds(5));
    h.link->inject(advertise("fd00::1", 7, false, true), 0);
    world.settle();
    CHECK(h.counted(&StackCounters::nd_conflicts) == 1);
    CHECK(h.counted(&StackCounters::nd_duplicates) == 0);
}

TEST_CASE("RFC 7217: stable addresses depend on the prefix and the secret; a duplicate gets another one")
{
    auto first = [](std::uint64_t seed) {
        Link t({.seed = seed, .address6 = nullptr, .slaac = true});
        t.in(router_advertisement({.prefix = "2001:db8:1::"}));
        t.in(router_advertisement({.prefix = "2001:db8:2::"}));
        auto one = t.autoconfigured("2001:db8:1::");
        auto two = t.autoconfigured("2001:db8:2::");
        CHECK(!one.is_any());
        CHECK(std::memcmp(one.bytes() + 8, two.bytes() + 8, 8) != 0);
        return one;
    };
    CHECK(first(1) == first(1));
    CHECK(first(1) != first(2));
    Link t(automatic);
    t.in(router_advertisement({.prefix = "2001:db8:1::"}));
    auto tried = t.autoconfigured("2001:db8:1::");
    t.in(advertise(base::to_string(tried).c_str(), 7, false, true));
    auto next = t.autoconfigured("2001:db8:1::");
    CHECK((!next.is_any() && next != tried));
    t.world.advance(base::seconds(3));
    CHECK(t.has_address(next));
    CHECK(!t.has_address(tried));
}

TEST_CASE("RFC 7217: a duplicate gets another address of its own prefix where one before it has just ended")
{
    Link t(automatic);
    t.in(router_advertisement({.prefix = "2001:db8:1::", .valid_s = 1, .preferred_s = 1}));
    t.in(router_advertisement({.prefix = "2001:db8:2::"}));
    t.in(router_advertisement({.prefix = "2001:db8:3::"}));
    auto tried = t.autoconfigured("2001:db8:2::");
    auto other = t.autoconfigured("2001:db8:3::");
    t.world.advance(base::seconds(1)); // the first one is over, the second tentative still
    t.in(advertise(base::to_string(tried).c_str(), 7, false, true));
    REQUIRE(t.h.counted(&StackCounters::nd_duplicates) == 1);
    auto next = t.autoconfigured("2001:db8:2::");
    CHECK((!next.is_any() && next != tried));
    const auto& all = t.h.domain().ipv6->addresses;
    auto of_third = [](const auto& a) { return base::Prefix{ip6("2001:db8:3::"), 64}.contains(a.addr); };
    CHECK(std::count_if(all.begin(), all.end(), of_third) == 1);
    CHECK(t.autoconfigured("2001:db8:3::") == other);
}

TEST_CASE(
    "RFC 4861 6.3.7, RFC 7559 2: routers are solicited four seconds apart at first, then ever less, until one answers")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, automatic);
    world.advance(base::seconds(20));
    CHECK(h.counted(&StackCounters::nd_out_router_solicitations) == 3);
    world.advance(base::seconds(20));
    CHECK(h.counted(&StackCounters::nd_out_router_solicitations) == 4);
    world.advance(base::seconds(7 * 3600)); // in an hour ten, then one an hour
    CHECK(h.counted(&StackCounters::nd_out_router_solicitations) >= 15);
    CHECK(h.counted(&StackCounters::nd_out_router_solicitations) <= 18);
    h.link->inject(router_advertisement({}), 0); // late, and heard
    world.advance(base::seconds(5));
    std::uint64_t asked = h.counted(&StackCounters::nd_out_router_solicitations);
    world.advance(base::seconds(3 * 3600));
    CHECK(h.counted(&StackCounters::nd_out_router_solicitations) == asked);
    World other;
    std::unique_ptr<Host> slot2;
    Host& lucky = other.add(slot2, automatic);
    other.advance(base::seconds(2));
    lucky.link->inject(router_advertisement({}), 0);
    other.advance(base::seconds(20));
    CHECK(lucky.counted(&StackCounters::nd_out_router_solicitations) == 1);
    World third;
    std::unique_ptr<Host> slot3;
    Host& unlucky = third.add(slot3, automatic);
    third.advance(base::seconds(2));
    unlucky.link->inject(router_advertisement({.life_s = 0}), 0); // is none
    third.advance(base::seconds(20));
    CHECK(unlucky.counted(&StackCounters::nd_out_router_solicitations) == 3);
}

TEST_CASE("RFC 4861 6.3.4, RFC 4862 5.5.3: an advertised prefix is on link and makes an address, on every CPU")
{
    HostOptions o = automatic;
    o.cpus = 3;
    Link t(o);
    t.in(router_advertisement({.hop_limit = 33, .mtu = 1400, .prefix = "2001:db8:1::"}), 1);
    auto own = t.autoconfigured("2001:db8:1::");
    CHECK(!t.has_address(own)); // tentative
    t.world.advance(base::seconds(3));
    for (base::CpuId cpu = 0; cpu < 3; ++cpu) {
        CHECK(t.has_address(own, cpu));
        protocols::Route r;
        REQUIRE(t.route("2001:db8:1::77", r, cpu));
        CHECK((r.next_hop == ip6("2001:db8:1::77") && r.source == own && r.mtu == 1400));
        REQUIRE(t.route("2001:db8:ffff::1", r, cpu));
        CHECK((r.next_hop == ip6("fe80::99%1") && r.source == own));
        CHECK(t.neighbor("fe80::99", cpu) != nullptr);
    }
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    t.h.link->sent.clear();
    REQUIRE(s.connect(at("2001:db8:ffff::1", 7)) == Error::none);
    s.send(Bytes(1));
    REQUIRE(!t.h.link->sent.empty());
    CHECK(t.h.link->sent.back()[21] == 33); // the hop limit that routers said
}

TEST_CASE("RFC 9293 MUST-67, RFC 4861 6.3.4: the announced MSS keeps to the MTU that routers said, not to the path's")
{
    Link t(automatic);
    t.in(router_advertisement({.mtu = 1400, .prefix = "2001:db8:1::"}), 0);
    t.world.advance(base::seconds(3));
    t.h.on(0, [](protocols::Domain& d) { protocols::pmtu_learn(d, ip6("2001:db8:ffff::1"), 1300); });
    for (const char* to : {"2001:db8:ffff::1", "2001:db8:ffff::2"}) {
        TestSocket s(t.world, t.h, SlotKind::stream, 0, 18, AF_INET6);
        t.h.link->sent.clear();
        REQUIRE(s.connect(at(to, 80)) == Error::in_progress);
        REQUIRE(!t.h.link->sent.empty());
        const Bytes& syn = t.h.link->sent.back();
        wire::TcpHeader h;
        REQUIRE(wire::tcp_parse(syn.data() + 54, syn.size() - 54, h));
        CHECK(h.options.mss == 1340);
    }
}

TEST_CASE("RFC 4861 6.3.4, 6.3.5: a lifetime of 0, or its end, takes a router off the list; prefixes time out alike")
{
    Link t({.address6 = nullptr, .slaac = true});
    protocols::Route r;
    t.in(router_advertisement({.life_s = 100, .prefix = "2001:db8:1::", .valid_s = 50, .preferred_s = 40}));
    REQUIRE(t.route("2001:db8:ffff::1", r));
    t.in(router_advertisement({.life_s = 0}));
    CHECK(!t.route("2001:db8:ffff::1", r));
    CHECK(t.route("2001:db8:1::77", r));
    t.in(router_advertisement({.life_s = 100}));
    CHECK(t.route("2001:db8:ffff::1", r));
    t.world.advance(base::seconds(51));
    REQUIRE(t.route("2001:db8:1::77", r));
    CHECK(r.next_hop == ip6("fe80::99%1")); // no longer on link
    CHECK(!t.has_address(t.autoconfigured("2001:db8:1::")));
    t.world.advance(base::seconds(50));
    CHECK(!t.route("2001:db8:1::77", r));
    t.in(router_advertisement({.prefix = "2001:db8:2::", .on_link = false, .autonomous = false}));
    REQUIRE(t.route("2001:db8:2::1", r));
    CHECK(r.next_hop == ip6("fe80::99%1"));
    CHECK(t.autoconfigured("2001:db8:2::").is_any());
}

TEST_CASE("RFC 4862 5.5.3: prefixes that make no address, and the two hours of an address that has one")
{
    Link t({.address6 = nullptr, .slaac = true});
    t.in(router_advertisement({.prefix = "fe80::"}));                                         // b
    t.in(router_advertisement({.prefix = "2001:db8:3::", .valid_s = 10, .preferred_s = 20})); // c
    t.in(router_advertisement({.prefix = "2001:db8:4::", .length = 80}));                     // d
    CHECK(t.autoconfigured("2001:db8:3::").is_any());
    CHECK(t.autoconfigured("2001:db8:4::").is_any());
    t.in(router_advertisement({.prefix = "2001:db8:1::", .valid_s = 86400, .preferred_s = 600}));
    auto own = t.autoconfigured("2001:db8:1::");
    t.in(router_advertisement({.prefix = "2001:db8:1::", .valid_s = 1, .preferred_s = 0})); // e.3
    t.world.advance(base::seconds(7100));
    CHECK(t.has_address(own));
    t.world.advance(base::seconds(200));
    CHECK(!t.has_address(own));
}

TEST_CASE("a flood of prefixes fills no more than its share")
{
    Link t({.address6 = nullptr, .slaac = true});
    for (unsigned i = 1; i < 200; ++i) {
        char prefix[32];
        std::snprintf(prefix, sizeof prefix, "2001:db8:%x::", i);
        t.in(router_advertisement({.prefix = prefix}));
    }
    CHECK(t.h.domain().ipv6->addresses.size() == protocols::addresses_per_interface_max + 1); // and ::1
    CHECK(t.h.domain().ipv6->prefixes.size() <= protocols::prefixes_max);
    CHECK(t.h.counted(&StackCounters::nd_prefixes_refused) > 0);
}

TEST_CASE("RFC 4861 7.2.5, 6.3.6: who is no router any more is none of ours; the working one is preferred")
{
    Link t({.address6 = nullptr, .slaac = true});
    t.in(router_advertisement({.prefix = "2001:db8:1::"}));
    protocols::Route r;
    REQUIRE(t.route("2001:db8:ffff::1", r));
    t.in(advertise("fe80::99", 7, false, false, false)); // another address, not overriding: nothing of it is taken
    t.in(advertise("fe80::99", 7, true, false, false));
    CHECK(t.route("2001:db8:ffff::1", r));
    t.in(advertise("fe80::99", 0x99, false, true, false));
    CHECK(!t.route("2001:db8:ffff::1", r));
    Ip6Fields second = from_router();
    second.source = ip6("fe80::55");
    second.from = mac(0x55);
    t.in(router_advertisement({}, second));
    REQUIRE(t.route("2001:db8:ffff::1", r));
    CHECK(r.next_hop == ip6("fe80::55%1"));
}

TEST_CASE("RFC 4862 5.5.4, RFC 4861 6.3.5, 8.3: kept routes are decided again when what they were decided by changes")
{
    Link t({.cpus = 2, .address6 = nullptr, .slaac = true, .duplicate_probes = 1});
    auto known = std::make_unique<std::uint32_t[]>(2);
    auto changed = [&] { // since the last call, on both CPUs
        bool all = true;
        for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
            all &= std::exchange(known[cpu], t.h.domain(cpu).route_generation) != t.h.domain(cpu).route_generation;
        }
        return all;
    };
    const RouterSays says{.life_s = 100, .prefix = "2001:db8:1::", .valid_s = 50, .preferred_s = 40};
    changed();
    t.in(router_advertisement(says)); // a router, a prefix
    CHECK(changed());
    t.world.advance(base::seconds(3)); // the address is tentative no more
    CHECK(changed());
    t.in(router_advertisement(says));
    CHECK(!changed()); // no news
    t.in(router_advertisement({.life_s = 100, .mtu = 1400}));
    CHECK(changed());
    t.in(redirect("2001:db8:ffff::1", "fe80::55"), 1);
    CHECK(changed());
    t.in(redirect("2001:db8:ffff::1", "fe80::55"), 1);
    CHECK(!changed());
    t.world.advance(base::seconds(44));
    changed();
    t.world.advance(base::seconds(7)); // address and prefix are over
    CHECK(changed());
    t.in(router_advertisement(says)); // and back
    CHECK(changed());
    CHECK(!t.has_address(t.autoconfigured("2001:db8:1::"))); // but not before nobody else turns out to have it
    t.world.advance(base::seconds(3));
    CHECK(changed());
    CHECK(t.has_address(t.autoconfigured("2001:db8:1::")));
    t.in(router_advertisement({.life_s = 100, .prefix = "2001:db8:1::", .valid_s = 0, .preferred_s = 0}));
    CHECK(changed()); // the prefix is not on link
    t.world.advance(base::seconds(97));
    changed();
    CHECK(t.h.domain().ipv6->redirect_count == 1);
    t.world.advance(base::seconds(4)); // the router is over, and what it said
    CHECK(changed());
    CHECK(t.h.domain().ipv6->redirect_count == 0);
}

TEST_CASE("RFC 4861 8.1, 8.3: a redirect is believed from the router that the destination goes through, on every CPU")
{
    HostOptions o{.cpus = 2, .address6 = nullptr, .slaac = true};
    Link t(o);
    t.in(router_advertisement({.prefix = "2001:db8:1::"}));
    protocols::Route r;
    t.in(redirect("2001:db8:ffff::1", "fe80::55", "fe80::77"), 1); // another one
    t.in(redirect("2001:db8:ffff::1", "fd00::55"), 1);             // 8.1: neither link-local nor the destination
    CHECK(t.h.counted(&StackCounters::nd_redirects_refused) == 2);
    t.in(redirect("2001:db8:ffff::1", "fe80::55"), 1);
    t.in(redirect("2001:db8:ffff::2", "2001:db8:ffff::2"), 0); // it is on the link itself
    for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
        REQUIRE(t.route("2001:db8:ffff::1", r, cpu));
        CHECK(r.next_hop == ip6("fe80::55%1"));
        REQUIRE(t.route("2001:db8:ffff::2", r, cpu));
        CHECK(r.next_hop == ip6("2001:db8:ffff::2"));
        REQUIRE(t.route("2001:db8:ffff::3", r, cpu));
        CHECK(r.next_hop == ip6("fe80::99%1"));
    }
    t.in(router_advertisement({.life_s = 0})); // 6.3.5: what it said goes with it
    CHECK(!t.route("2001:db8:ffff::1", r));
}

TEST_CASE("routers are not believed where the administrator configures")
{
    Link t;
    t.in(router_advertisement({.prefix = "2001:db8:1::"}));
    protocols::Route r;
    CHECK(!t.route("2001:db8:ffff::1", r));
    CHECK(t.autoconfigured("2001:db8:1::").is_any());
}

TEST_CASE("RFC 3810 6.2: a query is answered for all groups, by one CPU, within the time it names")
{
    Link t({.cpus = 2, .address6 = "fd00::1"});
    Ip6Fields f = from_router();
    f.hop_limit = 1;
    Bytes alert(8);
    wire::emit_router_alert(alert.data(), 0);
    f.kinds = {0};
    f.extensions = {alert};
    Bytes query(28);
    query[0] = wire::mld_query;
    base::store_be16(query.data() + 4, 1000);
    query = with_checksum6(f, wire::protocol_icmp6, query, 2);
    t.in(ip6_frame(f, query), 1);
    t.in(ip6_frame(f, query), 1);
    t.world.advance(base::millis(1100));
    REQUIRE(t.h.link->sent.size() == 1);
    const Bytes& report = t.h.link->sent[0];
    CHECK(report[62] == wire::mld2_report);
    CHECK(base::load_be16(report.data() + 68) == 2); // fd00::1 and the link-local address
    CHECK(report[70] == static_cast<unsigned char>(wire::RecordType::is_exclude));
    f.hop_limit = 2;
    t.in(ip6_frame(f, query), 1); // not from the link
    f.hop_limit = 1;
    f.source = ip6("fd00::99"); // not link-local
    t.in(ip6_frame(f, with_checksum6(f, wire::protocol_icmp6, Bytes(28), 2)), 1);
    t.world.advance(base::millis(1100));
    CHECK(t.h.link->sent.size() == 1);
}

TEST_CASE("RFC 6724 5: the address to send from")
{
    Link t({.address6 = "fd00::1", .slaac = true});
    t.in(router_advertisement({.prefix = "2001:db8:1::"}));
    t.in(router_advertisement({.prefix = "2001:db8:2::"}));
    protocols::Route r;
    auto source_for = [&](const char* destination) {
        REQUIRE(t.route(destination, r));
        return r.source;
    };
    CHECK(source_for("fd00::77") == ip6("fd00::1"));                            // rule 8
    CHECK(source_for("2001:db8:2::9") == t.autoconfigured("2001:db8:2::"));     // rule 8
    CHECK(base::Prefix{ip6("2001:db8::"), 32}.contains(source_for("2600::1"))); // rule 6
    CHECK(source_for("fe80::9%1").is_link_local_v6());                          // rule 2
    CHECK(source_for("ff02::1%1").is_link_local_v6());                          // rule 2
    t.in(router_advertisement({.prefix = "2001:db8:2::", .preferred_s = 0}));   // rule 3: deprecated
    CHECK(source_for("2001:db8:2::9") == t.autoconfigured("2001:db8:1::"));
}

TEST_CASE("RFC 4007: a link-local destination needs its zone; the socket hears the zone of its peer")
{
    Link t;
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.bind(at("::", 53)) == Error::none);
    auto own = t.autoconfigured("fe80::");
    for (const auto& a : t.h.domain().ipv6->addresses) {
        own = a.addr.is_link_local_v6() ? a.addr : own;
    }
    Ip6Fields f = to_us("fe80::2");
    f.destination = own.on_wire();
    t.in(ip6_frame(f, udp6_datagram(f, 9, 53, Bytes(3))));
    Bytes got;
    base::Endpoint from;
    REQUIRE(s.receive(got, &from));
    CHECK(from.addr == ip6("fe80::2%1"));
    s.send(Bytes(2), from);
    auto asked = t.sent(wire::nd_neighbor_solicitation);
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].target == ip6("fe80::2"));
    protocols::Route r;
    CHECK(!t.route("fe80::2", r));
    CHECK(!t.route("fe80::2%9", r));
}
