// Idle connections fall asleep and wake up, and nobody can tell but by the memory: whole stacks in virtual time.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include <deque>
#include <vector>

#include "protocols/ipv4.hpp"
#include "protocols/tcp/tcp_domain.hpp"
#include "tests/embed/pair.hpp"

using namespace test;

namespace {

std::uint64_t sum(embed::Stack& stack, std::atomic<std::uint64_t> protocols::TcpCounters::*counter)
{
    std::uint64_t n = 0;
    for (std::size_t i = 0; i < stack.cpus().size(); ++i) {
        n += (stack.protocols().domain(static_cast<base::CpuId>(i)).tcp->counters.*counter).load();
    }
    return n;
}
std::uint64_t slept(embed::Stack& stack)
{
    return sum(stack, &protocols::TcpCounters::slept);
}
std::uint64_t woken(embed::Stack& stack)
{
    return sum(stack, &protocols::TcpCounters::woken);
}
std::size_t tcbs(embed::Stack& stack)
{
    std::size_t n = 0;
    for (std::size_t i = 0; i < stack.cpus().size(); ++i) {
        n += stack.protocols().domain(static_cast<base::CpuId>(i)).tcp->tcbs.in_use();
    }
    return n;
}
bool has_rings(embed::Socket& s)
{
    const auto& info = s.session().view.slot(s.id().slot).info;
    return info.snd_ring.load() != sockbuf::no_page || info.rcv_ring.load() != sockbuf::no_page;
}

gateway::GatewayOptions idle_after(base::Micros time)
{
    gateway::GatewayOptions o = small_gateway();
    o.idle_after = time;
    return o;
}

struct Connected {
    embed::Socket listener, c, s;
};
void connect(Pair& p, Connected& x)
{
    x.listener = listen(p.b, b_echo);
    x.c = open(p.a, SOCK_STREAM);
    REQUIRE(x.c.connect(b_echo) == 0);
    REQUIRE(x.listener.accept(x.s) == 0);
}

} // namespace

TEST_CASE("idle: a connection sleeps, and either side wakes it")
{
    auto cpus = GENERATE(1U, 2U);
    embed::Simulation world{1};
    Pair p(cpus, &world);
    Connected x;
    connect(p, x);
    for (unsigned round = 0; round < 6; ++round) {
        INFO("round " << round);
        embed::Socket& from = round % 2 == 0 ? x.c : x.s;
        embed::Socket& to = round % 2 == 0 ? x.s : x.c;
        REQUIRE(from.send("a question") == 10);
        CHECK(has_rings(from));
        REQUIRE(read_exactly(to, 10) == "a question");
        REQUIRE(to.send("its answer") == 10);
        REQUIRE(read_exactly(from, 10) == "its answer");
        world.run_for(base::seconds(10));
        CHECK(slept(p.a) == round + 1);
        CHECK(slept(p.b) == round + 1);
        CHECK(tcbs(p.a) + tcbs(p.b) == 0);
        CHECK_FALSE(has_rings(x.c));
        CHECK_FALSE(has_rings(x.s));
        REQUIRE(p.a.sockets().size() == 1);
        CHECK(p.a.sockets()[0].state == "ESTABLISHED");
    }
    CHECK(woken(p.a) == 5);
    x.c.close();
    char byte;
    CHECK(x.s.recv({&byte, 1}) == 0);
    x.s.close();
    x.listener.close();
    world.run_for(base::seconds(70));
    CHECK(p.a.sockets().empty());
    CHECK(p.b.sockets().empty());
}

TEST_CASE("idle: a connection that wakes to a narrower way makes smaller segments")
{
    embed::Simulation world{9};
    Pair p(1, &world);
    Connected x;
    connect(p, x);
    world.run_for(base::seconds(10));
    REQUIRE(slept(p.a) == 1);
    for (base::CpuId cpu = 0; cpu < p.a.cpus().size(); ++cpu) {
        p.a.cpus().call(
            cpu, [&](lwkt::Cpu&) { protocols::pmtu_learn(p.a.protocols().domain(cpu), b_echo.addr, 1280); });
    }
    std::string text(1400, 'x'); // one segment before, two now
    REQUIRE(x.c.send(text) == 1400);
    world.run_for(base::seconds(10));
    REQUIRE(x.s.readiness(EPOLLIN) != 0);
    CHECK(read_exactly(x.s, text.size()) == text);
    x.c.close();
    x.s.close();
}

