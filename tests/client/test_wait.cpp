// Waiting: wake-ups, timeouts, signals, a netd that dies, waiters that run out.
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "client/blocking.hpp"
#include "tests/client/fixture.hpp"

using namespace client;
using fake::failed;

namespace {

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
constexpr base::Micros an_hour = base::seconds(3600);
std::atomic<int> handled{0};
void on_signal(int)
{
    handled.fetch_add(1);
}

void install(int flags)
{
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = flags;
    sigaction(SIGUSR1, &action, nullptr);
    handled = 0;
}

void interrupt_until(std::thread& t, const std::atomic<bool>& done)
{
    while (!done) { // again, since the first may come just before the system call
        pthread_kill(t.native_handle(), SIGUSR1);
        std::this_thread::yield();
    }
}

} // namespace

TEST_CASE("a blocked reader is woken by data, by FIN, and stays registered between")
{
    fake::World w;
    fake::Pair p = w.pair();
    std::string got[3];
    std::thread reader([&] {
        for (auto& text : got) {
            text = w.receive(p.b, 10);
        }
    });
    for (const char* text : {"one", "two"}) {
        fake::until_asleep(w, p.b);
        REQUIRE(w.send(p.a, text) == 3);
        while (sock_outq(w.session(), p.a) != 0) {
            std::this_thread::yield();
        }
    }
    sock_release(w.session(), p.a);
    reader.join();
    CHECK(got[0] == "one");
    CHECK(got[1] == "two");
    CHECK(got[2].empty());
}

