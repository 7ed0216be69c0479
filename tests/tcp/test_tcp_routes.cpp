// Connections and their ways. Whose local address goes away stays, sends nothing, and goes on when it is back (RFC 1122
// 3.2.1.3, RFC 4862 5.5.4); ways become narrower and wider; progress confirms neighbours. Cases of one family do
// nothing when the other one runs.
#include <catch2/catch.hpp>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/neighbor.hpp"
#include "tests/family.hpp"
#include "tests/tcp/pair.hpp"

using namespace tcp_test;
using protocols::Ipv4Change;

namespace {

void change(Pair& p, Ipv4Change::Kind kind, std::uint32_t mtu = 0)
{
    p.a.run(0, [&](protocols::Domain& d) {
        const protocols::Interface& in = *d.stack.interfaces().front();
        protocols::Ipv4Address own = protocols::ipv4_address(in, 0x0a000001, 24);
        own.mtu = mtu;
        REQUIRE(protocols::ipv4_change(d, {kind, own, {}}));
    });
    p.run_for(base::millis(1));
}

constexpr std::uint32_t life_s = 30;

// The first host's only address is of a prefix that is advertised for so long.
void advertise(Pair& p, std::uint32_t valid_s)
{
    for (base::CpuId cpu = 0; cpu < p.a.stack->cpus(); ++cpu) {
        p.a.run(cpu, [&](protocols::Domain& d) {
            protocols::Interface& in = *d.stack.interfaces().front();
            in.slaac = true;
            std::erase_if(d.ipv6->addresses, [](const protocols::Ipv6Address& a) { return !a.autoconf; });
            protocols::wire::NdPrefix prefix;
            prefix.addr = test::address("10.0.0.0");
            prefix.length = 64;
            prefix.on_link = prefix.autonomous = true;
            prefix.valid_s = prefix.preferred_s = valid_s;
            protocols::ipv6_take_prefix(d, in, base::IpAddr{}, prefix); // no router of ours
        });
    }
}

std::uint64_t refused(Pair& p)
{
    std::uint64_t sum = 0;
    for (base::CpuId cpu = 0; cpu < p.a.stack->cpus(); ++cpu) {
        sum += p.a.stack->domain(cpu).counters.ip_out_no_route.load();
    }
    return sum;
}

// Neither host has to ask for the other.
void introduce(Pair& p)
{
    protocols::NeighborNews n;
    n.interface = 1;
    n.create = true;
    n.address = test::address("10.0.0.2");
    n.mac = {{0x02, 0, 0, 0, 0, 0x0b}};
    p.a.run(0, [&](protocols::Domain& d) { protocols::neighbor_take(d, n); });
    n.address = test::address("10.0.0.1");
    n.mac = {{0x02, 0, 0, 0, 0, 0x0a}};
    p.b.run(0, [&](protocols::Domain& d) { protocols::neighbor_take(d, n); });
}

} // namespace

TEST_CASE("RFC 4862 5.5.4: nothing leaves from an address that is invalid; the connection goes on when it is back")
{
    if (!test::over_v6()) {
        return;
    }
    PairOptions o;
    o.cpus = 2;
    Pair p(o);
    advertise(p, life_s);
    auto [client, server] = p.connected(5001);
    Stream up(*client, *server, 64 << 10, 1);
    REQUIRE(p.run_until([&] { return up.pump(); }, base::seconds(5)));
    p.run_for(base::seconds(life_s));
    Stream more(*client, *server, 64 << 10, 2);
    CHECK(!p.run_until([&] { return more.pump(); }, base::seconds(20)));
    CHECK(refused(p) >= 5); // each retransmission
    CHECK(client->error() == 0);
    CHECK(client->state() == sockbuf::SlotState::connected);
    advertise(p, 3600);
    REQUIRE(p.run_until([&] { return more.pump(); }, base::seconds(60)));
    CHECK(more.correct());
    p.close_all();
    p.expect_clean();
}

TEST_CASE("RFC 1122 3.2.1.3: nothing leaves from an address that went; the connection goes on when it is back")
{
    if (test::over_v6()) {
        return;
    }
    PairOptions o;
    o.cpus = 2;
    Pair p(o);
    auto [client, server] = p.connected(5001);
    Stream up(*client, *server, 64 << 10, 1);
    REQUIRE(p.run_until([&] { return up.pump(); }, base::seconds(5)));
    change(p, Ipv4Change::Kind::remove_address);
    Stream more(*client, *server, 64 << 10, 2);
    CHECK(!p.run_until([&] { return more.pump(); }, base::seconds(20)));
    CHECK(refused(p) >= 5); // each retransmission
    CHECK(client->error() == 0);
    CHECK(client->state() == sockbuf::SlotState::connected);
    change(p, Ipv4Change::Kind::set_address);
    REQUIRE(p.run_until([&] { return more.pump(); }, base::seconds(60)));
    CHECK(more.correct());
    p.close_all();
    p.expect_clean();
}

