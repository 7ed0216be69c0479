// Accept lanes and request rings when listeners close and processes die.
#include <atomic>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "gateway/client_record.hpp"
#include "tests/gateway/gateway_world.hpp"

using namespace test;

namespace {

FakeApp::Sock listen_on(FakeApp& app, std::uint16_t port, std::int32_t backlog)
{
    FakeApp::Sock listener = app.socket(0);
    REQUIRE(app.call(listener, Op::bind, local(port)) == 0);
    REQUIRE(app.call(listener, Op::listen, {}, backlog) == 0);
    return listener;
}

FakeApp::Sock connect_to(FakeApp& app, std::uint16_t port, std::uint32_t cpu)
{
    FakeApp::Sock client = app.socket(cpu);
    REQUIRE(app.call(client, Op::connect, local(port)) == EINPROGRESS);
    app.settle();
    return client;
}

} // namespace

TEST_CASE("a connection outlives its listener, whose lanes another one has by now; it closes with its process")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    std::uint32_t child = 0;
    REQUIRE(w.gw->add_process(*app.client, 2, child));
    auto first = listen_on(app, 4000, 16);
    auto client = connect_to(app, 4000, 0);
    std::uint64_t lanes = app.view.lanes_of(app.view.slot(first.slot));
    auto server = app.accept(first);
    REQUIRE(server.slot != 0xffffffff);
    auto& holders = app.view.slot(server.slot).share.holders; // the child accepted it
    holders.store(std::uint64_t{1} << child);
    app.close(first);
    app.settle();
    auto second = listen_on(app, 4001, 16);
    REQUIRE(app.view.lanes_of(app.view.slot(second.slot)) == lanes);
    REQUIRE_FALSE(w.gw->process_gone(*app.client, child));
    app.settle();
    CHECK(app.at_end(client));
    app.close(client);
    app.close(second);
    app.settle();
    CHECK(w.gw->sockets_held() == 0);
}

TEST_CASE("a listener that closes resets all that nobody accepted, also where more wait than messages may be under way")
{
    constexpr std::size_t waiting = 40;
    World w(2, 1, false, 4);
    FakeApp app(w.set, w.clock, *w.gw);
    auto listener = listen_on(app, 4000, 64);
    std::vector<FakeApp::Sock> clients;
    for (std::size_t i = 0; i < waiting; ++i) {
        clients.push_back(connect_to(app, 4000, static_cast<std::uint32_t>(i % 2)));
    }
    app.close(listener);
    app.settle();
    for (const auto& client : clients) {
        CHECK(app.view.slot(client.slot).info.so_error.load() == ECONNRESET);
        app.close(client);
    }
    app.settle();
    CHECK(w.gw->sockets_held() == 0);
}

TEST_CASE("a ring that another process fills faster than it is read does not hold up the end of its owner")
{
    constexpr std::uint64_t endless = 100'000;
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    std::uint32_t child = 0;
    REQUIRE(w.gw->add_process(*app.client, 2, child));
    auto& ring = app.view.requests(child, 0);
    for (auto& entry : ring.entries) {
        sockbuf::Request nobody{};
        nobody.slot = app.view.sockets();
        std::memcpy(&entry, &nobody, sizeof entry);
    }
    std::atomic<bool> stop{false};
    std::thread liar([&] {
        while (!stop && app.client->faults.load() < endless) {
            ring.produced.store(ring.consumed.load() + sockbuf::request_slots / 2);
        }
    });
    while (ring.produced.load() == 0) {
        std::this_thread::yield();
    }
    CHECK_FALSE(w.gw->process_gone(*app.client, child));
    stop = true;
    liar.join();
    CHECK(app.client->faults.load() < endless);
}
