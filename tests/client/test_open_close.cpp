// Sockets come and go: grants, connect, accept, close, and the errors of each.
#include <sys/un.h>

#include <atomic>
#include <functional>
#include <set>
#include <thread>

#include "tests/client/fixture.hpp"

using namespace client;
using fake::failed;

namespace {

std::string name_of(fake::World& w, Sock k, bool peer)
{
    fake::Address a;
    int rc =
        peer ? sock_getpeername(w.session(), k, a.get(), &a.size) : sock_getsockname(w.session(), k, a.get(), &a.size);
    if (rc != 0) {
        return failed(-rc);
    }
    return base::to_string(a.endpoint());
}

int first_allowed_cpu()
{
    cpu_set_t allowed;
    REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    int here = 0;
    while (!CPU_ISSET(here, &allowed)) {
        ++here;
    }
    return here;
}

void pin_this_thread(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(cpu), &one);
    sched_setaffinity(0, sizeof one, &one);
}

// The host of a session, and what happens while it lets others run.
struct TurnGiver final : client::Host {
    TurnGiver(client::Session& s, std::function<void()> turn) : session(s), real(*s.host), others(std::move(turn))
    {
        session.host = this;
    }
    ~TurnGiver() override
    {
        session.host = &real;
        retire();
    }
    void ring(std::uint32_t cpu) override { real.ring(cpu); }
    int make_waiter(sockbuf::WaiterKind kind, client::WaiterHandle& out) override
    {
        return real.make_waiter(kind, out);
    }
    void drop_waiter(const client::WaiterHandle& w) override { real.drop_waiter(w); }
    int sleep(const client::WaiterHandle& w, base::Instant deadline) override { return real.sleep(w, deadline); }
    base::Instant now() override { return real.now(); }
    bool alive() override { return real.alive(); }
    void let_others_run() override
    {
        ++turns;
        others();
    }

    client::Session& session;
    client::Host& real;
    std::function<void()> others;
    int turns = 0;
};

} // namespace

TEST_CASE("socket: kinds, refusals, and no message while grants last")
{
    fake::World w;
    Sock k;
    CHECK(sock_socket(w.session(), AF_UNIX, SOCK_STREAM, 0, k) == -EAFNOSUPPORT);
    CHECK(sock_socket(w.session(), test::family(), SOCK_RAW, 0, k) == -ESOCKTNOSUPPORT);
    CHECK(sock_socket(w.session(), test::family(), SOCK_STREAM, IPPROTO_UDP, k) == -EPROTONOSUPPORT);
    {
        auto frozen = w.netd.freeze();
        for (int i = 0; i < 8; ++i) {
            REQUIRE(sock_socket(w.session(), test::family(), SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP, k) == 0);
        }
    }
    CHECK((sock_status_flags(w.session(), k) & O_NONBLOCK) != 0);
    CHECK(w.netd.sockets_in_use() == 0);
}

TEST_CASE("socket: lanes are refilled; a full family is -ENFILE; closing makes room")
{
    fake::World w({.sockets = 64});
    std::vector<Sock> all;
    std::set<std::uint32_t> distinct;
    for (int i = 0; i < 64; ++i) {
        all.push_back(w.open(SOCK_STREAM));
        distinct.insert(all.back().slot);
    }
    CHECK(distinct.size() == 64);
    Sock k;
    CHECK(sock_socket(w.session(), test::family(), SOCK_STREAM, 0, k) == -ENFILE);
    for (Sock each : all) {
        REQUIRE(sock_release(w.session(), each) == 0);
    }
    CHECK(sock_socket(w.session(), test::family(), SOCK_STREAM, 0, k) == 0);
}

TEST_CASE("socket: who empties the lane of his CPU lets netd refill it before he takes from another's")
{
    int here = first_allowed_cpu();
    fake::World w({.pins = {-1, static_cast<std::int16_t>(here)}});
    std::vector<int> cpus; // of the sockets, in order; -1 = none came
    int turns_with_netd = 0;
    std::thread([&] {
        pin_this_thread(here);
        auto frozen = w.netd.freeze();
        auto& lane = w.netd.view().grant_lane(1);
        TurnGiver host(w.session(), [&] {
            frozen.unlock();
            while (lane.produced.load() == lane.consumed.load()) {
                std::this_thread::yield();
            }
            frozen.lock();
        });
        auto open = [&](int n) {
            for (int i = 0; i < n; ++i) {
                Sock k;
                int rc = sock_socket(w.session(), test::family(), SOCK_STREAM, 0, k);
                cpus.push_back(rc == 0 ? w.netd.slot(k.slot).info.owner_cpu.load() : -1);
            }
        };
        open(5); // a lane has four
        turns_with_netd = host.turns;
        host.others = [] {}; // netd does not come
        open(4);
    }).join();
    CHECK(turns_with_netd == 1);
    CHECK(cpus == std::vector<int>{1, 1, 1, 1, 1, 1, 1, 1, 0});
}

