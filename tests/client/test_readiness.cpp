// Readiness: the rules of tcp_poll and datagram_poll, compared with the kernel's own sockets where they can be.
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <thread>

#include "tests/client/fixture.hpp"

using namespace client;

namespace {

constexpr std::uint32_t all = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLERR | EPOLLHUP;

std::uint32_t ready(fake::World& w, Sock k, std::uint32_t interest = all)
{
    return sock_readiness(w.session(), k, interest);
}

// The same steps on kernel sockets over loopback.
struct Kernel {
    Kernel()
    {
        listener = socket(test::family(), SOCK_STREAM, 0);
        fake::Address at = fake::at_port(0);
        bind(listener, at.get(), at.size);
        ::listen(listener, 1);
        getsockname(listener, at.get(), &at.size);
        a = socket(test::family(), SOCK_STREAM, 0);
        ::connect(a, at.get(), at.size);
        b = accept(listener, nullptr, nullptr);
    }
    ~Kernel()
    {
        for (int fd : {listener, a, b}) {
            close(fd);
        }
    }
    static std::uint32_t ready(int fd)
    {
        pollfd p{fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
        poll(&p, 1, 0);
        return static_cast<std::uint32_t>(p.revents);
    }
    static void until(int fd, std::uint32_t events)
    {
        while ((ready(fd) & events) != events) {
            std::this_thread::yield();
        }
    }
    int listener, a, b;
};

} // namespace

TEST_CASE("a stream from birth to death, beside the kernel's")
{
    fake::World w;
    Sock fresh = w.open(SOCK_STREAM);
    int kernel_fresh = socket(test::family(), SOCK_STREAM, 0);
    CHECK(ready(w, fresh) == Kernel::ready(kernel_fresh));
    close(kernel_fresh);

    Kernel kernel;
    fake::Pair p = w.pair();
    CHECK(ready(w, p.b) == Kernel::ready(kernel.b)); // OUT
    REQUIRE(w.send(p.a, "x") == 1);
    REQUIRE(write(kernel.a, "x", 1) == 1);
    w.until(p.b, EPOLLIN);
    Kernel::until(kernel.b, POLLIN);
    CHECK(ready(w, p.b) == Kernel::ready(kernel.b)); // IN OUT
    CHECK(ready(w, p.b, EPOLLOUT) == EPOLLOUT);

    REQUIRE(sock_shutdown(w.session(), p.a, SHUT_WR) == 0);
    shutdown(kernel.a, SHUT_WR);
    w.until(p.b, EPOLLRDHUP);
    Kernel::until(kernel.b, POLLRDHUP);
    CHECK(ready(w, p.b) == Kernel::ready(kernel.b)); // IN OUT RDHUP
    CHECK(ready(w, p.a) == Kernel::ready(kernel.a)); // OUT: writes would fail at once

    REQUIRE(sock_shutdown(w.session(), p.b, SHUT_WR) == 0);
    shutdown(kernel.b, SHUT_WR);
    w.until(p.a, EPOLLHUP);
    Kernel::until(kernel.a, POLLHUP);
    CHECK(ready(w, p.b) == Kernel::ready(kernel.b)); // and HUP
    CHECK(ready(w, p.a) == Kernel::ready(kernel.a));
}

TEST_CASE("a refused connect, beside the kernel's")
{
    fake::World w;
    Sock k = w.open(SOCK_STREAM | SOCK_NONBLOCK);
    CHECK(w.connect(k, fake::black_hole_port) == -EINPROGRESS);
    CHECK(ready(w, k) == 0);
    Sock refused = w.open(SOCK_STREAM | SOCK_NONBLOCK);
    CHECK(w.connect(refused, 4) == -EINPROGRESS);
    w.until(refused, EPOLLERR);
    int kernel = socket(test::family(), SOCK_STREAM | SOCK_NONBLOCK, 0);
    fake::Address to = fake::at_port(4);
    ::connect(kernel, to.get(), to.size);
    Kernel::until(kernel, POLLERR);
    CHECK(ready(w, refused) == Kernel::ready(kernel)); // IN OUT RDHUP ERR HUP
    close(kernel);
}

TEST_CASE("a listener is readable while connections wait")
{
    fake::World w;
    Sock l = w.listener(91);
    CHECK(ready(w, l) == 0);
    Sock c = w.open(SOCK_STREAM);
    REQUIRE(w.connect(c, 91) == 0);
    w.until(l, EPOLLIN);
    CHECK(ready(w, l) == EPOLLIN);
    Sock a;
    REQUIRE(sock_accept(w.session(), l, nullptr, nullptr, 0, a) == 0);
    CHECK(ready(w, l) == 0);
}

TEST_CASE("writable means a third of the ring is free; asking on a full one requests the event")
{
    fake::World w({.ring_shift = 12});
    fake::Pair p = w.pair();
    REQUIRE(w.send(p.a, std::string(8192, 'x'), 0) == 8192);
    CHECK(ready(w, p.a, EPOLLIN) == 0);
    CHECK(ready(w, p.a, EPOLLOUT) == 0);
    CHECK(w.netd.slot(p.a.slot).app.want_space.load() == 1);
    CHECK(w.receive(p.b, 1024, MSG_WAITALL).size() == 1024); // netd hears of it: a window update is due
    while (sock_outq(w.session(), p.a) != 3072) {
        std::this_thread::yield();
    }
    CHECK(ready(w, p.a, EPOLLOUT) == 0); // a quarter is not enough
    CHECK(w.receive(p.b, 1024, MSG_WAITALL).size() == 1024);
    while (sock_outq(w.session(), p.a) != 2048) {
        std::this_thread::yield();
    }
    CHECK(ready(w, p.a, EPOLLOUT) == EPOLLOUT);
}

TEST_CASE("SO_RCVLOWAT above what the ring can hold means half the ring")
{
    fake::World w({.ring_shift = 12});
    fake::Pair p = w.pair();
    int level = 8192;
    REQUIRE(sock_setsockopt(w.session(), p.b, SOL_SOCKET, SO_RCVLOWAT, &level, sizeof level) == 0);
    std::string text(2047, 'x');
    {
        auto frozen = w.netd.freeze();
        w.netd.deliver(p.b.slot, text.data(), text.size());
    }
    CHECK((ready(w, p.b) & EPOLLIN) == 0);
    {
        auto frozen = w.netd.freeze();
        w.netd.deliver(p.b.slot, "y", 1);
    }
    CHECK((ready(w, p.b) & EPOLLIN) != 0);
}

TEST_CASE("datagram sockets")
{
    fake::World w;
    Sock to = w.bound(SOCK_DGRAM, 60);
    Sock from = w.open(SOCK_DGRAM);
    CHECK(ready(w, from) == EPOLLOUT);
    REQUIRE(w.connect(from, 60) == 0);
    REQUIRE(w.send(from, "") == 0);
    w.until(to, EPOLLIN);
    CHECK(ready(w, to) == (EPOLLIN | EPOLLOUT)); // an empty datagram is one
    CHECK(w.receive(to, 10).empty());
    CHECK(ready(w, to) == EPOLLOUT);
    w.netd.slot(to.slot).info.so_error.store(EHOSTUNREACH);
    CHECK(ready(w, to, EPOLLIN) == EPOLLERR);
}

TEST_CASE("urgent data and a dead netd")
{
    fake::World w;
    fake::Pair p = w.pair();
    {
        auto frozen = w.netd.freeze();
        w.netd.slot(p.b.slot).owner.urgent_mark.store(1);
        w.netd.deliver(p.b.slot, "!", 1);
    }
    CHECK((ready(w, p.b) & EPOLLPRI) != 0);
    WaiterHandle mine;
    REQUIRE(thread_waiter(w.session(), mine) == 0); // while there is somebody to give one
    w.netd.die();
    CHECK(w.admission->sleep(mine, base::never) == -EPIPE); // how an idle program learns of it
    CHECK((ready(w, p.a) & (EPOLLERR | EPOLLHUP)) == (EPOLLERR | EPOLLHUP));
}
