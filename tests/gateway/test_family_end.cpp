// Families and processes that end while a control operation of theirs is on its way over the CPUs, when nobody may
// touch its socket.
#include <catch2/catch.hpp>

#include <fstream>

#include "gateway/client_record.hpp"
#include "sockbuf/side_lock.hpp"
#include "tests/gateway/gateway_world.hpp"

using namespace test;
using sockbuf::Op;

namespace {
constexpr int requests = 12;

std::size_t segments_mapped()
{
    std::ifstream maps("/proc/self/maps");
    std::size_t n = 0;
    for (std::string line; std::getline(maps, line);) {
        n += line.find("netd-segment") != std::string::npos ? 1 : 0;
    }
    return n;
}

// A connection of `from` to `listener` of `to`, which nobody reads, with more text under way than its rings hold.
FakeApp::Sock stuff(FakeApp& from, FakeApp& to, FakeApp::Sock listener)
{
    FakeApp::Sock k = from.socket(0);
    REQUIRE(from.call(k, Op::connect, local(4000)) == EINPROGRESS);
    from.settle();
    REQUIRE(from.state(k) == SlotState::connected);
    FakeApp::Sock accepted = to.accept(listener);
    REQUIRE(accepted.slot != 0xffffffff);
    std::string text(65536, 'x');
    for (int i = 0; i < 2; ++i) {
        from.send(k, text.data(), text.size());
        from.settle();
    }
    return accepted;
}
} // namespace

TEST_CASE("a family's memory goes with its end, though nobody else comes")
{
    World w(2);
    std::size_t before = segments_mapped();
    {
        FakeApp app(w.set, w.clock, *w.gw);
        CHECK(segments_mapped() == before + 1);
        REQUIRE(w.gw->process_gone(*app.client, 0));
        w.gw->detach(*app.client);
    }
    CHECK(segments_mapped() == before);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp::Sock k = app.socket(0);
    REQUIRE(app.call(k, Op::bind, local(4000)) == 0);
    REQUIRE(w.gw->process_gone(*app.client, 0));
    w.gw->detach(*app.client);
    app.settle();
    CHECK_FALSE(w.gw->reap());
    CHECK(segments_mapped() == before);
}

TEST_CASE("families that have ended and still send are no more than may attach: then the oldest is aborted")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp::Sock listener = app.socket(0);
    REQUIRE(app.call(listener, Op::bind, local(4000)) == 0);
    REQUIRE(app.call(listener, Op::listen, {}, 16) == 0);
    std::size_t before = segments_mapped();
    for (std::uint32_t i = 0; i < gateway::GatewayOptions{}.clients_max + 3; ++i) {
        FakeApp one(w.set, w.clock, *w.gw);
        stuff(one, app, listener);
        REQUIRE(w.gw->process_gone(*one.client, 0));
        w.gw->detach(*one.client);
        app.settle();
    }
    CHECK(w.gw->reap());
    CHECK(segments_mapped() > before + gateway::GatewayOptions{}.clients_max / 2); // the others may send on
    CHECK(segments_mapped() <= before + gateway::GatewayOptions{}.clients_max);
}

TEST_CASE(
    "of families that have ended and still send those of the user who has most give way, not an older one of another")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp::Sock listener = app.socket(0);
    REQUIRE(app.call(listener, Op::bind, local(4000)) == 0);
    REQUIRE(app.call(listener, Op::listen, {}, 16) == 0);
    std::vector<FakeApp::Sock> ends;
    for (std::uint32_t i = 0; i < gateway::GatewayOptions{}.clients_max + 3; ++i) {
        FakeApp one(w.set, w.clock, *w.gw, i == 0 ? 1000 : 1001);
        ends.push_back(stuff(one, app, listener));
        REQUIRE(w.gw->process_gone(*one.client, 0));
        w.gw->detach(*one.client);
        app.settle();
    }
    CHECK(app.view.slot(ends[0].slot).info.so_error.load() == 0);
    CHECK(app.view.slot(ends[1].slot).info.so_error.load() == ECONNRESET);
    CHECK(app.view.slot(ends.back().slot).info.so_error.load() == 0);
}