TEST_CASE("connect and accept: names on both ends")
{
    fake::World w;
    Sock l = w.listener(80);
    Sock c = w.open(SOCK_STREAM);
    CHECK(name_of(w, c, false) == base::to_string(test::endpoint("0.0.0.0:0")));
    CHECK(name_of(w, c, true) == failed(ENOTCONN));
    REQUIRE(w.connect(c, 80) == 0);
    CHECK(w.connect(c, 80) == -EISCONN);
    Sock a;
    fake::Address peer;
    socklen_t len = sizeof peer.storage;
    REQUIRE(sock_accept(w.session(), l, peer.get(), &len, SOCK_NONBLOCK, a) == 0);
    CHECK(len == peer.size);
    CHECK(name_of(w, a, true) == name_of(w, c, false));
    CHECK(name_of(w, c, true) == base::to_string(test::endpoint("127.0.0.1:80")));
    CHECK(w.receive(a, 1) == failed(EAGAIN));
    CHECK(w.netd.slot(a.slot).share.holders.load() == 1);
}

TEST_CASE("connect: refused, unanswered, non-blocking")
{
    fake::World w;
    Sock c = w.open(SOCK_STREAM);
    CHECK(w.connect(c, 4) == -ECONNREFUSED);
    CHECK(w.receive(c, 1) == failed(ENOTCONN)); // as new: it may try again
    CHECK(w.connect(c, 4) == -ECONNREFUSED);
    Sock n = w.open(SOCK_STREAM | SOCK_NONBLOCK);
    CHECK(w.connect(n, fake::black_hole_port) == -EINPROGRESS);
    CHECK(w.connect(n, fake::black_hole_port) == -EALREADY);
    CHECK(w.send(n, "early") == -EAGAIN);
    CHECK(w.receive(n, 1) == failed(EAGAIN));
    Sock t = w.open(SOCK_STREAM);
    timeval brief{0, 2000};
    REQUIRE(sock_setsockopt(w.session(), t, SOL_SOCKET, SO_SNDTIMEO, &brief, sizeof brief) == 0);
    CHECK(w.connect(t, fake::black_hole_port) == -EINPROGRESS);
    sockaddr_un wrong{};
    wrong.sun_family = AF_UNIX;
    CHECK(sock_connect(w.session(), c, reinterpret_cast<sockaddr*>(&wrong), sizeof wrong) == -EAFNOSUPPORT);
}

TEST_CASE("connect: one that was posted and then refused is told, and may be tried again")
{
    fake::World w;
    w.listener(80);
    Sock n = w.open(SOCK_STREAM | SOCK_NONBLOCK);
    {
        auto frozen = w.netd.freeze();
        REQUIRE(w.connect(n, 80) == -EINPROGRESS);
        CHECK(w.connect(n, 80) == -EALREADY);
        w.netd.forget_requests();
        w.netd.slot(n.slot).info.so_error = ENETUNREACH; // as netd tells that it refused it
        CHECK(w.connect(n, 80) == -ENETUNREACH);
    }
    CHECK(w.connect(n, 80) == -EINPROGRESS);
    while (w.connect(n, 80) == -EALREADY) {
        std::this_thread::yield();
    }
    CHECK(w.connect(n, 80) == -EISCONN);
}

TEST_CASE("connect: an error that nobody asked for is not the next connect's, nor is an end")
{
    fake::World w;
    w.listener(80);
    Sock n = w.open(SOCK_STREAM);
    w.netd.slot(n.slot).info.so_error = ECONNRESET; // what connect() to AF_UNSPEC leaves
    w.netd.slot(n.slot).app.snd_end = 0;
    REQUIRE(w.connect(n, 80) == 0);
    CHECK(w.netd.slot(n.slot).info.so_error == 0);
    CHECK(w.send(n, "text") == 4);
}

