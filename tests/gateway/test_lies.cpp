// What a family writes into its own memory against the rules: offsets, rings, lanes, whole segments. It loses what it
// lied about, and nobody else anything.
#include <catch2/catch.hpp>

#include <sys/stat.h>

#include <algorithm>
#include <bit>

#include "base/random.hpp"
#include "tests/gateway/gateway_world.hpp"

using namespace test;

TEST_CASE("impossible offsets cost a family that socket only")
{
    World w(2);
    FakeApp app(w.set, w.clock, *w.gw);
    Pair p = make_pair(app, 4000, 0);
    Pair other = make_pair(app, 4001, 1);
    auto& s = app.view.slot(p.client.slot);
    s.app.snd_produced.store(std::uint64_t{1} << 40);
    sockbuf::set_mark(app.view, s.info.owner_cpu.load(), p.client.slot);
    app.settle();
    REQUIRE(app.view.slot(p.server.slot).info.so_error.load() == ECONNRESET);
    REQUIRE(app.send(other.client, "fine", 4) == 4);
    app.settle();
    REQUIRE(app.receive(other.server) == "fine");
}

TEST_CASE("joined: impossible offsets while the connect is on its way between CPUs harm nobody else")
{
    auto seed = GENERATE(range(1, 9));
    World w(2, static_cast<std::uint64_t>(seed), true);
    FakeApp app(w.set, w.clock, *w.gw);
    base::Random random{static_cast<std::uint64_t>(seed)};
    Pair p = make_pair(app, 4000, 0);
    unsigned moved = 0;
    for (std::uint16_t port = 5000; port < 5008; ++port) {
        FakeApp::Sock evil = app.socket(1); // bound, so that it goes to the CPU of its flow
        REQUIRE(app.call(evil, Op::bind, local(port)) == 0);
        auto& s = app.view.slot(evil.slot);
        s.app.snd_produced.store(std::uint64_t{1} << 40);
        app.push(app.request(evil, Op::connect, local(4000)), s.info.owner_cpu.load());
        for (int i = 0; i < 60; ++i) {
            sockbuf::set_mark(app.view, 0, evil.slot);
            sockbuf::set_mark(app.view, 1, evil.slot);
            w.set.step(&random);
        }
        app.settle();
        moved += s.info.owner_cpu.load() != 1 ? 1 : 0;
        REQUIRE(app.state(evil) == SlotState::connected);
        app.close(evil);
        FakeApp::Sock other = app.accept(p.listener);
        REQUIRE(other.slot != 0xffffffff);
        app.close(other);
        app.settle();
    }
    CHECK(moved > 0);
    close_all(app, p);
    CHECK(w.gw->sockets_held() == 0);
}

TEST_CASE("a family that lies about the rings of its sleeping connections loses those connections and nothing else")
{
    World w(2);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp evil(w.set, w.clock, *w.gw);
    Pair mine = make_pair(app, 4000, 0);
    Pair theirs = make_pair(evil, 4001, 1);
    app.settle(10'000'000);
    REQUIRE(w.gw->ring_bytes_in_use() <= 2 * lanes_of_a_listener(2)); // of the listeners: all four ends sleep
    REQUIRE(w.gw->sockets_held() == 6);
    auto& s = evil.view.slot(theirs.client.slot);
    REQUIRE(s.info.snd_ring.load() == sockbuf::no_page);
    // It names rings itself and says that it has written into them.
    s.info.snd_ring.store(app.view.slot(mine.client.slot).info.snd_ring.load() + 100);
    s.info.rcv_ring.store(0x7fffffff);
    s.info.snd_shift = s.info.rcv_shift = 63;
    s.app.snd_produced.store(4096);
    sockbuf::set_mark(evil.view, s.info.owner_cpu.load(), theirs.client.slot);
    // The other end forges what it has read, and a holder of its lock.
    auto& other = evil.view.slot(theirs.server.slot);
    other.share.snd_lock.store(0x41);
    other.app.rcv_consumed.store(1);
    sockbuf::set_mark(evil.view, other.info.owner_cpu.load(), theirs.server.slot);
    evil.settle(10'000'000);
    REQUIRE(other.info.so_error.load() != 0);
    // Asks for rings again and again while awake.
    for (int i = 0; i < 20; ++i) {
        s.app.want_space.store(1);
        sockbuf::set_mark(evil.view, s.info.owner_cpu.load(), theirs.client.slot);
        evil.settle(1'000'000);
    }
    auto& honest = app.view.slot(mine.client.slot);
    honest.app.want_space.store(1);
    sockbuf::set_mark(app.view, honest.info.owner_cpu.load(), mine.client.slot);
    app.settle();
    REQUIRE(app.send(mine.client, "unharmed", 8) == 8);
    app.settle();
    REQUIRE(app.receive(mine.server) == "unharmed");
    w.gw->process_gone(*evil.client, 0);
    w.gw->detach(*evil.client);
    close_all(app, mine);
    app.settle(120'000'000);
    REQUIRE(w.gw->sockets_held() == 0);
    REQUIRE(w.gw->ring_bytes_in_use() == 0);
}

