// What the socket layer does around TCP: the owner of a connect, handing a bound socket over, listeners on every CPU,
// close releasing everywhere. TCP itself: tests/tcp.
#include <netinet/tcp.h>

#include "tests/protocols/host.hpp"

using namespace test;
using base::Error;
using netmsg::SocketOp;
using sockbuf::SlotKind;

TEST_CASE("an explicitly bound stream moves to the CPU of its flow when it connects; an unbound one stays at home")
{
    Pair p(4, 1);
    unsigned moved = 0;
    for (std::uint16_t port = 2000; port < 2016; ++port) {
        TestSocket s(p.world, p.a, SlotKind::stream, port % 4);
        REQUIRE(s.bind(at("0.0.0.0", port)) == Error::none);
        Error e = s.connect(at("10.0.0.2", 80));
        CHECK((e == Error::in_progress || e == Error::none));
        base::FourTuple flow{at("10.0.0.1", port), at("10.0.0.2", 80)};
        CHECK(s.so.domain->id() == p.a.stack.steering().cpu_of(flow));
        CHECK(s.moved == (s.so.domain->id() == port % 4 ? 0 : 1));
        moved += static_cast<unsigned>(s.moved);
        p.world.advance(base::millis(1));
        CHECK(s.take_error() == ECONNREFUSED);
        REQUIRE(s.close() == Error::none);
        CHECK(s.detached == 1);
    }
    CHECK(moved > 0);
    for (base::CpuId home = 0; home < 4; ++home) {
        TestSocket s(p.world, p.a, SlotKind::stream, home);
        Error e = s.connect(at("10.0.0.2", 80));
        CHECK((e == Error::in_progress || e == Error::none));
        CHECK(s.so.domain->id() == home);
        p.world.advance(base::millis(1));
        REQUIRE(s.close() == Error::none);
        REQUIRE(s.call(SocketOp::abort) == Error::none); // behind the close: nothing is left to end
        CHECK(s.detached == 1);
        CHECK(p.a.domain(home).tcp_ports->size() == 0);
    }
}

TEST_CASE("two listeners of one address conflict, and the port is free on every CPU after close")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 3});
    TestSocket one(world, h, SlotKind::stream, 0);
    TestSocket two(world, h, SlotKind::stream, 1);
    for (TestSocket* s : {&one, &two}) {
        REQUIRE(s->set(SOL_SOCKET, SO_REUSEADDR, 1) == Error::none);
        REQUIRE(s->bind(at("0.0.0.0", 80)) == Error::none);
    }
    REQUIRE(one.call(SocketOp::listen, {}, 16) == Error::none);
    CHECK(two.call(SocketOp::listen, {}, 16) == Error::address_in_use);
    CHECK(one.get(SOL_SOCKET, SO_ACCEPTCONN) == 1);
    CHECK(one.call(SocketOp::listen, {}, 32) == Error::none); // another backlog
    CHECK(one.connect(at("10.0.0.2", 1)) == Error::is_connected);
    REQUIRE(one.close() == Error::none);
    CHECK(one.detached == 1);
    REQUIRE(two.call(SocketOp::listen, {}, 16) == Error::none);
    REQUIRE(two.close() == Error::none);
    for (base::CpuId cpu = 0; cpu < 3; ++cpu) {
        CHECK(h.domain(cpu).tcp_ports->size() == 0);
    }
}

TEST_CASE("listen without bind takes an ephemeral port")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 2});
    TestSocket s(world, h, SlotKind::stream, 1);
    REQUIRE(s.call(SocketOp::listen, {}, 16) == Error::none);
    CHECK(s.so.flow.local.port >= 32768);
    CHECK(s.slot.info.local_port == s.so.flow.local.port);
    REQUIRE(s.call(SocketOp::shutdown, {}, SHUT_RD) == Error::none);
    CHECK(!s.so.listening);
    REQUIRE(s.close() == Error::none);
}

TEST_CASE("TCP_DEFER_ACCEPT is what the timeouts of a SYN-ACK take together, as on Linux")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {});
    TestSocket s(world, h, SlotKind::stream);
    for (auto [asked, shown] : {std::pair{0, 0}, {-1, 0}, {1, 1}, {2, 3}, {5, 7}, {64, 127}, {128, 247}, {7, 7}}) {
        REQUIRE(s.set(IPPROTO_TCP, TCP_DEFER_ACCEPT, asked) == Error::none);
        CHECK(s.get(IPPROTO_TCP, TCP_DEFER_ACCEPT) == shown);
    }
}

TEST_CASE("a connect that is refused leaves nothing of what it chose")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {});
    TestSocket s(world, h, SlotKind::stream);
    s.no_rings = true;
    REQUIRE(s.connect(at("10.0.0.2", 80)) == Error::no_buffers);
    CHECK(s.so.flow.local.port == 0);
    CHECK(s.so.flow.local.addr.is_any());
    s.no_rings = false;
    REQUIRE(s.bind(at("127.0.0.1", 5000)) == Error::none);
    s.no_rings = true;
    REQUIRE(s.connect(at("127.0.0.1", 80)) == Error::no_buffers);
    CHECK(s.so.flow.local == at("127.0.0.1", 5000)); // bind's choice stays
    REQUIRE(s.close() == Error::none);
}

TEST_CASE("a listener that connects to AF_UNSPEC is as new on every CPU, and may listen again")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 3});
    TestSocket s(world, h, SlotKind::stream, 1);
    REQUIRE(s.bind(at("0.0.0.0", 80)) == Error::none);
    REQUIRE(s.call(SocketOp::listen, {}, 16) == Error::none);
    CHECK(s.call(SocketOp::unconnect, {}, 0) == Error::not_supported); // what only a connect that failed may do
    CHECK(s.so.listening);
    REQUIRE(s.call(SocketOp::unconnect, {}, 1) == Error::none);
    CHECK(!s.so.listening);
    CHECK(s.slot.info.state == static_cast<std::uint32_t>(sockbuf::SlotState::open));
    CHECK(s.so.flow.local == at("0.0.0.0", 80));
    REQUIRE(s.call(SocketOp::listen, {}, 16) == Error::none);
    REQUIRE(s.close() == Error::none);
    for (base::CpuId cpu = 0; cpu < 3; ++cpu) {
        CHECK(h.domain(cpu).tcp_ports->size() == 0);
    }
}