TEST_CASE("a blocked writer is woken by space")
{
    fake::World w({.ring_shift = 12});
    fake::Pair p = w.pair();
    std::atomic<ssize_t> sent{0};
    std::thread writer([&] { sent = w.send(p.a, std::string(20'000, 'x')); });
    fake::until_asleep(w, p.a);
    CHECK(w.receive(p.b, 20'000, MSG_WAITALL) == std::string(20'000, 'x'));
    writer.join();
    CHECK(sent == 20'000);
}

TEST_CASE("a signal without SA_RESTART interrupts, with it the call goes on")
{
    fake::World w;
    fake::Pair p = w.pair();
    std::string got;
    std::atomic<bool> done{false};
    std::thread reader;
    auto start = [&] {
        reader = std::thread([&] {
            got = w.receive(p.b, 10);
            done = true;
        });
        fake::until_asleep(w, p.b);
    };
    SECTION("EINTR")
    {
        install(0);
        start();
        interrupt_until(reader, done);
        reader.join();
        CHECK(got == failed(EINTR));
    }
#if !defined(UNDER_TSAN) // it holds handlers back until a restarted read is over
    SECTION("SA_RESTART")
    {
        install(SA_RESTART);
        start();
        for (int i = 1; i <= 20; ++i) {
            pthread_kill(reader.native_handle(), SIGUSR1);
            while (handled < i) {
                std::this_thread::yield();
            }
        }
        CHECK(!done);
        REQUIRE(w.send(p.a, "data") == 4);
        reader.join();
        CHECK(got == "data");
    }
#endif
    SECTION("a receive timeout makes SA_RESTART moot, as signal(7) says")
    {
        install(SA_RESTART);
        timeval hour{3600, 0};
        sock_setsockopt(w.session(), p.b, SOL_SOCKET, SO_RCVTIMEO, &hour, sizeof hour);
        start();
        interrupt_until(reader, done);
        reader.join();
        CHECK(got == failed(EINTR));
    }
}

TEST_CASE("timeouts end reads, writes and accepts with EAGAIN")
{
    fake::World w({.ring_shift = 12});
    fake::Pair p = w.pair();
    timeval brief{0, 3000};
    REQUIRE(sock_setsockopt(w.session(), p.b, SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief) == 0);
    CHECK(w.receive(p.b, 1) == failed(EAGAIN));
    REQUIRE(w.send(p.a, std::string(8192, 'x')) == 8192); // fills both rings
    while (sock_outq(w.session(), p.a) != 4096) {
        std::this_thread::yield();
    }
    REQUIRE(sock_setsockopt(w.session(), p.a, SOL_SOCKET, SO_SNDTIMEO, &brief, sizeof brief) == 0);
    CHECK(w.send(p.a, "x") == -EAGAIN);
    Sock l = w.listener(83);
    REQUIRE(sock_setsockopt(w.session(), l, SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief) == 0);
    Sock out;
    CHECK(sock_accept(w.session(), l, nullptr, nullptr, 0, out) == -EAGAIN);
}

TEST_CASE("who looks needs no waiter, so there is nobody to ring")
{
    fake::World w;
    fake::Pair p = w.pair();
    w.session().look_min = w.session().look_max = an_hour; // a look that is not met hangs the test
    std::uint64_t before = w.netd.waiters_given();
    std::string got[100];
    std::thread reader([&] {
        for (auto& text : got) {
            text = w.receive(p.b, 1);
        }
    });
    for (int i = 0; i < 100; ++i) {
        REQUIRE(w.send(p.a, std::string(1, static_cast<char>('0' + i % 10))) == 1);
        while (w.netd.slot(p.b.slot).app.rcv_consumed.load() != static_cast<std::uint64_t>(i) + 1) {
            std::this_thread::yield();
        }
    }
    reader.join();
    for (int i = 0; i < 100; ++i) {
        CHECK(got[i] == std::string(1, static_cast<char>('0' + i % 10)));
    }
    CHECK(w.netd.waiters_given() == before);
}

TEST_CASE("a look ends with the timeout, and when another thread closes the socket")
{
    fake::World w;
    fake::Pair p = w.pair();
    w.session().look_min = w.session().look_max = an_hour;
    SECTION("SO_RCVTIMEO")
    {
        timeval brief{0, 3000};
        REQUIRE(sock_setsockopt(w.session(), p.b, SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief) == 0);
        CHECK(w.receive(p.b, 1) == failed(EAGAIN));
    }
    SECTION("close")
    {
        std::string got;
        std::atomic<bool> begun{false};
        std::thread reader([&] {
            begun = true;
            got = w.receive(p.b, 1);
        });
        while (!begun) {
            std::this_thread::yield();
        }
        REQUIRE(sock_release(w.session(), p.b) == 0);
        reader.join();
        CHECK((got == failed(EBADF) || got.empty()));
    }
}

TEST_CASE("after a look that met nothing the reader sleeps, and is woken, interrupted and told of netd's end")
{
    fake::World w;
    fake::Pair p = w.pair();
    w.session().look_min = w.session().look_max = base::millis(2);
    std::string got;
    std::atomic<bool> done{false};
    install(0);
    std::thread reader([&] {
        got = w.receive(p.b, 10);
        done = true;
    });
    fake::until_asleep(w, p.b);
    SECTION("data")
    {
        REQUIRE(w.send(p.a, "data") == 4);
        reader.join();
        CHECK(got == "data");
    }
    SECTION("a signal")
    {
        interrupt_until(reader, done);
        reader.join();
        CHECK(got == failed(EINTR));
    }
    SECTION("netd's end")
    {
        w.netd.die();
        reader.join();
        CHECK(got == failed(ECONNRESET));
    }
}

TEST_CASE("netd dies in the middle of a look")
{
    fake::World w;
    fake::Pair p = w.pair();
    w.session().look_min = w.session().look_max = base::millis(20);
    std::string got;
    std::atomic<bool> begun{false};
    std::thread reader([&] {
        begun = true;
        got = w.receive(p.b, 10);
    });
    while (!begun) {
        std::this_thread::yield();
    }
    w.netd.die();
    reader.join();
    CHECK(got == failed(ECONNRESET));
}

TEST_CASE("beside the protocol thread of its socket a reader sleeps at once")
{
    cpu_set_t allowed;
    REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &allowed)) {
        ++cpu;
    }
    auto pin = static_cast<std::int16_t>(cpu);
    fake::World w({.pins = {pin, pin}});
    fake::Pair p = w.pair();
    w.session().look_min = w.session().look_max = an_hour;
    std::string got;
    std::thread reader([&] {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(static_cast<unsigned>(cpu), &one);
        sched_setaffinity(0, sizeof one, &one);
        got = w.receive(p.b, 10);
    });
    fake::until_asleep(w, p.b);
    REQUIRE(w.send(p.a, "data") == 4);
    reader.join();
    CHECK(got == "data");
}

TEST_CASE("netd dies: nobody hangs")
{
    fake::World w({.ring_shift = 12});
    fake::Pair p = w.pair();
    Sock l = w.listener(84);
    Sock udp = w.bound(SOCK_DGRAM, 500);
    Sock hole = w.open(SOCK_STREAM);
    std::string read_got, udp_got;
    ssize_t write_got = 0;
    int accept_got = 0, connect_got = 0;
    std::vector<std::thread> threads;
    threads.emplace_back([&] { read_got = w.receive(p.a, 1); });
    threads.emplace_back([&] { write_got = w.send(p.a, std::string(20'000, 'x')); });
    threads.emplace_back([&] { udp_got = w.receive(udp, 1); });
    threads.emplace_back([&] {
        Sock out;
        accept_got = sock_accept(w.session(), l, nullptr, nullptr, 0, out);
    });
    threads.emplace_back([&] { connect_got = w.connect(hole, fake::black_hole_port); });
    while (sock_fionread(w.session(), p.b) < 4096) { // the writer has begun: that p.a is waited for may be the reader
        std::this_thread::yield();
    }
    for (Sock k : {p.a, udp, l, hole}) {
        fake::until_asleep(w, k);
    }
    w.netd.die();
    for (auto& t : threads) {
        t.join();
    }
    CHECK(read_got == failed(ECONNRESET));
    CHECK((write_got == -ECONNRESET || write_got > 0));
    CHECK(udp_got == failed(ENETDOWN));
    CHECK(accept_got == -ENETDOWN);
    CHECK(connect_got == -ENETDOWN);
    Sock fresh;
    CHECK(sock_socket(w.session(), test::family(), SOCK_STREAM, 0, fresh) == -ENETDOWN);
    int on = 1;
    CHECK(sock_setsockopt(w.session(), l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == -ENETDOWN);
    CHECK(w.receive(p.b, 4096) == std::string(4096, 'x')); // what had arrived is readable
    CHECK(w.receive(p.b, 1) == failed(ECONNRESET));
    CHECK(sock_release(w.session(), p.a) == 0);
}

TEST_CASE("netd dies while a control call waits for it")
{
    fake::World w;
    Sock k = w.bound(SOCK_STREAM, 85);
    int got = 0;
    fake::FrozenCall call(w, [&] { got = sock_listen(w.session(), k, 1); });
    fake::until_asleep(w, k);
    std::thread killer([&] { w.netd.die(); });
    // The protocol thread may answer once before it stops; both are right, hanging is not.
    call.finish();
    killer.join();
    CHECK((got == 0 || got == -ENETDOWN));
}

TEST_CASE("a control call on a socket that another thread closes ends")
{
    fake::World w;
    Sock k = w.bound(SOCK_STREAM, 87);
    int got = 0;
    fake::FrozenCall call(w, [&] { got = sock_listen(w.session(), k, 1); });
    fake::until_asleep(w, k);
    w.netd.forget_requests();
    REQUIRE(sock_release(w.session(), k) == 0);
    call.finish();
    CHECK(got == -EBADF);
}

TEST_CASE("control calls are not interrupted by signals")
{
    fake::World w;
    Sock k = w.bound(SOCK_STREAM, 86);
    install(0);
    int got = 1;
    fake::FrozenCall call(w, [&] { got = sock_listen(w.session(), k, 1); });
    fake::until_asleep(w, k);
    pthread_kill(call.thread().native_handle(), SIGUSR1);
    call.finish();
    CHECK(got == 0);
    CHECK(handled == 1);
}

TEST_CASE("without a free waiter calls still end, by short naps")
{
    fake::World w({.waiters = 1});
    fake::Pair p = w.pair(); // the main thread takes the only one
    WaiterHandle mine;
    REQUIRE(thread_waiter(w.session(), mine) == 0);
    std::string got;
    int other = 0;
    std::thread reader([&] {
        WaiterHandle none;
        other = thread_waiter(w.session(), none);
        got = w.receive(p.b, 4, MSG_WAITALL);
    });
    REQUIRE(w.send(p.a, "late") == 4);
    reader.join();
    CHECK(other == -ENOSPC);
    CHECK(got == "late");
}

TEST_CASE("a thread that ends gives its waiter back")
{
    fake::World w({.waiters = 2});
    WaiterHandle of_main;
    REQUIRE(thread_waiter(w.session(), of_main) == 0);
    for (int i = 0; i < 5; ++i) {
        std::thread([&] {
            WaiterHandle mine;
            while (thread_waiter(w.session(), mine) == -ENOSPC) { // the last one's is on its way back
                std::this_thread::yield();
            }
        }).join();
    }
    CHECK(w.netd.waiters_given() == 6);
}

TEST_CASE("a waiter that a thread kept from an earlier wait goes to who needs one")
{
    fake::World w({.waiters = 2});
    fake::Pair p = w.pair(); // the main thread has one
    WaiterHandle of_main;
    REQUIRE(thread_waiter(w.session(), of_main) == 0);
    std::string first, second;
    std::atomic<bool> again{false};
    std::thread reader([&] {
        first = w.receive(p.b, 4); // and the reader the other, registered with p.b
        while (!again) {
            std::this_thread::yield();
        }
        second = w.receive(p.b, 5);
    });
    fake::until_asleep(w, p.b);
    REQUIRE(w.send(p.a, "once") == 4);
    WaiterHandle mine;
    while (thread_waiter(w.session(), mine) == -ENOSPC) { // until its wait is over
        std::this_thread::yield();
    }
    CHECK(mine.index != of_main.index);
    CHECK((w.netd.slot(p.b.slot).app.waiters[0].load() >> mine.index & 1) == 0);
    WaiterHandle none;
    CHECK(make_set_waiter(w.session(), none) == -ENOSPC); // both are in use
    give_thread_waiter(w.session(), mine);
    REQUIRE(make_set_waiter(w.session(), mine) == 0);
    again = true;
    REQUIRE(w.send(p.a, "again") == 5);
    reader.join();
    CHECK(first == "once");
    CHECK(second == "again");
    w.session().host->drop_waiter(mine);
    WaiterHandle back;
    CHECK(make_set_waiter(w.session(), back) == 0); // the reader's end took nothing that was not its own
}

#if !defined(UNDER_TSAN)
TEST_CASE("a handler that waits in the middle of a wait does not cost the outer one its wake-up")
{
    fake::World w;
    static fake::World* world;
    world = &w;
    static fake::Pair inner;
    fake::Pair outer = w.pair();
    inner = w.pair();
    static std::atomic<int> inner_got{0};
    inner_got = 0;
    struct sigaction action {};
    action.sa_handler = [](int) {
        char c;
        inner_got = static_cast<int>(sock_recv(world->session(), inner.b, &c, 1, 0, nullptr, nullptr));
    };
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR2, &action, nullptr);
    std::string got;
    std::thread reader([&] { got = w.receive(outer.b, 10); });
    fake::until_asleep(w, outer.b);
    pthread_kill(reader.native_handle(), SIGUSR2);
    fake::until_asleep(w, inner.b);
    REQUIRE(w.send(inner.a, "i") == 1);
    while (inner_got == 0) {
        std::this_thread::yield();
    }
    REQUIRE(w.send(outer.a, "outer") == 5);
    reader.join();
    CHECK(inner_got == 1);
    CHECK(got == "outer");
}
#endif

TEST_CASE("a wait within a wait of the same thread has a waiter of its own")
{
    fake::World w;
    fake::Pair p = w.pair();
    Blocker receives(w.session(), p.b, base::never);
    receives.arm(); // and a handler polls
    WaiterHandle outer;
    REQUIRE(thread_waiter(w.session(), outer) == 0);
    WaiterHandle inner;
    REQUIRE(thread_waiter(w.session(), inner) == 0);
    CHECK(outer.index != inner.index);
    arm_waiter(w.session(), outer);
    std::uint64_t registered = w.netd.slot(p.b.slot).app.waiters[0].load();
    CHECK((registered & ((std::uint64_t{1} << outer.index) | (std::uint64_t{1} << inner.index))) == 0);
    give_thread_waiter(w.session(), inner);
    WaiterHandle again;
    REQUIRE(thread_waiter(w.session(), again) == 0);
    CHECK(again.index == inner.index);
}

TEST_CASE("the poll layer's use of the thread's waiter and blocking calls get along")
{
    fake::World w;
    fake::Pair p = w.pair();
    std::string first, second;
    std::thread reader([&] {
        first = w.receive(p.b, 10); // leaves the thread's waiter registered with p.b
        WaiterHandle mine;
        thread_waiter(w.session(), mine);
        sock_watch(w.session(), p.b, mine.index);
        arm_waiter(w.session(), mine);
        disarm_waiter(w.session(), mine);
        sock_unwatch(w.session(), p.b, mine.index);
        give_thread_waiter(w.session(), mine);
        second = w.receive(p.b, 10); // must register anew
    });
    fake::until_asleep(w, p.b);
    REQUIRE(w.send(p.a, "1") == 1);
    while (sock_outq(w.session(), p.a) != 0 || w.netd.slot(p.b.slot).app.rcv_consumed.load() != 1) {
        std::this_thread::yield();
    }
    fake::until_asleep(w, p.b);
    REQUIRE(w.send(p.a, "2") == 1);
    reader.join();
    CHECK(first == "1");
    CHECK(second == "2");
}
