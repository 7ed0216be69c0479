// Two stacks over the simulated link in stepped virtual time: streams with checksums under loss, reordering and
// duplication, half-close, simultaneous open and close, tiny windows, many short connections; nothing may be left over
// afterwards.
#include <catch2/catch.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstring>
#include <map>
#include <tuple>

#include "protocols/tcp/tcp_var.hpp"
#include "tests/tcp/pair.hpp"

using namespace tcp_test;

namespace {

drivers::Impairments bad_weather()
{
    drivers::Impairments i;
    i.loss = i.reorder = i.duplicate = 0.02;
    i.delay = base::millis(2);
    return i;
}

bool pump_both(Stream& one, Stream& other)
{
    bool done = one.pump();
    return other.pump() && done;
}

void bulk_both_ways(const PairOptions& o, std::uint64_t bytes)
{
    Pair p(o);
    auto [client, server] = p.connected(5001);
    Stream up(*client, *server, bytes, 1);
    Stream down(*server, *client, bytes, 2);
    REQUIRE(p.run_until([&] { return pump_both(up, down); }, base::seconds(3600)));
    CHECK(up.correct());
    CHECK(down.correct());
    p.close_all();
    p.expect_clean();
}

} // namespace

TEST_CASE("bulk both ways on a clean link")
{
    bulk_both_ways({}, 4U << 20);
}

TEST_CASE("bulk both ways at 2 % loss, reordering and duplication")
{
    PairOptions o;
    o.seed = 7;
    o.weather = bad_weather();
    o.split = true;
    bulk_both_ways(o, 8U << 20);
}

TEST_CASE("bulk both ways in bad weather without segmentation offload, four CPUs a side")
{
    PairOptions o;
    o.seed = 11;
    o.weather = bad_weather();
    o.tso = false;
    o.cpus = 4;
    bulk_both_ways(o, 2U << 20);
}

TEST_CASE("bulk both ways where segments are cut and joined in software, in good and in bad weather")
{
    for (unsigned cpus : {1U, 4U}) {
        for (bool bad : {false, true}) {
            INFO("CPUs " << cpus << " bad weather " << bad);
            PairOptions o;
            o.seed = 13;
            o.cpus = cpus;
            o.tso = false;
            o.gso = o.gro = true;
            o.csum_offload = !bad;
            if (bad) {
                o.weather = bad_weather();
                o.weather.corrupt = 0.01;
            }
            bulk_both_ways(o, 2U << 20);
        }
    }
}

TEST_CASE("what is cut in software is what a link with segmentation offload cuts, and it arrives joined")
{
    PairOptions o;
    o.tso = false;
    o.gso = o.gro = true;
    Pair p(o);
    auto [client, server] = p.connected(5020);
    Stream up(*client, *server, 1U << 20, 3);
    REQUIRE(p.run_until([&] { return up.pump(); }, base::seconds(60)));
    CHECK(up.correct());
    const protocols::StackCounters& a = p.a.stack->domain(0).counters;
    const protocols::StackCounters& b = p.b.stack->domain(0).counters;
    CHECK(a.gso_cut > 0);
    CHECK(a.gso_segments > 2 * a.gso_cut);
    CHECK(b.gro_joined > 0);
    CHECK(b.gro_segments > 2 * b.gro_joined);
    CHECK(b.ip_in + b.ip6_in < a.ip_out + a.ip6_out + a.gso_segments / 2);
    p.close_all();
    p.expect_clean();
}

TEST_CASE("corruption is caught by the checksum")
{
    PairOptions o;
    o.seed = 5;
    o.weather.corrupt = 0.02;
    o.weather.delay = base::millis(1);
    o.split = true;
    o.csum_offload = false;
    bulk_both_ways(o, 2U << 20);
}

