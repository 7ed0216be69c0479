// Which way a host sends where routers differ (RFC 4191): preferences, routes to prefixes, routers that fall silent;
// and what is no way: an interface without a router (RFC 5942). One host against hand-made frames in virtual time.
#include "protocols/neighbor.hpp"
#include "tests/protocols/nd_link.hpp"

using namespace test;
using base::Error;
using protocols::StackCounters;
using sockbuf::SlotKind;

namespace {

constexpr unsigned char high = 1;
constexpr unsigned char low = 3;
constexpr unsigned char reserved = 2;

struct Said {
    const char* prefix = "::";
    unsigned char length = 0;
    unsigned char preference = 0;
    std::uint32_t life_s = 1800;
    unsigned octets = 16; // of the prefix that are there
};

// An advertisement of fe80::LAST with preference, lifetime and route information (RFC 4191 2.2, 2.3).
Bytes says(
    unsigned char last, unsigned char preference, std::uint16_t life_s = 1800, const std::vector<Said>& routes = {})
{
    Ip6Fields f = from_router();
    f.source = ip6(("fe80::" + std::to_string(last)).c_str());
    f.from = mac(last);
    Bytes b(16);
    b[0] = wire::nd_router_advertisement;
    b[4] = 64;
    b[5] = static_cast<unsigned char>(preference << 3);
    base::store_be16(b.data() + 6, life_s);
    Bytes source{1, 1, 2, 0, 0, 0, 0, last};
    b.insert(b.end(), source.begin(), source.end());
    for (const Said& r : routes) {
        Bytes o(8 + r.octets);
        o[0] = 24;
        o[1] = static_cast<unsigned char>(o.size() / 8);
        o[2] = r.length;
        o[3] = static_cast<unsigned char>(r.preference << 3);
        base::store_be32(o.data() + 4, r.life_s);
        std::memcpy(o.data() + 8, ip6(r.prefix).bytes(), std::min(r.octets, 16U));
        b.insert(b.end(), o.begin(), o.end());
    }
    return ip6_frame(f, with_checksum6(f, wire::protocol_icmp6, b, 2));
}

struct Routers : Link {
    explicit Routers(unsigned cpus = 1) : Link({.cpus = cpus, .address6 = nullptr, .slaac = true}) {}
    // The last octet of the router that leads there; 0: none does.
    unsigned leads(const char* destination, base::CpuId cpu = 0)
    {
        protocols::Route r;
        return route(destination, r, cpu) ? r.next_hop.bytes()[15] : 0;
    }
    // Every router answers no more.
    void silence(unsigned char last)
    {
        for (base::CpuId cpu = 0; cpu < h.stack.cpus(); ++cpu) {
            h.on(cpu, [&](protocols::Domain& d) {
                protocols::neighbor_doubt(d, 1, ip6(("fe80::" + std::to_string(last)).c_str()).in_zone(1));
            });
        }
        world.advance(base::millis(3500));
    }
};

constexpr const char* far = "2001:db8:ffff::1";

} // namespace

TEST_CASE("RFC 4191 2.2, 3.2: the preferred router of several is taken, on every CPU, whoever spoke first")
{
    Routers t(2);
    t.in(says(1, 0), 1);
    t.in(says(2, high), 0);
    t.in(says(3, low), 1);
    for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
        CHECK(t.leads(far, cpu) == 2);
    }
    std::uint32_t known = t.h.domain().route_generation;
    t.in(says(2, high));
    CHECK(t.h.domain().route_generation == known); // no news
    t.in(says(2, low));                            // it changes its mind: kept routes hear of it
    CHECK(t.h.domain().route_generation != known);
    CHECK(t.leads(far) == 1);
    t.in(says(3, reserved)); // RFC 4191 2.2: as medium; among equals the first
    CHECK(t.leads(far) == 1);
    t.in(says(1, 0, 0));
    CHECK(t.leads(far) == 3);
}

TEST_CASE("RFC 4191 3.2: a router that does not answer is passed over, whatever its preference, until it does")
{
    Routers t;
    t.in(says(1, low));
    t.in(says(2, high));
    t.silence(2);
    CHECK(t.leads(far) == 1);
    t.in(says(2, high)); // it lives: its link-layer address is in it
    CHECK(t.leads(far) == 2);
    t.silence(1);
    t.silence(2);
    CHECK(t.leads(far) == 2); // of dead ones the preferred, too
}

