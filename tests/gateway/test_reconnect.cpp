// A socket that was something else before it connects: what it had on one CPU does not go with it to another.
#include "tests/gateway/gateway_world.hpp"

using namespace test;

TEST_CASE("a listener that was shut down may connect, on whichever CPU the flow is, and leaves nothing behind")
{
    World w(4);
    FakeApp app(w.set, w.clock, *w.gw);
    Pair p = make_pair(app, 4000, 0);
    unsigned moved = 0;
    for (std::uint16_t port = 5000; port < 5016; ++port) {
        FakeApp::Sock s = app.socket(1);
        REQUIRE(app.call(s, Op::bind, local(port)) == 0);
        REQUIRE(app.call(s, Op::listen, {}, 16) == 0);
        REQUIRE(app.call(s, Op::shutdown, {}, SHUT_RD) == 0);
        REQUIRE(app.call(s, Op::connect, local(4000)) == EINPROGRESS);
        app.settle();
        REQUIRE(app.state(s) == SlotState::connected);
        moved += app.view.slot(s.slot).info.owner_cpu.load() != 1 ? 1 : 0;
        app.close(s);
        app.settle();
        FakeApp::Sock other = app.accept(p.listener);
        REQUIRE(other.slot != 0xffffffff);
        app.close(other);
        app.settle();
    }
    CHECK(moved > 0);
    close_all(app, p);
    app.settle(120'000'000);
    CHECK(w.gw->sockets_held() == 0);
    CHECK(w.gw->ring_bytes_in_use() == 0);
}

namespace {

FakeApp::Sock connected(FakeApp& app, std::uint16_t port)
{
    FakeApp::Sock s = app.socket(0);
    REQUIRE(app.call(s, Op::connect, local(port)) == EINPROGRESS);
    app.settle();
    REQUIRE(app.state(s) == SlotState::connected);
    return s;
}

void talk(FakeApp& app, FakeApp::Sock from, FakeApp::Sock to)
{
    app.send(from, "text", 4);
    app.settle();
    CHECK(app.receive(to) == "text");
}

} // namespace

TEST_CASE("a socket that listens, is shut down, fails to connect and listens again has nothing of before")
{
    World w(GENERATE(1U, 4U));
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp::Sock s = app.socket(0);
    REQUIRE(app.call(s, Op::bind, local(4000)) == 0);
    for (std::uint16_t round = 0; round < 6; ++round) {
        REQUIRE(app.call(s, Op::listen, {}, 16) == 0);
        FakeApp::Sock one = connected(app, 4000);
        FakeApp::Sock other = connected(app, 4000);
        FakeApp::Sock child = app.accept(s);
        REQUIRE(child.slot != 0xffffffff);
        auto& slot = app.view.slot(s.slot);
        CHECK(slot.owner.accept_ready.load() == slot.app.accept_taken.load() + 1);
        REQUIRE(app.call(s, Op::shutdown, {}, SHUT_RD) == 0);
        app.settle();
        CHECK(app.state(s) == SlotState::open);
        bool first = app.state(one) == SlotState::connected;        // which of the two it was depends on the lanes
        CHECK(app.state(first ? other : one) == SlotState::closed); // as Linux: what nobody accepted is reset
        talk(app, child, first ? one : other);
        for (FakeApp::Sock k : {child, one, other}) {
            app.close(k, true);
        }
        app.settle();
        REQUIRE(app.call(s, Op::connect, local(static_cast<std::uint16_t>(9 + round))) == EINPROGRESS);
        app.settle();
        CHECK(slot.info.so_error.exchange(0) == ECONNREFUSED);
        REQUIRE(app.call(s, Op::disconnect) == 0);
    }
    FakeApp::Sock listener = app.socket(0);
    REQUIRE(app.call(listener, Op::bind, local(4001)) == 0);
    REQUIRE(app.call(listener, Op::listen, {}, 16) == 0);
    REQUIRE(app.call(s, Op::listen, {}, 16) == 0);
    REQUIRE(app.call(s, Op::shutdown, {}, SHUT_RD) == 0);
    REQUIRE(app.call(s, Op::connect, local(4001)) == EINPROGRESS);
    app.settle();
    FakeApp::Sock peer = app.accept(listener);
    REQUIRE(peer.slot != 0xffffffff);
    talk(app, s, peer);
    talk(app, peer, s);
    CHECK(app.call(s, Op::listen, {}, 16) == EINVAL); // a connection stays what it is
    talk(app, peer, s);
    for (FakeApp::Sock k : {s, peer, listener}) {
        app.close(k, true);
    }
    app.settle();
    CHECK(w.gw->sockets_held() == 0);
    CHECK(w.gw->ring_bytes_in_use() == 0);
}

