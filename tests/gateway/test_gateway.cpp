// The gateway over a whole stack on loopback, stepped in virtual time: honest families get their calls, dead processes
// are cleaned up after, hostile families lose their own sockets and nothing else.
#include <catch2/catch.hpp>

#include <sys/stat.h>

#include <algorithm>
#include <bit>

#include "base/random.hpp"
#include "tests/gateway/gateway_world.hpp"

using namespace test;

TEST_CASE("connect, accept, bytes both ways, close; nothing is held afterwards")
{
    auto cpus = GENERATE(1U, 2U, 4U);
    World w(cpus);
    FakeApp app(w.set, w.clock, *w.gw);
    for (std::uint16_t round = 0; round < 4; ++round) {
        Pair p = make_pair(app, static_cast<std::uint16_t>(4000 + round), round % cpus);
        REQUIRE(app.send(p.client, "question", 8) == 8);
        app.settle();
        REQUIRE(app.receive(p.server) == "question");
        REQUIRE(app.send(p.server, "answer", 6) == 6);
        app.settle();
        REQUIRE(app.receive(p.client) == "answer");
        REQUIRE_FALSE(app.at_end(p.server));
        app.close(p.client);
        app.settle();
        REQUIRE(app.at_end(p.server));
        app.close(p.server);
        app.close(p.listener);
        app.settle();
        REQUIRE(w.gw->sockets_held() == 0);
        REQUIRE(w.gw->ring_bytes_in_use() == 0);
    }
}

// Of memory that began as zeros.
std::size_t used(const std::byte* from, std::size_t n)
{
    return n - static_cast<std::size_t>(std::count(from, from + n, std::byte{0}));
}

TEST_CASE("messages that are read one by one use the same bytes: short ones those of the receive ring's head")
{
    World w(2);
    FakeApp app(w.set, w.clock, *w.gw);
    Pair p = make_pair(app, 4000, 0);
    std::size_t bytes = GENERATE(100U, 500U);
    for (int i = 0; i < 1000; ++i) { // more than the ring's 65,536
        std::string message(bytes, static_cast<char>('a' + i % 26));
        REQUIRE(app.send(p.client, message.data(), message.size()) == message.size());
        app.settle();
        REQUIRE(app.receive(p.server) == message);
    }
    const auto& info = app.view.slot(p.server.slot).info;
    std::uint64_t offset = std::uint64_t{info.rcv_ring} << sockbuf::page_shift;
    auto ring = app.view.ring(offset, info.rcv_shift);
    CHECK(used(ring.base(), ring.size()) == (bytes == 100 ? 0 : 500));
    CHECK(used(app.view.head(offset, info.rcv_shift), sockbuf::RingView::head_bytes) == (bytes == 100 ? 100 : 0));
    close_all(app, p);
}

TEST_CASE("more bytes than a ring holds arrive whole")
{
    World w(2);
    FakeApp app(w.set, w.clock, *w.gw);
    Pair p = make_pair(app, 4000, 0);
    std::string sent(1'000'003, '\0');
    base::Random random{7};
    for (char& c : sent) {
        c = static_cast<char>(random.next());
    }
    std::string got;
    std::size_t at = 0;
    for (int i = 0; i < 2000 && got.size() < sent.size(); ++i) {
        at += app.send(p.client, sent.data() + at, sent.size() - at);
        app.settle(1000);
        got += app.receive(p.server);
    }
    REQUIRE(got == sent);
    close_all(app, p);
    REQUIRE(w.gw->sockets_held() == 0);
}

TEST_CASE("errors come back as results")
{
    World w(2);
    FakeApp app(w.set, w.clock, *w.gw);
    auto a = app.socket(0);
    auto b = app.socket(1);
    REQUIRE(app.call(a, Op::bind, local(4000)) == 0);
    REQUIRE(app.call(b, Op::bind, local(4000)) == EADDRINUSE);
    REQUIRE(app.call(a, Op::bind, local(4001)) == EINVAL);
    REQUIRE(app.call(b, Op::bind, {*base::parse_ip("192.0.2.1"), 4000}) == EADDRNOTAVAIL);
    REQUIRE(app.call(b, Op::connect, local(4999)) == EINPROGRESS);
    app.settle();
    REQUIRE(app.view.slot(b.slot).info.so_error.load() == ECONNREFUSED);
    app.close(a);
    app.close(b);
    app.settle();
    auto c = app.socket(0);
    REQUIRE(app.call(c, Op::bind, local(4000)) == 0); // ordered behind the close
    app.close(c);
    app.settle();
    REQUIRE(w.gw->sockets_held() == 0);
}