TEST_CASE("connect to AF_UNSPEC: what was not read is gone")
{
    fake::World w;
    w.listener(80);
    Sock c = w.open(SOCK_STREAM);
    REQUIRE(w.connect(c, 80) == 0);
    {
        auto frozen = w.netd.freeze();
        w.netd.deliver(c.slot, "old", 3);
    }
    sockaddr nowhere{};
    nowhere.sa_family = AF_UNSPEC;
    REQUIRE(sock_connect(w.session(), c, &nowhere, sizeof nowhere) == 0);
    CHECK(w.receive(c, 1) == failed(ENOTCONN));
}

TEST_CASE("getsockname: of a connect that netd has not looked at yet, what it will be")
{
    fake::World w;
    w.listener(80);
    Sock n = w.open(SOCK_STREAM | SOCK_NONBLOCK);
    std::string name;
    std::thread asks;
    {
        auto frozen = w.netd.freeze();
        REQUIRE(w.connect(n, 80) == -EINPROGRESS);
        asks = std::thread([&] { name = name_of(w, n, false); });
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    asks.join();
    CHECK(name != base::to_string(test::endpoint("0.0.0.0:0")));
}

TEST_CASE("accept takes from the lane of its own CPU first, then from the others")
{
    int here = first_allowed_cpu();
    fake::World w({.lane_entries = 16, .pins = {-1, static_cast<std::int16_t>(here)}});
    Sock l = w.listener(80);
    std::vector<Sock> clients;
    auto lane_holds = [&](std::uint32_t cpu) {
        auto& info = w.netd.slot(l.slot).info;
        auto& lane =
            w.netd.view().accept_lane(sockbuf::SegmentView::lanes_of(w.netd.slot(l.slot)), info.lane_entries, cpu);
        return lane.produced.load() - lane.consumed.load();
    };
    while (lane_holds(0) < 2 || lane_holds(1) < 2) {
        REQUIRE(clients.size() < 16);
        clients.push_back(w.open(SOCK_STREAM));
        REQUIRE(w.connect(clients.back(), 80) == 0);
    }
    while (lane_holds(0) + lane_holds(1) < clients.size()) { // a connect may return before the lane has its other end
        std::this_thread::yield();
    }
    std::uint32_t others = lane_holds(0);
    std::uint32_t own = lane_holds(1);
    std::string order;
    std::thread([&] { // a new thread's first accepts all begin at home
        pin_this_thread(here);
        for (std::uint32_t i = 0; i < own + 1 && i < 7; ++i) {
            std::uint32_t before = lane_holds(1);
            Sock a;
            order += sock_accept(w.session(), l, nullptr, nullptr, 0, a) != 0 ? "!"
                     : lane_holds(1) < before                                 ? "o"
                                                                              : "s";
        }
    })
        .join();
    CHECK(order == (own < 7 ? std::string(own, 'o') + "s" : std::string(7, 'o')));
    CHECK(lane_holds(0) == (own < 7 ? others - 1 : others));
}

TEST_CASE("unconnected streams: ENOTCONN to read, EPIPE to write, EINVAL to accept")
{
    fake::World w;
    Sock k = w.open(SOCK_STREAM);
    CHECK(w.receive(k, 1) == failed(ENOTCONN));
    CHECK(w.send(k, "x") == -EPIPE);
    CHECK(sock_shutdown(w.session(), k, SHUT_WR) == -ENOTCONN);
    Sock out;
    CHECK(sock_accept(w.session(), k, nullptr, nullptr, 0, out) == -EINVAL);
    Sock l = w.listener(81);
    sock_set_status_flags(w.session(), l, O_NONBLOCK);
    CHECK(sock_accept(w.session(), l, nullptr, nullptr, 0, out) == -EAGAIN);
    Sock second = w.open(SOCK_STREAM);
    fake::Address at = fake::at_port(81);
    CHECK(sock_bind(w.session(), second, at.get(), at.size) == -EADDRINUSE);
}

TEST_CASE("accept: threads that share a listener get every connection once")
{
    fake::World w;
    Sock l = w.listener(82);
    constexpr int total = 40;
    std::atomic<int> taken{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            while (taken.fetch_add(1) < total) {
                Sock a;
                if (sock_accept(w.session(), l, nullptr, nullptr, 0, a) == 0) {
                    sock_send(w.session(), a, &a.slot, sizeof a.slot, 0, nullptr, 0);
                    sock_release(w.session(), a);
                }
            }
        });
    }
    std::vector<Sock> clients;
    int complete = 0;
    for (int i = 0; i < total; ++i) {
        Sock c = w.open(SOCK_STREAM);
        REQUIRE(w.connect(c, 82) == 0);
        complete += w.receive(c, 4, MSG_WAITALL).size() == 4 && w.receive(c, 1).empty() ? 1 : 0;
        sock_release(w.session(), c);
    }
    for (auto& t : threads) {
        t.join();
    }
    CHECK(complete == total);
    sock_release(w.session(), l);
    while (w.netd.sockets_in_use() != 0) { // nothing leaks
        std::this_thread::yield();
    }
}

