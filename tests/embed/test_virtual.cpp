// Socket calls over two stacks in virtual time: one thread, blocking calls step the world.
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include <sstream>
#include <vector>

#include "drivers/loopback.hpp"
#include "protocols/stack_counters.hpp"
#include "tests/embed/pair.hpp"

using namespace test;

TEST_CASE("TCP: connect, echo and close take the round trips they should")
{
    embed::Simulation world{1};
    drivers::SimLinkOptions wire;
    wire.a.send.delay = wire.b.send.delay = base::millis(10);
    Pair p(1, &world, 1, wire);
    embed::Socket listener = listen(p.b, b_echo);
    embed::Socket c = open(p.a, SOCK_STREAM);
    base::Instant start = world.now();
    REQUIRE(c.connect(b_echo) == 0);
    base::Micros took = world.now() - start;
    CHECK(took >= base::millis(40)); // ARP and handshake: two round trips
    CHECK(took < base::millis(50));
    embed::Socket s;
    base::Endpoint peer;
    base::Endpoint local;
    REQUIRE(listener.accept(s, &peer) == 0);
    REQUIRE(c.local(local) == 0);
    CHECK(peer == local);
    CHECK(base::to_string(local.addr) == "10.0.0.1");
    REQUIRE(c.send("ping") == 4);
    CHECK(read_exactly(s, 4) == "ping");
    REQUIRE(s.send("pong!") == 5);
    CHECK(read_exactly(c, 5) == "pong!");
    c.close();
    char byte;
    CHECK(s.recv({&byte, 1}) == 0);
}

TEST_CASE("TCP: each direction closes by itself")
{
    embed::Simulation world{2};
    Pair p(2, &world);
    embed::Socket listener = listen(p.b, b_echo);
    embed::Socket c = open(p.a, SOCK_STREAM);
    embed::Socket s;
    REQUIRE(c.connect(b_echo) == 0);
    REQUIRE(listener.accept(s) == 0);
    REQUIRE(c.send("question") == 8);
    REQUIRE(c.shutdown(SHUT_WR) == 0);
    CHECK(c.send("more", MSG_NOSIGNAL) == -EPIPE);
    CHECK(read_exactly(s, 100) == "question"); // and the end
    REQUIRE(s.send("answer") == 6);
    CHECK(read_exactly(c, 6) == "answer");
    s.close();
    char byte;
    CHECK(c.recv({&byte, 1}) == 0);
}

TEST_CASE("TCP: a port without listener refuses, an address without route is unreachable")
{
    embed::Simulation world{3};
    Pair p(2, &world);
    embed::Socket c = open(p.a, SOCK_STREAM);
    CHECK(c.connect(b_echo) == -ECONNREFUSED);
    embed::Socket d = open(p.a, SOCK_STREAM);
    CHECK(d.connect(*embed::parse_endpoint("192.0.2.1:80")) == -ENETUNREACH);
    embed::Socket one = listen(p.b, b_echo);
    embed::Socket two = open(p.b, SOCK_STREAM);
    CHECK(two.bind(b_echo) == -EADDRINUSE);
}

TEST_CASE("TCP: many connections at once, on two CPUs")
{
    constexpr std::size_t count = 300;
    embed::Simulation world{4};
    Pair p(2, &world);
    embed::Socket listener = listen(p.b, b_echo, 512);
    std::vector<embed::Socket> clients;
    std::vector<embed::Socket> servers(count);
    for (std::size_t i = 0; i < count; ++i) {
        clients.push_back(open(p.a, SOCK_STREAM | SOCK_NONBLOCK));
        int rc = clients.back().connect(b_echo);
        REQUIRE((rc == -EINPROGRESS || rc == 0)); // under locks the call may run the whole handshake
    }
    for (embed::Socket& s : servers) {
        REQUIRE(listener.accept(s) == 0);
    }
    for (std::size_t i = 0; i < count; ++i) {
        REQUIRE((clients[i].readiness(EPOLLOUT) & EPOLLOUT) != 0);
        std::string text = "number " + std::to_string(i);
        REQUIRE(clients[i].send(text) == static_cast<ssize_t>(text.size()));
    }
    for (embed::Socket& s : servers) { // in whatever order they were accepted
        char buffer[64];
        ssize_t n = s.recv(buffer);
        REQUIRE(n > 7);
        REQUIRE(s.send({buffer, static_cast<std::size_t>(n)}) == n);
    }
    for (std::size_t i = 0; i < count; ++i) {
        clients[i].set_nonblocking(false);
        std::string text = "number " + std::to_string(i);
        REQUIRE(read_exactly(clients[i], text.size()) == text);
    }
    clients.clear();
    servers.clear();
    listener.close();
    world.run_for(base::seconds(150)); // TIME-WAIT included
    CHECK(p.a.sockets().empty());
    CHECK(p.b.sockets().empty());
}

