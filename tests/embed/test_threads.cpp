// Socket calls over two stacks with protocol threads. Assertions on the main thread only; other threads report.
#include <sys/epoll.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/embed/pair.hpp"

using namespace test;

namespace {

// Sends back what comes until the end. Bytes echoed, or a negative errno.
ssize_t echo(embed::Socket& s)
{
    std::vector<char> buffer(16384);
    ssize_t total = 0;
    for (;;) {
        ssize_t n = s.recv(buffer);
        if (n <= 0) {
            return n < 0 ? n : total;
        }
        ssize_t back = s.send({buffer.data(), static_cast<std::size_t>(n)}, MSG_NOSIGNAL);
        if (back != n) {
            return back < 0 ? back : -EIO;
        }
        total += n;
    }
}

// One connection: writes from a thread of its own while this one reads and compares. Empty = good.
std::string exchange(embed::Stack& stack, std::size_t bytes, unsigned salt)
{
    embed::Socket c;
    if (int rc = embed::Socket::open(stack, SOCK_STREAM, c, test::family()); rc != 0) {
        return "socket " + std::to_string(rc);
    }
    if (int rc = c.connect(b_echo); rc != 0) {
        return "connect " + std::to_string(rc);
    }
    auto byte_at = [salt](std::size_t i) { return static_cast<char>(i * 7 + salt + (i >> 10)); };
    std::atomic<ssize_t> write_error{0};
    std::thread writer([&] {
        std::string piece;
        for (std::size_t at = 0; at < bytes; at += piece.size()) {
            piece.resize(std::min<std::size_t>(9973, bytes - at));
            for (std::size_t i = 0; i < piece.size(); ++i) {
                piece[i] = byte_at(at + i);
            }
            ssize_t n = c.send(piece, MSG_NOSIGNAL);
            if (n != static_cast<ssize_t>(piece.size())) {
                write_error = n < 0 ? n : -EIO;
                break;
            }
        }
        c.shutdown(SHUT_WR);
    });
    std::string got = read_exactly(c, bytes + 1);
    writer.join();
    if (write_error != 0) {
        return "send " + std::to_string(write_error.load());
    }
    if (got.size() != bytes) {
        return "got " + std::to_string(got.size()) + " of " + std::to_string(bytes);
    }
    for (std::size_t i = 0; i < bytes; ++i) {
        if (got[i] != byte_at(i)) {
            return "byte " + std::to_string(i) + " is wrong";
        }
    }
    return "";
}

} // namespace

TEST_CASE("several threads accept from one listener while many connect")
{
    constexpr int clients = 24;
    constexpr int acceptors = 3;
    Pair p(2);
    embed::Socket listener = listen(p.b, b_echo);
    std::atomic<int> served{0};
    std::atomic<int> failed{0};
    std::vector<std::thread> servers;
    for (int i = 0; i < acceptors; ++i) {
        servers.emplace_back([&] {
            for (;;) {
                embed::Socket s;
                if (listener.accept(s) != 0) {
                    return; // the listener was shut down
                }
                failed += echo(s) < 0 ? 1 : 0;
                ++served;
            }
        });
    }
    std::vector<std::thread> users;
    std::vector<std::string> results(4);
    for (unsigned u = 0; u < results.size(); ++u) {
        users.emplace_back([&, u] {
            for (int i = 0; i < clients / 4 && results[u].empty(); ++i) {
                results[u] = exchange(p.a, 20000, u * 16 + static_cast<unsigned>(i));
            }
        });
    }
    for (std::thread& t : users) {
        t.join();
    }
    for (const std::string& r : results) {
        CHECK(r == "");
    }
    listener.shutdown(SHUT_RDWR);
    for (std::thread& t : servers) {
        t.join();
    }
    CHECK(served == clients);
    CHECK(failed == 0);
}