TEST_CASE("a Sock of an earlier use of the slot is -EBADF everywhere")
{
    fake::World w;
    fake::Pair p = w.pair();
    REQUIRE(sock_release(w.session(), p.a) == 0);
    while (w.netd.slot(p.a.slot).info.state.load() != static_cast<std::uint32_t>(sockbuf::SlotState::free)) {
        std::this_thread::yield();
    }
    Sock stale = p.a;
    int value = 0;
    socklen_t len = sizeof value;
    Sock out;
    CHECK(w.send(stale, "x") == -EBADF);
    CHECK(w.receive(stale, 1) == failed(EBADF));
    CHECK(w.connect(stale, 80) == -EBADF);
    CHECK(sock_listen(w.session(), stale, 1) == -EBADF);
    CHECK(sock_accept(w.session(), stale, nullptr, nullptr, 0, out) == -EBADF);
    CHECK(sock_shutdown(w.session(), stale, SHUT_WR) == -EBADF);
    CHECK(sock_getsockopt(w.session(), stale, SOL_SOCKET, SO_ERROR, &value, &len) == -EBADF);
    CHECK(sock_release(w.session(), stale) == -EBADF);
    CHECK(sock_release(w.session(), {1u << 30, 1}) == -EBADF);
}

TEST_CASE("the last holder of several closes")
{
    fake::World w;
    fake::Pair p = w.pair();
    w.netd.slot(p.a.slot).share.holders.fetch_or(std::uint64_t{1} << 5); // another process
    REQUIRE(sock_release(w.session(), p.a) == 0);
    CHECK(w.receive(p.b, 1, MSG_DONTWAIT) == failed(EAGAIN));
    sock_hold(w.session(), p.a);
    w.netd.slot(p.a.slot).share.holders.fetch_and(~(std::uint64_t{1} << 5));
    REQUIRE(sock_release(w.session(), p.a) == 0);
    CHECK(w.receive(p.b, 1).empty());
}

TEST_CASE("SO_LINGER: close waits until the peer has it all, or the time is over")
{
    fake::World w({.ring_shift = 12});
    fake::Pair p = w.pair();
    linger option{1, 1};
    REQUIRE(sock_setsockopt(w.session(), p.a, SOL_SOCKET, SO_LINGER, &option, sizeof option) == 0);
    REQUIRE(w.send(p.a, std::string(8192, 'x')) == 8192); // one ring there, one ring here
    std::thread reader([&] { w.receive(p.b, 8192, MSG_WAITALL); });
    CHECK(sock_release(w.session(), p.a) == 0);
    CHECK(w.netd.sockets_in_use() <= 2); // p.b, and p.a only if the second was not enough
    reader.join();
}

TEST_CASE("SO_LINGER: close waits for a socket that does not block too, as Linux' does")
{
    fake::World w({.ring_shift = 12});
    fake::Pair p = w.pair();
    linger option{1, 5};
    REQUIRE(sock_setsockopt(w.session(), p.a, SOL_SOCKET, SO_LINGER, &option, sizeof option) == 0);
    REQUIRE(w.send(p.a, std::string(8192, 'x')) == 8192);
    sock_set_status_flags(w.session(), p.a, O_NONBLOCK);
    auto begin = std::chrono::steady_clock::now();
    std::thread reader([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        w.receive(p.b, 8192, MSG_WAITALL);
    });
    CHECK(sock_release(w.session(), p.a) == 0);
    CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::milliseconds(100));
    reader.join();
}
