// What loss, reordering and duplication cost a bulk transfer, in virtual time and by seed: a run is the same every
// time, so its goodput can be asserted. The bounds are coarse: they tell recovery that works from recovery by timeout.
#include <catch2/catch.hpp>

#include <sys/socket.h>

#include "tests/tcp/pair.hpp"

using namespace tcp_test;

namespace {

struct Outcome {
    double seconds = 0;
    std::uint64_t timeouts = 0;
    std::uint64_t retransmits = 0;
    std::uint64_t recoveries = 0;
    std::uint64_t by_dsack = 0;
    std::uint64_t by_eifel = 0;
    std::uint64_t by_frto = 0;
    std::uint64_t probes = 0;
    std::uint64_t dsacks = 0;
};

constexpr std::uint64_t bytes = 4U << 20;

// 4 MiB over 20 ms and 100 Mbit/s, queue of 256 KiB, segments cut before the link. Client to server; ACKs come back
// over the same weather.
PairOptions path(std::uint64_t seed)
{
    PairOptions o;
    o.seed = seed;
    o.split = true;
    o.ring_shift = 19;
    o.weather.delay = base::millis(10);
    o.weather.rate_bits_per_s = 100'000'000;
    o.weather.queue_bytes_max = 256U << 10;
    return o;
}

Outcome transfer(const PairOptions& o, int pacing_rate = -1)
{
    Pair p(o);
    auto [client, server] = p.connected(5001);
    REQUIRE(p.a.set_option(*client, SOL_SOCKET, SO_MAX_PACING_RATE, pacing_rate) == 0);
    base::Instant start = p.clock.now();
    Stream up(*client, *server, bytes, o.seed);
    REQUIRE(p.run_until([&] { return up.pump(); }, base::seconds(600)));
    CHECK(up.correct());
    Outcome r;
    r.seconds = std::chrono::duration<double>(p.clock.now() - start).count();
    const protocols::TcpCounters& c = p.a.tcp().counters;
    r.timeouts = c.timeouts;
    r.retransmits = c.retransmits;
    r.recoveries = c.fast_recoveries;
    r.by_dsack = c.undos_dsack;
    r.by_eifel = c.undos_eifel;
    r.by_frto = c.undos_frto;
    r.probes = c.probes;
    r.dsacks = c.dsacks;
    p.close_all();
    p.expect_clean();
    return r;
}

std::string say(const Outcome& r)
{
    return std::to_string(r.seconds) + " s, " + std::to_string(r.timeouts) + " timeouts, " +
           std::to_string(r.retransmits) + " retransmits, " + std::to_string(r.recoveries) + " recoveries, " +
           std::to_string(r.probes) + " probes, " + std::to_string(r.dsacks) + " D-SACKs, undone " +
           std::to_string(r.by_dsack) + " by D-SACK, " + std::to_string(r.by_eifel) + " by timestamp, " +
           std::to_string(r.by_frto) + " by F-RTO";
}

} // namespace

TEST_CASE("goodput without impairment fills the link")
{
    Outcome r = transfer(path(1));
    INFO(say(r));
    CHECK(r.seconds < 0.55); // 4 MiB take 0.35 s at the link's rate, and slow start some round trips
    CHECK(r.dsacks == 0);    // nothing was sent again that had arrived
    CHECK(r.timeouts == 0);
}

TEST_CASE("goodput: one segment in a thousand lost, no timeout")
{
    for (std::uint64_t seed : {1, 2, 3, 4, 5}) {
        PairOptions o = path(seed);
        o.weather.loss = 0.001;
        Outcome r = transfer(o);
        INFO("seed " << seed << ": " << say(r));
        CHECK(r.seconds < 1.5);
        CHECK(r.timeouts == 0);
    }
}

TEST_CASE("goodput: one in a hundred lost is repaired without timeouts")
{
    for (std::uint64_t seed : {1, 2, 3, 4, 5}) {
        PairOptions o = path(seed);
        o.weather.loss = 0.01;
        Outcome r = transfer(o);
        INFO("seed " << seed << ": " << say(r));
        CHECK(r.seconds < 5);
        CHECK(r.timeouts <= 1);
        CHECK(r.recoveries > 3);
    }
}

