// Joined pairs: connections inside one family, over the real gateway and protocols, with the socket calls on both ends.
// In virtual time, where the gateway wakes, and with threads, where the calls wake each other. Most cases run with
// `join` false too: what TCP over loopback shows is what must be seen.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/check.hpp"
#include "tests/embed/pair.hpp"

using namespace test;

namespace {

const base::Endpoint here = test::endpoint("127.0.0.1:4000");

struct Host {
    Host(bool join, std::size_t cpus, embed::Simulation* world, unsigned ring_shift = 14)
        : stack(config(join, cpus, world, ring_shift))
    {
        std::string error;
        INVARIANT(stack.start(error));
    }
    static embed::StackConfig config(bool join, std::size_t cpus, embed::Simulation* world, unsigned ring_shift)
    {
        embed::StackConfig c = stack_config(cpus, world, 7, "one");
        c.gateway.join_pairs = join;
        c.gateway.send_ring_shift = c.gateway.receive_ring_shift = ring_shift;
        return c;
    }
    embed::Stack stack;
};

struct Ends {
    embed::Socket listener, a, b; // a connected, b accepted
};

Ends connect(embed::Stack& stack)
{
    Ends e;
    e.listener = listen(stack, here);
    e.a = open(stack, SOCK_STREAM);
    REQUIRE(e.a.connect(here) == 0);
    REQUIRE(e.listener.accept(e.b) == 0);
    return e;
}

bool is_joined(embed::Socket& s)
{
    return s.session().view.slot(s.id().slot).app.partner.load() != 0;
}

ssize_t receive(embed::Socket& s, int flags = MSG_DONTWAIT)
{
    char byte[8];
    return s.recv(byte, flags);
}

int pending_error(embed::Socket& s)
{
    int error = -1;
    REQUIRE(s.option(SOL_SOCKET, SO_ERROR, error) == 0);
    return error;
}

} // namespace

