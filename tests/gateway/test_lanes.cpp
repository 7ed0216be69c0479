// Accept lanes and request rings when listeners close and processes die.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "gateway/client_record.hpp"
#include "gateway/gateway_cpu.hpp"
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

TEST_CASE("a listener's report shows the backlog that was asked for, and what Linux allows at most")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    for (auto [asked, shown] : {std::pair{0, 0U}, {128, 128U}, {511, 511U}, {-1, 4096U}, {5000, 4096U}}) {
        auto listener = listen_on(app, 4000, asked);
        auto all = w.gw->sockets();
        REQUIRE(all.size() == 1);
        CHECK(all[0].send_queue == shown);
        app.close(listener);
        app.settle();
    }
}

TEST_CASE("a report of the sockets comes in pieces: a CPU does what else there is between them")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp idle(w.set, w.clock, *w.gw);
    auto first = app.bound_datagram(0, local(4000));
    FakeApp::Sock last = first;
    for (std::uint16_t port = 4001; port < 4100; ++port) {
        last = app.bound_datagram(0, local(port));
    }
    auto rounds = [&] { return w.set.cpu(0).counters().rounds.load(); };
    std::uint64_t before = rounds();
    auto all = w.gw->sockets();
    CHECK(rounds() - before >= app.view.sockets() / 256);
    REQUIRE(all.size() == 100);
    CHECK(all.front().slot == first.slot);
    CHECK(all.back().slot == last.slot);
}

TEST_CASE("after parting, the end of a family does not show in its memory any more")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    auto listener = listen_on(app, 4000, 16);
    const gateway::Segment& segment = w.gw->segment(*app.client);
    std::uint64_t bytes = segment.bytes();
    void* theirs = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, segment.fd(), 0);
    REQUIRE(theirs != MAP_FAILED);
    sockbuf::SegmentView seen(static_cast<std::byte*>(theirs), segment.view().layout());
    REQUIRE(w.gw->part());
    REQUIRE(w.gw->process_gone(*app.client, 0));
    app.settle();
    CHECK(w.gw->sockets_held() == 0);
    CHECK(app.state(listener) == SlotState::free); // of netd's copy
    CHECK(seen.slot(listener.slot).info.state.load() == static_cast<std::uint32_t>(SlotState::listening));
    munmap(theirs, bytes);
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

namespace {

// What the protocols ask of CPU 0: places for `n` connections that are not complete yet.
std::vector<gateway::SocketRecord*> half_open(World& w, FakeApp& app, FakeApp::Sock listener, std::size_t n)
{
    std::vector<gateway::SocketRecord*> all;
    w.set.call(0, [&](lwkt::Cpu&) {
        gateway::SocketRecord& l = *app.client->slots[listener.slot].record();
        for (std::size_t i = 0; i < n; ++i) {
            if (auto* rec = app.client->gateway_cpus[0]->accepted(l, {}, {}); rec != nullptr) {
                all.push_back(rec);
            }
        }
    });
    return all;
}

void complete(World& w, FakeApp& app, FakeApp::Sock listener, const std::vector<gateway::SocketRecord*>& children)
{
    w.set.call(0, [&](lwkt::Cpu&) {
        for (gateway::SocketRecord* child : children) {
            app.client->gateway_cpus[0]->ready(*app.client->slots[listener.slot].record(), *child);
        }
    });
}

std::uint32_t waiting(FakeApp& app, FakeApp::Sock listener)
{
    auto& slot = app.view.slot(listener.slot);
    auto& lane = app.view.accept_lane(app.view.lanes_of(slot), slot.info.lane_entries, 0);
    return lane.produced.load() - lane.consumed.load();
}

} // namespace

TEST_CASE("connections that are not complete yet have their places in the accept lane")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    auto listener = listen_on(app, 4000, 15); // and one more, as Linux
    auto children = half_open(w, app, listener, 40);
    CHECK(children.size() == 16);
    gateway::SocketRecord* lost = children.back(); // its handshake fails: its place is another one's
    children.pop_back();
    w.set.call(0, [&](lwkt::Cpu&) { app.client->gateway_cpus[0]->detached(*lost); });
    auto more = half_open(w, app, listener, 2);
    REQUIRE(more.size() == 1);
    children.push_back(more.front());
    complete(w, app, listener, children);
    app.settle();
    CHECK(waiting(app, listener) == children.size());
    CHECK(half_open(w, app, listener, 1).empty());
    for (std::size_t i = 0; i < children.size(); ++i) {
        auto k = app.accept(listener);
        REQUIRE(k.slot != 0xffffffff);
        app.close(k);
    }
    CHECK(app.accept(listener).slot == 0xffffffff);
    app.close(listener);
    app.settle();
    CHECK(w.gw->sockets_held() == 0);
}

