// Two stacks joined by a link, in virtual time or with threads, for the tests of embed/.
#pragma once

#include <catch2/catch.hpp>

#include <sys/socket.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "embed/netd.hpp"
#include "tests/family.hpp"

namespace test {

inline const base::Endpoint b_echo = test::endpoint("10.0.0.2:7");

// NETD_DISCIPLINE=message|inline|giant|striped: under which one the program's cases run (meson runs each).
inline lwkt::Discipline discipline()
{
    const char* name = std::getenv("NETD_DISCIPLINE");
    std::string_view wanted = name == nullptr ? "message" : name;
    return wanted == "giant"     ? lwkt::Discipline::giant
           : wanted == "striped" ? lwkt::Discipline::striped
           : wanted == "inline"  ? lwkt::Discipline::inline_
                                 : lwkt::Discipline::message;
}
inline lwkt::LockKind lock_kind()
{
    const char* name = std::getenv("NETD_LOCK");
    std::string_view wanted = name == nullptr ? "mutex" : name;
    return wanted == "spin" ? lwkt::LockKind::spin : wanted == "queue" ? lwkt::LockKind::queue : lwkt::LockKind::mutex;
}

inline gateway::GatewayOptions small_gateway()
{
    gateway::GatewayOptions o;
    o.segment.sockets = 2048;
    o.segment.ring_memory = std::uint64_t{2} << 30;
    return o;
}

inline embed::StackConfig stack_config(std::size_t cpus, embed::Simulation* world, std::uint64_t seed, const char* name,
    const gateway::GatewayOptions& gateway = small_gateway())
{
    embed::StackConfig c;
    c.pin.assign(cpus, -1);
    c.discipline = discipline();
    c.lock = lock_kind();
    c.locks_per_operation = c.lock == lwkt::LockKind::queue ? 3 : 1;
    c.shards = 8;
    c.simulation = world;
    c.seed = seed;
    c.name = name;
    c.gateway = gateway;
    c.protocols.duplicate_probes = 0; // the wire is ours: addresses may be used at once
    return c;
}

struct Pair {
    explicit Pair(std::size_t cpus = 1, embed::Simulation* world = nullptr, std::uint64_t seed = 1,
        const drivers::SimLinkOptions& wire = {}, const gateway::GatewayOptions& gateway = small_gateway(),
        const gateway::GatewayOptions* gateway_b = nullptr)
        : a(stack_config(cpus, world, seed * 2, "a", gateway)),
          b(stack_config(cpus, world, seed * 2 + 1, "b", gateway_b != nullptr ? *gateway_b : gateway))
    {
        std::string error;
        bool good =
            embed::join(a, test::in_family("10.0.0.1/24"), b, test::in_family("10.0.0.2/24"), wire, link, error) &&
            a.start(error) && b.start(error);
        INFO(error);
        REQUIRE(good);
    }

    drivers::SimLink link;
    embed::Stack a;
    embed::Stack b;
};

inline embed::Socket open(embed::Stack& stack, int type);
// Resolves the neighbours, so that a test's first burst finds no queue for them.
inline void meet(Pair& p, embed::Simulation& world)
{
    embed::Socket s = open(p.a, SOCK_DGRAM);
    REQUIRE(s.send_to("", test::endpoint("10.0.0.2:9")) == 0);
    world.run_for(base::millis(100));
}

inline embed::Socket open(embed::Stack& stack, int type)
{
    embed::Socket s;
    REQUIRE(embed::Socket::open(stack, type, s, family()) == 0);
    return s;
}
inline embed::Socket listen(embed::Stack& stack, const base::Endpoint& at, int backlog = 128)
{
    embed::Socket s = open(stack, SOCK_STREAM);
    REQUIRE(s.bind(at) == 0);
    REQUIRE(s.listen(backlog) == 0);
    return s;
}

// Exactly `size` bytes, or what came before the end or an error.
inline std::string read_exactly(embed::Socket& s, std::size_t size)
{
    std::string all(size, 0);
    std::size_t got = 0;
    while (got < size) {
        ssize_t n = s.recv({all.data() + got, size - got});
        if (n <= 0) {
            break;
        }
        got += static_cast<std::size_t>(n);
    }
    all.resize(got);
    return all;
}

} // namespace test
