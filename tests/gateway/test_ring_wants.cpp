// Writers that wait for ring memory: all of them get what comes back, however many they are and whosever else wait.
#include "tests/gateway/gateway_world.hpp"

using namespace test;

namespace {

int set_option(FakeApp& app, FakeApp::Sock k, int name, int value)
{
    sockbuf::Request r = app.request(k, Op::setsockopt);
    r.level = SOL_SOCKET;
    r.name = name;
    r.size = sizeof value;
    std::memcpy(r.data, &value, sizeof value);
    r.sequence = ++app.sequence;
    app.push(r, app.view.slot(k.slot).info.owner_cpu.load());
    app.settle();
    return app.view.slot(k.slot).reply.result;
}

// All ring memory that there is, the largest rings first: a socket whose connect was refused keeps its rings.
std::vector<FakeApp::Sock> take_all_memory(FakeApp& app)
{
    std::vector<FakeApp::Sock> all;
    for (int bytes = 8 << 20; bytes >= 32 << 10;) {
        FakeApp::Sock k = app.socket(0);
        REQUIRE(set_option(app, k, SO_SNDBUF, bytes) == 0);
        REQUIRE(set_option(app, k, SO_RCVBUF, bytes) == 0);
        int rc = app.call(k, Op::connect, local(9));
        if (rc == EINPROGRESS) {
            all.push_back(k);
            continue;
        }
        REQUIRE(rc == ENOBUFS);
        app.close(k);
        bytes /= 2;
    }
    return all;
}

void step(World& w)
{
    while (w.set.step()) {
    }
}

// As a writer does whose connection has slept.
void want_ring(FakeApp& app, FakeApp::Sock k)
{
    app.view.slot(k.slot).app.want_space.store(1);
    sockbuf::set_mark(app.view, app.view.slot(k.slot).info.owner_cpu.load(), k.slot);
}

std::size_t with_rings(FakeApp& app, const std::vector<FakeApp::Sock>& all)
{
    std::size_t n = 0;
    for (FakeApp::Sock k : all) {
        n += app.view.send_ring(app.view.slot(k.slot)).valid() ? 1 : 0;
    }
    return n;
}

// Connections to port 4000 that sleep.
std::vector<FakeApp::Sock> sleepers(FakeApp& app, FakeApp& server, FakeApp::Sock listener, std::size_t count)
{
    std::vector<FakeApp::Sock> all;
    for (std::size_t i = 0; i < count; ++i) {
        all.push_back(app.socket(0));
        REQUIRE(app.call(all.back(), Op::connect, local(4000)) == EINPROGRESS);
        app.settle();
        REQUIRE(server.accept(listener).slot != 0xffffffff);
    }
    app.settle(60'000'000);
    REQUIRE(with_rings(app, all) == 0);
    return all;
}

FakeApp::Sock listen_at_4000(FakeApp& app)
{
    FakeApp::Sock listener = app.socket(0);
    REQUIRE(app.call(listener, Op::bind, local(4000)) == 0);
    REQUIRE(app.call(listener, Op::listen, {}, 16) == 0);
    return listener;
}

} // namespace

TEST_CASE("all writers that wait for rings get them when enough come back at once")
{
    constexpr std::size_t many = 150;
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    std::vector<FakeApp::Sock> clients = sleepers(app, app, listen_at_4000(app), many);
    std::vector<FakeApp::Sock> hogs = take_all_memory(app);
    for (FakeApp::Sock k : clients) {
        want_ring(app, k);
    }
    step(w);
    CHECK(with_rings(app, clients) == 0);
    for (std::size_t i = 0; with_rings(app, clients) == 0 && i < hogs.size(); ++i) { // an eighth is kept for text
        app.close(hogs[i]);
        step(w);
    }
    CHECK(with_rings(app, clients) == many);
}

TEST_CASE("a family gets the rings that came back to it whatever other families wait for")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp other(w.set, w.clock, *w.gw);
    FakeApp::Sock listener = listen_at_4000(app);
    std::vector<FakeApp::Sock> clients = sleepers(app, app, listener, 70);
    std::vector<FakeApp::Sock> one = sleepers(other, app, listener, 1);
    take_all_memory(app);
    std::vector<FakeApp::Sock> hogs = take_all_memory(other);
    for (FakeApp::Sock k : clients) {
        want_ring(app, k);
    }
    step(w);
    want_ring(other, one[0]);
    step(w);
    CHECK(with_rings(app, clients) == 0);
    CHECK(with_rings(other, one) == 0);
    for (std::size_t i = 0; i < 8; ++i) {
        other.close(hogs[i]);
        step(w);
    }
    CHECK(with_rings(other, one) == 1);
    CHECK(with_rings(app, clients) == 0);
}
