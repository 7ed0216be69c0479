// Discipline inline: application threads that are protocol threads. Assertions on the main thread only.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

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