TEST_CASE("a half-closed connection still carries the other direction")
{
    Pair p({});
    auto [client, server] = p.connected(5002);
    client->finish();
    REQUIRE(p.run_until([&, s = server] { return s->at_end(); }, base::seconds(5)));
    Stream down(*server, *client, 1U << 20, 3);
    REQUIRE(p.run_until([&] { return down.pump(); }, base::seconds(60)));
    CHECK(down.correct());
    p.close_all();
    p.expect_clean();
}

TEST_CASE("both sides close at once")
{
    Pair p({});
    auto [client, server] = p.connected(5003);
    client->finish();
    server->finish();
    REQUIRE(p.run_until([&, c = client, s = server] { return s->at_end() && c->at_end(); }, base::seconds(5)));
    p.close_all();
    p.expect_clean();
}

TEST_CASE("a reader that stops closes the window, and probes find it open again")
{
    PairOptions o;
    o.ring_shift = 13;
    Pair p(o);
    auto [client, server] = p.connected(5004);
    std::string text(100000, 'x');
    std::uint64_t sent = 0;
    auto write_more = [&, c = client] { sent += c->write(text.data(), text.size() - sent); };
    p.run_for(base::seconds(30), write_more);
    CHECK(server->readable() == 8192);
    Stream down(*server, *client, 4096, 4); // the other direction is not disturbed
    REQUIRE(p.run_until([&] { return down.pump(); }, base::seconds(5)));
    std::uint64_t got = 0;
    std::vector<char> buffer(3000);
    REQUIRE(p.run_until(
        [&, s = server] {
            write_more();
            got += s->take(buffer.data(), buffer.size());
            return got == text.size();
        },
        base::seconds(300)));
    p.close_all();
    p.expect_clean();
}

TEST_CASE("tiny windows in bad weather")
{
    PairOptions o;
    o.ring_shift = 11;
    o.weather = bad_weather();
    o.split = true;
    o.seed = 21;
    bulk_both_ways(o, 100000);
}

TEST_CASE("of too many TIME-WAIT records the oldest goes")
{
    PairOptions o;
    o.time_wait_per_cpu = 2;
    Pair p(o);
    App& listener = p.listen(5006);
    std::vector<base::FourTuple> flows;
    for (unsigned i = 0; i < 3; ++i) {
        App& client = p.connect(5006);
        REQUIRE(p.run_until([&] { return listener.accepted.size() == 1; }, base::seconds(5)));
        flows.push_back(client.so.flow);
        p.a.close(client);
        App& server = *listener.accepted.back();
        listener.accepted.clear();
        REQUIRE(p.run_until([&] { return server.at_end(); }, base::seconds(5)));
        p.b.close(server);
        REQUIRE(p.run_until([&] { return client.detached; }, base::seconds(5)));
    }
    protocols::TcpState& tcp = p.a.tcp();
    CHECK(tcp.time_wait.slab.in_use() == 2);
    CHECK(tcp.counters.time_wait_overflow == 1);
    CHECK(tcp.flows.find(flows[0]) == nullptr);
    CHECK(tcp.flows.find(flows[1]) != nullptr);
    CHECK(tcp.flows.find(flows[2]) != nullptr);
    p.b.close(listener);
    p.close_all();
    p.expect_clean();
}

TEST_CASE("a connect that finds no room leaves the TIME-WAIT record whose place it wanted")
{
    PairOptions o;
    o.stack.connections_per_cpu = 2;
    Pair p(o);
    auto [first, server] = p.connected(5006);
    base::FourTuple flow = first->so.flow;
    p.a.close(*first);
    REQUIRE(p.run_until([s = server] { return s->at_end(); }, base::seconds(5)));
    p.b.close(*server);
    REQUIRE(p.run_until([f = first] { return f->detached; }, base::seconds(5)));
    p.run_for(base::seconds(2)); // from then on it yields (RFC 6191)
    App& listener = p.listen(5007);
    p.connect(5007);
    p.connect(5007);
    REQUIRE(p.run_until([&] { return listener.accepted.size() == 2; }, base::seconds(5)));

    App& again = p.a.make();
    REQUIRE(p.a.set_option(again, SOL_SOCKET, SO_REUSEADDR, 1) == 0);
    REQUIRE(p.a.bind(again, flow.local) == 0);
    CHECK(p.a.connect(again, flow.peer) == ENOBUFS);
    CHECK(p.a.tcp().time_wait.slab.in_use() == 1);
    CHECK(p.a.tcp().flows.find(flow) != nullptr);
    p.b.close(listener);
    p.close_all();
    p.expect_clean();
}

