// The admission loop beside a gateway, without peers: what it does when a family's memory faults.
#include <sys/mman.h>
#include <unistd.h>

#include "netd/admission_loop.hpp"
#include "tests/gateway/gateway_world.hpp"

using namespace test;

namespace {

struct Loop {
    explicit Loop(World& w)
    {
        std::string error;
        REQUIRE(page.create(1, error));
        netd::Served served{page.fd(), page.bytes(), &w.set};
        admission = std::make_unique<netd::Admission>(
            *w.gw, guard, served, netd::Config{}, [](sockbuf::ControlKind) { return std::vector<std::string>{}; });
        for (auto& ends : quiet) {
            REQUIRE(pipe(ends) == 0);
        }
        admission->start(quiet[0][0], quiet[1][0]);
    }
    ~Loop()
    {
        admission.reset();
        for (auto& ends : quiet) {
            close(ends[0]);
            close(ends[1]);
        }
    }
    gateway::SleepPage page;
    netd::BusGuard guard{8};
    std::unique_ptr<netd::Admission> admission;
    int quiet[2][2]; // for the listening socket and the signals, of which there are none
};

// Nobody's memory any more: every touch of the page faults.
void break_page(std::byte* at)
{
    int fd = memfd_create("broken", MFD_CLOEXEC);
    REQUIRE(mmap(at, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == at);
    close(fd);
}

} // namespace

TEST_CASE("a family that has ended and still sends is aborted when its memory faults: zeros are nobody's text")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp one(w.set, w.clock, *w.gw);
    Loop loop(w);
    std::uint32_t id = w.gw->id(*one.client);
    std::byte* base = one.view.base();
    REQUIRE(loop.guard.watch(base, one.view.layout().bytes, id));
    FakeApp::Sock listener = app.socket(0);
    REQUIRE(app.call(listener, Op::bind, local(4000)) == 0);
    REQUIRE(app.call(listener, Op::listen, {}, 16) == 0);
    FakeApp::Sock k = one.socket(0);
    REQUIRE(one.call(k, Op::connect, local(4000)) == EINPROGRESS);
    one.settle();
    FakeApp::Sock reader = app.accept(listener);
    REQUIRE(reader.slot != 0xffffffff);
    std::string text(65536, 'x');
    for (int i = 0; i < 2; ++i) { // more than the reader's ring holds
        one.send(k, text.data(), text.size());
        one.settle();
    }
    REQUIRE(w.gw->process_gone(*one.client, 0));
    loop.guard.unwatch(id);
    w.gw->detach(*one.client);
    app.settle();
    REQUIRE(w.gw->reap()); // it lingers
    std::byte* somewhere = base + one.view.layout().replies;
    break_page(somewhere);
    CHECK(*static_cast<volatile std::byte*>(somewhere) == std::byte{0});
    REQUIRE(loop.admission->look(0) == 0);
    app.settle();
    CHECK(app.view.slot(reader.slot).info.so_error.load() == ECONNRESET);
    std::string got = app.receive(reader);
    app.settle();
    got += app.receive(reader);
    CHECK(got.find('\0') == std::string::npos);
    CHECK_FALSE(w.gw->reap());
}