TEST_CASE("a lane whose index a family moved back is not written beyond its end: what does not fit is reset")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    auto listener = listen_on(app, 4000, 15);
    complete(w, app, listener, half_open(w, app, listener, 16));
    std::vector<FakeApp::Sock> taken;
    for (std::size_t i = 0; i < 16; ++i) {
        taken.push_back(app.accept(listener));
    }
    auto late = half_open(w, app, listener, 3);
    REQUIRE(late.size() == 3);
    auto& slot = app.view.slot(listener.slot);
    auto& lane = app.view.accept_lane(app.view.lanes_of(slot), slot.info.lane_entries, 0);
    std::uint32_t entries = slot.info.lane_entries;
    lane.consumed.store(2 + 16 - entries);
    complete(w, app, listener, late);
    app.settle();
    CHECK(waiting(app, listener) == entries);
    CHECK(w.gw->sockets_held() == 1 + 16 + 2);
    lane.consumed.store(lane.produced.load() - 2);
    for (int i = 0; i < 2; ++i) {
        taken.push_back(app.accept(listener));
        REQUIRE(taken.back().slot != 0xffffffff);
    }
    for (const auto& k : taken) {
        app.close(k);
    }
    app.close(listener);
    app.settle();
    CHECK(w.gw->sockets_held() == 0);
}

TEST_CASE("a close is obeyed also where no more requests may be under way")
{
    World w(2, 1, true, 1);
    FakeApp app(w.set, w.clock, *w.gw);
    auto listener = listen_on(app, 4000, 16);
    for (int i = 0; i < 3; ++i) {
        auto client = app.socket(0);
        app.push(app.request(client, Op::connect, local(4000)), 0); // nobody waits for it
        app.close(client);
    }
    app.close(listener);
    app.settle();
    CHECK(w.gw->sockets_held() == 0);
}

TEST_CASE("slots of a page have one home, and every CPU is home to about as many")
{
    constexpr std::uint32_t slots_per_page = 4096 / sizeof(sockbuf::SocketSlot);
    for (std::uint32_t cpus : {1U, 2U, 3U, 8U}) {
        World w(cpus);
        FakeApp app(w.set, w.clock, *w.gw);
        const gateway::Client& c = *app.client;
        std::vector<std::uint32_t> homes(cpus);
        for (std::uint32_t slot = 0; slot < c.view().sockets(); ++slot) {
            ++homes[c.home(slot)];
            REQUIRE(c.home(slot) == c.home(slot / slots_per_page * slots_per_page));
        }
        auto [least, most] = std::minmax_element(homes.begin(), homes.end());
        CHECK(*most - *least <= 64);
        CHECK(*least >= c.view().sockets() / cpus * 7 / 8);
    }
}

TEST_CASE("a family whose requests are on their way to other CPUs keeps those of no other family from going")
{
    World w(2, 1, false, 8);
    FakeApp good(w.set, w.clock, *w.gw);
    FakeApp evil(w.set, w.clock, *w.gw);
    auto mine = good.socket(1);
    REQUIRE(good.call(mine, Op::bind, local(4000)) == 0);
    auto theirs = evil.socket(1);
    REQUIRE(evil.call(theirs, Op::bind, local(4001)) == 0);
    auto op = GENERATE(Op::listen, Op::close);
    for (int i = 0; i < 64; ++i) {
        evil.push(evil.request(theirs, op), 0); // it is CPU 1's
    }
    for (int i = 0; i < 4; ++i) {
        w.set.step_one(0);
    }
    sockbuf::Request r = good.request(mine, Op::listen, {}, 16); // as one that was pushed before the owner was known
    r.sequence = ++good.sequence;
    good.push(r, 0);
    w.set.step_one(0);
    good.settle();
    auto& reply = good.view.slot(mine.slot).reply;
    CHECK(reply.done.load() == r.sequence);
    CHECK(reply.result == 0);
    CHECK(good.state(mine) == SlotState::listening);
    CHECK(w.gw->counters(0).faults.load() == 0);
    CHECK((w.gw->counters(0).refused.load() != 0 || op == Op::close)); // of which one is enough
    evil.close(theirs);
    good.close(mine);
    good.settle();
}

TEST_CASE("who connects to a listener that was closed is refused, also before its CPU has heard of the close")
{
    World w(2, 1, GENERATE(false, true));
    FakeApp app(w.set, w.clock, *w.gw);
    for (std::uint16_t port = 4000; port < 4008; ++port) {
        FakeApp::Sock listener = app.socket(0);
        REQUIRE(app.call(listener, Op::bind, local(port)) == 0);
        REQUIRE(app.call(listener, Op::listen, {}, 16) == 0);
        FakeApp::Sock client = app.socket(1);
        app.close(listener);
        app.push(app.request(client, Op::connect, local(port)), 1);
        for (int i = 0; i < 50; ++i) {
            w.set.step_one(1); // the other one is slow
        }
        app.settle();
        CHECK(app.view.slot(client.slot).info.so_error.exchange(0) == ECONNREFUSED);
        app.close(client);
        app.settle();
    }
    CHECK(w.gw->sockets_held() == 0);
}