TEST_CASE("many short connections leave nothing behind")
{
    PairOptions o;
    o.cpus = 2;
    Pair p(o);
    App& listener = p.listen(5005);
    unsigned done = 0;
    for (unsigned round = 0; round < 20; ++round) {
        std::vector<App*> clients;
        for (unsigned i = 0; i < 10; ++i) {
            clients.push_back(&p.connect(5005, static_cast<base::CpuId>(i % 2)));
        }
        REQUIRE(p.run_until([&] { return listener.accepted.size() == clients.size(); }, base::seconds(5)));
        for (App* s : listener.accepted) {
            s->write("hello", 5);
            p.b.close(*s);
        }
        listener.accepted.clear();
        for (App* c : clients) {
            REQUIRE(
                p.run_until([&] { return c->readable() == 5 && c->slot.owner.rcv_end.load() == 5; }, base::seconds(5)));
            char text[5];
            c->take(text, 5);
            CHECK(std::memcmp(text, "hello", 5) == 0);
            p.a.close(*c);
            ++done;
        }
    }
    CHECK(done == 200);
    p.b.close(listener);
    p.close_all();
    p.expect_clean();
}

TEST_CASE("a connection to nobody is refused")
{
    Pair p({});
    App& c = p.connect(5999);
    REQUIRE(p.run_until([&] { return c.error() != 0; }, base::seconds(5)));
    CHECK(c.error() == ECONNREFUSED);
    p.close_all();
    p.expect_clean();
}

TEST_CASE("closing with unread text resets the peer")
{
    Pair p({});
    auto [client, server] = p.connected(5006);
    client->write("unread", 6);
    REQUIRE(p.run_until([&, s = server] { return s->readable() == 6; }, base::seconds(5)));
    p.b.close(*server);
    REQUIRE(p.run_until([&, c = client] { return c->error() != 0; }, base::seconds(5)));
    CHECK(client->error() == ECONNRESET);
    p.close_all();
    p.expect_clean();
}

TEST_CASE("256 MiB each way at 2 % loss, reordering and duplication", "[.slow]")
{
    PairOptions o;
    o.seed = 2;
    o.weather = bad_weather();
    o.split = true;
    o.cpus = 2;
    o.ring_shift = 20;
    bulk_both_ways(o, 256U << 20);
}

// What tcp_idle.cpp does with a connection that wakes: it remembers its MSS alone.
TEST_CASE("RFC 4821: a connection that slept searches on from the segments that it used")
{
    PairOptions o;
    o.stack.mtu_probing = protocols::MtuProbing::always;
    Pair p(o);
    auto [client, server] = p.connected(5001);
    protocols::Tcb& t = *client->so.tcb;
    std::uint32_t full = t.plpmtu.high;
    std::uint32_t headers = full - (t.agreed.peer_mss != 0 ? t.agreed.peer_mss : 0U);
    t.mss = 1200;
    t.plpmtu = {};
    protocols::tcp::plpmtu_resume(t);
    CHECK(t.plpmtu.low == 1200 + protocols::tcp::timestamp_bytes + headers);
    CHECK(t.plpmtu.high == full);
    t.mss = full - headers - protocols::tcp::timestamp_bytes; // all that the path may have
    t.plpmtu = {};
    protocols::tcp::plpmtu_resume(t);
    CHECK_FALSE(t.plpmtu.on());
    p.close_all();

    Pair without({});
    auto [other, listener] = without.connected(5001);
    other->so.tcb->mss = 1200;
    protocols::tcp::plpmtu_resume(*other->so.tcb);
    CHECK_FALSE(other->so.tcb->plpmtu.on());
    without.close_all();
}