TEST_CASE("a stale generation is not obeyed")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    auto a = app.socket(0);
    REQUIRE(app.call(a, Op::bind, local(4000)) == 0);
    FakeApp::Sock stale{a.slot, a.generation + 1};
    REQUIRE(app.call(stale, Op::listen, {}, 5) == -1);
    REQUIRE(app.state(a) == SlotState::open);
}

TEST_CASE("a listener that closes resets what nobody accepted")
{
    auto cpus = GENERATE(1U, 4U);
    World w(cpus);
    FakeApp app(w.set, w.clock, *w.gw);
    auto listener = app.socket(0);
    REQUIRE(app.call(listener, Op::bind, local(4000)) == 0);
    REQUIRE(app.call(listener, Op::listen, {}, 16) == 0);
    auto client = app.socket(0);
    REQUIRE(app.call(client, Op::connect, local(4000)) == EINPROGRESS);
    app.settle();
    app.close(listener);
    app.settle();
    REQUIRE(app.view.slot(client.slot).info.so_error.load() == ECONNRESET);
    app.close(client);
    app.settle();
    REQUIRE(w.gw->sockets_held() == 0);
}

TEST_CASE("a process that dies: its sockets close as on exit, what it published is sent")
{
    auto cpus = GENERATE(1U, 2U);
    World w(cpus);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp victim(w.set, w.clock, *w.gw);
    auto listener = app.socket(0);
    REQUIRE(app.call(listener, Op::bind, local(4000)) == 0);
    REQUIRE(app.call(listener, Op::listen, {}, 16) == 0);
    auto client = victim.socket(0);
    REQUIRE(victim.call(client, Op::connect, local(4000)) == EINPROGRESS);
    victim.settle();
    auto server = app.accept(listener);
    REQUIRE(server.slot != 0xffffffff);
    victim.send(client, "last words", 10);
    REQUIRE(w.gw->process_gone(*victim.client, 0));
    w.gw->detach(*victim.client);
    app.settle();
    REQUIRE(app.receive(server) == "last words");
    REQUIRE(app.at_end(server));
    app.close(server);
    app.close(listener);
    app.settle();
    REQUIRE(w.gw->sockets_held() == 0);
    REQUIRE(w.gw->clients() == 1);
}

TEST_CASE("a claim by a process that dies stays in the lane")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    std::uint32_t child = 0;
    REQUIRE(w.gw->add_process(*app.client, 2, child));
    Pair p;
    p.listener = app.socket(0);
    REQUIRE(app.call(p.listener, Op::bind, local(4000)) == 0);
    REQUIRE(app.call(p.listener, Op::listen, {}, 16) == 0);
    p.client = app.socket(0);
    REQUIRE(app.call(p.client, Op::connect, local(4000)) == EINPROGRESS);
    app.settle();
    // The child set its holder bit and died before it moved the index.
    auto& info = app.view.slot(p.listener.slot).info;
    auto& lane = app.view.accept_lane(std::uint64_t{info.rcv_ring} << sockbuf::page_shift, info.lane_entries, 0);
    auto slot = static_cast<std::uint32_t>(sockbuf::SegmentView::lane_entries(lane)[0].load());
    app.view.slot(slot).share.holders.fetch_or(std::uint64_t{1} << child);
    REQUIRE_FALSE(w.gw->process_gone(*app.client, child));
    app.settle();
    p.server = app.accept(p.listener);
    REQUIRE(p.server.slot == slot);
    app.send(p.client, "x", 1);
    app.settle();
    REQUIRE(app.receive(p.server) == "x");
    close_all(app, p);
    REQUIRE(w.gw->sockets_held() == 0);
}

TEST_CASE("who gets the waiter of a dead process is not woken for sockets that that one waited for")
{
    World w(2);
    unsigned wakes = 0;
    w.gw->set_wake([&wakes](std::uint32_t, std::uint32_t) { ++wakes; });
    FakeApp app(w.set, w.clock, *w.gw);
    std::uint32_t child = 0;
    REQUIRE(w.gw->add_process(*app.client, 2, child));
    Pair p = make_pair(app, 4000, 0);
    std::uint32_t mine = 0;
    std::uint32_t its = 0;
    REQUIRE(w.gw->add_waiter(*app.client, 0, sockbuf::WaiterKind::thread, -1, mine));
    REQUIRE(w.gw->add_waiter(*app.client, child, sockbuf::WaiterKind::thread, -1, its));
    auto& waiters = app.view.slot(p.server.slot).app.waiters[0];
    waiters.store(std::uint64_t{1} << mine | std::uint64_t{1} << its);
    REQUIRE_FALSE(w.gw->process_gone(*app.client, child));
    CHECK(waiters.load() == std::uint64_t{1} << mine);
    std::uint32_t heir = 0;
    REQUIRE(w.gw->add_waiter(*app.client, 0, sockbuf::WaiterKind::thread, -1, heir));
    REQUIRE(heir == its);
    app.view.waiter(heir).sleeping.store(1);
    app.send(p.client, "x", 1);
    app.settle();
    CHECK(wakes == 0);
    close_all(app, p);
}

