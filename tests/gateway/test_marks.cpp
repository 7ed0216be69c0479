// Marks: what a summary bit names, when it is forgotten, and what a process leaves that dies in the middle of one.
#include <catch2/catch.hpp>

#include "gateway/poll_set.hpp"
#include "tests/gateway/gateway_world.hpp"

using namespace test;

TEST_CASE("a process that dies between the two steps of a mark has written what it published")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    std::uint32_t child = 0;
    REQUIRE(w.gw->add_process(*app.client, 2, child));
    Pair p = make_pair(app, 4000, 0);
    auto& line = app.view.marks(0);
    for (int i = 0; i < 100 && line.summary[0].load() != 0; ++i) {
        w.set.step();
    }
    REQUIRE(line.summary[0].load() == 0); // unused for a while: forgotten
    app.send(p.client, "half a mark", 11);
    line.summary[0].store(0); // as if the child had not come to the second step
    app.settle();
    REQUIRE(app.receive(p.server).empty());
    REQUIRE_FALSE(w.gw->process_gone(*app.client, child));
    app.settle();
    REQUIRE(app.receive(p.server) == "half a mark");
    close_all(app, p);
}

TEST_CASE("a summary bit that names no word is a fault, once")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp evil(w.set, w.clock, *w.gw);
    auto& line = evil.view.marks(0);
    std::uint32_t words = evil.view.sockets() / 64;
    REQUIRE(words < 64);
    line.summary[0].store(~std::uint64_t{0} << words);
    evil.settle();
    REQUIRE(line.summary[0].load() == 0);
    CHECK(w.gw->counters(0).faults.load() == 1);
    Pair p = make_pair(app, 4000, 0);
    REQUIRE(app.send(p.client, "fine", 4) == 4);
    app.settle();
    REQUIRE(app.receive(p.server) == "fine");
    close_all(app, p);
}

TEST_CASE("families that were quiet for long are heard, each in its turn and all at once")
{
    World w(1);
    constexpr std::size_t families = 12;
    std::vector<std::unique_ptr<FakeApp>> apps;
    std::vector<Pair> pairs;
    for (std::size_t i = 0; i < families; ++i) {
        apps.push_back(std::make_unique<FakeApp>(w.set, w.clock, *w.gw));
        pairs.push_back(make_pair(*apps[i], static_cast<std::uint16_t>(4000 + i), 0));
    }
    auto fall_quiet = [&] {
        for (std::uint32_t i = 0; i < 2 * gateway::PollSet::polls_until_quiet; ++i) {
            w.set.step();
        }
    };
    for (std::size_t i = 0; i < families; ++i) {
        fall_quiet();
        REQUIRE(apps[i]->send(pairs[i].client, "one", 3) == 3);
        apps[i]->settle();
        REQUIRE(apps[i]->receive(pairs[i].server) == "one");
    }
    fall_quiet();
    for (std::size_t i = 0; i < families; ++i) {
        REQUIRE(apps[i]->send(pairs[i].client, "all", 3) == 3);
    }
    apps[0]->settle();
    for (std::size_t i = 0; i < families; ++i) {
        REQUIRE(apps[i]->receive(pairs[i].server) == "all");
    }
    for (std::size_t i = 0; i < families; ++i) {
        close_all(*apps[i], pairs[i]);
    }
}

TEST_CASE("a process that asks without end holds up neither another process of its family nor its marks")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    std::uint32_t child = 0;
    REQUIRE(w.gw->add_process(*app.client, 2, child));
    Pair p = make_pair(app, 4000, 0);
    auto busy = app.socket(0);
    auto bound = app.socket(0);
    app.send(p.client, "marked", 6);
    app.process = child;
    app.push(app.request(bound, Op::bind, local(5000)), 0);
    app.process = 0;
    auto& ring = app.view.requests(0, 0);
    bool served = false;
    for (int i = 0; i < 100 && !served; ++i) {
        while (ring.produced.load() - ring.consumed.load() < sockbuf::request_slots) {
            app.push(app.request(busy, Op::getsockopt), 0);
        }
        w.set.step();
        served = app.view.slot(bound.slot).info.local_port != 0 &&
                 app.view.slot(p.server.slot).owner.rcv_produced.load() == 6;
    }
    CHECK(app.view.slot(bound.slot).info.local_port != 0);
    CHECK(app.receive(p.server) == "marked");
    app.settle();
    app.close(busy);
    app.close(bound);
    close_all(app, p);
    CHECK(w.gw->sockets_held() == 0);
}