TEST_CASE("joined: a connection inside the family bypasses TCP, and only if asked")
{
    bool join = GENERATE(false, true);
    auto cpus = GENERATE(1U, 2U, 4U);
    embed::Simulation world{1};
    Host h(join, cpus, &world);
    Ends e = connect(h.stack);
    CHECK(is_joined(e.a) == join);
    CHECK(is_joined(e.b) == join);
    REQUIRE(e.a.send("question") == 8);
    CHECK(read_exactly(e.b, 8) == "question");
    REQUIRE(e.b.send("answer") == 6);
    CHECK(read_exactly(e.a, 6) == "answer");
    base::Endpoint local;
    base::Endpoint peer;
    REQUIRE(e.a.local(local) == 0);
    REQUIRE(e.b.peer(peer) == 0);
    CHECK(local == peer);
    tcp_info info{};
    socklen_t size = sizeof info;
    REQUIRE(client::sock_getsockopt(e.a.session(), e.a.id(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
    CHECK(info.tcpi_state == 1);
    CHECK(info.tcpi_bytes_received == 6);
    CHECK(info.tcpi_bytes_acked == 8);
    CHECK(info.tcpi_bytes_sent == 8);
    CHECK(info.tcpi_snd_mss > 500);
    CHECK(client::sock_outq(e.a.session(), e.a.id()) == 0);
}

TEST_CASE("joined: a listener with TCP_DEFER_ACCEPT takes a connection once there is text, and by segments")
{
    embed::Simulation world{1};
    Host h(true, 2, &world);
    embed::Socket listener = open(h.stack, SOCK_STREAM | SOCK_NONBLOCK);
    REQUIRE(listener.set_option(IPPROTO_TCP, TCP_DEFER_ACCEPT, 5) == 0);
    REQUIRE(listener.bind(here) == 0);
    REQUIRE(listener.listen(8) == 0);
    embed::Socket a = open(h.stack, SOCK_STREAM);
    REQUIRE(a.connect(here) == 0);
    world.run_for(base::millis(100));
    embed::Socket b;
    CHECK(listener.accept(b) == -EAGAIN);
    REQUIRE(a.send("text") == 4);
    world.run_for(base::millis(100));
    REQUIRE(listener.accept(b) == 0);
    CHECK(read_exactly(b, 4) == "text");
    CHECK_FALSE(is_joined(a));
}

TEST_CASE("TCP_INFO of a connection without text yet, and of one that is over")
{
    bool join = GENERATE(false, true);
    embed::Simulation world{1};
    Host h(join, 1, &world);
    world.run_for(base::seconds(7));
    Ends e = connect(h.stack);
    world.run_for(base::seconds(1));
    auto info = [](embed::Socket& s) {
        tcp_info i{};
        socklen_t size = sizeof i;
        REQUIRE(client::sock_getsockopt(s.session(), s.id(), IPPROTO_TCP, TCP_INFO, &i, &size) == 0);
        return i;
    };
    for (embed::Socket* s : {&e.a, &e.b}) { // since it was established, as Linux
        CHECK(info(*s).tcpi_last_data_sent / 100 == 10);
        CHECK(info(*s).tcpi_last_data_recv / 100 == 10);
    }
    REQUIRE(e.a.send("unread") == 6);
    e.b.close();
    world.run_for(base::seconds(1));
    tcp_info over = info(e.a);
    CHECK(over.tcpi_state == 7);
    CHECK(over.tcpi_bytes_sent == (join ? 6 : 0)); // of what TCP carried nothing is left to tell
}

TEST_CASE("joined: EOF comes after the last byte, each direction by itself")
{
    bool join = GENERATE(false, true);
    auto cpus = GENERATE(1U, 2U);
    embed::Simulation world{2};
    Host h(join, cpus, &world);
    Ends e = connect(h.stack);
    REQUIRE(e.a.send("last") == 4);
    REQUIRE(e.a.shutdown(SHUT_WR) == 0);
    CHECK(e.a.send("more", MSG_NOSIGNAL) == -EPIPE);
    CHECK(read_exactly(e.b, 100) == "last");
    CHECK((e.b.readiness(EPOLLIN | EPOLLRDHUP | EPOLLOUT) & (EPOLLIN | EPOLLRDHUP | EPOLLOUT | EPOLLHUP)) ==
          (EPOLLIN | EPOLLRDHUP | EPOLLOUT));
    REQUIRE(e.b.send("answer") == 6);
    CHECK(read_exactly(e.a, 6) == "answer");
    e.b.close();
    CHECK(receive(e.a, 0) == 0);
    CHECK((e.a.readiness(EPOLLIN) & EPOLLHUP) != 0);
    CHECK(pending_error(e.a) == 0);
}

TEST_CASE("joined: both shut down, both closed in either order; the port is free again")
{
    bool join = GENERATE(false, true);
    bool a_first = GENERATE(false, true);
    embed::Simulation world{3};
    Host h(join, 2, &world);
    for (int round = 0; round < 3; ++round) {
        Ends e = connect(h.stack);
        bool b_shut_first = round == 1;
        embed::Socket& first = b_shut_first ? e.b : e.a;
        embed::Socket& second = b_shut_first ? e.a : e.b;
        REQUIRE(first.shutdown(SHUT_WR) == 0);
        CHECK(receive(second, 0) == 0);
        REQUIRE(second.shutdown(SHUT_WR) == 0);
        CHECK(receive(first, 0) == 0);
        (a_first ? e.a : e.b).close();
        (a_first ? e.b : e.a).close();
        e.listener.close();
        world.run_for(base::seconds(1));
        CHECK(h.stack.sockets().empty());
        embed::Socket again = open(h.stack, SOCK_STREAM);
        CHECK(again.bind(here) == (b_shut_first ? -EADDRINUSE : 0)); // TIME-WAIT of the listener's side
        again.close();
        world.run_for(base::seconds(200));
    }
}

TEST_CASE("joined: closing with unread data, or with linger 0, resets the other end")
{
    bool join = GENERATE(false, true);
    bool linger_0 = GENERATE(false, true);
    embed::Simulation world{4};
    Host h(join, 2, &world);
    Ends e = connect(h.stack);
    REQUIRE(e.a.send("read before the reset") == 21);
    world.run_for(base::millis(1));
    if (linger_0) {
        linger option{1, 0};
        REQUIRE(client::sock_setsockopt(e.a.session(), e.a.id(), SOL_SOCKET, SO_LINGER, &option, sizeof option) == 0);
    } else {
        REQUIRE(e.b.send("never read") == 10);
        world.run_for(base::millis(1));
    }
    e.a.close();
    world.run_for(base::millis(1));
    CHECK(read_exactly(e.b, 21) == "read before the reset");
    CHECK(receive(e.b, 0) == -ECONNRESET);
    CHECK(e.b.send("x", MSG_NOSIGNAL) == -EPIPE);
    CHECK(pending_error(e.b) == 0);
}

TEST_CASE("joined: a negative linger time is a long one, no reset: what was sent is read, then the end")
{
    bool join = GENERATE(false, true);
    embed::Simulation world{7};
    Host h(join, 2, &world);
    Ends e = connect(h.stack);
    linger option{1, -1};
    REQUIRE(client::sock_setsockopt(e.a.session(), e.a.id(), SOL_SOCKET, SO_LINGER, &option, sizeof option) == 0);
    REQUIRE(e.a.send("kept") == 4);
    e.a.close();
    world.run_for(base::millis(1));
    CHECK(read_exactly(e.b, 4) == "kept");
    CHECK(receive(e.b, 0) == 0);
}

TEST_CASE("joined: writing to an end that has closed brings EPIPE, as its RST would")
{
    bool join = GENERATE(false, true);
    embed::Simulation world{5};
    Host h(join, 2, &world);
    Ends e = connect(h.stack);
    e.a.close();
    world.run_for(base::millis(1));
    CHECK(receive(e.b) == 0);
    CHECK(e.b.send("to nobody", MSG_NOSIGNAL) == 9);
    world.run_for(base::millis(1));
    CHECK(e.b.send("again", MSG_NOSIGNAL) == -EPIPE);
    CHECK((e.b.readiness(EPOLLIN | EPOLLOUT) & EPOLLHUP) != 0);
}

int error_of(embed::Socket& s)
{
    int error = 0;
    socklen_t size = sizeof error;
    REQUIRE(client::sock_getsockopt(s.session(), s.id(), SOL_SOCKET, SO_ERROR, &error, &size) == 0);
    return error;
}

// tcp_recvmsg of Linux looks at SOCK_DONE before it looks for an error.
TEST_CASE("joined: a reset behind a FIN is the writer's to hear: the reader gets what came, then the end")
{
    bool join = GENERATE(false, true);
    bool end_was_read = GENERATE(false, true);
    embed::Simulation world{5};
    Host h(join, 2, &world);
    Ends e = connect(h.stack);
    REQUIRE(e.a.send("answer") == 6);
    e.a.close();
    world.run_for(base::millis(1));
    CHECK(read_exactly(e.b, 3) == "ans");
    if (end_was_read) {
        CHECK(read_exactly(e.b, 3) == "wer");
        CHECK(receive(e.b) == 0);
    }
    CHECK(e.b.send("next question", MSG_NOSIGNAL) == 13);
    world.run_for(base::millis(1));
    if (!end_was_read) {
        CHECK(read_exactly(e.b, 3) == "wer");
    }
    CHECK(receive(e.b) == 0);
    CHECK(error_of(e.b) == EPIPE); // the reader left it
    CHECK(receive(e.b) == 0);
}

TEST_CASE("joined: a reset behind an end that the reader made itself is an error")
{
    bool join = GENERATE(false, true);
    embed::Simulation world{5};
    Host h(join, 2, &world);
    Ends e = connect(h.stack);
    REQUIRE(e.b.shutdown(SHUT_RD) == 0);
    REQUIRE(e.b.send("never read") == 10);
    world.run_for(base::millis(1));
    e.a.close(); // RST, as it has not read everything
    world.run_for(base::millis(1));
    CHECK(receive(e.b) == -ECONNRESET);
    CHECK(receive(e.b) == 0);
}

TEST_CASE("joined: a listener that closes resets what nobody accepted")
{
    bool join = GENERATE(false, true);
    embed::Simulation world{6};
    Host h(join, 2, &world);
    embed::Socket listener = listen(h.stack, here);
    embed::Socket a = open(h.stack, SOCK_STREAM);
    REQUIRE(a.connect(here) == 0);
    REQUIRE(a.send("hello?") == 6);
    listener.close();
    world.run_for(base::millis(1));
    CHECK(receive(a, 0) == -ECONNRESET);
}

TEST_CASE("joined: a full ring, low-water marks, peeks, SO_RCVTIMEO")
{
    bool join = GENERATE(false, true);
    embed::Simulation world{7};
    Host h(join, 2, &world, 12);
    Ends e = connect(h.stack);
    REQUIRE(e.a.set_option(IPPROTO_TCP, TCP_NODELAY, 1) == 0);
    std::string block(1000, 'x');
    ssize_t sent = 0;
    for (ssize_t n = 0; n >= 0; sent += std::max<ssize_t>(n, 0)) {
        n = e.a.send(block, MSG_DONTWAIT);
        world.run_for(base::millis(1));
        REQUIRE((n > 0 || n == -EAGAIN));
    }
    CHECK(sent >= 4096);
    CHECK((e.a.readiness(EPOLLOUT) & EPOLLOUT) == 0);
    std::string got;
    while (static_cast<ssize_t>(got.size()) < sent) {
        std::string piece = read_exactly(e.b, 1);
        REQUIRE(piece.size() == 1);
        got += piece;
        world.run_for(base::millis(1));
    }
    CHECK((e.a.readiness(EPOLLOUT) & EPOLLOUT) != 0);
    REQUIRE(e.b.set_option(SOL_SOCKET, SO_RCVLOWAT, 100) == 0);
    REQUIRE(e.a.send(block.substr(0, 99)) == 99);
    world.run_for(base::millis(1));
    CHECK((e.b.readiness(EPOLLIN) & EPOLLIN) == 0);
    CHECK(client::sock_fionread(e.b.session(), e.b.id()) == 99);
    char one;
    CHECK(e.b.recv({&one, 1}, MSG_PEEK) == 1);
    CHECK(client::sock_fionread(e.b.session(), e.b.id()) == 99);
    REQUIRE(e.a.send("y") == 1);
    world.run_for(base::millis(1));
    CHECK((e.b.readiness(EPOLLIN) & EPOLLIN) != 0);
    CHECK(read_exactly(e.b, 100).size() == 100);
    REQUIRE(e.b.set_option(SOL_SOCKET, SO_RCVLOWAT, 1) == 0);
    timeval t{0, 1000};
    REQUIRE(client::sock_setsockopt(e.b.session(), e.b.id(), SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
    CHECK(receive(e.b, 0) == -EAGAIN);
}

TEST_CASE("joined: shutdown for reading leaves what comes later readable")
{
    bool join = GENERATE(false, true);
    embed::Simulation world{8};
    Host h(join, 2, &world);
    Ends e = connect(h.stack);
    REQUIRE(e.b.shutdown(SHUT_RD) == 0);
    CHECK(receive(e.b, 0) == 0);
    REQUIRE(e.a.send("late") == 4);
    world.run_for(base::millis(1));
    char text[8];
    CHECK(e.b.recv(text, MSG_DONTWAIT) == 4);
    CHECK(receive(e.b, 0) == 0);
}

TEST_CASE("joined: no listener, no backlog, another address: what TCP would say")
{
    embed::Simulation world{9};
    Host h(true, 1, &world);
    embed::Socket a = open(h.stack, SOCK_STREAM);
    CHECK(a.connect(here) == -ECONNREFUSED);
    embed::Socket listener = listen(h.stack, here, 4); // room for as many half-open connections
    std::vector<embed::Socket> clients;
    int joined = 0;
    for (int i = 0; i < 8; ++i) {
        clients.push_back(open(h.stack, SOCK_STREAM | SOCK_NONBLOCK));
        int rc = clients.back().connect(here);
        REQUIRE((rc == 0 || rc == -EINPROGRESS));
        world.run_for(base::millis(1));
        joined += is_joined(clients.back());
    }
    CHECK(joined >= 2);
    CHECK(joined < 8); // the backlog was full: those wait as ordinary connections do
    for (std::size_t i = 0; i < clients.size(); ++i) {
        embed::Socket s;
        REQUIRE(listener.accept(s) == 0);
    }
}

TEST_CASE("joined: many threads both ways, every byte in order, sleeping and awake")
{
    auto cpus = GENERATE(1U, 2U);
    Host h(true, cpus, nullptr, 13);
    embed::Socket listener = listen(h.stack, here);
    constexpr int pairs = 4;
    constexpr std::size_t bytes = 3'000'000;
    std::atomic<int> wrong{0};
    auto byte_at = [](std::size_t i) { return static_cast<char>(i * 7 + (i >> 9)); };
    auto write_all = [&](embed::Socket& s, std::size_t seed) {
        std::string piece;
        for (std::size_t at = 0; at < bytes; at += piece.size()) {
            piece.resize(std::min<std::size_t>(1 + (at * 31 + seed) % 20'000, bytes - at));
            for (std::size_t i = 0; i < piece.size(); ++i) {
                piece[i] = byte_at(at + i);
            }
            if (s.send(piece, MSG_NOSIGNAL) != static_cast<ssize_t>(piece.size())) {
                ++wrong;
                break;
            }
        }
        s.shutdown(SHUT_WR);
    };
    auto read_all = [&](embed::Socket& s) {
        std::vector<char> buffer(9000);
        std::size_t at = 0;
        for (;;) {
            ssize_t n = s.recv(buffer);
            if (n <= 0) {
                wrong += n != 0 || at != bytes;
                return;
            }
            for (ssize_t i = 0; i < n; ++i) {
                wrong += buffer[static_cast<std::size_t>(i)] != byte_at(at++);
            }
        }
    };
    std::vector<std::thread> threads;
    std::vector<embed::Socket> ends(2 * pairs);
    for (int i = 0; i < pairs; ++i) {
        embed::Socket& a = ends[static_cast<std::size_t>(2 * i)];
        embed::Socket& b = ends[static_cast<std::size_t>(2 * i + 1)];
        a = open(h.stack, SOCK_STREAM);
        REQUIRE(a.connect(here) == 0);
        REQUIRE(listener.accept(b) == 0);
        REQUIRE(is_joined(a));
        for (embed::Socket* s : {&a, &b}) {
            threads.emplace_back([&, s, i] { write_all(*s, static_cast<std::size_t>(i)); });
            threads.emplace_back([&, s] { read_all(*s); });
        }
    }
    for (std::thread& t : threads) {
        t.join();
    }
    CHECK(wrong == 0);
}

TEST_CASE("joined: ends that close at any moment of the other's writes lose nothing that was promised")
{
    Host h(true, 2, nullptr, 13);
    embed::Socket listener = listen(h.stack, here);
    int wrong = 0;
    for (int round = 0; round < 300; ++round) {
        embed::Socket a = open(h.stack, SOCK_STREAM);
        embed::Socket b;
        REQUIRE(a.connect(here) == 0);
        REQUIRE(listener.accept(b) == 0);
        std::thread writer([&] {
            for (int i = 0; i < 50; ++i) {
                if (a.send("0123456789", MSG_NOSIGNAL) != 10) {
                    return; // reset or broken: as it must
                }
            }
            a.shutdown(SHUT_WR);
        });
        std::string got = read_exactly(b, static_cast<std::size_t>(round));
        wrong += got != [&] {
            std::string all;
            while (all.size() < 500) {
                all += "0123456789";
            }
            return all.substr(0, std::min<std::size_t>(static_cast<std::size_t>(round), 500));
        }();
        b.close();
        writer.join();
    }
    CHECK(wrong == 0);
}