TEST_CASE("a sleeping connection that could not be woken to be closed is closed by the next look")
{
    World w(2);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp victim(w.set, w.clock, *w.gw);
    FakeApp::Sock listener = app.socket(0);
    REQUIRE(app.call(listener, Op::bind, local(4000)) == 0);
    REQUIRE(app.call(listener, Op::listen, {}, 16) == 0);
    FakeApp::Sock ends[2];
    FakeApp::Sock accepted[2];
    for (int i = 0; i < 2; ++i) {
        ends[i] = victim.socket(0);
        REQUIRE(victim.call(ends[i], Op::connect, local(4000)) == EINPROGRESS);
        victim.settle();
        accepted[i] = app.accept(listener);
        REQUIRE(accepted[i].slot != 0xffffffff);
    }
    app.settle(60'000'000);
    gateway::Client& c = *victim.client;
    REQUIRE(c.slots[ends[0].slot].asleep() != nullptr);
    REQUIRE(c.slots[ends[1].slot].asleep() != nullptr);
    // As when its process died and there was no memory for what has to stand in its place.
    victim.view.slot(ends[0].slot).share.holders.fetch_and(~(std::uint64_t{1} << victim.process));
    c.sleeper_left = true;
    w.gw->reap();
    app.settle();
    CHECK(app.at_end(accepted[0]));
    CHECK_FALSE(app.at_end(accepted[1]));
    CHECK(c.slots[ends[1].slot].asleep() != nullptr);
    CHECK_FALSE(w.gw->reap());
}

TEST_CASE("a family that ends while its listen is on its way over the CPUs leaves nothing")
{
    bool poisoned = GENERATE(false, true);
    World w(2);
    {
        FakeApp app(w.set, w.clock, *w.gw);
        FakeApp::Sock k = app.socket(0);
        REQUIRE(app.call(k, Op::bind, local(4000)) == 0);
        sockbuf::Request r{};
        r.op = static_cast<std::uint32_t>(Op::listen);
        r.slot = k.slot;
        r.generation = k.generation;
        r.kind = static_cast<std::uint8_t>(sockbuf::SlotKind::stream);
        r.family = 2;
        r.value = 16;
        for (int i = 0; i < requests; ++i) { // the later ones wait for the first
            app.push(r, 0);
        }
        if (poisoned) {
            w.set.step_one(0);
            w.gw->poison(*app.client);
        }
        REQUIRE(w.gw->process_gone(*app.client, 0));
        w.gw->detach(*app.client);
        app.settle();
    }
    REQUIRE(w.gw->sockets_held() == 0);
    REQUIRE(w.gw->ring_bytes_in_use() == 0);
}

TEST_CASE("a socket whose process died while its bind was on its way is closed, though its family lives")
{
    World w(2);
    FakeApp app(w.set, w.clock, *w.gw);
    REQUIRE(w.gw->add_process(*app.client, 2, app.process));
    FakeApp::Sock k = app.socket(0);
    sockbuf::Request r{};
    r.op = static_cast<std::uint32_t>(Op::bind);
    r.slot = k.slot;
    r.generation = k.generation;
    r.kind = static_cast<std::uint8_t>(sockbuf::SlotKind::stream);
    r.family = 2;
    base::Endpoint at = local(4000);
    r.port = at.port;
    std::memcpy(r.addr, at.addr.bytes(), 16);
    for (int i = 0; i < requests; ++i) {
        app.push(r, 0);
    }
    REQUIRE_FALSE(w.gw->process_gone(*app.client, app.process));
    app.settle();
    REQUIRE(w.gw->sockets_held() == 0);
}