TEST_CASE("TCP: a large transfer over a lossy, reordering wire arrives whole")
{
    embed::Simulation world{5};
    drivers::SimLinkOptions wire;
    wire.split = true;
    wire.seed = 5;
    wire.a.send = {.loss = 0.02, .duplicate = 0.02, .reorder = 0.02, .delay = base::millis(2)};
    wire.b.send = wire.a.send;
    Pair p(2, &world, 5, wire);
    embed::Socket listener = listen(p.b, b_echo);
    embed::Socket c = open(p.a, SOCK_STREAM);
    REQUIRE(c.connect(b_echo) == 0);
    embed::Socket s;
    REQUIRE(listener.accept(s) == 0);
    c.set_nonblocking(true);
    constexpr std::size_t total = 1 << 20;
    std::size_t sent = 0;
    std::size_t received = 0;
    bool right = true;
    std::vector<char> piece(8192);
    auto byte_at = [](std::size_t offset) { return static_cast<char>(offset * 31 + (offset >> 12)); };
    while (received < total) {
        for (std::size_t i = 0; i < piece.size(); ++i) {
            piece[i] = byte_at(sent + i);
        }
        if (sent < total) {
            ssize_t n = c.send({piece.data(), std::min(piece.size(), total - sent)});
            sent += n > 0 ? static_cast<std::size_t>(n) : 0;
            REQUIRE((n > 0 || n == -EAGAIN));
        }
        ssize_t n = s.recv(piece, sent < total ? MSG_DONTWAIT : 0);
        if (n == -EAGAIN) {
            REQUIRE(world.step());
            continue;
        }
        REQUIRE(n > 0);
        for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
            right &= piece[i] == byte_at(received + i);
        }
        received += static_cast<std::size_t>(n);
    }
    CHECK(right);
    CHECK(p.link.counters(0).lost > 0);
}

TEST_CASE("UDP: datagrams both ways, and an answer from a closed port")
{
    embed::Simulation world{6};
    Pair p(2, &world);
    embed::Socket s = open(p.b, SOCK_DGRAM);
    REQUIRE(s.bind(b_echo) == 0);
    embed::Socket c = open(p.a, SOCK_DGRAM);
    REQUIRE(c.send_to("one", b_echo) == 3);
    REQUIRE(c.send_to("", b_echo) == 0);
    char buffer[64];
    base::Endpoint from;
    REQUIRE(s.recv_from(buffer, from) == 3);
    CHECK(std::string(buffer, 3) == "one");
    CHECK(base::to_string(from.addr) == "10.0.0.1");
    CHECK(s.recv_from(buffer, from) == 0);
    REQUIRE(s.send_to("back", from) == 4);
    CHECK(c.recv_from(buffer, from) == 4);
    CHECK(from == b_echo);

    embed::Socket d = open(p.a, SOCK_DGRAM);
    REQUIRE(d.connect(*embed::parse_endpoint("10.0.0.2:9")) == 0);
    REQUIRE(d.send("x") == 1);
    CHECK(d.recv(buffer) == -ECONNREFUSED);
}

