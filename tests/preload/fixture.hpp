// This process attached to a fake netd through the preload library's own parts. One netd for the program: a process
// attaches once.
#pragma once

#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "client/preload/epoll_set.hpp"
#include "client/preload/fd_table.hpp"
#include "client/preload/process.hpp"
#include "tests/client/fixture.hpp"

namespace fake {

// No child gets a descriptor that netd, a process of its own elsewhere, has sent and is about to close: with one the
// end of the process that it was for would never be seen.
inline void rest_while_forked(Netd& netd)
{
    static Netd* forked;
    static std::unique_lock<std::mutex> rest;
    forked = &netd;
    pthread_atfork([] { rest = forked->freeze(); }, [] { rest.unlock(); }, [] { rest.unlock(); });
}

inline Netd& the_netd()
{
    static Netd* one = [] {
        auto* netd = new Netd;
        setenv("NETD_SOCKET", netd->path().c_str(), 1);
        rest_while_forked(*netd); // before the library's handlers, so behind its questions
        preload::start();
        return netd;
    }();
    return *one;
}

inline client::Session& attached()
{
    the_netd();
    client::Session* s = preload::session();
    REQUIRE(s != nullptr);
    return *s;
}

// A descriptor of `sock`, as accept() makes one.
inline int give_fd(client::Sock sock)
{
    int fd = preload::placeholder_fd(true);
    REQUIRE(fd >= 0);
    std::lock_guard lock(preload::table_mutex);
    preload::Entry* e = preload::new_entry(preload::EntryState::netd);
    e->sock = sock;
    REQUIRE(preload::install(fd, e) == nullptr);
    return fd;
}

inline void close_fd(int fd)
{
    preload::Entry* e;
    {
        std::lock_guard lock(preload::table_mutex);
        e = preload::uninstall(fd);
        ::close(fd);
    }
    if (e != nullptr) {
        preload::unref(e);
    }
}

// A connected pair with descriptors.
struct FdPair {
    client::Sock a, b;
    int fd_a = -1, fd_b = -1;
};

inline FdPair make_pair()
{
    client::Session& s = attached();
    FdPair p;
    client::Sock l;
    REQUIRE(client::sock_socket(s, test::family(), SOCK_STREAM, 0, l) == 0);
    Address at = at_port(0);
    REQUIRE(client::sock_bind(s, l, at.get(), at.size) == 0);
    REQUIRE(client::sock_listen(s, l, 8) == 0);
    REQUIRE(client::sock_getsockname(s, l, at.get(), &at.size) == 0);
    REQUIRE(client::sock_socket(s, test::family(), SOCK_STREAM, 0, p.a) == 0);
    REQUIRE(client::sock_connect(s, p.a, at.get(), at.size) == 0);
    REQUIRE(client::sock_accept(s, l, nullptr, nullptr, 0, p.b) == 0);
    REQUIRE(client::sock_release(s, l) == 0);
    p.fd_a = give_fd(p.a);
    p.fd_b = give_fd(p.b);
    return p;
}

inline void say(client::Sock k, const char* text)
{
    auto size = static_cast<ssize_t>(std::strlen(text));
    REQUIRE(client::sock_send(attached(), k, text, static_cast<std::size_t>(size), 0, nullptr, 0) == size);
}

inline ssize_t hear(client::Sock k)
{
    char bytes[4096];
    return client::sock_recv(attached(), k, bytes, sizeof bytes, 0, nullptr, nullptr);
}

// For as long as it stands all waiters of netd are in use but `left` and the calling thread's, who rests.
class AllWaiters {
public:
    explicit AllWaiters(std::size_t left = 0)
    {
        client::WaiterHandle w;
        REQUIRE(client::thread_waiter(attached(), w) == 0);
        client::give_thread_waiter(attached(), w);
        while (attached().host->make_waiter(sockbuf::WaiterKind::thread, w) == 0) {
            taken_.push_back(w);
        }
        for (; left > 0; --left) {
            drop();
        }
    }
    ~AllWaiters()
    {
        while (!taken_.empty()) {
            drop();
        }
    }
    AllWaiters(const AllWaiters&) = delete;
    AllWaiters& operator=(const AllWaiters&) = delete;

private:
    void drop()
    {
        attached().host->drop_waiter(taken_.back());
        taken_.pop_back();
    }

    std::vector<client::WaiterHandle> taken_;
};

} // namespace fake