TEST_CASE("idle: a connection sleeps once its path is no longer known to be narrow, and wakes to a wider way")
{
    embed::Simulation world{9};
    Pair p(1, &world);
    for (base::CpuId cpu = 0; cpu < p.a.cpus().size(); ++cpu) {
        p.a.cpus().call(
            cpu, [&](lwkt::Cpu&) { protocols::pmtu_learn(p.a.protocols().domain(cpu), b_echo.addr, 1280); });
    }
    Connected x;
    connect(p, x);
    auto segment = [&] {
        tcp_info info{};
        socklen_t size = sizeof info;
        REQUIRE(client::sock_getsockopt(x.c.session(), x.c.id(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
        return info.tcpi_snd_mss;
    };
    std::uint32_t narrow = segment();
    world.run_for(base::seconds(10));
    CHECK(slept(p.a) == 0); // the table may forget it
    CHECK(slept(p.b) == 1);
    world.run_for(base::seconds(600));
    REQUIRE(slept(p.a) == 1);
    REQUIRE(x.c.send("text") == 4);
    world.run_for(base::seconds(1));
    CHECK(read_exactly(x.s, 4) == "text");
    CHECK(segment() == narrow + 220);
    x.c.close();
    x.s.close();
}

TEST_CASE("idle: a connection whose address went while it slept wakes and sends nothing")
{
    if (test::over_v6()) {
        return;
    }
    embed::Simulation world{10};
    Pair p(1, &world);
    Connected x;
    connect(p, x);
    world.run_for(base::seconds(10));
    REQUIRE(slept(p.a) == 1);
    using Kind = protocols::Ipv4Change::Kind;
    auto change = [&](Kind kind, std::uint32_t address) {
        p.a.cpus().call(0, [&](lwkt::Cpu&) {
            const protocols::Interface& in = *p.a.protocols().interfaces().front();
            protocols::ipv4_change(p.a.protocols().domain(0), {kind, protocols::ipv4_address(in, address, 24), {}});
        });
    };
    change(Kind::set_address, 0x0a000003); // keeps the route
    change(Kind::remove_address, 0x0a000001);
    REQUIRE(x.c.send("text") == 4);
    world.run_for(base::seconds(5));
    CHECK(x.s.readiness(EPOLLIN) == 0);
    change(Kind::set_address, 0x0a000001);
    CHECK(read_exactly(x.s, 4) == "text");
    x.c.close();
    x.s.close();
}

TEST_CASE("idle: calls on a sleeping connection say what they would have said")
{
    embed::Simulation world{2};
    Pair p(1, &world);
    Connected x;
    connect(p, x);
    REQUIRE(x.c.set_option(IPPROTO_TCP, TCP_NODELAY, 1) == 0);
    REQUIRE(x.c.set_option(SOL_SOCKET, SO_RCVBUF, 100000) == 0); // too late for the ring, whose size was promised
    int size_before = 0;
    REQUIRE(x.c.option(SOL_SOCKET, SO_SNDBUF, size_before) == 0);
    std::uint64_t ring_before = x.c.session().view.receive_ring(x.c.session().view.slot(x.c.id().slot)).size();
    world.run_for(base::seconds(10));
    REQUIRE(slept(p.a) == 1);
    x.c.set_nonblocking(true);
    x.s.set_nonblocking(true);
    char byte;
    CHECK(x.c.recv({&byte, 1}) == -EAGAIN);
    CHECK(x.c.readiness(EPOLLIN | EPOLLOUT) == EPOLLOUT);
    CHECK(woken(p.a) == 0); // nothing of that needs a connection
    int value = 0;
    REQUIRE(x.c.option(IPPROTO_TCP, TCP_NODELAY, value) == 0);
    CHECK(value == 1);
    CHECK(woken(p.a) == 1);
    REQUIRE(x.c.option(SOL_SOCKET, SO_SNDBUF, value) == 0);
    CHECK(value == size_before);
    CHECK(x.c.session().view.receive_ring(x.c.session().view.slot(x.c.id().slot)).size() == ring_before);
    world.run_for(base::seconds(10));
    REQUIRE(slept(p.a) == 2);
    CHECK(x.c.send("never EAGAIN") == 12); // room there is
    world.run_for(base::millis(10));
    CHECK(read_exactly(x.s, 12) == "never EAGAIN");
    tcp_info info{};
    socklen_t size = sizeof info;
    world.run_for(base::seconds(10));
    REQUIRE(client::sock_getsockopt(x.c.session(), x.c.id(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
    CHECK(info.tcpi_state == TCP_ESTABLISHED);
    CHECK(info.tcpi_snd_mss > 1000);
    CHECK(info.tcpi_rtt != 0);
}

TEST_CASE("idle: a reader or writer that blocks for a sleeping connection gets what comes")
{
    embed::Simulation world{3};
    Pair p(1, &world);
    Connected x;
    connect(p, x);
    REQUIRE(x.s.send("late") == 4); // in the ring when the other side falls idle
    world.run_for(base::seconds(10));
    CHECK(slept(p.a) == 0); // unread
    CHECK(slept(p.b) == 1);
    REQUIRE(read_exactly(x.c, 4) == "late");
    world.run_for(base::seconds(10));
    CHECK(slept(p.a) == 1);
    // Shut down from asleep; the other side asleep too.
    REQUIRE(x.c.shutdown(SHUT_WR) == 0);
    char byte;
    CHECK(x.s.recv({&byte, 1}) == 0);
    REQUIRE(x.s.send("half open") == 9);
    x.s.close();
    CHECK(read_exactly(x.c, 100) == "half open");
}

TEST_CASE("idle: keepalive goes on while a connection sleeps")
{
    embed::Simulation world{4};
    Pair p(1, &world);
    Connected x;
    connect(p, x);
    REQUIRE(x.c.set_option(SOL_SOCKET, SO_KEEPALIVE, 1) == 0);
    REQUIRE(x.c.set_option(IPPROTO_TCP, TCP_KEEPIDLE, 30) == 0);
    REQUIRE(x.c.set_option(IPPROTO_TCP, TCP_KEEPINTVL, 5) == 0);
    REQUIRE(x.c.set_option(IPPROTO_TCP, TCP_KEEPCNT, 3) == 0);
    world.run_for(base::seconds(20));
    REQUIRE(slept(p.a) == 1);
    CHECK(sum(p.a, &protocols::TcpCounters::keepalive_probes) == 0);
    world.run_for(base::seconds(100));
    CHECK(sum(p.a, &protocols::TcpCounters::keepalive_probes) == 3); // each answered, each by a connection that slept
    CHECK(slept(p.a) >= 3);
    CHECK((x.c.readiness(EPOLLERR | EPOLLHUP) & (EPOLLERR | EPOLLHUP)) == 0);
}

TEST_CASE("idle: a sleeper's keepalive comes when it would have come had it not slept")
{
    auto probes = [](base::Micros idle) {
        embed::Simulation world{4};
        Pair p(1, &world, 4, {}, idle_after(idle));
        Connected x;
        connect(p, x);
        REQUIRE(x.c.set_option(SOL_SOCKET, SO_KEEPALIVE, 1) == 0);
        REQUIRE(x.c.set_option(IPPROTO_TCP, TCP_KEEPIDLE, 10) == 0); // and 75 s between probes, also answered ones
        std::vector<int> seconds;
        for (int second = 1; second <= 200; ++second) {
            world.run_for(base::seconds(1));
            seconds.resize(sum(p.a, &protocols::TcpCounters::keepalive_probes), second);
        }
        CHECK((slept(p.a) != 0) == (idle < base::seconds(1000)));
        CHECK(p.a.counters().timer_late_max_us < 1000); // in virtual time a timer is late only if armed for the past
        return seconds;
    };
    std::vector<int> awake = probes(base::seconds(1000));
    CHECK(awake.size() == 3);
    CHECK(probes(base::seconds(2)) == awake);
    CHECK(probes(base::seconds(20)) == awake);
}

TEST_CASE("idle: a sleeper's patience with a silent peer lasts as long as if it had not slept")
{
    auto ends_after = [](base::Micros idle) {
        embed::Simulation world{4};
        Pair p(1, &world, 4, {}, idle_after(idle));
        Connected x;
        connect(p, x);
        REQUIRE(x.c.set_option(SOL_SOCKET, SO_KEEPALIVE, 1) == 0);
        REQUIRE(x.c.set_option(IPPROTO_TCP, TCP_KEEPIDLE, 3) == 0);
        REQUIRE(x.c.set_option(IPPROTO_TCP, TCP_KEEPINTVL, 1) == 0);
        REQUIRE(x.c.set_option(IPPROTO_TCP, TCP_USER_TIMEOUT, 4500) == 0);
        auto into_second = world.now().time_since_epoch() % base::seconds(1);
        world.run_for(base::millis(1900) - into_second);
        REQUIRE(x.s.send("heard late in a second") == 22);
        CHECK(read_exactly(x.c, 22) == "heard late in a second");
        base::Instant heard = world.now();
        world.run_for(base::millis(2500));
        CHECK((slept(p.a) != 0) == (idle < base::seconds(1000)));
        drivers::Impairments cut;
        cut.loss = 1;
        p.link.set(0, cut);
        auto over = [&] { return (x.c.readiness(EPOLLERR) & EPOLLERR) != 0; };
        CHECK(world.run_until(over, base::seconds(20)));
        return (world.now() - heard) / base::millis(100);
    };
    CHECK(ends_after(base::seconds(1000)) == 50); // the second probe behind it finds it over
    CHECK(ends_after(base::millis(500)) == 50);
}

TEST_CASE("idle: streams with pauses in bad weather stay whole")
{
    auto seed = GENERATE(range(1, 21));
    embed::Simulation world{static_cast<std::uint64_t>(seed)};
    drivers::SimLinkOptions wire;
    for (auto* side : {&wire.a, &wire.b}) {
        side->send.loss = 0.02;
        side->send.reorder = 0.05;
        side->send.duplicate = 0.02;
        side->send.delay = base::Micros{300};
    }
    wire.seed = static_cast<std::uint64_t>(seed);
    Pair p(1 + seed % 2, &world, static_cast<std::uint64_t>(seed), wire, idle_after(base::millis(5)));
    base::Random random{static_cast<std::uint64_t>(seed) * 77};
    embed::Socket listener = listen(p.b, b_echo);
    struct Stream {
        embed::Socket from, to;
        std::uint64_t sent = 0, got = 0;
    };
    std::vector<Stream> streams(8);
    for (unsigned i = 0; i < streams.size(); i += 2) { // both directions of a connection
        streams[i].from = open(p.a, SOCK_STREAM);
        REQUIRE(streams[i].from.connect(b_echo) == 0);
        REQUIRE(listener.accept(streams[i].to) == 0);
        streams[i].from.set_nonblocking(true);
        streams[i].to.set_nonblocking(true);
    }
    auto byte_at = [](unsigned stream, std::uint64_t at) { return static_cast<char>(at * 13 + stream + (at >> 9)); };
    std::string buffer(70000, 0);
    bool good = true;
    for (int step = 0; step < 600 && good; ++step) {
        unsigned i = random.below(8);
        embed::Socket& from = i % 2 == 0 ? streams[i].from : streams[i - 1].to;
        embed::Socket& to = i % 2 == 0 ? streams[i].to : streams[i - 1].from;
        Stream& st = streams[i];
        if (random.chance(0.5)) {
            std::size_t n = 1 + random.below(random.chance(0.2) ? 60000 : 200);
            for (std::size_t k = 0; k < n; ++k) {
                buffer[k] = byte_at(i, st.sent + k);
            }
            ssize_t rc = from.send({buffer.data(), n}, MSG_NOSIGNAL);
            good = rc > 0 || (rc == -EAGAIN && st.sent - st.got > 200000);
            st.sent += rc > 0 ? static_cast<std::uint64_t>(rc) : 0;
        }
        ssize_t n = to.recv({buffer.data(), 1 + random.below(70000)});
        for (ssize_t k = 0; k < n; ++k) {
            good = good && buffer[static_cast<std::size_t>(k)] == byte_at(i, st.got++);
        }
        good = good && (n > 0 || n == -EAGAIN);
        world.run_for(base::Micros{static_cast<std::int64_t>(random.below(random.chance(0.1) ? 40000 : 500))});
    }
    REQUIRE(good);
    for (unsigned i = 0; i < 8; ++i) {
        embed::Socket& to = i % 2 == 0 ? streams[i].to : streams[i - 1].from;
        for (int patience = 0; patience < 4000 && streams[i].got < streams[i].sent; ++patience) {
            ssize_t n = to.recv({buffer.data(), buffer.size()});
            for (ssize_t k = 0; k < n; ++k) {
                good = good && buffer[static_cast<std::size_t>(k)] == byte_at(i, streams[i].got++);
            }
            world.run_for(base::millis(5));
        }
        CHECK(streams[i].got == streams[i].sent);
    }
    CHECK(good);
    CHECK(slept(p.a) > 10);
    CHECK(slept(p.b) > 10);
}

TEST_CASE("idle: when ring memory runs out, connections stall honestly and go on")
{
    embed::Simulation world{6};
    gateway::GatewayOptions o = idle_after(base::seconds(1));
    o.send_ring_shift = o.receive_ring_shift = 19;
    o.segment.ring_memory = std::uint64_t{32} << 20; // of 1 MiB a connection
    gateway::GatewayOptions less = o;
    less.segment.ring_memory = std::uint64_t{16} << 20;
    Pair p(1, &world, 6, {}, o, &less);
    embed::Socket listener = listen(p.b, b_echo);
    constexpr unsigned many = 100;
    std::vector<embed::Socket> ours(many);
    std::vector<embed::Socket> theirs(many);
    for (unsigned i = 0; i < many; ++i) {
        INFO("connection " << i << ", asleep at b " << slept(p.b));
        ours[i] = open(p.a, SOCK_STREAM);
        REQUIRE(ours[i].connect(b_echo) == 0);
        REQUIRE(listener.accept(theirs[i]) == 0);
        ours[i].set_nonblocking(true);
        theirs[i].set_nonblocking(true);
        if (i % 10 == 9) {
            world.run_for(base::seconds(5));
        }
    }
    CHECK(tcbs(p.a) + tcbs(p.b) == 0);
    std::string text(5000, 'x');
    std::vector<std::size_t> sent(many, 0);
    std::vector<std::size_t> got(many, 0);
    unsigned refused = 0;
    for (unsigned i = 0; i < many; ++i) {
        ssize_t n = ours[i].send(text);
        REQUIRE((n == 5000 || n == -EAGAIN));
        sent[i] = n > 0 ? 5000 : 0;
        if (n < 0) {
            ++refused;
            CHECK((ours[i].readiness(EPOLLOUT) & EPOLLOUT) == 0); // no promise that a write would not keep
        }
    }
    CHECK(refused > 30);
    CHECK(refused < 90);
    world.run_for(base::millis(100));
    CHECK(sum(p.b, &protocols::TcpCounters::no_ring) > 0); // nobody reads at b: its rings are full of unread text
    std::string buffer(8192, 0);
    for (int round = 0; round < 3000; ++round) {
        bool all = true;
        for (unsigned i = 0; i < many; ++i) {
            if (sent[i] == 0 && (ours[i].readiness(EPOLLOUT) & EPOLLOUT) != 0) {
                ssize_t n = ours[i].send(text);
                sent[i] = n > 0 ? static_cast<std::size_t>(n) : 0;
            }
            ssize_t n = theirs[i].recv({buffer.data(), buffer.size()});
            got[i] += n > 0 ? static_cast<std::size_t>(n) : 0;
            all = all && got[i] == 5000;
        }
        if (all) {
            break;
        }
        world.run_for(base::millis(20));
    }
    for (unsigned i = 0; i < many; ++i) {
        INFO(i);
        CHECK(sent[i] == 5000);
        CHECK(got[i] == 5000);
    }
}

TEST_CASE("idle: who has drained gives its rings at once, however many ask for them meanwhile")
{
    embed::Simulation world{8};
    gateway::GatewayOptions o = idle_after(base::seconds(30));
    o.send_ring_shift = o.receive_ring_shift = 19;
    o.datagram_ring_shift = 18;
    o.segment.ring_memory = std::uint64_t{16} << 20;
    gateway::GatewayOptions plenty = idle_after(base::seconds(30));
    Pair p(1, &world, 8, {}, o, &plenty);
    std::vector<embed::Socket> datagrams(4); // their send rings take as much as a connection's two
    std::uint16_t port = 9;
    for (embed::Socket& d : datagrams) {
        d = open(p.a, SOCK_DGRAM);
        base::Endpoint at = test::endpoint("10.0.0.1:9");
        at.port = port++;
        REQUIRE(d.bind(at) == 0);
    }
    embed::Socket listener = listen(p.b, b_echo);
    std::vector<embed::Socket> ours(15);
    std::vector<embed::Socket> theirs(15);
    for (std::size_t i = 0; i < ours.size(); ++i) {
        ours[i] = open(p.a, SOCK_STREAM);
        REQUIRE(ours[i].connect(b_echo) == 0);
        REQUIRE(listener.accept(theirs[i]) == 0);
    }
    REQUIRE(slept(p.a) == 0);
    embed::Socket sender = open(p.b, SOCK_DGRAM);
    unsigned sent = 0;
    for (; sent < 200 && slept(p.a) == 0; ++sent) { // each finds no memory for a lane
        REQUIRE(sender.send_to("x", test::endpoint("10.0.0.1:9")) == 1);
        world.run_for(base::Micros{500});
    }
    CHECK(sent > 1);
    CHECK(sent < 200);
}