TEST_CASE("lies about a datagram lane cost its family those datagrams only")
{
    constexpr std::uint32_t cpus = 4;
    World w(cpus);
    FakeApp good(w.set, w.clock, *w.gw);
    FakeApp evil(w.set, w.clock, *w.gw);
    base::Random random{7};
    FakeApp::Sock mine = good.bound_datagram(0, local(5000));
    FakeApp::Sock theirs = evil.bound_datagram(1, local(5001));
    std::vector<FakeApp::Sock> senders;
    for (std::uint16_t i = 0; i < 16; ++i) {
        senders.push_back(good.bound_datagram(i % cpus, local(static_cast<std::uint16_t>(6000 + i))));
    }
    std::size_t received = 0;
    for (int round = 0; round < 40; ++round) {
        for (FakeApp::Sock s : senders) {
            good.send_datagram(s, local(5000), std::string(1000, 'g'));
            good.send_datagram(s, local(5001), std::string(1000, 'e'));
        }
        for (std::uint32_t cpu = 0; cpu < cpus; ++cpu) {
            auto& lane = evil.view.lanes(theirs.slot)[cpu];
            lane.consumed.store(random.chance(0.5) ? random.below(1U << 20) : random.next());
            lane.produced.store(random.next());
            lane.ring = random.next();
            lane.shift = random.below(64);
            evil.view.slot(theirs.slot).owner.lanes.store(random.next());
        }
        good.settle();
        for (std::uint32_t cpu = 0; cpu < cpus; ++cpu) {
            for (const std::string& text : good.receive_datagrams(mine, cpu)) {
                CHECK(text == std::string(1000, 'g'));
                ++received;
            }
        }
    }
    CHECK(received == 40 * 16);
    for (FakeApp::Sock s : senders) {
        good.close(s);
    }
    good.close(mine);
    evil.close(theirs);
    good.settle();
    CHECK(w.gw->ring_bytes_in_use() == 0);
    CHECK(w.gw->sockets_held() == 0);
}

TEST_CASE("a family that scribbles over its whole segment harms nobody else")
{
    auto seed = GENERATE(range(1, 25));
    World w(2, static_cast<std::uint64_t>(seed), seed % 2 == 0);
    FakeApp good(w.set, w.clock, *w.gw);
    FakeApp evil(w.set, w.clock, *w.gw);
    base::Random random{static_cast<std::uint64_t>(seed)};
    Pair mine = make_pair(good, 4000, 0);
    Pair theirs = make_pair(evil, 4001, 1);
    (void)theirs;
    const auto& layout = evil.view.layout();
    auto* bytes = evil.view.base();
    for (int i = 0; i < 400; ++i) {
        // Words anywhere before the rings, with a bias for small values, and requests that are nearly right.
        for (int j = 0; j < 50; ++j) {
            std::uint64_t at = (random.next() % layout.rings) & ~std::uint64_t{7};
            if (random.chance(0.5)) {
                at = layout.slots + ((random.next() % (64 * sizeof(sockbuf::SocketSlot))) & ~std::uint64_t{7});
            }
            std::uint64_t value = random.chance(0.5) ? random.below(4096) : random.next();
            std::memcpy(bytes + at, &value, 8);
        }
        sockbuf::Request r{};
        r.op = random.below(10);
        r.slot = random.below(70);
        r.generation = random.below(3);
        r.kind = static_cast<std::uint8_t>(random.below(4));
        r.family = 2;
        r.sequence = random.below(8);
        r.port = static_cast<std::uint16_t>(4000 + random.below(4));
        r.value = static_cast<std::int32_t>(random.next());
        r.level = static_cast<std::int32_t>(random.below(20));
        r.name = static_cast<std::int32_t>(random.below(50));
        r.size = random.below(200);
        std::uint32_t cpu = random.below(2);
        auto& ring = evil.view.requests(0, cpu);
        if (random.chance(0.5)) {
            ring.produced.store(ring.consumed.load());
        }
        evil.push(r, cpu);
        sockbuf::set_mark(evil.view, cpu, random.below(1024));
        w.set.step(&random);
    }
    good.settle();
    REQUIRE(good.send(mine.client, "unharmed", 8) == 8);
    good.settle();
    REQUIRE(good.receive(mine.server) == "unharmed");
    w.gw->process_gone(*evil.client, 0);
    w.gw->detach(*evil.client);
    close_all(good, mine);
    good.settle(120'000'000);
    REQUIRE(w.gw->sockets_held() == 0);
}