TEST_CASE("RFC 4191 2.3, 3.2: the longest of the routes that routers advertise, then the preferred one")
{
    Routers t(2);
    t.in(says(1, high, 1800, {{"2001:db8:1::", 48, 0}}));
    t.in(says(2, 0, 0, {{"2001:db8:1:2::", 64, low, 1800, 8}, {"2001:db8:2::", 48, high}}), 1); // no default router
    t.in(says(3, 0, 1800, {{"2001:db8:2::", 48, 0}, {"2001:db8:3::", 48, 0, 60}}));
    for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
        CHECK(t.leads(far, cpu) == 1);
        CHECK(t.leads("2001:db8:1:1::1", cpu) == 1);
        CHECK(t.leads("2001:db8:1:2::1", cpu) == 2);
        CHECK(t.leads("2001:db8:2::1", cpu) == 2);
        CHECK(t.leads("2001:db8:3::1", cpu) == 3);
    }
    t.silence(2); // RFC 4191 3.2: one that answers goes before a longer prefix
    CHECK(t.leads("2001:db8:1:2::1") == 1);
    CHECK(t.leads("2001:db8:2::1") == 3);
    t.in(says(2, 0, 0));
    CHECK(t.leads("2001:db8:1:2::1") == 2);
    t.in(says(2, 0, 0, {{"2001:db8:1:2::", 64, low, 0, 8}})); // this one goes, its other stays
    CHECK(t.leads("2001:db8:1:2::1") == 1);
    CHECK(t.leads("2001:db8:2::1") == 2);
    std::uint32_t known = t.h.domain().route_generation;
    t.world.advance(base::seconds(61)); // its time is over, and kept routes hear of it
    CHECK(t.leads("2001:db8:3::1") == 1);
    CHECK(t.h.domain().route_generation != known);
    t.in(advertise("fe80::2", 2, false, true, false)); // it is no router any more
    CHECK(t.leads("2001:db8:2::1") == 3);
}

TEST_CASE("RFC 4191 2.2, 3.3: a redirect of before says nothing of a better route; who is no router prefers nothing")
{
    Routers t;
    t.in(says(1, 0));
    t.in(redirect(far, "fe80::55", "fe80::1"));
    CHECK(t.leads(far) == 0x55);
    t.in(says(2, high, 0)); // RFC 4191 2.2: no default router, so no preferred one
    CHECK(t.leads(far) == 0x55);
    t.in(says(2, 0, 0, {{"2001:db8:ffff::", 48, 0}}));
    CHECK(t.leads(far) == 2);
    t.in(redirect(far, "fe80::55", "fe80::2"));
    t.in(says(2, 0, 0, {{"2001:db8:ffff::", 48, 0}})); // said again: no news
    CHECK(t.leads(far) == 0x55);
    t.in(says(3, 0, 0, {{"2001:db8:ffff::", 48, high}}));
    CHECK(t.leads(far) == 3);
}

TEST_CASE("RFC 4191 2.3: of as many routes as a frame holds each is taken")
{
    Routers t;
    std::vector<Said> routes;
    std::vector<std::string> prefixes;
    for (unsigned i = 0; i < 60; ++i) {
        prefixes.push_back("2001:db8:" + std::to_string(100 + i) + "::");
    }
    for (const std::string& p : prefixes) {
        routes.push_back({p.c_str(), 48, 0, 1800, 8});
    }
    t.in(says(2, 0, 0, routes));
    for (const std::string& p : prefixes) {
        CHECK(t.leads((p + "1").c_str()) == 2);
    }
}

