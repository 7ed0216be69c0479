// Stream data: order and completeness through small rings, ends after data, peeks, several writers.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>
#include <thread>

#include <sys/epoll.h>

#include "client/transfer.hpp"
#include "tests/client/fixture.hpp"

using namespace client;
using fake::failed;

TEST_CASE("bytes come out as they went in, wrapping many times, both ways at once")
{
    fake::World w({.ring_shift = 12});
    fake::Pair p = w.pair();
    auto sent = fake::pattern(300'000, 1);
    auto transfer = [&](Sock from, Sock to, std::vector<unsigned char>& got) {
        std::thread writer([&] {
            std::size_t at = 0;
            std::size_t chunk = 1;
            while (at < sent.size()) {
                std::size_t n = std::min(chunk, sent.size() - at);
                ssize_t done = sock_send(w.session(), from, sent.data() + at, n, 0, nullptr, 0);
                if (done != static_cast<ssize_t>(n)) {
                    return; // seen by the reader as missing bytes
                }
                at += n;
                chunk = chunk * 3 % 9001 + 1;
            }
            sock_shutdown(w.session(), from, SHUT_WR);
        });
        std::size_t size = 5;
        for (;;) {
            std::vector<unsigned char> piece(size);
            ssize_t n = sock_recv(w.session(), to, piece.data(), size, 0, nullptr, nullptr);
            if (n <= 0) {
                break;
            }
            got.insert(got.end(), piece.begin(), piece.begin() + n);
            size = size * 7 % 6007 + 1;
        }
        writer.join();
    };
    std::vector<unsigned char> there;
    std::vector<unsigned char> back;
    std::thread other([&] { transfer(p.b, p.a, back); });
    transfer(p.a, p.b, there);
    other.join();
    CHECK(there == sent);
    CHECK(back == sent);
}

TEST_CASE("messages that are acknowledged one by one use the same bytes: short ones those of the ring's head")
{
    fake::World w({.ring_shift = 12});
    fake::Pair p = w.pair();
    std::size_t bytes = GENERATE(100U, 500U);
    for (int i = 0; i < 200; ++i) { // many times the ring
        std::string message(bytes, static_cast<char>('a' + i % 26));
        CHECK(w.send(p.a, message) == static_cast<ssize_t>(bytes));
        CHECK(w.receive(p.b, bytes, MSG_WAITALL) == message);
        while (sock_outq(w.session(), p.a) != 0) { // until it is acknowledged
            std::this_thread::yield();
        }
    }
    auto used = [](const std::byte* from, std::size_t n) {
        return n - static_cast<std::size_t>(std::count(from, from + n, std::byte{0}));
    };
    const sockbuf::SegmentView& view = w.session().view;
    auto ring = view.send_ring(view.slot(p.a.slot));
    const std::byte* head = view.head(static_cast<std::uint64_t>(ring.base() - view.base()), 12);
    CHECK(used(ring.base(), ring.size()) == (bytes == 100 ? 0 : 500));
    CHECK(used(head, sockbuf::RingView::head_bytes) == (bytes == 100 ? 100 : 0));
}

TEST_CASE("rings side by side begin again at other lines of other pages")
{
    for (unsigned shift : {12U, 16U, 19U, 21U}) {
        std::set<std::uint32_t> lines;
        std::set<std::uint32_t> pages;
        for (std::uint64_t n = 1000; n < 1064; ++n) {
            std::uint32_t home = sockbuf::RingView::home_of(n, shift);
            CHECK(home < 1U << shift);
            CHECK(home % 64 == 0);
            lines.insert(home % 4096);
            pages.insert(home / 4096);
        }
        CHECK(lines.size() == 64);
        CHECK(pages.size() + 1 >= std::min(64U, (1U << shift) / 4096));
    }
}

TEST_CASE("a write of many ring sizes is complete when it returns")
{
    fake::World w({.ring_shift = 12});
    fake::Pair p = w.pair();
    auto sent = fake::pattern(200'000, 2);
    std::vector<unsigned char> got(sent.size());
    std::thread reader([&] { sock_recv(w.session(), p.b, got.data(), got.size(), MSG_WAITALL, nullptr, nullptr); });
    CHECK(sock_send(w.session(), p.a, sent.data(), sent.size(), 0, nullptr, 0) == static_cast<ssize_t>(sent.size()));
    reader.join();
    CHECK(got == sent);
}

TEST_CASE("EOF and reset come after the data that precedes them")
{
    fake::World w;
    fake::Pair p = w.pair();
    REQUIRE(w.send(p.a, "last words") == 10);
    SECTION("shutdown")
    {
        REQUIRE(sock_shutdown(w.session(), p.a, SHUT_WR) == 0);
        CHECK(w.receive(p.b, 4) == "last");
        CHECK(w.receive(p.b, 100) == " words");
        CHECK(w.receive(p.b, 100).empty());
        CHECK(w.receive(p.b, 100).empty());
        CHECK(w.send(p.a, "more") == -EPIPE);
        CHECK(w.send(p.b, "other way") == 9);
        CHECK(w.receive(p.a, 100) == "other way");
    }
    SECTION("close")
    {
        REQUIRE(sock_release(w.session(), p.a) == 0);
        CHECK(w.receive(p.b, 100, MSG_WAITALL) == "last words");
        CHECK(w.receive(p.b, 100).empty());
    }
    SECTION("reset: the reader gets data, then the error once, then EOF; the writer EPIPE")
    {
        REQUIRE(w.send(p.b, "never read") == 10);
        while (sock_fionread(w.session(), p.a) != 10) {
            std::this_thread::yield();
        }
        REQUIRE(sock_release(w.session(), p.a) == 0);
        CHECK(w.receive(p.b, 100, MSG_WAITALL) == "last words");
        CHECK(w.receive(p.b, 100) == failed(ECONNRESET));
        CHECK(w.receive(p.b, 100).empty());
        CHECK(w.send(p.b, "x") == -EPIPE);
    }
}

TEST_CASE("peek leaves bytes in place; WAITALL waits for all; DONTWAIT waits for none")
{
    fake::World w;
    fake::Pair p = w.pair();
    CHECK(w.receive(p.b, 10, MSG_DONTWAIT) == failed(EAGAIN));
    REQUIRE(w.send(p.a, "abc") == 3);
    CHECK(w.receive(p.b, 10, MSG_PEEK) == "abc");
    CHECK(w.receive(p.b, 2, MSG_PEEK) == "ab");
    CHECK(sock_fionread(w.session(), p.b) == 3);
    std::thread late([&] { w.send(p.a, "def"); });
    CHECK(w.receive(p.b, 6, MSG_WAITALL | MSG_PEEK) == "abcdef");
    CHECK(w.receive(p.b, 6, MSG_WAITALL) == "abcdef");
    late.join();
    sock_set_status_flags(w.session(), p.b, O_NONBLOCK);
    CHECK(w.receive(p.b, 1) == failed(EAGAIN));
    CHECK(w.receive(p.b, 0) == failed(EAGAIN));
}

TEST_CASE("a peek that may not wait, or no longer, gives what is there")
{
    fake::World w;
    fake::Pair p = w.pair();
    CHECK(w.receive(p.b, 10, MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT) == failed(EAGAIN));
    REQUIRE(w.send(p.a, "abc") == 3);
    while (sock_fionread(w.session(), p.b) != 3) {
        std::this_thread::yield();
    }
    CHECK(w.receive(p.b, 10, MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT) == "abc");
    timeval time{0, 20'000};
    REQUIRE(sock_setsockopt(w.session(), p.b, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    CHECK(w.receive(p.b, 10, MSG_PEEK | MSG_WAITALL) == "abc");
    int low = 5;
    REQUIRE(sock_setsockopt(w.session(), p.b, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low) == 0);
    CHECK(w.receive(p.b, 10, MSG_PEEK | MSG_DONTWAIT) == "abc");
    CHECK(w.receive(p.b, 10, MSG_DONTWAIT) == "abc");
}

TEST_CASE("a read of no bytes says what one of a byte would, and takes nothing")
{
    fake::World w;
    CHECK(w.receive(w.open(SOCK_STREAM), 0) == failed(ENOTCONN));
    CHECK(w.receive(w.listener(0), 0) == failed(ENOTCONN));
    fake::Pair p = w.pair();
    std::thread late([&] { w.send(p.a, "x"); });
    CHECK(w.receive(p.b, 0).empty()); // once there is something
    late.join();
    CHECK(w.receive(p.b, 1, MSG_DONTWAIT) == "x");
    REQUIRE(sock_shutdown(w.session(), p.a, SHUT_WR) == 0);
    CHECK(w.receive(p.b, 0).empty());
}

TEST_CASE("MSG_TRUNC throws stream bytes away")
{
    fake::World w;
    fake::Pair p = w.pair();
    REQUIRE(w.send(p.a, "junkgood") == 8);
    CHECK(sock_recv(w.session(), p.b, nullptr, 4, MSG_TRUNC, nullptr, nullptr) == 4);
    CHECK(w.receive(p.b, 10) == "good");
}

TEST_CASE("sendmsg gathers, recvmsg scatters, empty pieces do not matter")
{
    fake::World w;
    fake::Pair p = w.pair();
    std::string one = "one", two = "two";
    iovec out[4] = {{one.data(), 3}, {nullptr, 0}, {two.data(), 3}, {nullptr, 0}};
    msghdr m{};
    m.msg_iov = out;
    m.msg_iovlen = 4;
    REQUIRE(sock_sendmsg(w.session(), p.a, &m, 0) == 6);
    char first[2], rest[8];
    iovec in[3] = {{first, 2}, {nullptr, 0}, {rest, 8}};
    m.msg_iov = in;
    m.msg_iovlen = 3;
    REQUIRE(sock_recvmsg(w.session(), p.b, &m, 0) == 6);
    CHECK(std::string(first, 2) + std::string(rest, 4) == "onetwo");
    CHECK(m.msg_flags == 0);
}

TEST_CASE("several writers and readers of one socket lose and double nothing")
{
    fake::World w({.ring_shift = 12});
    fake::Pair p = w.pair();
    constexpr int writers = 4, records = 2000;
    std::atomic<std::uint64_t> sum{0}, count{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < writers; ++i) {
        threads.emplace_back([&, i] {
            for (std::uint32_t n = 0; n < records; ++n) {
                std::uint32_t value = n * writers + static_cast<std::uint32_t>(i);
                sock_send(w.session(), p.a, &value, sizeof value, 0, nullptr, 0);
            }
        });
    }
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&] { // a 4-byte read of 4-byte records in a ring of 4096 never splits one
            std::uint32_t value;
            while (count.fetch_add(1) < std::uint64_t{writers} * records) {
                if (sock_recv(w.session(), p.b, &value, sizeof value, MSG_WAITALL, nullptr, nullptr) == 4) {
                    sum += value;
                }
            }
        });
    }
    for (auto& t : threads) {
        t.join();
    }
    std::uint64_t total = std::uint64_t{writers} * records;
    CHECK(sum == total * (total - 1) / 2);
}

TEST_CASE("marks collapse: many small writes to a busy netd are few looks")
{
    fake::World w;
    fake::Pair p = w.pair();
    std::uint64_t before = w.netd.marks_seen();
    {
        auto frozen = w.netd.freeze();
        for (int i = 0; i < 100; ++i) {
            REQUIRE(w.send(p.a, "x") == 1);
        }
    }
    CHECK(w.receive(p.b, 100, MSG_WAITALL) == std::string(100, 'x'));
    CHECK(w.netd.marks_seen() - before <= 4);
}

TEST_CASE("non-blocking writes fill the ring, then EAGAIN, and ask for an event")
{
    fake::World w({.ring_shift = 12});
    fake::Pair p = w.pair();
    auto frozen = w.netd.freeze();
    CHECK(w.send(p.a, std::string(5000, 'x'), MSG_DONTWAIT) == 4096);
    CHECK(w.netd.slot(p.a.slot).app.want_space.load() == 1);
    CHECK(w.send(p.a, "y", MSG_DONTWAIT) == -EAGAIN);
    CHECK(sock_outq(w.session(), p.a) == 4096);
}

TEST_CASE("urgent data: a read stops before the byte and skips it, MSG_OOB gets it")
{
    fake::World w;
    fake::Pair p = w.pair();
    CHECK(w.receive(p.b, 1, MSG_OOB) == failed(EINVAL));
    {
        auto frozen = w.netd.freeze();
        w.netd.slot(p.b.slot).owner.urgent_mark.store(3);
        w.netd.deliver(p.b.slot, "ab!cd", 5);
    }
    SECTION("out of band")
    {
        CHECK(w.receive(p.b, 1, MSG_OOB | MSG_PEEK) == "!");
        CHECK((sock_readiness(w.session(), p.b, EPOLLPRI) & EPOLLPRI) != 0);
        CHECK(w.receive(p.b, 1, MSG_OOB) == "!");
        CHECK(w.receive(p.b, 1, MSG_OOB) == failed(EINVAL)); // once
        CHECK((sock_readiness(w.session(), p.b, EPOLLPRI) & EPOLLPRI) == 0);
        CHECK(w.receive(p.b, 10) == "ab");
        CHECK(w.receive(p.b, 10) == "cd");
        CHECK(w.receive(p.b, 1, MSG_OOB) == failed(EINVAL));
    }
    SECTION("SO_OOBINLINE")
    {
        int on = 1;
        REQUIRE(sock_setsockopt(w.session(), p.b, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on) == 0);
        CHECK(sock_fionread(w.session(), p.b) == 5);
        CHECK(w.receive(p.b, 10, MSG_PEEK | MSG_WAITALL) == "ab"); // sockatmark() is to find the place
        CHECK(w.receive(p.b, 10) == "ab");
        CHECK(w.receive(p.b, 10) == "!cd");
    }
}

TEST_CASE("urgent data: the byte that reads leave out is nothing to read")
{
    fake::World w;
    fake::Pair p = w.pair();
    timeval soon{0, 50'000};
    REQUIRE(sock_setsockopt(w.session(), p.b, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon) == 0);
    auto arrives = [&](const char* text, std::uint64_t mark) {
        auto frozen = w.netd.freeze();
        w.netd.slot(p.b.slot).owner.urgent_mark.store(mark);
        w.netd.deliver(p.b.slot, text, std::strlen(text));
    };
    auto ready = [&] { return sock_readiness(w.session(), p.b, EPOLLIN | EPOLLPRI); };
    SECTION("alone")
    {
        arrives("!", 1);
        CHECK(ready() == EPOLLPRI);
        CHECK(sock_fionread(w.session(), p.b) == 0);
        CHECK(w.receive(p.b, 1, MSG_PEEK | MSG_DONTWAIT) == failed(EAGAIN));
        CHECK(w.receive(p.b, 1, MSG_PEEK) == failed(EAGAIN)); // after SO_RCVTIMEO
        CHECK(w.receive(p.b, 1, MSG_OOB) == "!");
        CHECK(ready() == 0);
        w.netd.slot(p.b.slot).owner.rcv_end.store(1);
        CHECK(w.receive(p.b, 1, MSG_PEEK).empty());
        CHECK(w.receive(p.b, 1).empty());
    }
    SECTION("one after the other")
    {
        arrives("!", 1);
        CHECK(w.receive(p.b, 1, MSG_OOB) == "!");
        arrives("?", 2);
        CHECK(ready() == EPOLLPRI); // the first is no text now
        CHECK(w.receive(p.b, 1, MSG_OOB) == "?");
        arrives("cd!", 5);
        CHECK(w.receive(p.b, 1, MSG_OOB) == "!");
        CHECK(w.receive(p.b, 9, MSG_WAITALL) == "cd");
        arrives("ef?", 8);
        CHECK(w.receive(p.b, 9) == "ef"); // nor is one that was taken before it was reached
        arrives("gh!", 11);
        CHECK(w.receive(p.b, 1, MSG_OOB) == "!");
        arrives("", 12); // a new mark while somebody reads "gh"
        CHECK(past_taken(w.netd.slot(p.b.slot), 10) == 11);
        CHECK(past_taken(w.netd.slot(p.b.slot), 11) == 11);
    }
    SECTION("with what follows it")
    {
        arrives("!cd", 1);
        CHECK(ready() == (EPOLLIN | EPOLLPRI));
        CHECK(sock_fionread(w.session(), p.b) == 0); // as far as the byte
        CHECK(w.receive(p.b, 9, MSG_PEEK) == "cd");
        CHECK(w.receive(p.b, 1, MSG_OOB) == "!");
        CHECK(sock_fionread(w.session(), p.b) == 0); // that is still where it stands
        CHECK(sock_at_mark(w.session(), p.b) == 1);
        CHECK(w.receive(p.b, 9, MSG_PEEK) == "cd");
        CHECK(sock_fionread(w.session(), p.b) == 0);
        CHECK(w.receive(p.b, 1) == "c");
        CHECK(sock_fionread(w.session(), p.b) == 1);
        CHECK(sock_at_mark(w.session(), p.b) == 0);
    }
    SECTION("behind others")
    {
        arrives("ab!cd", 3);
        CHECK(sock_fionread(w.session(), p.b) == 2);
        CHECK(w.receive(p.b, 9, MSG_PEEK | MSG_WAITALL) == "ab"); // no more comes of waiting
        CHECK(w.receive(p.b, 9, MSG_WAITALL) == "ab");
        CHECK(sock_fionread(w.session(), p.b) == 0);
        CHECK(w.receive(p.b, 9) == "cd");
    }
    SECTION("announced, not here yet")
    {
        arrives("ab", 3);
        CHECK(w.receive(p.b, 9, MSG_WAITALL) == "ab");
        arrives("!c", 3);
        CHECK(w.receive(p.b, 9) == "c");
    }
    SECTION("SO_OOBINLINE")
    {
        int on = 1;
        REQUIRE(sock_setsockopt(w.session(), p.b, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on) == 0);
        arrives("!", 1);
        CHECK(ready() == (EPOLLIN | EPOLLPRI));
        CHECK(sock_fionread(w.session(), p.b) == 1);
        CHECK(w.receive(p.b, 1, MSG_PEEK) == "!");
    }
    SECTION("SO_OOBINLINE, announced, not here yet")
    {
        int on = 1;
        REQUIRE(sock_setsockopt(w.session(), p.b, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on) == 0);
        arrives("ab", 3);
        CHECK(w.receive(p.b, 9, MSG_WAITALL) == "ab");
        arrives("!c", 3);
        CHECK(w.receive(p.b, 9) == "!c");
    }
}
