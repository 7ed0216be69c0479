// Ports: the rules of bind, races between CPUs, and a bind behind a close that is on its way.
#include "tests/protocols/host.hpp"

using namespace test;
using base::Error;
using sockbuf::SlotKind;

TEST_CASE("bind follows Linux's rules of conflict")
{
    struct Case {
        const char* first;
        const char* second;
        int reuse_addr;
        int reuse_port;
        Error expected;
    };
    auto c = GENERATE(Case{"0.0.0.0", "10.0.0.1", 0, 0, Error::address_in_use},
        Case{"10.0.0.1", "0.0.0.0", 0, 0, Error::address_in_use}, Case{"10.0.0.1", "127.0.0.1", 0, 0, Error::none},
        Case{"0.0.0.0", "0.0.0.0", 1, 0, Error::none}, Case{"0.0.0.0", "0.0.0.0", 0, 1, Error::none},
        Case{"0.0.0.0", "192.0.2.99", 0, 0, Error::address_not_available});
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 3});
    auto kind = GENERATE(SlotKind::stream, SlotKind::datagram);
    TestSocket one(world, h, kind, 0);
    TestSocket two(world, h, kind, 2);
    for (TestSocket* s : {&one, &two}) {
        REQUIRE(s->set(SOL_SOCKET, SO_REUSEADDR, c.reuse_addr) == Error::none);
        REQUIRE(s->set(SOL_SOCKET, SO_REUSEPORT, c.reuse_port) == Error::none);
    }
    REQUIRE(one.bind(at(c.first, 80)) == Error::none);
    CHECK(two.bind(at(c.second, 80)) == c.expected);
    CHECK(two.so.bound_port == (c.expected == Error::none));
    CHECK(one.bind(at("0.0.0.0", 81)) == Error::invalid); // bound already
}

TEST_CASE("SO_REUSEPORT shares a port between sockets of one user only, and only if all of them ask for it")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 3});
    auto kind = GENERATE(SlotKind::stream, SlotKind::datagram);
    TestSocket one(world, h, kind, 0);
    TestSocket friendly(world, h, kind, 1);
    TestSocket foreign(world, h, kind, 2);
    TestSocket plain(world, h, kind, 2);
    foreign.so.user_id = 1000;
    for (TestSocket* s : {&one, &friendly, &foreign}) {
        REQUIRE(s->set(SOL_SOCKET, SO_REUSEPORT, 1) == Error::none);
    }
    REQUIRE(one.bind(at("0.0.0.0", 80)) == Error::none);
    CHECK(friendly.bind(at("10.0.0.1", 80)) == Error::none);
    CHECK(foreign.bind(at("0.0.0.0", 80)) == Error::address_in_use);
    CHECK(foreign.bind(at("127.0.0.1", 80)) == Error::address_in_use);
    CHECK(plain.bind(at("0.0.0.0", 80)) == Error::address_in_use);
}

TEST_CASE("two CPUs bind the same port at once: exactly one wins, whatever the order of the CPUs")
{
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        World world;
        std::unique_ptr<Host> slot;
        Host& h = world.add(slot, {.cpus = 4});
        base::Random order(seed);
        auto port = static_cast<std::uint16_t>(80 + seed % 4);
        TestSocket one(world, h, SlotKind::datagram, static_cast<base::CpuId>(seed % 4));
        TestSocket two(world, h, SlotKind::datagram, static_cast<base::CpuId>((seed / 4) % 4));
        one.post(netmsg::SocketOp::bind, at("0.0.0.0", port));
        two.post(netmsg::SocketOp::bind, at("10.0.0.1", port));
        while (!one.replied() || !two.replied()) {
            h.set.step(&order);
        }
        CAPTURE(seed);
        CHECK((one.result() == Error::none) != (two.result() == Error::none));
        for (base::CpuId cpu = 0; cpu < 4; ++cpu) {
            CHECK(h.domain(cpu).udp_ports->size() == 1);
        }
    }
}

TEST_CASE("ephemeral ports are distinct, and running out is address_in_use")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 2});
    std::vector<std::unique_ptr<TestSocket>> sockets;
    std::vector<std::uint16_t> ports;
    for (base::CpuId i = 0; i < 64; ++i) {
        sockets.push_back(std::make_unique<TestSocket>(world, h, SlotKind::stream, i % 2));
        sockets.back()->post(netmsg::SocketOp::bind, at("0.0.0.0", 0));
    }
    world.settle();
    for (auto& s : sockets) {
        REQUIRE(s->result() == Error::none);
        ports.push_back(s->so.flow.local.port);
    }
    std::sort(ports.begin(), ports.end());
    CHECK(std::adjacent_find(ports.begin(), ports.end()) == ports.end());
    CHECK(ports.front() >= 32768);
    CHECK(ports.back() <= 60999);
}