TEST_CASE("what is configured goes before what is advertised and as long, while its gateway answers")
{
    Routers t;
    std::string error;
    REQUIRE(t.h.stack.add_route({ip6("::"), 0}, ip6("fe80::9").in_zone(1), error));
    REQUIRE(t.h.stack.add_route({ip6("2001:db8:5::"), 48}, ip6("fe80::8").in_zone(1), error));
    t.in(says(2, high, 1800, {{"2001:db8:5::", 48, high}, {"2001:db8:5:1::", 64, low}, {"2001:db8:6::", 48, 0}}));
    CHECK(t.leads(far) == 9);
    CHECK(t.leads("2001:db8:5::1") == 8);
    CHECK(t.leads("2001:db8:5:1::1") == 2); // longer
    CHECK(t.leads("2001:db8:6::1") == 2);
    auto answers = [&](const char* gateway, unsigned char last) {
        t.h.on(0, [&](protocols::Domain& d) { protocols::neighbor_ask(d, 1, ip6(gateway).in_zone(1)); });
        t.in(advertise(gateway, last, false, true)); // to all nodes: this one has no address of its own
    };
    answers("fe80::8", 8);
    answers("fe80::9", 9);
    t.silence(9);
    t.silence(8);
    CHECK(t.leads(far) == 2);
    CHECK(t.leads("2001:db8:5::1") == 2);
    answers("fe80::9", 9);
    CHECK(t.leads(far) == 9);
}

TEST_CASE("RFC 4191 2.3, 3.1: an option about ::/0 overrides the header; what it cannot mean is ignored")
{
    Routers t;
    t.in(says(1, high, 1800, {{"::", 0, low, 1800, 0}}));
    t.in(says(2, 0));
    CHECK(t.leads(far) == 2);
    t.in(says(3, 0, 0, {{"::", 0, high, 1800, 8}}));
    CHECK(t.leads(far) == 3);
    t.in(says(3, 0, 1800, {{"::", 0, high, 0, 0}}));
    CHECK(t.leads(far) == 2);
    std::uint32_t known = t.h.domain().route_generation;
    t.in(says(2, 0, 1800,
        {{"2001:db8:1::", 48, reserved}, {"2001:db8:2::", 129, high}, {"2001:db8:3::", 65, high, 1800, 8},
            {"2001:db8:4::", 1, high, 1800, 0}, {"2001:db8:5::", 48, high, 1800, 24}}));
    CHECK(t.h.domain().route_generation == known);
    t.in(says(1, low, 1800, {{"2001:db8:6:ffff::", 48, high}})); // bits behind the length mean nothing
    CHECK(t.leads("2001:db8:6::1") == 1);
}

TEST_CASE("a flood of advertised routes ends, and leaves default routers their place")
{
    Routers t;
    for (unsigned i = 1; i <= 200; ++i) {
        char prefix[32];
        std::snprintf(prefix, sizeof prefix, "2001:db8:%x::", i);
        t.in(says(1, 0, 0, {{prefix, 48, high}}));
    }
    CHECK(t.leads("2001:db8:1::1") == 1);
    CHECK(t.leads("2001:db8:c8::1") == 0);
    t.in(says(2, 0));
    CHECK(t.leads("2001:db8:c8::1") == 2);
}

TEST_CASE("RFC 4861 5.2, RFC 5942 4: without a router on an interface nothing beyond its link is reached by it")
{
    Link t({.address6 = "fd00::1", .slaac = true});
    auto by = [&](const char* destination, protocols::Route& r) {
        bool found = false;
        t.h.on(0, [&](protocols::Domain& d) { found = protocols::ipv6_route_by(d, ip6(destination), *t.h.eth, r); });
        return found;
    };
    protocols::Route r;
    CHECK(!by(far, r));
    CHECK(by("fd00::7", r));
    CHECK(by("fe80::7", r));
    CHECK(by("ff15::7", r));
    TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
    REQUIRE(s.bind(at("::", 5)) == Error::none);
    sockbuf::DatagramHeader h{};
    h.size = 3;
    h.port = 7;
    h.interface = 1; // IPV6_PKTINFO
    std::memcpy(h.addr, ip6(far).bytes(), 16);
    s.send_raw(h, Bytes(3));
    s.look();
    CHECK(s.take_error() == ENETUNREACH);
    CHECK(t.h.link->sent.empty());
    t.in(says(1, 0));
    REQUIRE(by(far, r));
    CHECK(r.next_hop == ip6("fe80::1%1"));
    t.in(redirect(far, "fe80::55", "fe80::1")); // RFC 4861 8.3
    REQUIRE(by(far, r));
    CHECK(r.next_hop == ip6("fe80::55%1"));
}

