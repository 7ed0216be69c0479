// A gateway over a whole stack on loopback, stepped in virtual time, and a connection between two sockets of a family.
#pragma once

#include <catch2/catch.hpp>

#include <bit>
#include <memory>
#include <string>

#include "drivers/loopback.hpp"
#include "protocols/socket/socket.hpp"
#include "tests/family.hpp"
#include "tests/gateway/fake_app.hpp"

namespace test {

using sockbuf::Op;
using sockbuf::SlotState;

struct World {
    explicit World(std::size_t cpus, std::uint64_t seed = 1, bool join_pairs = false,
        std::uint32_t forwarded_max = 1024, base::Micros idle_after = base::seconds(2))
        : set(clock, options(cpus)), stack(set, stack_options(seed))
    {
        std::string error;
        INVARIANT(stack.add_interface(std::make_unique<drivers::Loopback>(),
                      {{base::IpAddr::v4(0x7f000001), 8}, {base::IpAddr::loopback_v6(), 128}}, error) != nullptr);
        gateway::GatewayOptions o;
        o.segment.sockets = 1024;
        o.segment.ring_memory = std::uint64_t{1} << 30;
        o.send_ring_shift = o.receive_ring_shift = 16;
        o.join_pairs = join_pairs;
        o.forwarded_max = forwarded_max;
        o.idle_after = idle_after;
        gw = std::make_unique<gateway::Gateway>(stack, o);
    }
    static lwkt::CpuSetOptions options(std::size_t cpus)
    {
        lwkt::CpuSetOptions o;
        o.pin.assign(cpus, -1);
        return o;
    }
    static protocols::StackOptions stack_options(std::uint64_t seed)
    {
        protocols::StackOptions o;
        o.seed = seed;
        o.packets.packets_per_cpu = 1024;
        o.packets.large_per_cpu = 64;
        return o;
    }

    lwkt::VirtualClock clock;
    lwkt::CpuSet set;
    protocols::Stack stack;
    std::unique_ptr<gateway::Gateway> gw;
};

inline base::Endpoint local(std::uint16_t port)
{
    return {test::address("127.0.0.1"), port};
}

// Bytes of address space.
inline std::uint64_t lanes_of_a_listener(std::uint32_t cpus)
{
    return std::bit_ceil(cpus * sockbuf::lane_stride(protocols::listen_backlog_max));
}

// Listens on `port`, connects to it, accepts; all three sockets.
struct Pair {
    FakeApp::Sock listener, client, server;
};
inline Pair make_pair(FakeApp& app, std::uint16_t port, std::uint32_t cpu)
{
    Pair p;
    p.listener = app.socket(cpu);
    REQUIRE(app.call(p.listener, Op::bind, local(port)) == 0);
    REQUIRE(app.call(p.listener, Op::listen, {}, 16) == 0);
    REQUIRE(app.state(p.listener) == SlotState::listening);
    p.client = app.socket((cpu + 1) % app.view.cpus());
    REQUIRE(app.call(p.client, Op::connect, local(port)) == EINPROGRESS);
    app.settle();
    REQUIRE(app.state(p.client) == SlotState::connected);
    p.server = app.accept(p.listener);
    REQUIRE(p.server.slot != 0xffffffff);
    return p;
}

inline void close_all(FakeApp& app, const Pair& p)
{
    app.close(p.client);
    app.settle();
    app.close(p.server);
    app.close(p.listener);
    app.settle();
}

} // namespace test
