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