TEST_CASE("a socket that wanted space for a connection that was refused and listens now keeps its accept lanes")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp::Sock s = app.socket(0);
    REQUIRE(app.call(s, Op::bind, local(4000)) == 0);
    REQUIRE(app.call(s, Op::connect, local(9)) == EINPROGRESS);
    auto& slot = app.view.slot(s.slot);
    slot.app.want_space.store(1);
    app.settle();
    CHECK(slot.info.so_error.exchange(0) == ECONNREFUSED);
    REQUIRE(app.call(s, Op::disconnect) == 0);
    bool again = GENERATE(false, true); // a writer of before asks once more
    REQUIRE(app.call(s, Op::listen, {}, 16) == 0);
    CHECK(slot.app.want_space.load() == 0);
    slot.app.want_space.store(again ? 1 : 0);
    std::uint64_t lanes = app.view.lanes_of(slot);
    sockbuf::set_mark(app.view, 0, s.slot);
    app.settle();
    CHECK(app.view.lanes_of(slot) == lanes);
    FakeApp::Sock one = connected(app, 4000);
    FakeApp::Sock child = app.accept(s);
    REQUIRE(child.slot != 0xffffffff);
    talk(app, one, child);
    for (FakeApp::Sock k : {child, one, s}) {
        app.close(k, true);
    }
    app.settle();
    CHECK(w.gw->sockets_held() == 0);
    CHECK(w.gw->ring_bytes_in_use() == 0);
}

TEST_CASE("a connection that connects to AF_UNSPEC is reset, and its socket connects again with nothing of before")
{
    World w(GENERATE(1U, 4U));
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp::Sock l = app.socket(0);
    REQUIRE(app.call(l, Op::bind, local(4000)) == 0);
    REQUIRE(app.call(l, Op::listen, {}, 16) == 0);
    FakeApp::Sock s = connected(app, 4000);
    FakeApp::Sock far = app.accept(l);
    for (unsigned round = 0; round < 6; ++round) {
        app.send(s, "lost", 4);
        CHECK(app.call(s, Op::disconnect) == EOPNOTSUPP);
        REQUIRE(app.call(s, Op::disconnect, {}, 1) == 0);
        app.settle();
        CHECK(app.state(s) == SlotState::open);
        CHECK(app.state(far) == SlotState::closed);
        CHECK(app.view.slot(s.slot).info.so_error.exchange(0) == ECONNRESET);
        app.close(far, true);
        REQUIRE(app.call(s, Op::connect, local(4000)) == EINPROGRESS);
        app.settle();
        REQUIRE(app.state(s) == SlotState::connected);
        far = app.accept(l);
        REQUIRE(far.slot != 0xffffffff);
        talk(app, s, far);
        talk(app, far, s);
    }
    FakeApp::Sock unaccepted = connected(app, 4000);
    REQUIRE(app.call(l, Op::disconnect, {}, 1) == 0); // a listener ends so too
    app.settle();
    CHECK(app.state(unaccepted) == SlotState::closed);
    talk(app, s, far);
    for (FakeApp::Sock k : {s, far, l, unaccepted}) {
        app.close(k, true);
    }
    app.settle();
    CHECK(w.gw->sockets_held() == 0);
    CHECK(w.gw->ring_bytes_in_use() == 0);
}

TEST_CASE("joined: a socket that received on a connection before talks as any other: it makes an ordinary connection")
{
    World w(GENERATE(1U, 4U), 1, true);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp other(w.set, w.clock, *w.gw);
    FakeApp::Sock theirs = other.socket(0);
    REQUIRE(other.call(theirs, Op::bind, local(4000)) == 0);
    REQUIRE(other.call(theirs, Op::listen, {}, 16) == 0);
    FakeApp::Sock s = connected(app, 4000); // no pair: the other end is another family's
    FakeApp::Sock far = other.accept(theirs);
    REQUIRE(far.slot != 0xffffffff);
    other.send(far, "a greeting", 10);
    other.settle();
    REQUIRE(app.receive(s) == "a greeting");
    REQUIRE(app.call(s, Op::disconnect, {}, 1) == 0);
    app.settle();
    CHECK(app.view.slot(s.slot).info.so_error.exchange(0) == ECONNRESET);
    FakeApp::Sock mine = app.socket(0);
    REQUIRE(app.call(mine, Op::bind, local(4001)) == 0);
    REQUIRE(app.call(mine, Op::listen, {}, 16) == 0);
    REQUIRE(app.call(s, Op::connect, local(4001)) == EINPROGRESS);
    app.settle();
    REQUIRE(app.state(s) == SlotState::connected);
    FakeApp::Sock peer = app.accept(mine);
    REQUIRE(peer.slot != 0xffffffff);
    talk(app, peer, s);
    talk(app, s, peer);
    for (FakeApp::Sock k : {s, peer, mine}) {
        app.close(k, true);
    }
    for (FakeApp::Sock k : {far, theirs}) {
        other.close(k, true);
    }
    app.settle();
    CHECK(w.gw->sockets_held() == 0);
    CHECK(w.gw->ring_bytes_in_use() == 0);
}