TEST_CASE("RFC 9293 3.8.5: an urgent mark is new however much was read since the one before it")
{
    Pair p({});
    auto [client, server] = p.connected(5001);
    protocols::Tcb& t = *server->so.tcb;
    auto points_ahead = [&p, &t](std::uint16_t octets) { // the mark is where the pointer says
        protocols::tcp::Segment s;
        s.header.flags = protocols::wire::tcp_urg | protocols::wire::tcp_ack;
        s.header.seq = s.seq = t.rcv.nxt;
        s.header.urgent = octets;
        p.b.run(0, [&](protocols::Domain&) {
            protocols::tcp::Actions a;
            protocols::tcp::check_urgent(t, s, a);
        });
        return t.so->slot->owner.urgent_mark.load() == t.rcv.nxt_offset + octets;
    };
    CHECK(points_ahead(10));
    CHECK_FALSE(points_ahead(5)); // the same text, announced already
    CHECK(points_ahead(20));
    constexpr std::uint32_t since = 3U << 30; // more than sequence numbers can compare
    t.rcv.nxt += since;
    t.rcv.nxt_offset += since;
    CHECK(points_ahead(10));
    t.rcv.nxt = t.rcv.nxt - since;
    t.rcv.nxt_offset -= since;
    p.close_all();
}

TEST_CASE("a connection sleeps though it saw urgent text, once that is read")
{
    Pair p({});
    auto [client, server] = p.connected(5001);
    auto may_sleep = [&p, so = &server->so] {
        bool may = false;
        p.b.run(
            0, [&](protocols::Domain&) { may = protocols::so_take_consumed(*so) && protocols::tcp_may_sleep(*so); });
        return may;
    };
    client->slot.app.snd_urgent().store(1);
    client->write("!", 1);
    p.run_for(base::seconds(1));
    REQUIRE(server->slot.owner.urgent_mark.load() == 1);
    CHECK_FALSE(may_sleep());
    char c = 0;
    REQUIRE(server->take(&c, 1) == 1);
    p.run_for(base::seconds(1));
    CHECK(may_sleep());
    p.close_all();
    p.expect_clean();
}

TEST_CASE("a connection sleeps though it saw a duplicate that it cannot report")
{
    PairOptions o;
    o.stack.tcp_sack = false;
    o.weather.duplicate = 1;
    Pair p(o);
    auto [client, server] = p.connected(5001);
    client->write("!", 1);
    p.run_for(base::seconds(1));
    char c = 0;
    REQUIRE(server->take(&c, 1) == 1);
    p.run_for(base::seconds(1));
    bool may = false;
    p.b.run(0, [&may, so = &server->so](
                   protocols::Domain&) { may = protocols::so_take_consumed(*so) && protocols::tcp_may_sleep(*so); });
    CHECK(may);
    p.close_all();
    p.expect_clean();
}

TEST_CASE("a paced connection sleeps once what it sends next would not wait: it knows no pace when it wakes")
{
    Pair p({});
    auto [client, server] = p.connected(5001);
    p.run_for(base::seconds(1));
    client->so.options.max_pacing_rate = 1000;
    const std::string text(1000, 'x');
    client->write(text.data(), text.size());
    auto may_sleep = [&p, so = &client->so] {
        bool may = false;
        p.a.run(0, [&](protocols::Domain&) { may = protocols::tcp_may_sleep(*so); });
        return may;
    };
    p.run_for(base::millis(900));
    CHECK(client->so.tcb->flight() == 0);
    CHECK_FALSE(may_sleep());
    p.run_for(base::millis(200));
    CHECK(may_sleep());
    std::string got(1000, '.');
    REQUIRE(server->take(got.data(), got.size()) == 1000);
    p.close_all();
    p.expect_clean();
}

