// Discipline inline: application threads that are protocol threads. Assertions on the main thread only.
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client/socket_calls.hpp"
#include "lwkt/adopt.hpp"
#include "tests/embed/pair.hpp"

using namespace test;

namespace {

embed::StackConfig inline_config(std::size_t cpus, const char* name)
{
    embed::StackConfig c = stack_config(cpus, nullptr, 3, name);
    c.discipline = lwkt::Discipline::inline_;
    return c;
}

struct InlinePair {
    explicit InlinePair(std::size_t cpus) : a(inline_config(cpus, "a")), b(inline_config(cpus, "b"))
    {
        std::string error;
        bool good =
            embed::join(a, test::in_family("10.0.0.1/24"), b, test::in_family("10.0.0.2/24"), {}, link, error) &&
            a.start(error) && b.start(error);
        INFO(error);
        REQUIRE(good);
    }
    drivers::SimLink link;
    embed::Stack a;
    embed::Stack b;
};

// Runs the CPUs of this thread until the others have come as far.
void meet(std::atomic<int>& here, int all)
{
    ++here;
    while (here < all) {
        if (!lwkt::run_adopted()) {
            std::this_thread::yield();
        }
    }
}

// Both ends on one thread: nothing here can block for another thread. Empty = good.
std::string converse(embed::Stack& a, embed::Stack& b, std::size_t bytes)
{
    embed::Socket l;
    embed::Socket c;
    embed::Socket s;
    if (embed::Socket::open(b, SOCK_STREAM, l, test::family()) != 0 || l.bind(b_echo) != 0 || l.listen(8) != 0) {
        return "listen";
    }
    if (embed::Socket::open(a, SOCK_STREAM, c, test::family()) != 0 || c.connect(b_echo) != 0 || l.accept(s) != 0) {
        return "connect";
    }
    std::string sent(bytes, 'q');
    if (c.send(sent) != static_cast<ssize_t>(bytes) || read_exactly(s, bytes) != sent) {
        return "forth";
    }
    if (s.send(sent) != static_cast<ssize_t>(bytes) || read_exactly(c, bytes) != sent) {
        return "back";
    }
    c.close();
    char byte = 0;
    return s.recv({&byte, 1}) == 0 ? "" : "end";
}

// An echo server for `connections`, one after the other.
std::string serve(embed::Socket& listener, int connections)
{
    std::vector<char> buffer(8192);
    for (int i = 0; i < connections; ++i) {
        embed::Socket s;
        if (int rc = listener.accept(s); rc != 0) {
            return "accept " + std::to_string(rc);
        }
        for (ssize_t n = s.recv(buffer); n != 0; n = s.recv(buffer)) {
            if (n < 0 || s.send({buffer.data(), static_cast<std::size_t>(n)}, MSG_NOSIGNAL) != n) {
                return "echo " + std::to_string(n);
            }
        }
    }
    return "";
}

std::string ask(embed::Stack& stack, int connections)
{
    for (int i = 0; i < connections; ++i) {
        embed::Socket c;
        std::string text(2000 + static_cast<std::size_t>(i), static_cast<char>('a' + i % 26));
        if (embed::Socket::open(stack, SOCK_STREAM, c, test::family()) != 0 || c.connect(b_echo) != 0) {
            return "connect";
        }
        for (int turn = 0; turn < 20; ++turn) {
            if (c.send(text, MSG_NOSIGNAL) != static_cast<ssize_t>(text.size()) ||
                read_exactly(c, text.size()) != text) {
                return "connection " + std::to_string(i);
            }
        }
    }
    return "";
}

} // namespace

TEST_CASE("one thread is application and protocol of two stacks")
{
    InlinePair p(1);
    auto a = p.a.adopt(0);
    auto b = p.b.adopt(0);
    CHECK(converse(p.a, p.b, 100000) == "");
    lwkt::Snapshot counted = p.b.counters();
    CHECK(counted.rounds != 0);
    CHECK(counted.doorbells_sent == 0);
}