TEST_CASE("datagrams and streams at once, through one session")
{
    Pair p(2);
    embed::Socket listener = listen(p.b, b_echo);
    embed::Socket udp = open(p.b, SOCK_DGRAM);
    REQUIRE(udp.bind(b_echo) == 0);
    std::thread stream_server([&] {
        embed::Socket s;
        if (listener.accept(s) == 0) {
            echo(s);
        }
    });
    constexpr int datagrams = 200;
    std::thread udp_server([&] {
        char buffer[256];
        for (int i = 0; i < datagrams; ++i) {
            base::Endpoint from;
            ssize_t n = udp.recv_from(buffer, from);
            if (n < 0 || udp.send_to({buffer, static_cast<std::size_t>(n)}, from) != n) {
                return;
            }
        }
    });
    std::string result;
    std::thread user([&] { result = exchange(p.a, 500000, 5); });
    embed::Socket c = open(p.a, SOCK_DGRAM);
    int good = 0;
    for (int i = 0; i < datagrams; ++i) {
        std::string text = "datagram " + std::to_string(i);
        char buffer[256];
        base::Endpoint from;
        if (c.send_to(text, b_echo) != static_cast<ssize_t>(text.size())) {
            break;
        }
        ssize_t n = c.recv_from(buffer, from);
        good += n >= 0 && std::string(buffer, static_cast<std::size_t>(n)) == text ? 1 : 0;
    }
    user.join();
    udp_server.join();
    stream_server.join();
    CHECK(good == datagrams);
    CHECK(result == "");
}

TEST_CASE("one unconnected datagram socket, protocol threads on two CPUs: flows keep their order, polls see what waits")
{
    constexpr std::uint16_t flows = 6;
    constexpr std::uint32_t each = 300; // what waits at most fits a lane
    Pair p(2);
    embed::Socket server = open(p.b, SOCK_DGRAM);
    REQUIRE(server.bind(b_echo) == 0);
    { // Who is asked for his address queues few datagrams until he answers, and that may take his thread a while.
        embed::Socket first = open(p.a, SOCK_DGRAM);
        char bytes[16];
        base::Endpoint from;
        REQUIRE(first.send_to("hello", b_echo) == 5);
        REQUIRE(server.recv_from(bytes, from) == 5);
    }
    std::vector<std::thread> senders;
    std::atomic<int> failed{0};
    for (std::uint16_t f = 0; f < flows; ++f) {
        senders.emplace_back([&, f] {
            embed::Socket s;
            base::Endpoint own = test::endpoint("10.0.0.1:1");
            own.port = static_cast<std::uint16_t>(6000 + f);
            failed += embed::Socket::open(p.a, SOCK_DGRAM, s, test::family()) != 0 || s.bind(own) != 0 ? 1 : 0;
            for (std::uint32_t n = 0; n < each; ++n) {
                std::string text(reinterpret_cast<const char*>(&n), sizeof n);
                failed += s.send_to(text, b_echo) == sizeof n ? 0 : 1;
            }
        });
    }
    std::atomic<bool> done{false};
    std::thread poller([&] { // beside the reader, which takes the lock
        while (!done) {
            (void)server.readiness(EPOLLIN);
            (void)client::sock_fionread(server.session(), server.id());
            std::this_thread::yield();
        }
    });
    timeval patience{2, 0};
    REQUIRE(client::sock_setsockopt(
                server.session(), server.id(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    std::uint32_t next[flows] = {};
    std::size_t total = 0;
    bool ordered = true;
    for (;;) {
        char bytes[16];
        base::Endpoint from;
        if (server.recv_from(bytes, from) != sizeof(std::uint32_t)) {
            break;
        }
        std::uint32_t n = 0;
        std::memcpy(&n, bytes, sizeof n);
        ordered = ordered && n >= next[from.port - 6000];
        next[from.port - 6000] = n + 1;
        ++total;
    }
    done = true;
    poller.join();
    for (std::thread& t : senders) {
        t.join();
    }
    CHECK(failed == 0);
    CHECK(ordered);
    CHECK(total > flows * each / 2);
}

TEST_CASE("refused and unreachable over loopback of a single stack")
{
    embed::Stack stack(stack_config(2, nullptr, 9, "solo"));
    std::string error;
    REQUIRE(stack.start(error));
    embed::Socket c = open(stack, SOCK_STREAM);
    CHECK(c.connect(test::endpoint("127.0.0.1:9")) == -ECONNREFUSED);
    embed::Socket l = listen(stack, test::endpoint("127.0.0.1:80"));
    embed::Socket d = open(stack, SOCK_STREAM);
    REQUIRE(d.connect(test::endpoint("127.0.0.1:80")) == 0);
    embed::Socket s;
    REQUIRE(l.accept(s) == 0);
    REQUIRE(d.send("x") == 1);
    CHECK(read_exactly(s, 1) == "x");
}