TEST_CASE("two ends whose numbers a forged segment moved apart do not answer each other for ever")
{
    PairOptions o;
    o.weather.delay = base::millis(1);
    Pair p(o);
    auto [client, server] = p.connected(5001);
    p.run_for(base::seconds(1));
    auto move = [c = client->so.tcb, s = server->so.tcb](std::int32_t octets) {
        for (protocols::Tcb* t : {c, s}) {
            t->rcv.nxt = t->rcv.nxt + octets;
            t->rcv.adv = t->rcv.adv + octets;
        }
    };
    move(10);
    std::uint64_t before = p.a.tcp().counters.segments_out.load() + p.b.tcp().counters.segments_out.load();
    client->write("!", 1); // old text to the server, whose ACK is an old one to the client
    p.run_for(base::millis(190));
    std::uint64_t after = p.a.tcp().counters.segments_out.load() + p.b.tcp().counters.segments_out.load();
    CHECK(after - before < 20); // text and probes are answered
    move(-10);
    p.run_for(base::seconds(5));
    CHECK(server->readable() == 1);
    p.close_all();
    p.expect_clean();
}

TEST_CASE("RFC 3168 6.1.2: a mark is answered however much went unmarked since the one before it")
{
    PairOptions o;
    o.stack.ecn = protocols::Ecn::on;
    Pair p(o);
    auto [client, server] = p.connected(5001);
    protocols::Tcb& t = *client->so.tcb;
    REQUIRE(t.agreed.ecn == protocols::tcp::EcnMode::classic);
    t.ecn.reduced = true;
    t.ecn.high = t.snd.nxt;
    client->write("text", 4);
    p.run_for(base::seconds(1));
    REQUIRE(t.snd.una == t.ecn.high + 4);
    CHECK_FALSE(t.ecn.reduced);
    t.ecn.high = t.snd.una - (3U << 30); // more than sequence numbers can compare
    p.a.run(0, [&](protocols::Domain&) {
        protocols::tcp::AckRound r;
        r.flight_before = 1000;
        protocols::tcp::take_echo(t, r);
    });
    CHECK(p.a.tcp().counters.ecn_reductions == 1);
    p.close_all();
}

TEST_CASE("Nagle: a small segment of 2 GiB ago holds nothing back")
{
    PairOptions o;
    o.weather.delay = base::millis(10);
    Pair p(o);
    auto [client, server] = p.connected(5001);
    protocols::Tcb& t = *client->so.tcb;
    std::vector<char> text(t.mss);
    t.snd.small_end = t.snd.una - (0x7fffffffU - t.mss);
    for (unsigned i = 0; i < 2; ++i) {
        client->write(text.data(), t.mss);
        p.run_for(base::seconds(1));
        REQUIRE(t.flight() == 0);
    }
    client->write(text.data(), t.mss);
    p.run_for(base::millis(1));
    REQUIRE(t.flight() == t.mss);
    client->write(text.data(), 10);
    p.run_for(base::millis(1));
    CHECK(t.flight() == t.mss + 10);
    p.close_all();
}

TEST_CASE("text that waits for a packet waits on, however long there is none: its peer is not silent")
{
    Pair p(PairOptions{});
    App* client = nullptr;
    App* server = nullptr;
    std::tie(client, server) = p.connected(7000);
    std::vector<netmsg::Packet*> held;
    p.a.run(0, [&](protocols::Domain& d) {
        while (netmsg::Packet* packet = d.stack.pool().allocate()) {
            held.push_back(packet);
        }
    });
    char text[100] = {};
    client->write(text, sizeof text);
    p.run_for(base::seconds(60));
    CHECK(server->readable() == 0);
    CHECK(client->error() == 0);
    p.a.run(0, [&](protocols::Domain&) {
        for (netmsg::Packet* packet : held) {
            packet->free();
        }
    });
    CHECK(p.run_until([&] { return server->readable() == sizeof text; }, base::seconds(60)));
}