TEST_CASE("RFC 6724 5, rule 5.5: the address to send from is one whose prefix the next hop advertised")
{
    Routers t(2);
    auto router = [](unsigned char last) {
        Ip6Fields f = from_router();
        f.source = ip6(("fe80::" + std::to_string(last)).c_str());
        f.from = mac(last);
        return f;
    };
    t.in(router_advertisement({.prefix = "2001:db8:1::"}, router(1)));
    t.in(router_advertisement({.prefix = "2001:db8:2::"}, router(2)), 1);
    auto from = [&](unsigned char prefix, base::CpuId cpu) {
        protocols::Route r;
        REQUIRE(t.route("2001:db8:2:ffff::1", r, cpu)); // rule 8 would have that of the second router
        return r.source.bytes()[5] == prefix;
    };
    for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
        CHECK(from(1, cpu));
    }
    t.in(says(2, high));
    for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
        CHECK(from(2, cpu));
    }
    t.in(says(1, high));
    t.in(says(2, low));
    CHECK(from(1, 0));
    t.in(router_advertisement({.prefix = "2001:db8:2::"}, router(1))); // both do: rule 8 decides
    t.in(says(1, high));
    CHECK(from(2, 0));
    t.in(router_advertisement({.prefix = "2001:db8:2::", .valid_s = 0, .preferred_s = 0}, router(1)));
    t.in(router_advertisement({.prefix = "2001:db8:2::"}, router(2)));
    t.in(says(2, low));
    t.in(says(1, high));
    CHECK(from(1, 0));
}

namespace {

// An advertisement of a prefix by fe80::LAST.
Bytes gives(unsigned char last, const char* prefix, std::uint32_t valid_s = 86400)
{
    Ip6Fields f = from_router();
    f.source = ip6(("fe80::" + std::to_string(last)).c_str());
    f.from = mac(last);
    return router_advertisement({.prefix = prefix, .valid_s = valid_s, .preferred_s = std::min(valid_s, 14400U)}, f);
}

// To whom the last frame went.
unsigned went_to(const Routers& t)
{
    return t.h.link->sent.back()[5];
}

} // namespace

TEST_CASE("RFC 8028 3.2: what leaves from an address goes by a router that gave us its prefix, preferred or not")
{
    Routers t;
    t.in(gives(1, "2001:db8:1::"));
    t.in(gives(2, "2001:db8:2::"));
    t.in(says(1, high));
    t.in(says(2, low));
    t.in(says(3, 0));
    auto sends = [&](const char* prefix) {
        TestSocket s(t.world, t.h, SlotKind::datagram, 0, 18, AF_INET6);
        REQUIRE(s.bind({prefix != nullptr ? t.autoconfigured(prefix) : base::IpAddr{}, 0}) == Error::none);
        s.send(Bytes(1), at(far, 7));
        unsigned by = went_to(t);
        REQUIRE(s.connect(at(far, 7)) == Error::none); // its way is kept
        s.send(Bytes(1));
        CHECK(went_to(t) == by);
        REQUIRE(s.close() == Error::none);
        return by;
    };
    CHECK(sends("2001:db8:1::") == 1);
    CHECK(sends("2001:db8:2::") == 2);
    CHECK(sends(nullptr) == 1);
    TestSocket stream(t.world, t.h, SlotKind::stream, 0, 18, AF_INET6);
    REQUIRE(stream.bind({t.autoconfigured("2001:db8:2::"), 0}) == Error::none);
    REQUIRE(stream.connect(at(far, 80)) == Error::in_progress);
    CHECK(went_to(t) == 2);
    Ip6Fields echo = to_us("2001:db8:ffff::1");
    echo.destination = t.autoconfigured("2001:db8:2::");
    t.in(icmp6_frame(echo, wire::icmp6_echo, 0, 1, Bytes(8)));
    CHECK(went_to(t) == 2);
    t.in(ip6_frame(echo, udp6_datagram(echo, 9, 99, Bytes(1))));
    CHECK(went_to(t) == 2); // the error about it
    t.silence(2);           // better by the wrong one than not at all
    CHECK(sends("2001:db8:2::") == 1);
    t.in(says(2, low));
    CHECK(sends("2001:db8:2::") == 2);
    t.in(gives(2, "2001:db8:2::", 0)); // it has that no more
    CHECK(sends("2001:db8:2::") == 1);
}

