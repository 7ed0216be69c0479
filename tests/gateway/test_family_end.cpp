// Families and processes that end while a control operation of theirs is on its way over the CPUs, when nobody may
// touch its socket.
#include <catch2/catch.hpp>

#include "gateway/client_record.hpp"
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