TEST_CASE("a way that has become narrower while nothing could leave makes smaller segments")
{
    if (test::over_v6()) {
        return;
    }
    Pair p({});
    auto [client, server] = p.connected(5001);
    Stream up(*client, *server, 64 << 10, 1);
    REQUIRE(p.run_until([&] { return up.pump(); }, base::seconds(5)));
    change(p, Ipv4Change::Kind::remove_address);
    Stream more(*client, *server, 64 << 10, 2);
    CHECK(!p.run_until([&] { return more.pump(); }, base::seconds(5)));
    p.a.run(0, [](protocols::Domain& d) { protocols::pmtu_learn(d, base::IpAddr::v4(0x0a000002), 1280); });
    change(p, Ipv4Change::Kind::set_address);
    REQUIRE(p.run_until([&] { return more.pump(); }, base::seconds(60))); // the timeout decides the way again
    CHECK(more.correct());
    p.close_all();
    p.expect_clean();
}

TEST_CASE("a way that takes more than before makes longer segments")
{
    if (test::over_v6()) {
        return;
    }
    Pair p({});
    change(p, Ipv4Change::Kind::set_address, 1280);
    auto [client, server] = p.connected(5001);
    std::uint32_t narrow = client->so.tcb->mss;
    change(p, Ipv4Change::Kind::set_address);
    Stream up(*client, *server, 64 << 10, 1);
    REQUIRE(p.run_until([&] { return up.pump(); }, base::seconds(5)));
    CHECK(up.correct());
    CHECK(client->so.tcb->mss == narrow + 220);
    p.close_all();
    p.expect_clean();
}

TEST_CASE("RFC 1191 3: a path that was said to take less takes no more while others push it out of the table")
{
    Pair p({});
    auto [client, server] = p.connected(5001);
    std::uint32_t wide = client->so.tcb->mss;
    auto sends = [&, c = client, s = server](std::uint64_t seed) {
        Stream up(*c, *s, 64 << 10, seed);
        REQUIRE(p.run_until([&] { return up.pump(); }, base::seconds(5)));
        CHECK(up.correct());
        return wide - c->so.tcb->mss;
    };
    p.a.run(0, [](protocols::Domain& d) { protocols::pmtu_learn(d, test::address("10.0.0.2"), 1300); });
    CHECK(sends(1) == 200);
    p.run_for(base::seconds(300));
    p.a.run(0, [](protocols::Domain& d) {
        for (std::uint32_t i = 0; i < 4096; ++i) {
            protocols::pmtu_learn(d, base::IpAddr::v4(0xc0000000 + i), 1300);
        }
    });
    CHECK(sends(2) == 200);
    p.run_for(base::seconds(299));
    CHECK(sends(3) == 200);
    p.run_for(base::seconds(302)); // of the others the time is over as well
    CHECK(sends(4) == 0);
    p.close_all();
    p.expect_clean();
}

TEST_CASE("RFC 4861 7.3.1: what a connection gets through confirms the neighbour that another one put in doubt")
{
    PairOptions o;
    o.weather.delay = base::millis(1600); // an answer takes longer than three tries do
    Pair p(o);
    introduce(p);
    auto [client, server] = p.connected(5001);
    auto write = [&, c = client] { CHECK(c->write("text", 4) == 4); };
    auto doubt = [](protocols::Domain& d) { protocols::neighbor_doubt(d, 1, test::address("10.0.0.2")); };
    protocols::StackCounters& counters = p.a.stack->domain(0).counters;
    REQUIRE(p.a.set_option(*client, IPPROTO_TCP, TCP_NODELAY, 1) == 0);
    write();
    p.run_for(base::seconds(2)); // under way
    p.a.run(0, doubt);
    p.run_for(base::seconds(1));
    CHECK(counters.neighbor_failed == 0);
    p.run_for(base::seconds(2));
    CHECK(counters.neighbor_doubted == 1);
    CHECK(counters.neighbor_failed == 0); // it was confirmed when the ACK came
    p.run_for(base::seconds(10));
    p.a.run(0, doubt);
    p.run_for(base::millis(3100));
    CHECK(counters.neighbor_failed == 1); // nothing got through: it is gone, until its answer comes
    p.run_for(base::seconds(60));
    p.close_all();
    (void)server;
}

TEST_CASE("a connection whose address never comes back ends as one whose peer is gone")
{
    if (test::over_v6()) {
        return;
    }
    Pair p({});
    auto [client, server] = p.connected(5002);
    REQUIRE(p.a.set_option(*client, IPPROTO_TCP, TCP_USER_TIMEOUT, 30000) == 0);
    change(p, Ipv4Change::Kind::remove_address);
    Stream up(*client, *server, 4 << 10, 1);
    up.pump();
    CHECK(p.run_until([&, c = client] { return c->error() == ETIMEDOUT; }, base::seconds(60)));
    change(p, Ipv4Change::Kind::set_address);
    p.close_all();
    (void)server;
}