TEST_CASE("RFC 8028 3.2: a router without a prefix does not go before the one that gave us the only address")
{
    Routers t;
    t.in(gives(2, "2001:db8:2::"));
    t.in(says(2, low));
    t.in(says(1, high));
    CHECK(t.leads(far) == 2);
    t.in(says(1, high, 1800, {{"2001:db8:ffff::", 48, low}})); // RFC 4191 3.2: longer goes before that
    CHECK(t.leads(far) == 1);
}

TEST_CASE("RFC 8028 3.2: what gets an address of another link goes by the router there that gave it to us, and stays")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.address6 = nullptr, .slaac = true});
    netmsg::NetifInfo info;
    info.name = "eth1";
    info.mtu = 1400;
    info.mac = mac(9);
    auto frames = std::make_unique<FrameNetif>(info);
    FrameNetif& other = *frames;
    std::string error;
    protocols::Interface* second = h.stack.add_interface(std::move(frames), {}, error, true);
    REQUIRE(second != nullptr);
    world.advance(base::seconds(12));
    h.link->inject(says(1, high), 0); // preferred, and gives no prefix
    other.inject(gives(2, "2001:db8:2::"), 0);
    other.inject(says(2, low), 0);
    world.settle();
    h.on(0, [&](protocols::Domain& d) {
        protocols::Route r;
        REQUIRE(protocols::route_lookup(d, ip6(far), r));
        CHECK(base::Prefix{ip6("2001:db8:2::"), 64}.contains(r.source));
        CHECK(r.interface == second);
        CHECK(r.next_hop == ip6("fe80::2").in_zone(second->index));
        CHECK(r.mtu == 1400);
        protocols::Route kept = r;
        REQUIRE(protocols::route_renew(d, r.source, ip6(far), kept));
        CHECK((kept.interface == r.interface && kept.next_hop == r.next_hop && kept.mtu == r.mtu));
        REQUIRE(protocols::ipv6_route_by(d, ip6(far), *h.eth, r)); // a socket's own choice stands
        CHECK((r.interface == h.eth && r.mtu == 1500));
    });
}

TEST_CASE("RFC 8028 3.4: a redirect is for what leaves by the router that said so")
{
    Routers t(2);
    t.in(gives(1, "2001:db8:1::"));
    t.in(gives(2, "2001:db8:2::"));
    t.in(says(1, high));
    t.in(says(2, low));
    auto leads_from = [&](const char* prefix, base::CpuId cpu) {
        protocols::Route r;
        t.h.on(cpu, [&](protocols::Domain& d) {
            REQUIRE(protocols::route_lookup(d, ip6(far), r, t.autoconfigured(prefix, cpu)));
        });
        return unsigned{r.next_hop.bytes()[15]};
    };
    t.in(redirect(far, "fe80::55", "fe80::2"));
    t.in(redirect(far, "fe80::56", "fe80::3")); // whom nothing goes by
    for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
        CHECK(leads_from("2001:db8:1::", cpu) == 1);
        CHECK(leads_from("2001:db8:2::", cpu) == 0x55);
        CHECK(t.leads(far, cpu) == 1);
    }
    CHECK(t.h.counted(&StackCounters::nd_redirects_refused) == 1);
}

TEST_CASE("RFC 4861 6.3.4: when what a router announced is over, kept routes are decided again by the clock")
{
    Routers t;
    t.in(gives(1, "2001:db8:1::"));
    t.in(gives(2, "2001:db8:1::", 60)); // both give the prefix, this one for a minute
    t.in(says(1, low));
    t.in(says(2, high));
    CHECK(t.leads(far) == 2);
    t.in(gives(1, "2001:db8:1::")); // longer again
    t.in(says(1, low));
    t.in(says(3, low, 30)); // the clock goes off for this one, and then
    t.world.advance(base::seconds(40));
    std::uint32_t known = t.h.domain().route_generation;
    t.world.advance(base::seconds(21));
    CHECK(t.h.domain().route_generation != known);
    CHECK(t.leads(far) == 1);
}