TEST_CASE("goodput: reordering within a quarter of a round trip is not loss")
{
    for (std::uint64_t seed : {1, 2, 3}) {
        PairOptions o = path(seed);
        o.weather.queue_bytes_max = 4U << 20; // no loss
        o.weather.reorder = 0.02;
        o.weather.reorder_hold = base::millis(3);
        Outcome r = transfer(o);
        INFO("seed " << seed << ": " << say(r));
        CHECK(r.seconds < 0.7);
        // Before reordering was seen, and where the burst that a late segment lets out finds a shorter queue.
        CHECK(r.recoveries <= 3);
        CHECK(r.timeouts == 0);
    }
}

TEST_CASE("goodput: reordering beyond the window is learned from D-SACKs")
{
    for (std::uint64_t seed : {1, 2, 3}) {
        PairOptions o = path(seed);
        o.weather.queue_bytes_max = 4U << 20; // no loss
        o.weather.reorder = 0.02;
        o.weather.reorder_hold = base::millis(12);
        Outcome r = transfer(o);
        INFO("seed " << seed << ": " << say(r));
        CHECK(r.seconds < 1.5);
        CHECK(r.timeouts == 0);
        CHECK(r.by_dsack + r.by_eifel != 0);
    }
}

TEST_CASE("goodput: duplication costs nothing")
{
    PairOptions o = path(1);
    o.weather.duplicate = 0.05;
    Outcome r = transfer(o);
    INFO(say(r));
    CHECK(r.seconds < 0.6);
    CHECK(r.timeouts == 0);
}

TEST_CASE("goodput: hundreds of holes at once are repaired one by one, nothing twice")
{
    PairOptions o = path(1);
    o.ring_shift = 23;
    o.weather.delay = base::millis(50);
    o.weather.queue_bytes_max = 600U << 10; // slow start overflows it by half a window
    Pair p(o);
    auto both = p.connected(5001);
    auto* client = both.first;
    auto* server = both.second;
    std::uint64_t dropped = 0;
    std::size_t borrowed = 0;
    std::vector<unsigned char> piece(65536);
    p.run_for(base::seconds(5), [&] {
        while (client->write(piece.data(), piece.size()) != 0) {
        }
        while (server->take(piece.data(), piece.size()) != 0) {
        }
        dropped = std::max<std::uint64_t>(dropped, server->so.tcb->out_of_order.count());
        borrowed = std::max(borrowed, p.a.tcp().long_runs.in_use() + p.b.tcp().long_ranges.in_use());
    });
    const protocols::TcpCounters& c = p.a.tcp().counters;
    INFO(dropped << " holes, " << c.retransmits << " retransmits, " << c.dsacks << " D-SACKs, " << c.timeouts
                 << " timeouts, " << server->so.tcb->bytes_received << " octets");
    CHECK(dropped > protocols::tcp::reassembly_ranges_max);
    CHECK(borrowed == 2);
    CHECK(p.b.tcp().counters.reassembly_full == 0);
    CHECK(c.dsacks == 0);
    CHECK(c.timeouts == 0);
    p.close_all();
    p.expect_clean();
    CHECK(p.a.tcp().long_runs.in_use() + p.b.tcp().long_ranges.in_use() == 0);
}

TEST_CASE("goodput: every algorithm fills a clean link and repairs loss without timeouts")
{
    for (const char* name : {"cubic", "reno", "dctcp", "bbr", "westwood"}) {
        PairOptions o = path(3);
        o.congestion = static_cast<std::uint8_t>(protocols::tcp::congestion_by_name(name));
        Outcome clean = transfer(o);
        INFO(name << ": " << say(clean));
        CHECK(clean.seconds < 0.6);
        o.weather.loss = 0.002;
        Outcome lossy = transfer(o);
        INFO("with loss: " << say(lossy));
        CHECK(lossy.seconds < 3);
        CHECK(lossy.timeouts == 0);
    }
}

TEST_CASE("goodput: a paced connection sends at its rate, whatever the link would take")
{
    Outcome r = transfer(path(1), 4'000'000); // octets a second: 4 MiB take 1.05 s
    INFO(say(r));
    CHECK(r.seconds > 1.04);
    CHECK(r.seconds < 1.3);
    CHECK(r.retransmits == 0); // no burst, no full queue
}