TEST_CASE("a port is found though connections of every CPU use all others")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 2, .ephemeral_low = 40000, .ephemeral_high = 40199});
    std::vector<std::unique_ptr<TestSocket>> busy;
    for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
        Error e = Error::in_progress;
        while (e == Error::in_progress) {
            busy.push_back(std::make_unique<TestSocket>(world, h, SlotKind::stream, cpu));
            e = busy.back()->connect(at("10.0.0.2", 80));
        }
        REQUIRE(e == Error::address_not_available);
        busy.pop_back();
    }
    REQUIRE(busy.size() == 200);
    std::uint16_t free = busy.back()->so.flow.local.port;
    REQUIRE(busy.back()->close() == Error::none);
    for (base::CpuId cpu = 0; cpu < 2; ++cpu) {
        TestSocket bound(world, h, SlotKind::stream, cpu);
        REQUIRE(bound.bind(at("0.0.0.0", 0)) == Error::none);
        CHECK(bound.so.flow.local.port == free);
        TestSocket none(world, h, SlotKind::stream, cpu);
        CHECK(none.bind(at("0.0.0.0", 0)) == Error::address_in_use);
        REQUIRE(bound.close() == Error::none);
        TestSocket listens(world, h, SlotKind::stream, cpu);
        CHECK(listens.call(netmsg::SocketOp::listen, {}, 16) == Error::none);
        REQUIRE(listens.close() == Error::none);
    }
    for (auto& s : busy) {
        if (s->detached == 0) {
            REQUIRE(s->close() == Error::none);
        }
    }
}

TEST_CASE("a bind waits for the close of a socket that its application has let go")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {.cpus = 3});
    TestSocket old(world, h, SlotKind::datagram, 0);
    TestSocket fresh(world, h, SlotKind::datagram, 1);
    REQUIRE(old.bind(at("0.0.0.0", 53)) == Error::none);
    old.slot.share.holders.store(0); // close(2) has returned; its request is still in a ring
    fresh.post(netmsg::SocketOp::bind, at("0.0.0.0", 53));
    for (int i = 0; i < 50; ++i) {
        h.set.step();
    }
    CHECK(!fresh.replied());
    old.post(netmsg::SocketOp::disconnect);
    world.settle();
    REQUIRE(fresh.replied());
    CHECK(fresh.result() == Error::none);
    CHECK(old.detached == 1);
}

TEST_CASE("options have Linux's values and errors")
{
    World world;
    std::unique_ptr<Host> slot;
    Host& h = world.add(slot, {});
    TestSocket s(world, h, SlotKind::datagram);
    CHECK(s.get(SOL_SOCKET, SO_TYPE) == SOCK_DGRAM);
    CHECK(s.get(SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDP);
    CHECK(s.get(SOL_SOCKET, SO_RCVBUF) == 212992);
    CHECK(s.set(SOL_SOCKET, SO_SNDBUF, 10000) == Error::none);
    CHECK(s.get(SOL_SOCKET, SO_SNDBUF) == 20000);
    CHECK(s.set(SOL_SOCKET, SO_SNDBUF, 1) == Error::none);
    CHECK(s.get(SOL_SOCKET, SO_SNDBUF) == 4608);
    CHECK(s.set(SOL_SOCKET, SO_BROADCAST, 5) == Error::none);
    CHECK(s.get(SOL_SOCKET, SO_BROADCAST) == 1);
    CHECK(s.get(IPPROTO_IP, IP_TTL) == 64);
    CHECK(s.set(IPPROTO_IP, IP_TTL, 0) == Error::invalid);
    CHECK(s.set(IPPROTO_IP, IP_TTL, 7) == Error::none);
    CHECK(s.get(IPPROTO_IP, IP_TTL) == 7);
    CHECK(s.set(IPPROTO_IP, IP_MTU_DISCOVER, 9) == Error::invalid);
    CHECK(s.set(SOL_SOCKET, 9999, 1) == Error::no_protocol_option);
    CHECK(s.set(IPPROTO_TCP, 1, 1) == Error::no_protocol_option);
    CHECK(s.set(SOL_SOCKET, SO_KEEPALIVE, "", 1) == Error::invalid);
    CHECK(s.call(netmsg::SocketOp::listen) == Error::not_supported);
    CHECK(s.call(netmsg::SocketOp::shutdown, {}, SHUT_RDWR) == Error::not_connected);
}
