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
    CHECK(local.addr == test::address("10.0.0.1"));
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
        REQUIRE(clients.back().connect(b_echo) == -EINPROGRESS);
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

TEST_CASE("TCP: on a link of the least MTU that is admitted text and options fit, and all of it arrives")
{
    if (test::over_v6()) {
        return; // 1280
    }
    embed::Simulation world{6};
    drivers::SimLinkOptions wire;
    wire.mtu = 88;
    wire.split = true;
    wire.a.send = {.loss = 0.02, .reorder = 0.02, .delay = base::millis(2)}; // with SACK in what comes back
    wire.b.send = wire.a.send;
    Pair p(1, &world, 6, wire);
    embed::Socket listener = listen(p.b, b_echo);
    embed::Socket c = open(p.a, SOCK_STREAM);
    REQUIRE(c.connect(b_echo) == 0);
    embed::Socket s;
    REQUIRE(listener.accept(s) == 0);
    std::string text(20'000, 'x');
    for (std::size_t i = 0; i < text.size(); ++i) {
        text[i] = static_cast<char>('a' + i % 23);
    }
    REQUIRE(c.send(text) == static_cast<ssize_t>(text.size()));
    CHECK(read_exactly(s, text.size()) == text);
    REQUIRE(s.send(text) == static_cast<ssize_t>(text.size()));
    CHECK(read_exactly(c, text.size()) == text);
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
    CHECK(from.addr == test::address("10.0.0.1"));
    CHECK(s.recv_from(buffer, from) == 0);
    REQUIRE(s.send_to("back", from) == 4);
    CHECK(c.recv_from(buffer, from) == 4);
    CHECK(from == b_echo);

    embed::Socket d = open(p.a, SOCK_DGRAM);
    REQUIRE(d.connect(test::endpoint("10.0.0.2:9")) == 0);
    REQUIRE(d.send("x") == 1);
    CHECK(d.recv(buffer) == -ECONNREFUSED);
}

TEST_CASE("what a program wrote to many sockets at once is taken a budget at a time, all of it")
{
    if (lwkt::uses_locks(discipline())) {
        return; // there are no marks: each call sends for itself
    }
    constexpr std::size_t count = 300; // several words of marks
    embed::Simulation world{8};
    embed::Stack stack(stack_config(1, &world, 8, "s"));
    std::string error;
    REQUIRE(stack.start(error));
    std::vector<embed::Socket> sockets;
    for (std::size_t i = 0; i < count; ++i) {
        sockets.push_back(open(stack, SOCK_DGRAM | SOCK_NONBLOCK));
        REQUIRE(sockets.back().connect(test::endpoint("127.0.0.1:9")) == 0);
    }
    world.run_for(base::millis(10));
    auto sent = [&] { return stack.protocols().domain(0).counters.udp_out.load(); };
    std::uint64_t before = sent();
    for (embed::Socket& s : sockets) {
        REQUIRE(s.send("x") == 1); // a mark each: the world stands still
    }
    REQUIRE(sent() == before);
    std::uint64_t most = 0;
    while (sent() < before + count) {
        std::uint64_t at = sent();
        REQUIRE(world.step());
        most = std::max(most, sent() - at);
    }
    CHECK(most <= lwkt::CpuSetOptions{}.class_items);
    CHECK(most >= lwkt::CpuSetOptions{}.class_items / 2);
}

namespace {

// A device whose writes take time, on the virtual clock.
class SlowNetif final : public netmsg::Netif {
public:
    SlowNetif(std::unique_ptr<netmsg::Netif> inner, embed::Simulation& world)
        : Netif(inner->info()), inner_(std::move(inner)), world_(world)
    {
    }
    bool attach(
        lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error) override
    {
        input_ = input;
        context_ = context;
        counters_ = std::make_unique<netmsg::NetifCounters[]>(set.size());
        auto pass_on = [](void* self, netmsg::Packet& p) {
            auto& me = *static_cast<SlowNetif*>(self);
            p.netif = &me;
            me.input_(me.context_, p);
        };
        return inner_->attach(set, pool, pass_on, this, error);
    }
    void detach() override { inner_->detach(); }
    void transmit(netmsg::Packet& p) override
    {
        ++written;
        world_.clock().advance_to(world_.now() + cost);
        inner_->transmit(p);
    }
    std::string describe() const override { return "slow"; }

    base::Micros cost{0};
    std::size_t written = 0;

private:
    std::unique_ptr<netmsg::Netif> inner_;
    embed::Simulation& world_;
    netmsg::InputFn input_ = nullptr;
    void* context_ = nullptr;
};

} // namespace

TEST_CASE("many connections that have something to send do not hold up a round: the rest goes in the next")
{
    constexpr std::size_t count = 60;
    embed::Simulation world{9};
    drivers::SimLinkOptions wire;
    embed::Stack a(stack_config(1, &world, 18, "a"));
    embed::Stack b(stack_config(1, &world, 19, "b"));
    wire.a.steering = &a.protocols().steering();
    wire.b.steering = &b.protocols().steering();
    drivers::SimLink link = drivers::make_sim_link(wire);
    auto netif = std::make_unique<SlowNetif>(std::move(link.a), world);
    SlowNetif& slow = *netif;
    std::string error;
    REQUIRE(a.add_interface(std::move(netif), {test::in_family("10.0.0.1/24")}, error));
    REQUIRE(b.add_interface(std::move(link.b), {test::in_family("10.0.0.2/24")}, error));
    REQUIRE((a.start(error) && b.start(error)));
    embed::Socket listener = listen(b, b_echo);
    std::vector<embed::Socket> clients;
    std::vector<embed::Socket> servers(count);
    for (embed::Socket& s : servers) {
        clients.push_back(open(a, SOCK_STREAM));
        REQUIRE(clients.back().connect(b_echo) == 0);
        REQUIRE(listener.accept(s) == 0);
    }
    world.run_for(base::millis(100));
    slow.cost = base::Micros{100};
    slow.written = 0;
    for (embed::Socket& c : clients) {
        REQUIRE(c.send("text") == 4); // a mark each
    }
    std::size_t most = 0;
    while (slow.written < count) {
        std::size_t before = slow.written;
        REQUIRE(world.step());
        most = std::max(most, slow.written - before);
    }
    CHECK(most <= 32); // 16 between two looks at the clock, and once more after the low classes
    for (embed::Socket& s : servers) {
        CHECK(read_exactly(s, 4) == "text");
    }
}

TEST_CASE("a call that nothing can ever end says so, one with a timeout times out")
{
    embed::Simulation world{7};
    Pair p(1, &world);
    embed::Socket c = open(p.a, SOCK_DGRAM);
    REQUIRE(c.bind(test::endpoint("10.0.0.1:5000")) == 0);
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

TEST_CASE("one thread waits in as many stacks as there are")
{
    constexpr std::size_t count = 12;
    embed::Simulation world{8};
    std::vector<std::unique_ptr<embed::Stack>> stacks;
    std::vector<embed::Socket> sockets;
    for (std::size_t i = 0; i < count; ++i) {
        std::string error;
        stacks.push_back(std::make_unique<embed::Stack>(stack_config(1, &world, i + 1, "one")));
        REQUIRE(stacks.back()->start(error));
        sockets.push_back(open(*stacks.back(), SOCK_DGRAM));
        REQUIRE(sockets.back().bind(test::endpoint("127.0.0.1:5000")) == 0);
    }
    char buffer[8];
    for (int round = 0; round < 3; ++round) {
        for (embed::Socket& s : sockets) {
            REQUIRE(s.recv(buffer) == -EDEADLK);
        }
    }
    sockets.clear();
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
    REQUIRE(stack.add_interface(std::make_unique<drivers::Loopback>(wire), {test::in_family("127.0.0.1/8")}, error));
    REQUIRE(stack.start(error));
    const base::Endpoint at = test::endpoint("127.0.0.1:7");
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
        const auto& counters = stack.protocols().domain(static_cast<base::CpuId>(i)).counters;
        checksums += counters.ip_out_checksum + counters.gso_segments; // the latter where they are cut
    }
    CHECK(checksums > 100'000 / 1500);
}

TEST_CASE("an embedded stack asks for its IPv4 address where it is told to, and only on a link")
{
    embed::Simulation world{3};
    embed::Stack stack(stack_config(2, &world, 31, "a"));
    drivers::SimLinkOptions options;
    options.a.steering = &stack.protocols().steering();
    drivers::SimLink link = drivers::make_sim_link(options);
    std::string error;
    REQUIRE(!stack.add_interface(std::make_unique<drivers::Loopback>(), {"127.0.0.1/8"}, error, false, true));
    REQUIRE(stack.add_interface(std::move(link.a), {}, error, false, true));
    REQUIRE(stack.start(error));
    world.run_for(base::seconds(10));
    std::uint64_t asked = 0;
    for (base::CpuId cpu = 0; cpu < stack.protocols().cpus(); ++cpu) {
        asked += stack.protocols().domain(cpu).counters.dhcp_out.load();
    }
    CHECK(asked >= 2);
}
