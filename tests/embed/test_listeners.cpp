// Listeners on four CPUs, whole stacks in virtual time: one backlog over all lanes, half-open connections bounded by
// it, and groups of SO_REUSEPORT whose flows stay with their socket.
#include <sys/epoll.h>

#include <map>
#include <vector>

#include "protocols/tcp/tcp_domain.hpp"
#include "tests/embed/pair.hpp"

using namespace test;

namespace {

constexpr std::size_t cpus = 4;

std::uint64_t counted(embed::Stack& s, std::atomic<std::uint64_t> protocols::TcpCounters::*field)
{
    std::uint64_t sum = 0;
    for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
        sum += (s.protocols().domain(static_cast<base::CpuId>(cpu)).tcp->counters.*field).load();
    }
    return sum;
}
std::uint64_t waiting(embed::Stack& s)
{
    std::uint64_t sum = 0;
    for (const auto& r : s.sockets()) {
        sum += r.state == "LISTEN" ? r.recv_queue : 0;
    }
    return sum;
}
std::vector<embed::Socket> connect_many(embed::Stack& stack, std::size_t count)
{
    std::vector<embed::Socket> all;
    for (std::size_t i = 0; i < count; ++i) {
        all.push_back(open(stack, SOCK_STREAM | SOCK_NONBLOCK));
        REQUIRE(all.back().connect(b_echo) == -EINPROGRESS);
    }
    return all;
}
embed::Socket listen_shared(embed::Stack& stack)
{
    embed::Socket s = open(stack, SOCK_STREAM | SOCK_NONBLOCK);
    REQUIRE(s.set_option(SOL_SOCKET, SO_REUSEPORT, 1) == 0);
    REQUIRE(s.bind(b_echo) == 0);
    REQUIRE(s.listen(512) == 0);
    return s;
}

} // namespace

TEST_CASE("the backlog bounds what waits on all CPUs together, and is there again after accept")
{
    embed::Simulation world{21};
    Pair p(cpus, &world, 21);
    embed::Socket listener = listen(p.b, b_echo, 8);
    meet(p, world);
    std::vector<embed::Socket> clients = connect_many(p.a, 100);
    world.run_for(base::seconds(1));
    CHECK(waiting(p.b) == 9); // one more than asked for, as Linux
    std::vector<embed::Socket> accepted(5);
    for (embed::Socket& s : accepted) {
        REQUIRE(listener.accept(s) == 0);
    }
    CHECK(waiting(p.b) == 4);
    world.run_for(base::seconds(40)); // SYN-ACKs are sent again, and answered
    CHECK(waiting(p.b) == 9);
}

TEST_CASE("half-open connections are bounded by the backlog; SYNs above it are answered by cookies and get through")
{
    embed::Simulation world{22};
    drivers::SimLinkOptions wire;
    wire.a.send.delay = wire.b.send.delay = base::millis(10);
    Pair p(cpus, &world, 22, wire);
    embed::Socket listener = listen(p.b, b_echo, 40);
    meet(p, world);
    std::vector<embed::Socket> clients = connect_many(p.a, 80); // all SYNs are there before the first ACK
    world.run_for(base::millis(100));
    CHECK(counted(p.b, &protocols::TcpCounters::half_open_full) >= 80 - 40);
    CHECK(counted(p.b, &protocols::TcpCounters::cookies_valid) > 0);
    CHECK(waiting(p.b) == 41);
}

TEST_CASE("a listener that was shut down is as new: it connects, and listens again when that failed")
{
    embed::Simulation world{26};
    Pair p(cpus, &world, 26);
    const base::Endpoint here = test::endpoint("10.0.0.1:5000");
    embed::Socket far = listen(p.b, b_echo);
    embed::Socket s = listen(p.a, here);
    CHECK(s.shutdown(SHUT_WR) == 0);
    CHECK(s.connect(b_echo) == -EISCONN);
    REQUIRE(s.shutdown(SHUT_RDWR) == 0);
    embed::Socket child;
    CHECK(s.readiness(EPOLLIN | EPOLLOUT) == (EPOLLOUT | EPOLLHUP));
    CHECK(s.accept(child) == -EINVAL);
    CHECK(s.connect(test::endpoint("10.0.0.2:9")) == -ECONNREFUSED);
    REQUIRE(s.listen(8) == 0);
    CHECK(s.readiness(EPOLLIN) == 0);
    embed::Socket c = open(p.b, SOCK_STREAM);
    REQUIRE(c.connect(here) == 0);
    REQUIRE(s.accept(child) == 0);
    REQUIRE(c.send("text") == 4);
    CHECK(read_exactly(child, 4) == "text");
    REQUIRE(s.shutdown(SHUT_RD) == 0);
    REQUIRE(s.connect(b_echo) == 0);
    embed::Socket t;
    REQUIRE(far.accept(t) == 0);
    REQUIRE(t.send("more") == 4);
    CHECK(read_exactly(s, 4) == "more");
    CHECK(s.listen(8) == -EINVAL);
    REQUIRE(s.send("text") == 4);
    CHECK(read_exactly(t, 4) == "text");
}

