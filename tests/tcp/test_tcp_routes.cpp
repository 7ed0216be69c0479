// Connections whose local address goes away: they stay, send nothing, and go on when it is back (RFC 1122 3.2.1.3).
#include <catch2/catch.hpp>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "protocols/ipv4.hpp"
#include "tests/tcp/pair.hpp"

using namespace tcp_test;
using protocols::Ipv4Change;

namespace {

void change(Pair& p, Ipv4Change::Kind kind)
{
    p.a.run(0, [&](protocols::Domain& d) {
        const protocols::Interface& in = *d.stack.interfaces().front();
        REQUIRE(protocols::ipv4_change(d, {kind, protocols::ipv4_address(in, 0x0a000001, 24), {}}));
    });
    p.run_for(base::millis(1));
}

} // namespace

TEST_CASE("RFC 1122 3.2.1.3: nothing leaves from an address that went; the connection goes on when it is back")
{
    PairOptions o;
    o.cpus = 2;
    Pair p(o);
    auto [client, server] = p.connected(5001);
    Stream up(*client, *server, 64 << 10, 1);
    REQUIRE(p.run_until([&] { return up.pump(); }, base::seconds(5)));
    change(p, Ipv4Change::Kind::remove_address);
    std::uint64_t refused = 0;
    Stream more(*client, *server, 64 << 10, 2);
    CHECK(!p.run_until([&] { return more.pump(); }, base::seconds(20)));
    for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
        refused += p.a.stack->domain(cpu).counters.ip_out_no_route.load();
    }
    CHECK(refused >= 5); // each retransmission
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

TEST_CASE("a connection whose address never comes back ends as one whose peer is gone")
{
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