TEST_CASE("two threads, a CPU of each stack each: the work crosses threads and wakes sleepers")
{
    constexpr int connections = 40;
    InlinePair p(2);
    std::atomic<int> adopted{0};
    std::atomic<int> listening{0};
    std::atomic<int> finished{0};
    std::string results[2];
    std::thread server([&] {
        auto a = p.a.adopt(0);
        auto b = p.b.adopt(0);
        meet(adopted, 2);
        embed::Socket l;
        bool good =
            embed::Socket::open(p.b, SOCK_STREAM, l, test::family()) == 0 && l.bind(b_echo) == 0 && l.listen(64) == 0;
        meet(listening, 2);
        results[0] = good ? serve(l, connections) : "listen";
        l.close();
        meet(finished, 2);
    });
    std::thread user([&] {
        auto a = p.a.adopt(1);
        auto b = p.b.adopt(1);
        meet(adopted, 2);
        meet(listening, 2);
        results[1] = ask(p.a, connections);
        meet(finished, 2);
    });
    std::vector<gateway::SocketReport> seen = p.b.sockets(); // a thread without a CPU asks those that have one
    server.join();
    user.join();
    CHECK(results[0] == "");
    CHECK(results[1] == "");
    CHECK(p.b.sockets().size() <= seen.size() + std::size_t{2} * connections); // and CPUs that nobody runs
}

TEST_CASE("a socket is made on the CPU of its thread")
{
    InlinePair p(2);
    auto a = p.a.adopt(1);
    for (int i = 0; i < 20; ++i) {
        embed::Socket s = open(p.a, SOCK_STREAM);
        CHECK(s.session().view.slot(s.id().slot).info.owner_cpu.load() == 1);
    }
}

TEST_CASE("a CPU of a new set is heard, whose doorbell has the number that an ended set's had")
{
    lwkt::RealClock clock;
    lwkt::CpuSetOptions o;
    o.pin = {-1};
    o.discipline = lwkt::Discipline::inline_;
    o.spin_max = base::Micros{0};
    o.waiter = GENERATE(lwkt::WaiterKind::io_uring, lwkt::WaiterKind::epoll);
    lwkt::CpuSet first(clock, o);
    first.start();
    lwkt::Adopted sleeper(first.cpu(0));
    std::atomic<std::uint32_t> woken{0};
    auto second = std::make_unique<lwkt::CpuSet>(clock, o);
    second->start();
    int number = second->cpu(0).doorbell_fd();
    {
        lwkt::Adopted also(second->cpu(0));
        lwkt::run_adopted();
        lwkt::wait_adopted(clock.now() + base::millis(5), woken);
    }
    second.reset();
    second = std::make_unique<lwkt::CpuSet>(clock, o);
    second->start();
    REQUIRE(second->cpu(0).doorbell_fd() == number);
    lwkt::Adopted also(second->cpu(0));
    std::atomic<bool> rang{false};
    base::Instant start = clock.now();
    std::thread ringer([&] {
        while (second->cpu(0).sleep_word().load() == 0) {
            std::this_thread::yield();
        }
        rang = true; // first: who is woken before it looks would sleep again
        second->cpu(0).ring();
    });
    while (!rang) {
        lwkt::run_adopted();
        lwkt::wait_adopted(start + base::seconds(60), woken);
    }
    ringer.join();
    CHECK(clock.now() - start < base::seconds(30)); // heard, and not the deadline
}

TEST_CASE("a thread that has adopted a CPU makes and ends a stack while another gives its waiter back")
{
    InlinePair p(1);
    auto a = p.a.adopt(0);
    auto b = p.b.adopt(0);
    std::atomic<int> waited{0};
    std::thread sleeper([&] {
        embed::Socket s;
        if (embed::Socket::open(p.a, SOCK_DGRAM, s, test::family()) == 0) {
            timeval soon{0, 10'000};
            client::sock_setsockopt(s.session(), s.id(), SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
            char byte = 0;
            waited = s.bind(test::endpoint("10.0.0.1:9")) == 0 ? static_cast<int>(s.recv({&byte, 1})) : 1;
            s.close();
        }
    }); // gives its waiter back when it ends, for which every CPU has to answer
    while (waited == 0) {
        lwkt::run_adopted();
    }
    CHECK(waited == -EAGAIN);
    for (int i = 0; i < 3; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(30)); // it waits for us by now
        embed::Stack other(inline_config(1, "other"));
        std::string error;
        CHECK(other.start(error));
    }
    std::atomic<bool> over{false};
    std::thread joiner([&] {
        sleeper.join();
        over = true;
    });
    while (!over) {
        lwkt::run_adopted();
    }
    joiner.join();
}