TEST_CASE("SO_REUSEPORT: connections spread over the group; when one leaves the others take all")
{
    embed::Simulation world{23};
    Pair p(cpus, &world, 23);
    std::vector<embed::Socket> group;
    for (int i = 0; i < 3; ++i) {
        group.push_back(listen_shared(p.b));
    }
    embed::Socket stranger = open(p.b, SOCK_STREAM);
    CHECK(stranger.bind(b_echo) == -EADDRINUSE);
    auto accept_all = [&](embed::Socket& l) {
        std::size_t n = 0;
        embed::Socket s;
        while (l.accept(s) == 0) {
            s.close();
            ++n;
        }
        return n;
    };
    meet(p, world);
    std::vector<embed::Socket> clients = connect_many(p.a, 120);
    world.run_for(base::millis(100));
    std::size_t total = 0;
    for (embed::Socket& l : group) {
        std::size_t n = accept_all(l);
        CHECK(n > 120 / 6);
        total += n;
    }
    CHECK(total == 120);
    group[1].close();
    world.run_for(base::millis(100));
    clients = connect_many(p.a, 60);
    world.run_for(base::millis(100));
    CHECK(accept_all(group[0]) + accept_all(group[2]) == 60);
}

TEST_CASE("SO_REUSEPORT: a datagram flow keeps its socket while others come and go")
{
    embed::Simulation world{24};
    Pair p(cpus, &world, 24);
    auto member = [&] {
        embed::Socket s = open(p.b, SOCK_DGRAM | SOCK_NONBLOCK);
        REQUIRE(s.set_option(SOL_SOCKET, SO_REUSEPORT, 1) == 0);
        REQUIRE(s.bind(b_echo) == 0);
        return s;
    };
    std::vector<embed::Socket> group;
    for (int i = 0; i < 4; ++i) {
        group.push_back(member());
    }
    std::vector<embed::Socket> from;
    for (std::uint16_t i = 0; i < 100; ++i) {
        from.push_back(open(p.a, SOCK_DGRAM));
        base::Endpoint own = test::endpoint("10.0.0.1:1");
        own.port = static_cast<std::uint16_t>(7000 + i);
        REQUIRE(from.back().bind(own) == 0);
    }
    meet(p, world);
    // Which socket of the group each flow reaches, by its source port.
    auto look = [&] {
        for (embed::Socket& s : from) {
            REQUIRE(s.send_to("x", b_echo) == 1);
        }
        world.run_for(base::millis(10));
        std::map<std::uint16_t, std::size_t> taker;
        for (std::size_t i = 0; i < group.size(); ++i) {
            char byte;
            base::Endpoint peer;
            while (group[i].is_open() && group[i].recv_from({&byte, 1}, peer) == 1) {
                taker[peer.port] = i;
            }
        }
        REQUIRE(taker.size() == from.size());
        return taker;
    };
    auto first = look();
    CHECK(first == look());
    group[2].close();
    world.run_for(base::millis(10));
    auto without = look();
    group.push_back(member());
    auto again = look();
    std::size_t moved = 0;
    for (const auto& [port, i] : first) {
        bool stays = without[port] == i || i == 2; // only the leaver's flows move
        CHECK(stays);
        bool kept = again[port] == without[port] || again[port] == 4; // and the newcomer's
        CHECK(kept);
        moved += again[port] == 4 ? 1 : 0;
    }
    CHECK(moved > 0);
    CHECK(moved < 60);
}

TEST_CASE("a SYN that finds the accept queue full is dropped, as on Linux: who connects waits until one is accepted")
{
    embed::Simulation world{27};
    Pair p(cpus, &world, 27);
    embed::Socket listener = listen(p.b, b_echo, 2);
    meet(p, world);
    std::vector<embed::Socket> clients;
    for (int i = 0; i < 6; ++i) {
        clients.push_back(std::move(connect_many(p.a, 1)[0]));
        world.run_for(base::millis(10));
    }
    auto connected = [&] {
        return std::count_if(
            clients.begin(), clients.end(), [](auto& c) { return (c.readiness(EPOLLOUT) & EPOLLOUT) != 0; });
    };
    CHECK(connected() == 3); // one more than asked for, as Linux
    CHECK(waiting(p.b) == 3);
    embed::Socket s;
    REQUIRE(listener.accept(s) == 0);
    REQUIRE(listener.accept(s) == 0);
    world.run_for(base::seconds(8)); // the others ask again
    CHECK(connected() == 5);
    CHECK(waiting(p.b) == 3);
}