TEST_CASE("a call that nothing can ever end says so, one with a timeout times out")
{
    embed::Simulation world{7};
    Pair p(1, &world);
    embed::Socket c = open(p.a, SOCK_DGRAM);
    REQUIRE(c.bind(*embed::parse_endpoint("10.0.0.1:5000")) == 0);
    world.run_for(base::seconds(10));
    char buffer[8];
    CHECK(c.recv(buffer) == -EDEADLK);
    timeval timeout{3, 0};
    REQUIRE(client::sock_setsockopt(c.session(), c.id(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0);
    base::Instant start = world.now();
    CHECK(c.recv(buffer) == -EAGAIN);
    CHECK(world.now() - start >= base::seconds(3));
    CHECK(world.now() - start < base::seconds(4));
}

namespace {

void append_counters(std::ostringstream& trace, embed::Stack& stack)
{
    for (std::size_t i = 0; i < stack.cpus().size(); ++i) {
        auto id = static_cast<base::CpuId>(i);
        const lwkt::CpuCounters& c = stack.cpus().cpu(id).counters();
        trace << c.rounds << ' ' << c.messages_in << ' ' << c.messages_out << ' ' << c.passive_out << '\n';
        for (const auto& name : protocols::stack_counter_names()) {
            trace << name.name << ' ' << stack.protocols().domain(id).counters.*name.field << '\n';
        }
        for (const auto& interface : stack.protocols().interfaces()) {
            const netmsg::NetifCounters& n = interface->netif->counters(id);
            trace << n.in_packets << ' ' << n.in_bytes << ' ' << n.out_packets << ' ' << n.out_bytes << '\n';
        }
    }
}

// Everything a run shows: when each piece arrived, and all counters at the end.
std::string run_of(std::uint64_t seed)
{
    std::ostringstream trace;
    embed::Simulation world{seed};
    drivers::SimLinkOptions wire;
    wire.split = true;
    wire.seed = seed;
    wire.a.send = {.loss = 0.03, .reorder = 0.05, .delay = base::millis(3)};
    wire.b.send = wire.a.send;
    Pair p(3, &world, seed, wire);
    embed::Socket listener = listen(p.b, b_echo);
    for (int round = 0; round < 5; ++round) {
        embed::Socket c = open(p.a, SOCK_STREAM);
        REQUIRE(c.connect(b_echo) == 0);
        embed::Socket s;
        REQUIRE(listener.accept(s) == 0);
        REQUIRE(c.send(std::string(40000, 'x')) == 40000);
        REQUIRE(c.shutdown(SHUT_WR) == 0);
        std::vector<char> buffer(3000);
        while (ssize_t n = s.recv(buffer)) {
            REQUIRE(n > 0);
            trace << world.now().time_since_epoch().count() << ' ' << n << '\n';
        }
    }
    append_counters(trace, p.a);
    append_counters(trace, p.b);
    return trace.str();
}

} // namespace

TEST_CASE("the same seed gives the same run, another seed another")
{
    std::string first = run_of(77);
    CHECK(first == run_of(77));
    CHECK(first != run_of(78));
}

TEST_CASE("loopback as a plain wire: segments of the MTU, checksums computed and verified")
{
    embed::Simulation world{31};
    embed::Stack stack(stack_config(1, &world, 31, "plain"));
    drivers::LoopbackOptions wire;
    wire.mtu = 1500;
    wire.checksums = true;
    wire.super_segments = false;
    std::string error;
    REQUIRE(stack.add_interface(std::make_unique<drivers::Loopback>(wire), {"127.0.0.1/8"}, error));
    REQUIRE(stack.start(error));
    const base::Endpoint at = *embed::parse_endpoint("127.0.0.1:7");
    embed::Socket listener = listen(stack, at);
    embed::Socket c = open(stack, SOCK_STREAM);
    REQUIRE(c.connect(at) == 0);
    embed::Socket s;
    REQUIRE(listener.accept(s) == 0);
    std::string text(100'000, 'x');
    REQUIRE(c.send(text) == 100'000);
    CHECK(read_exactly(s, text.size()) == text);
    std::uint64_t checksums = 0;
    for (std::size_t i = 0; i < stack.cpus().size(); ++i) {
        checksums += stack.protocols().domain(static_cast<base::CpuId>(i)).counters.ip_out_checksum;
    }
    CHECK(checksums > 100'000 / 1500);
}
