// Event sets over embedded sockets, in virtual time.
#include <algorithm>
#include <array>
#include <vector>

#include "tests/embed/pair.hpp"

using namespace test;

namespace {

struct Fixture {
    Fixture() { REQUIRE(events.open(p.b) == 0); }
    int wait(base::Micros patience = base::millis(100)) { return events.wait(found, world.now() + patience); }

    embed::Simulation world{7};
    Pair p{2, &world};
    embed::Events events;
    std::array<embed::Event, 4> found;
};

int tag_listener;
int tag_child;

} // namespace

TEST_CASE("a set tells of connections, data and the end, and sleeps in between")
{
    Fixture f;
    embed::Socket listener = listen(f.p.b, b_echo);
    f.events.add(listener, EPOLLIN, &tag_listener);
    CHECK(f.wait() == 0);
    embed::Socket c = open(f.p.a, SOCK_STREAM);
    REQUIRE(c.connect(b_echo) == 0);
    REQUIRE(f.wait() == 1);
    CHECK(f.found[0].user == &tag_listener);
    CHECK(f.found[0].events == EPOLLIN);
    embed::Socket s;
    REQUIRE(listener.accept(s) == 0);
    CHECK(f.wait() == 0);
    f.events.add(s, EPOLLIN | EPOLLRDHUP, &tag_child);
    REQUIRE(c.send("x") == 1);
    REQUIRE(f.wait() == 1);
    CHECK(f.found[0].user == &tag_child);
    CHECK(f.found[0].events == EPOLLIN);
    c.close();
    read_exactly(s, 1);
    REQUIRE(f.wait() == 1);
    CHECK(f.found[0].events == (EPOLLIN | EPOLLRDHUP));
}

TEST_CASE("level-triggered members are reported as long as they are ready, edge-triggered ones once per news")
{
    Fixture f;
    embed::Socket listener = listen(f.p.b, b_echo);
    embed::Socket c = open(f.p.a, SOCK_STREAM);
    REQUIRE(c.connect(b_echo) == 0);
    embed::Socket s;
    REQUIRE(listener.accept(s) == 0);
    REQUIRE(c.send("x") == 1);
    SECTION("level")
    {
        f.events.add(s, EPOLLIN, nullptr);
        CHECK(f.wait() == 1);
        CHECK(f.wait() == 1);
        read_exactly(s, 1);
        CHECK(f.wait() == 0);
    }
    SECTION("edge")
    {
        f.events.add(s, EPOLLIN | EPOLLET, nullptr);
        CHECK(f.wait() == 1);
        CHECK(f.wait() == 0);
        REQUIRE(c.send("y") == 1);
        CHECK(f.wait() == 1);
    }
}

TEST_CASE("more ready sockets than places are reported in turn, and none that was taken out")
{
    Fixture f;
    embed::Socket listener = listen(f.p.b, b_echo);
    std::vector<embed::Socket> clients;
    std::vector<embed::Socket> served(6);
    for (embed::Socket& s : served) {
        embed::Socket& c = clients.emplace_back(open(f.p.a, SOCK_STREAM));
        REQUIRE(c.connect(b_echo) == 0);
        REQUIRE(listener.accept(s) == 0);
        f.events.add(s, EPOLLIN | EPOLLET, &s);
        REQUIRE(c.send("x") == 1);
    }
    REQUIRE(f.wait() == 4);
    std::vector<void*> seen;
    for (const embed::Event& e : f.found) {
        seen.push_back(e.user);
    }
    int left = 5; // the first that has not been reported goes
    while (std::find(seen.begin(), seen.end(), &served[static_cast<std::size_t>(left)]) != seen.end()) {
        --left;
    }
    f.events.remove(served[static_cast<std::size_t>(left)]);
    served[static_cast<std::size_t>(left)].close();
    REQUIRE(f.wait() == 1);
    seen.push_back(f.found[0].user);
    std::sort(seen.begin(), seen.end());
    CHECK(std::unique(seen.begin(), seen.end()) == seen.end());
    CHECK(f.wait() == 0);
}

TEST_CASE("a set that gets the waiter of a closed one hears of all news, also of what that one had not taken")
{
    Fixture f;
    embed::Socket b = open(f.p.b, SOCK_DGRAM);
    REQUIRE(b.bind(b_echo) == 0);
    embed::Socket a = open(f.p.a, SOCK_DGRAM);
    char text[4];
    f.events.add(b, EPOLLIN, nullptr);
    CHECK(f.wait() == 0);
    REQUIRE(a.send_to("1", b_echo) == 1);
    f.world.run_for(base::millis(100));
    f.events.close();
    REQUIRE(f.events.open(f.p.b) == 0);
    f.events.add(b, EPOLLIN, nullptr);
    CHECK(f.wait() == 1);
    REQUIRE(b.recv({text, sizeof text}) == 1);
    CHECK(f.wait() == 0);
    REQUIRE(a.send_to("2", b_echo) == 1);
    CHECK(f.wait() == 1);
}
