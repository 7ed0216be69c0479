// One unconnected UDP socket on four CPUs, whole stacks in virtual time: it receives on every CPU, each flow in its
// order, no lane waits for another, nothing is lost, and no packet crosses CPUs on its way in.
#include <set>
#include <vector>

#include "protocols/stack_counters.hpp"
#include "tests/embed/pair.hpp"

using namespace test;

namespace {

constexpr std::size_t cpus = 4;

std::uint64_t on_cpu(embed::Stack& s, std::size_t cpu, std::atomic<std::uint64_t> protocols::StackCounters::*field)
{
    return (s.protocols().domain(static_cast<base::CpuId>(cpu)).counters.*field).load();
}
std::uint64_t everywhere(embed::Stack& s, std::atomic<std::uint64_t> protocols::StackCounters::*field)
{
    std::uint64_t sum = 0;
    for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
        sum += on_cpu(s, cpu, field);
    }
    return sum;
}
std::uint64_t messages(embed::Stack& s)
{
    std::uint64_t sum = 0;
    for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
        const lwkt::CpuCounters& c = s.cpus().cpu(static_cast<base::CpuId>(cpu)).counters();
        sum += c.messages_out + c.passive_out;
    }
    return sum;
}

struct Flows {
    Flows(Pair& p, std::uint16_t count)
    {
        for (std::uint16_t i = 0; i < count; ++i) {
            sockets.push_back(open(p.a, SOCK_DGRAM));
            base::Endpoint own = test::endpoint("10.0.0.1:1");
            own.port = static_cast<std::uint16_t>(first_port + i);
            REQUIRE(sockets.back().bind(own) == 0);
        }
    }
    void send(std::size_t flow, std::uint32_t number)
    {
        std::string text(reinterpret_cast<const char*>(&number), sizeof number);
        REQUIRE(sockets[flow].send_to(text, b_echo) == sizeof number);
    }
    static constexpr std::uint16_t first_port = 6000;
    std::vector<embed::Socket> sockets;
};

struct Got {
    std::size_t flow = 0;
    std::uint32_t number = 0;
};
bool receive(embed::Socket& s, Got& got)
{
    base::Endpoint from;
    char bytes[16];
    ssize_t n = s.recv_from(bytes, from, MSG_DONTWAIT);
    if (n == -EAGAIN) {
        return false;
    }
    REQUIRE(n == sizeof got.number);
    std::memcpy(&got.number, bytes, sizeof got.number);
    got.flow = from.port - Flows::first_port;
    return true;
}

} // namespace

TEST_CASE("UDP: one socket receives on all CPUs, in order within flows, without loss or forwarding")
{
    embed::Simulation world{11};
    Pair p(cpus, &world, 11);
    embed::Socket server = open(p.b, SOCK_DGRAM);
    REQUIRE(server.bind(b_echo) == 0);
    constexpr std::uint16_t flows = 64;
    constexpr std::uint32_t each = 200;
    Flows from(p, flows);
    meet(p, world);
    std::uint64_t messages_before = messages(p.b);
    std::uint64_t forwarded_before = everywhere(p.b, &protocols::StackCounters::steer_forwarded);
    std::vector<std::uint32_t> next(flows, 0);
    std::size_t total = 0;
    for (std::uint32_t n = 0; n < each; ++n) {
        for (std::size_t f = 0; f < flows; ++f) {
            from.send(f, n);
        }
        world.run_for(base::millis(1));
        Got got;
        while (receive(server, got)) {
            REQUIRE(got.number == next[got.flow]++);
            ++total;
        }
    }
    CHECK(total == flows * each);
    CHECK(messages(p.b) == messages_before);
    CHECK(everywhere(p.b, &protocols::StackCounters::steer_forwarded) == forwarded_before);
    CHECK(everywhere(p.b, &protocols::StackCounters::udp_in_ring_full) == 0);
    for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
        CHECK(on_cpu(p.b, cpu, &protocols::StackCounters::udp_in) > flows * each / cpus / 4);
    }
}

TEST_CASE("UDP: a flood on one lane does not hold up what waits in another")
{
    embed::Simulation world{12};
    Pair p(cpus, &world, 12);
    embed::Socket server = open(p.b, SOCK_DGRAM);
    REQUIRE(server.bind(b_echo) == 0);
    Flows from(p, 32);
    meet(p, world);
    for (std::uint32_t n = 0; n < 500; ++n) {
        from.send(0, n);
    }
    world.run_for(base::millis(10));
    for (std::size_t f = 1; f < 32; ++f) {
        from.send(f, 0);
    }
    world.run_for(base::millis(10));
    // 31 flows over the lanes; those that share the flooded lane wait their turn in it, all others come within the
    // first rounds.
    std::set<std::size_t> early;
    Got got;
    for (int i = 0; i < 4 * 31; ++i) {
        REQUIRE(receive(server, got));
        early.insert(got.flow);
    }
    CHECK(early.size() > 31 / 2);
    std::size_t left = 0;
    while (receive(server, got)) {
        ++left;
    }
    CHECK(left + 4 * 31 == 500 + 31);
}

TEST_CASE("UDP: SO_RCVBUF set after bind is each lane's, and a full lane drops only its own flows")
{
    embed::Simulation world{13};
    Pair p(cpus, &world, 13);
    embed::Socket server = open(p.b, SOCK_DGRAM);
    REQUIRE(server.bind(b_echo) == 0);
    REQUIRE(server.set_option(SOL_SOCKET, SO_RCVBUF, 2048) == 0); // 4096, as Linux doubles: 64 small datagrams
    Flows from(p, 32);
    meet(p, world);
    for (std::uint32_t n = 0; n < 200; ++n) {
        from.send(0, n);
    }
    world.run_for(base::millis(10));
    std::uint64_t dropped = everywhere(p.b, &protocols::StackCounters::udp_in_ring_full);
    CHECK(dropped == 200 - 64);
    for (std::size_t f = 1; f < 32; ++f) {
        from.send(f, 0);
    }
    world.run_for(base::millis(10));
    std::size_t others = 0;
    Got got;
    while (receive(server, got)) {
        others += got.flow != 0 ? 1 : 0;
    }
    CHECK(others > 31 / 2);
    CHECK(others < 31);
}
