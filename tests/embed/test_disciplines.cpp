// What the disciplines promise beyond the same results: who runs the stack, what is refused, what is counted.
#include <sched.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

#include "client/socket_calls.hpp"
#include "drivers/loopback.hpp"
#include "drivers/wrap_capture.hpp"
#include "lwkt/topology.hpp"
#include "tests/embed/pair.hpp"

using namespace test;

namespace {

embed::StackConfig config_of(lwkt::Discipline d, const char* name)
{
    embed::StackConfig c = stack_config(2, nullptr, 5, name);
    c.discipline = d;
    return c;
}

// A request and its answer over loopback, both ends on this thread.
void exchange(embed::Stack& stack)
{
    embed::Socket l = listen(stack, test::endpoint("127.0.0.1:80"));
    embed::Socket c = open(stack, SOCK_STREAM);
    REQUIRE(c.connect(test::endpoint("127.0.0.1:80")) == 0);
    embed::Socket s;
    REQUIRE(l.accept(s) == 0);
    for (int i = 0; i < 100; ++i) {
        REQUIRE(c.send("question") == 8);
        REQUIRE(read_exactly(s, 8) == "question");
        REQUIRE(s.send("answer") == 6);
        REQUIRE(read_exactly(c, 6) == "answer");
    }
}

} // namespace

TEST_CASE("giant and striped: callers run the stack; message: they do not")
{
    for (auto d : {lwkt::Discipline::message, lwkt::Discipline::giant, lwkt::Discipline::striped}) {
        embed::Stack stack(config_of(d, "solo"));
        std::string error;
        REQUIRE(stack.start(error));
        CHECK(stack.cpus().size() == (d == lwkt::Discipline::giant ? 1U : d == lwkt::Discipline::striped ? 8U : 2U));
        lwkt::Snapshot before = stack.counters();
        exchange(stack);
        lwkt::Snapshot counted = stack.counters().since(before);
        INFO(static_cast<int>(d));
        CHECK((counted.operations >= 200) == lwkt::uses_locks(d));
        CHECK(counted.items[static_cast<unsigned>(lwkt::Class::net)] >= 200);
        if (lwkt::uses_locks(d)) {
            CHECK(counted.holds_timed != 0);
            CHECK(counted.hold_ns != 0);
        } else {
            CHECK(counted.lock_waits == 0);
        }
        std::size_t names = 0;
        counted.each([&](const char*, std::uint64_t) { ++names; });
        CHECK(names == 29);
    }
}

TEST_CASE("striped: a thread takes its sockets from the shards of its own CPU, as under messages from that CPU")
{
    for (bool near : {true, false}) {
        INFO(near);
        std::thread([&] {
            int here = sched_getcpu();
            REQUIRE(lwkt::bind_this_thread(here));
            embed::StackConfig config = config_of(lwkt::Discipline::striped, "near");
            config.pin = {-1, here};
            config.near_shards = near;
            embed::Stack stack(config);
            std::string error;
            REQUIRE(stack.start(error));
            std::vector<embed::Socket> sockets;
            std::set<std::uint32_t> shards;
            for (int i = 0; i < 16; ++i) {
                sockets.push_back(open(stack, SOCK_STREAM));
                client::Session& session = sockets.back().session();
                shards.insert(session.view.slot(sockets.back().id().slot).info.owner_cpu.load());
            }
            CHECK(shards ==
                  (near ? std::set<std::uint32_t>{1, 3, 5, 7} : std::set<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7}));
        }).join();
    }
}

TEST_CASE("an interface that makes system calls is refused under a lock")
{
    auto captured = [] {
        drivers::WrapCaptureOptions options;
        options.path = "/dev/null";
        return std::make_unique<drivers::WrapCapture>(std::make_unique<drivers::Loopback>(), options);
    };
    std::string error;
    embed::Stack locked(config_of(lwkt::Discipline::giant, "locked"));
    CHECK_FALSE(locked.add_interface(captured(), {test::in_family("127.0.0.1/8")}, error));
    CHECK(error.find("system calls") != std::string::npos);
    embed::Stack free(config_of(lwkt::Discipline::message, "free"));
    CHECK(free.add_interface(captured(), {test::in_family("127.0.0.1/8")}, error));
}

TEST_CASE("striped with all its 64 shards, three locks an operation, several threads")
{
    constexpr unsigned threads = 3;
    embed::StackConfig config = config_of(lwkt::Discipline::striped, "wide");
    config.shards = 64;
    config.locks_per_operation = 3;
    config.lock = lwkt::LockKind::spin;
    embed::Stack stack(config);
    std::string error;
    REQUIRE(stack.start(error));
    std::string results[threads];
    std::vector<std::thread> all;
    for (unsigned t = 0; t < threads; ++t) {
        all.emplace_back([&, t] {
            embed::Socket l;
            base::Endpoint at{base::IpAddr::v4(0x7f000001), static_cast<std::uint16_t>(1000 + t)};
            if (embed::Socket::open(stack, SOCK_STREAM, l) != 0 || l.bind(at) != 0 || l.listen(64) != 0) {
                results[t] = "listen";
                return;
            }
            for (int i = 0; i < 20; ++i) {
                embed::Socket c;
                embed::Socket s;
                if (embed::Socket::open(stack, SOCK_STREAM, c) != 0 || c.connect(at) != 0 || l.accept(s) != 0 ||
                    c.send("ping") != 4 || read_exactly(s, 4) != "ping" || s.send("pong") != 4 ||
                    read_exactly(c, 4) != "pong") {
                    results[t] = "connection " + std::to_string(i);
                    return;
                }
            }
        });
    }
    for (std::thread& t : all) {
        t.join();
    }
    for (const std::string& r : results) {
        CHECK(r == "");
    }
}

TEST_CASE("a thread that sleeps for a socket hears at once that another one closed it")
{
    for (auto d : {lwkt::Discipline::message, lwkt::Discipline::giant, lwkt::Discipline::striped}) {
        INFO(static_cast<int>(d));
        embed::Stack stack(config_of(d, "ends"));
        std::string error;
        REQUIRE(stack.start(error));
        embed::Socket s = open(stack, SOCK_DGRAM);
        REQUIRE(s.bind(test::endpoint("127.0.0.1:80")) == 0);
        client::Session& session = s.session();
        client::Sock k = s.id();
        std::atomic<ssize_t> got{1};
        std::thread reader([&] {
            char c;
            got = client::sock_recv(session, k, &c, 1, 0, nullptr, nullptr);
        });
        auto& waiters = session.view.slot(k.slot).app.waiters;
        while (waiters[0].load() == 0) {
            std::this_thread::yield();
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(20)); // asleep
        s.close();
        for (int i = 0; i < 200 && got == 1; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        CHECK(got == -EBADF);
        while (got == 1) { // else the next visit tells it
            exchange(stack);
        }
        reader.join();
    }
}