TEST_CASE("the answer to an option call wakes who waits for it, and is no event of the socket for an epoll set")
{
    World w(2, 1, GENERATE(false, true));
    std::vector<std::uint32_t> woken;
    w.gw->set_wake([&woken](std::uint32_t, std::uint32_t waiter) { woken.push_back(waiter); });
    FakeApp app(w.set, w.clock, *w.gw);
    Pair p = make_pair(app, 4000, 0);
    std::uint32_t set = 0;
    std::uint32_t thread = 0;
    REQUIRE(w.gw->add_waiter(*app.client, 0, sockbuf::WaiterKind::set, -1, set));
    REQUIRE(w.gw->add_waiter(*app.client, 0, sockbuf::WaiterKind::thread, -1, thread));
    app.view.slot(p.server.slot).app.waiters[0].store(std::uint64_t{1} << set | std::uint64_t{1} << thread);
    auto call = [&](Op op, std::int32_t value) {
        app.view.waiter(set).sleeping.store(1);
        app.view.waiter(thread).sleeping.store(1);
        app.view.waiter(set).summary[p.server.slot / 4096].store(0);
        app.view.waiter_bits(set)[p.server.slot / 64].store(0);
        woken.clear();
        CHECK(app.call(p.server, op, {}, value) >= 0); // answered
        return app.view.waiter_bits(set)[p.server.slot / 64].load() != 0;
    };
    for (Op op : {Op::getsockopt, Op::setsockopt}) {
        CHECK_FALSE(call(op, 0));
        CHECK(woken == std::vector{thread});
    }
    CHECK(call(Op::shutdown, 1)); // as inet_shutdown of Linux, which wakes whoever polls
    CHECK(woken.size() == 2);
    close_all(app, p);
}

TEST_CASE("the backlog of a listener may be raised")
{
    auto cpus = GENERATE(1U, 2U);
    World w(cpus, 1, GENERATE(false, true));
    FakeApp app(w.set, w.clock, *w.gw);
    auto listener = app.socket(0);
    REQUIRE(app.call(listener, Op::bind, local(4000)) == 0);
    REQUIRE(app.call(listener, Op::listen, {}, 1) == 0);
    REQUIRE(app.call(listener, Op::listen, {}, 100) == 0);
    std::vector<FakeApp::Sock> all;
    for (std::uint32_t i = 0; i < 100; ++i) {
        all.push_back(app.socket(i % cpus));
        REQUIRE(app.call(all.back(), Op::connect, local(4000)) == EINPROGRESS);
    }
    app.settle();
    std::size_t accepted = 0;
    for (auto k = app.accept(listener); k.slot != 0xffffffff; k = app.accept(listener)) {
        all.push_back(k);
        ++accepted;
    }
    CHECK(accepted == 100);
    for (auto k : all) {
        app.close(k);
        app.settle();
    }
    app.close(listener);
    app.settle();
    REQUIRE(w.gw->sockets_held() == 0);
    REQUIRE(w.gw->ring_bytes_in_use() == 0);
}

// What the dying process had done of a write to its partner, in the order in which it does it.
enum class Step { locked, copied, published, delivered, disarmed, taken };

