// Delivery rate estimation and BBR: the estimator by itself, and BBR over simulated links in virtual time and by seed,
// so that a run can be judged by its figures.
#include <catch2/catch.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "protocols/tcp/tcp_var.hpp"
#include "tests/tcp/bulk_flow.hpp"

using namespace tcp_test;
using protocols::tcp::Bbr;
using protocols::tcp::DeliveryRate;
using protocols::tcp::RateSample;

namespace {

constexpr double link_octets_per_s = 12.5e6 * 1448 / 1514; // of text, at 100 Mbit/s

PairOptions path(const char* congestion, base::Micros one_way = base::millis(10))
{
    return bottleneck(congestion, 512U << 10, one_way); // a queue of two bandwidth-delay products
}

const Bbr& model_of(const App& a)
{
    REQUIRE(a.so.tcb != nullptr);
    REQUIRE(a.so.tcb->bbr != nullptr);
    return *a.so.tcb->bbr;
}

} // namespace

TEST_CASE("delivery rate: what came between two acknowledgments, over the time that it took")
{
    DeliveryRate d;
    d.sent(16'000, 0, 10'000, 40'000);
    RateSample s = d.delivered(56'000, 10'000, 16'000, 40'000);
    REQUIRE(s.known);
    CHECK(s.delivered == 10'000);
    CHECK(s.interval_us == 40'000);
    CHECK(s.rate() == 250'000);
    CHECK(s.tx_in_flight == 10'000);
    CHECK(d.total() == 10'000);
}

TEST_CASE("delivery rate: acknowledgments in a heap are no faster than the text was sent")
{
    DeliveryRate d;
    d.sent(16'000, 0, 10'000, 40'000);
    d.sent(46'000, 10'000, 20'000, 40'000); // 30 ms later
    d.delivered(86'000, 10'000, 16'000, 40'000);
    RateSample s = d.delivered(86'000, 10'000, 46'000, 40'000);
    REQUIRE(s.known);
    CHECK(s.delivered == 20'000);
    CHECK(s.interval_us == 70'000); // since the flight began
}

TEST_CASE("delivery rate: what came back sooner than the path allows says nothing")
{
    DeliveryRate d;
    d.sent(16'000, 0, 10'000, 40'000);
    RateSample s = d.delivered(20'000, 10'000, 16'000, 40'000);
    CHECK(s.known);
    CHECK(s.rate() == 0);
}

TEST_CASE("delivery rate: what was sent while nothing waited says so, until it is delivered")
{
    DeliveryRate d;
    d.sent(16'000, 0, 1'000, 40'000);
    d.app_limited(1'000);
    d.sent(32'000, 1'000, 2'000, 40'000);
    CHECK(!d.delivered(56'000, 1'000, 16'000, 40'000).app_limited);
    CHECK(d.is_app_limited());
    CHECK(d.delivered(72'000, 1'000, 32'000, 40'000).app_limited);
    CHECK(!d.is_app_limited());
}

TEST_CASE("delivery rate: losses are counted from when the text was sent, and old notes give way")
{
    DeliveryRate d;
    d.sent(16'000, 0, 5'000, 40'000);
    d.lost(2'000, 16'000);
    d.sent(48'000, 5'000, 9'000, 40'000);
    RateSample s = d.lost(1'000, 48'000);
    CHECK(s.lost == 1'000);
    CHECK(s.tx_in_flight == 9'000);
    for (std::uint32_t i = 1; i <= DeliveryRate::notes_max; ++i) {
        d.sent(48'000 + i * 16'000, 9'000, 9'000, 40'000);
    }
    CHECK(!d.delivered(10'000'000, 1'000, 48'000, 40'000).known);
}

TEST_CASE("BBR finds the bandwidth within some round trips, drains the queue, and stands without one")
{
    Pair p(path("bbr"));
    auto [client, server] = p.connected(5001);
    Flow f{*client, *server};
    auto pump = [&] { f.pump(); };
    p.run_for(base::millis(600), pump);
    const Bbr& b = model_of(*client);
    INFO("bandwidth " << b.bandwidth() << ", round trip " << b.min_rtt_us() << ", window " << b.cwnd());
    CHECK(static_cast<double>(b.bandwidth()) > 0.9 * link_octets_per_s);
    CHECK(static_cast<double>(b.bandwidth()) < 1.1 * link_octets_per_s);
    CHECK(b.min_rtt_us() > 19'000); // a run of text is as young as its last part: up to a thirty-second too young
    CHECK(b.min_rtt_us() < 22'000);
    CHECK(b.phase() != Bbr::Phase::startup);
    CHECK(b.phase() != Bbr::Phase::drain);
    std::uint64_t before = f.got;
    std::uint32_t resent = client->so.tcb->retransmitted;
    p.run_for(base::seconds(2), pump);
    CHECK(static_cast<double>(f.got - before) > 2 * 0.9 * link_octets_per_s);
    CHECK(client->so.tcb->rtt.srtt() < base::millis(30)); // a queue of two products would make it 60
    CHECK(client->so.tcb->retransmitted == resent);
    p.close_all();
    p.expect_clean();
    CHECK(p.a.tcp().bbrs.in_use() == 0);
}

TEST_CASE(
    "BBR looks for the shortest round trip when none as short was seen for five seconds, with half a pipe for 200 ms")
{
    Pair p(path("bbr"));
    auto [client, server] = p.connected(5001);
    Flow f{*client, *server};
    base::Micros in_probe{0};
    std::uint32_t least = UINT32_MAX;
    base::Instant before = p.clock.now();
    p.run_for(base::seconds(12), [&, client = client] { // clang: no reference to a structured binding
        f.pump();
        const Bbr& b = model_of(*client);
        if (b.phase() == Bbr::Phase::probe_rtt) {
            in_probe += p.clock.now() - before;
            least = std::min(least, b.cwnd());
        }
        before = p.clock.now();
    });
    CHECK(in_probe >= base::millis(200));
    CHECK(in_probe < 2 * base::millis(400));
    CHECK(least < 0.7 * link_octets_per_s * 0.020);
    CHECK(static_cast<double>(f.got) > 12 * 0.85 * link_octets_per_s);
}

TEST_CASE("BBR is not slowed down by losses that no queue made")
{
    for (std::uint64_t seed : {1, 2, 3}) {
        PairOptions o = path("bbr");
        o.seed = seed;
        o.weather.loss = 0.01;
        Pair p(o);
        auto [client, server] = p.connected(5001);
        Flow f{*client, *server};
        p.run_for(base::seconds(4), [&] { f.pump(); });
        INFO("seed " << seed << ": " << f.got << " octets");
        CHECK(static_cast<double>(f.got) > 4 * 0.7 * link_octets_per_s); // CUBIC: a tenth
    }
}

TEST_CASE("BBR gives way where a tenth is lost: the bound on what may be in flight")
{
    PairOptions o = path("bbr");
    o.weather.queue_bytes_max = 32U << 10; // an eighth of the product
    Pair p(o);
    auto [client, server] = p.connected(5001);
    Flow f{*client, *server};
    p.run_for(base::seconds(2), [&] { f.pump(); });
    std::uint64_t got = f.got;
    std::uint64_t resent = client->so.tcb->retransmitted;
    p.run_for(base::seconds(4), [&] { f.pump(); });
    double sent = static_cast<double>(f.got - got) / 1448;
    CHECK(static_cast<double>(client->so.tcb->retransmitted - resent) < 0.03 * sent);
    CHECK(static_cast<double>(f.got - got) > 4 * 0.75 * link_octets_per_s);
}

TEST_CASE("BBR and CUBIC on one link: neither starves")
{
    PairOptions o = path("cubic");
    Pair p(o);
    auto [one, one_server] = p.connected(5001);
    auto [two, two_server] = p.connected(5002);
    REQUIRE(p.a.set_congestion(*two, "bbr") == 0);
    Flow cubic{*one, *one_server};
    Flow bbr{*two, *two_server};
    p.run_for(base::seconds(20), [&] {
        cubic.pump();
        bbr.pump();
    });
    INFO("CUBIC " << cubic.got << ", BBR " << bbr.got);
    double all = static_cast<double>(cubic.got + bbr.got);
    CHECK(all > 20 * 0.85 * link_octets_per_s);
    CHECK(static_cast<double>(cubic.got) > 0.15 * all);
    CHECK(static_cast<double>(bbr.got) > 0.15 * all);
}

TEST_CASE("BBR: an application that sends little is no measure of the path")
{
    Pair p(path("bbr"));
    auto [client, server] = p.connected(5001);
    Flow f{*client, *server};
    p.run_for(base::seconds(1), [&] { f.pump(); });
    p.run_for(base::seconds(1), [&, server = server] {
        std::vector<unsigned char> bytes(65536);
        while (server->take(bytes.data(), bytes.size()) != 0) {
        }
    });
    std::uint64_t found = model_of(*client).bandwidth();
    base::Instant next = p.clock.now();
    p.run_for(base::seconds(3), [&, client = client, server = server] {
        std::vector<unsigned char> bytes(5000);
        if (p.clock.now() >= next) { // 1 MB/s
            next = p.clock.now() + base::millis(5);
            client->write(bytes.data(), bytes.size());
        }
        while (server->take(bytes.data(), bytes.size()) != 0) {
        }
    });
    CHECK(model_of(*client).is_app_limited());
    CHECK(model_of(*client).bandwidth() > found / 2);
}

TEST_CASE("BBR can be chosen and left while the connection lives")
{
    Pair p(path("cubic"));
    auto [client, server] = p.connected(5001);
    Flow f{*client, *server};
    CHECK(client->so.tcb->bbr == nullptr);
    p.run_for(base::millis(300), [&] { f.pump(); });
    REQUIRE(p.a.set_congestion(*client, "bbr") == 0);
    CHECK(p.a.tcp().bbrs.in_use() == 1);
    p.run_for(base::millis(600), [&] { f.pump(); });
    CHECK(static_cast<double>(model_of(*client).bandwidth()) > 0.8 * link_octets_per_s);
    REQUIRE(p.a.set_congestion(*client, "cubic") == 0);
    CHECK(client->so.tcb->bbr == nullptr);
    CHECK(p.a.tcp().bbrs.in_use() == 0);
    std::uint64_t before = f.got;
    p.run_for(base::seconds(1), [&] { f.pump(); });
    CHECK(static_cast<double>(f.got - before) > 0.5 * link_octets_per_s);
}

TEST_CASE("BBR: a shortest round trip of 40 minutes ago is forgotten with the first sample after it")
{
    constexpr std::uint32_t later_us = 2'400'000'000; // as far as signed differences do not go
    Bbr b(1, 1448, 14480, 0, 0);
    auto round = [&b](std::uint32_t at_us, std::uint32_t rtt_us) {
        b.sent(at_us, 0, 1448, rtt_us);
        protocols::tcp::BbrAck a;
        a.now_us = at_us + rtt_us;
        a.acked = 1448;
        a.sent_us = at_us;
        a.rtt_us = rtt_us;
        b.acked(a);
    };
    round(0, 20'000);
    REQUIRE(b.min_rtt_us() == 20'000);
    round(later_us, 50'000);
    CHECK(b.min_rtt_us() == 50'000);
}
