// Families and processes that end while a control operation of theirs is on its way over the CPUs, when nobody may
// touch its socket.
#include <catch2/catch.hpp>

#include "tests/gateway/gateway_world.hpp"

using namespace test;
using sockbuf::Op;

namespace {
constexpr int requests = 12;
} // namespace

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