TEST_CASE("joined: a process that dies at any step of a write has written all it published")
{
    auto cpus = GENERATE(1U, 2U);
    auto step = GENERATE(Step::locked, Step::copied, Step::published, Step::delivered, Step::disarmed, Step::taken);
    bool survivor = GENERATE(false, true); // another process holds the socket too
    World w(cpus, 1, true);
    unsigned wakes = 0;
    w.gw->set_wake([&wakes](std::uint32_t, std::uint32_t) { ++wakes; });
    FakeApp app(w.set, w.clock, *w.gw);
    std::uint32_t child = 0;
    REQUIRE(w.gw->add_process(*app.client, 2, child));
    Pair p = make_pair(app, 4000, 0);
    auto& mine = app.view.slot(p.client.slot);
    auto& other = app.view.slot(p.server.slot);
    REQUIRE(mine.app.partner.load() == p.server.slot + 1);
    REQUIRE(other.app.partner.load() == p.client.slot + 1);
    std::uint32_t waiter = 0;
    REQUIRE(w.gw->add_waiter(*app.client, 0, sockbuf::WaiterKind::thread, -1, waiter));
    other.app.waiters[0].store(std::uint64_t{1} << waiter);
    app.view.waiter(waiter).sleeping.store(1);
    mine.share.holders.store(std::uint64_t{1} << child | (survivor ? 1U : 0U));
    mine.share.snd_lock.store(child + 1);
    if (step >= Step::copied) {
        app.view.send_ring(mine).copy_in(0, "last words", 10);
    }
    if (step >= Step::published) {
        mine.app.snd_produced.store(10);
    }
    if (step >= Step::delivered) {
        other.owner.rcv_produced.store(10);
    }
    if (step >= Step::disarmed) {
        other.owner.armed.store(0);
    }
    if (step >= Step::taken) { // and not written to its pipe
        app.view.waiter(waiter).sleeping.store(0);
    }
    wakes = 0;
    REQUIRE_FALSE(w.gw->process_gone(*app.client, child));
    app.settle();
    REQUIRE(app.view.waiter(waiter).sleeping.load() == 0);
    REQUIRE(wakes == 1);
    REQUIRE(mine.share.snd_lock.load() == 0);
    REQUIRE(app.receive(p.server) == (step >= Step::published ? "last words" : ""));
    REQUIRE(app.at_end(p.server) != survivor);
    if (survivor) {
        app.close(p.client);
    }
    app.close(p.server);
    app.close(p.listener);
    app.settle();
    REQUIRE(w.gw->sockets_held() == 0);
    REQUIRE(w.gw->ring_bytes_in_use() == 0);
}

TEST_CASE("joined: slot and rings of an end that closed stay until the other end is closed")
{
    auto cpus = GENERATE(1U, 2U);
    World w(cpus, 1, true);
    FakeApp app(w.set, w.clock, *w.gw);
    Pair p = make_pair(app, 4000, 0);
    app.close(p.server);
    app.settle();
    REQUIRE(app.at_end(p.client));
    REQUIRE(app.view.slot(p.client.slot).app.partner.load() == 0);
    REQUIRE(w.gw->sockets_held() == 3);
    app.send(p.client, "to nobody", 9);
    app.settle();
    REQUIRE(app.view.slot(p.client.slot).info.so_error.load() == EPIPE);
    app.close(p.client);
    app.settle();
    REQUIRE(w.gw->sockets_held() == 1);
    app.close(p.listener);
    app.settle();
    REQUIRE(w.gw->sockets_held() == 0);
    REQUIRE(w.gw->ring_bytes_in_use() == 0);
}

TEST_CASE("joined: families are not joined with each other")
{
    World w(2, 1, true);
    FakeApp one(w.set, w.clock, *w.gw);
    FakeApp two(w.set, w.clock, *w.gw);
    auto listener = one.socket(0);
    REQUIRE(one.call(listener, Op::bind, local(4000)) == 0);
    REQUIRE(one.call(listener, Op::listen, {}, 16) == 0);
    auto client = two.socket(0);
    REQUIRE(two.call(client, Op::connect, local(4000)) == EINPROGRESS);
    two.settle();
    REQUIRE(two.view.slot(client.slot).app.partner.load() == 0);
    auto server = one.accept(listener);
    two.send(client, "by TCP", 6);
    two.settle();
    REQUIRE(one.receive(server) == "by TCP");
}

TEST_CASE("a family that goes while its connections sleep closes them as any other")
{
    World w(2);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp victim(w.set, w.clock, *w.gw);
    auto listener = app.socket(0);
    REQUIRE(app.call(listener, Op::bind, local(4000)) == 0);
    REQUIRE(app.call(listener, Op::listen, {}, 16) == 0);
    auto client = victim.socket(0);
    REQUIRE(victim.call(client, Op::connect, local(4000)) == EINPROGRESS);
    victim.settle();
    auto server = app.accept(listener);
    REQUIRE(server.slot != 0xffffffff);
    app.settle(10'000'000);
    REQUIRE(w.gw->ring_bytes_in_use() == lanes_of_a_listener(2));
    REQUIRE(w.gw->process_gone(*victim.client, 0));
    w.gw->detach(*victim.client);
    app.settle();
    REQUIRE(app.at_end(server));
    app.close(server);
    app.close(listener);
    app.settle(120'000'000);
    REQUIRE(w.gw->sockets_held() == 0);
    REQUIRE(w.gw->clients() == 1);
}