TEST_CASE(
    "a record on its way home is its home CPU's: who swept for the CPU that sent it would read what that one frees")
{
    World w(2);
    FakeApp app(w.set, w.clock, *w.gw);
    unsigned seen = 0;
    for (std::uint16_t port = 4000; port < 4016; ++port) {
        FakeApp::Sock k = app.socket(0);
        REQUIRE(app.call(k, Op::bind, local(port)) == 0);
        app.call(k, Op::connect, local(9)); // refused; the socket went to the CPU of its flow first
        gateway::Client& c = *app.client;
        bool at_home = c.owner[k.slot].load() == c.home(k.slot);
        app.close(k);
        if (at_home) {
            continue;
        }
        for (int i = 0; i < 100 && c.slots[k.slot].record() != nullptr; ++i) {
            w.set.step_one(1);
            const gateway::SocketRecord* rec = c.slots[k.slot].record();
            REQUIRE(rec != nullptr);
            if (rec->detached && !rec->busy) { // the round's roll-up has sent it
                ++seen;
                CHECK(c.owner[k.slot].load() == c.home(k.slot));
                app.close(k); // a hostile request meanwhile is nobody's, and keeps no CPU busy
                app.settle();
                REQUIRE(c.slots[k.slot].record() == nullptr);
            }
            w.set.step_one(0);
        }
    }
    CHECK(seen != 0);
    app.settle();
    REQUIRE(w.gw->sockets_held() == 0);
}

namespace {

// A process of a family that goes on is killed while its bind is on its way: it waits for the close of a socket that
// has its port, which comes with let_go().
struct KilledInBind {
    explicit KilledInBind(World& w) : other(w.set, w.clock, *w.gw), app(w.set, w.clock, *w.gw), before(other.socket(0))
    {
        REQUIRE(other.call(before, Op::bind, local(4000)) == 0);
        other.view.slot(before.slot).share.holders.store(0);
        REQUIRE(w.gw->add_process(*app.client, 2, app.process));
        process = app.process;
        socket = app.socket(0);
        app.push(app.request(socket, Op::bind, local(4000)), 0);
        w.set.step();
    }
    bool on_its_way() const { return app.client->owner[socket.slot].load() == gateway::in_transit; }
    void let_go()
    {
        other.close(before);
        app.settle();
    }
    FakeApp other;
    FakeApp app;
    FakeApp::Sock before;
    std::uint32_t process = 0;
    FakeApp::Sock socket;
};

} // namespace

TEST_CASE("a socket whose process died while its bind was on its way is not the next one's who has the number")
{
    World w(GENERATE(1U, 4U));
    KilledInBind k(w);
    std::uint32_t holder = (k.process + 1) | 77U << sockbuf::side_lock_process_bits;
    auto& share = k.app.view.slot(k.socket.slot).share;
    share.ctl_lock.store(holder); // held over the request
    REQUIRE_FALSE(w.gw->process_gone(*k.app.client, k.process));
    REQUIRE(k.on_its_way());
    std::uint32_t next = 0;
    REQUIRE(w.gw->add_process(*k.app.client, 3, next));
    REQUIRE(k.on_its_way());
    k.let_go();
    CHECK(share.ctl_lock.load() != holder);
    CHECK(w.gw->sockets_held() == 0);
    std::uint32_t after = 0; // nothing is on its way: the number is free again
    REQUIRE_FALSE(w.gw->process_gone(*k.app.client, next));
    REQUIRE(w.gw->add_process(*k.app.client, 4, after));
    CHECK(after == k.process);
}

TEST_CASE("a socket that its process let go, and died before it said so, is closed though its bind was on its way")
{
    World w(GENERATE(1U, 4U));
    KilledInBind k(w);
    k.app.view.slot(k.socket.slot).share.holders.fetch_and(~(std::uint64_t{1} << k.process));
    REQUIRE_FALSE(w.gw->process_gone(*k.app.client, k.process));
    REQUIRE(k.on_its_way());
    k.let_go();
    CHECK(w.gw->sockets_held() == 0);
}