TEST_CASE("a datagram socket's lanes: made where datagrams arrive, of the size asked for, given back at close")
{
    constexpr std::uint32_t cpus = 4;
    World w(cpus);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp::Sock server = app.bound_datagram(1, local(5000));
    std::uint64_t without = w.gw->ring_bytes_in_use();
    std::vector<FakeApp::Sock> senders;
    for (std::uint16_t i = 0; i < 24; ++i) {
        senders.push_back(app.bound_datagram(i % cpus, local(static_cast<std::uint16_t>(6000 + i))));
    }
    std::uint64_t before = w.gw->ring_bytes_in_use();
    app.send_datagram(senders[0], local(5000), "first");
    app.settle();
    CHECK(std::popcount(app.view.slot(server.slot).owner.lanes.load()) == 1);
    CHECK(w.gw->ring_bytes_in_use() == before + (std::uint64_t{1} << 18)); // the default
    for (FakeApp::Sock s : senders) {
        app.send_datagram(s, local(5000), "all");
    }
    app.settle();
    CHECK(app.view.slot(server.slot).owner.lanes.load() == 15);
    CHECK(w.gw->ring_bytes_in_use() == before + (std::uint64_t{cpus} << 18));
    std::size_t got = 0;
    for (std::uint32_t cpu = 0; cpu < cpus; ++cpu) {
        got += app.receive_datagrams(server, cpu).size();
    }
    CHECK(got == 25);
    app.close(server);
    app.settle();
    CHECK(w.gw->ring_bytes_in_use() == before - without);
    for (FakeApp::Sock s : senders) {
        app.close(s);
    }
    app.settle();
    CHECK(w.gw->ring_bytes_in_use() == 0);
    CHECK(w.gw->sockets_held() == 0);
}

TEST_CASE("datagrams that are read one by one use the same bytes: those of the head of their lane's ring")
{
    World w(1);
    FakeApp app(w.set, w.clock, *w.gw);
    FakeApp::Sock to = app.bound_datagram(0, local(5000));
    FakeApp::Sock from = app.bound_datagram(0, local(5001));
    for (int i = 0; i < 3000; ++i) { // more than the ring's 262,144
        std::string text(100, static_cast<char>('a' + i % 26));
        app.send_datagram(from, local(5000), text);
        app.settle();
        REQUIRE(app.receive_datagrams(to, 0) == std::vector<std::string>{text});
    }
    auto ring = app.view.lane_ring(app.view.lanes(to.slot)[0]);
    CHECK(used(ring.base(), ring.size()) == 0);
    app.close(to);
    app.close(from);
    app.settle();
    CHECK(w.gw->sockets_held() == 0);
}

TEST_CASE("pages of connections that closed go back to the kernel, but those of a few rings")
{
    World w(1, 1, false, 1024, base::Micros{0});
    FakeApp app(w.set, w.clock, *w.gw);
    auto blocks = [&] {
        struct stat st {};
        REQUIRE(fstat(w.gw->segment(*app.client).fd(), &st) == 0);
        return st.st_blocks;
    };
    FakeApp::Sock listener = app.socket(0);
    REQUIRE(app.call(listener, Op::bind, local(4000)) == 0);
    REQUIRE(app.call(listener, Op::listen, {}, 16) == 0);
    constexpr int many = 200;
    constexpr int pages = 2; // of each ring that text went through
    constexpr int in_page = 4096 / 512;
    std::vector<FakeApp::Sock> all;
    auto before = blocks();
    for (int i = 0; i < many; ++i) {
        FakeApp::Sock client = app.socket(0);
        REQUIRE(app.call(client, Op::connect, local(4000)) == EINPROGRESS);
        app.settle();
        FakeApp::Sock server = app.accept(listener);
        REQUIRE(server.slot != 0xffffffff);
        std::string text(5000, 'x');
        app.send(client, text.data(), text.size());
        app.settle();
        REQUIRE(app.receive(server) == text);
        all.push_back(client);
        all.push_back(server);
    }
    auto open = blocks();
    REQUIRE(open - before >= 2 * many * pages * in_page);
    for (FakeApp::Sock k : all) {
        app.close(k);
        app.settle();
    }
    app.settle(200'000'000);
    auto left = blocks();
    CHECK(left < open - (2 * many - 64) * pages * in_page); // 64 rings are warm
    CHECK(left > before + 32 * pages * in_page);
    FakeApp::Sock client = app.socket(0); // who takes a ring that has none finds it as good
    REQUIRE(app.call(client, Op::connect, local(4000)) == EINPROGRESS);
    app.settle();
    FakeApp::Sock server = app.accept(listener);
    app.send(client, "and on", 6);
    app.settle();
    CHECK(app.receive(server) == "and on");
}
