// Westwood+ on CUBIC: the estimate by itself, what a loss leaves, and connections over simulated links in virtual time
// and by seed, alone and beside CUBIC (`[.figures]` prints what decision 0036 says).
#include <catch2/catch.hpp>

#include <linux/inet_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "protocols/tcp/tcp_var.hpp"
#include "tests/tcp/bulk_flow.hpp"

using namespace tcp_test;
using namespace protocols::tcp;

namespace {

constexpr std::uint32_t mss = 1000;
constexpr double link_octets_per_s = 12.5e6 * 1448 / 1514; // of text, at 100 Mbit/s

// A connection as congestion control sees it: a window is acknowledged every `rtt`, in two halves.
struct Path {
    CongestionState c;
    base::Instant now{base::seconds(100)};
    base::Micros rtt = base::millis(100);
    std::uint32_t min_rtt_us = 100'000;
    std::uint32_t at = 0xffffff00U; // wraps

    explicit Path(std::uint32_t segments = 100)
    {
        congestion_start(westwood_algorithm, c, mss);
        c.cwnd = segments * mss;
        c.ssthresh = c.cwnd; // no first slow start
    }
    AckFacts facts(std::uint32_t acked, bool limited)
    {
        at += acked;
        AckFacts a;
        a.acked = acked;
        a.limited = limited;
        a.now = now;
        a.srtt = rtt;
        a.min_rtt_us = min_rtt_us;
        a.ack = Seq{at};
        a.nxt = a.ack + c.cwnd;
        return a;
    }
    void ack(std::uint32_t acked, bool limited = false) // not limited: the window stays
    {
        congestion_on_ack(westwood_algorithm, c, facts(acked, limited));
    }
    void round(std::uint32_t octets)
    {
        now += rtt / 2;
        ack(octets / 2);
        now += rtt / 2;
        ack(octets / 2);
    }
    void rounds(unsigned n, std::uint32_t octets)
    {
        for (; n > 0; --n) {
            round(octets);
        }
    }
    double rate() const { return static_cast<double>(c.westwood.rate); }
    std::uint32_t left_by_loss(std::uint32_t flight)
    {
        congestion_on_loss(westwood_algorithm, c, flight);
        CHECK(c.cwnd == c.ssthresh);
        return c.ssthresh;
    }
};

PairOptions path(const char* congestion, double queue_products = 2)
{
    return bottleneck(congestion, static_cast<std::uint32_t>(250'000 * queue_products));
}

const CongestionState& state_of(const App& a)
{
    REQUIRE(a.so.tcb != nullptr);
    return a.so.tcb->cc;
}

double goodput(const char* congestion, double loss)
{
    PairOptions o = path(congestion);
    o.weather.loss = loss;
    Pair p(o);
    auto [client, server] = p.connected(5001);
    Flow f{*client, *server};
    p.run_for(base::seconds(10), [&] { f.pump(); });
    return static_cast<double>(f.got) / 10;
}

} // namespace

TEST_CASE("westwood: the estimate after steady ACKs is what they acknowledge in a second")
{
    Path p;
    p.ack(mss); // the first begins the interval
    CHECK(p.rate() == 0);
    p.round(100 * mss);
    CHECK(p.rate() == Approx(1e6)); // the first sample is taken as it is
    p.rounds(50, 100 * mss);
    CHECK(p.rate() == Approx(1e6));
}

TEST_CASE("westwood: samples are filtered twice, by an eighth each")
{
    Path p;
    p.ack(mss);
    p.round(100 * mss);
    p.round(50 * mss);
    CHECK(p.rate() == Approx(1e6 - 0.5e6 / 64));
    p.round(50 * mss);
    CHECK(static_cast<double>(p.c.westwood.fresh) == Approx(0.5e6 + 0.5e6 * 49 / 64));
    CHECK(p.rate() == Approx(1e6 - 0.5e6 / 64 * (1 + 7.0 / 8 + 7.0 / 8)));
    p.rounds(100, 50 * mss);
    CHECK(p.rate() == Approx(0.5e6).epsilon(0.001));
    p.round(100 * mss);
    CHECK(p.rate() == Approx(0.5e6 + 0.5e6 / 64).epsilon(0.001));
}

TEST_CASE("westwood: a sample takes a round trip, and 50 ms at least")
{
    Path p;
    p.rtt = base::millis(10);
    p.ack(mss);
    p.rounds(4, 10 * mss);
    CHECK(p.rate() == 0);
    p.round(10 * mss);
    CHECK(p.rate() == Approx(1e6));
}

TEST_CASE("westwood: in the first slow start the estimate rises at once; the filter alone lets it fall")
{
    Path p;
    p.c.ssthresh = CongestionState{}.ssthresh;
    p.ack(mss);
    p.round(10 * mss);
    p.round(20 * mss);
    p.round(40 * mss);
    CHECK(p.rate() == Approx(0.4e6));
    p.round(20 * mss);
    CHECK(p.rate() == Approx(0.4e6 - 0.2e6 / 64));
}

TEST_CASE("westwood: a loss without a queue leaves what the path holds; the window is not widened by it")
{
    Path p;
    p.ack(mss);
    p.rounds(10, 90 * mss); // 900,000 octets a second over 100 ms
    SECTION("less than what was in flight")
    {
        CHECK(p.left_by_loss(100 * mss) == Approx(90 * mss).epsilon(0.0001));
    }
    SECTION("more")
    {
        CHECK(p.left_by_loss(80 * mss) == 80 * mss);
    }
    SECTION("an ECN echo is answered as a loss")
    {
        congestion_on_mark(westwood_algorithm, p.c, 100 * mss);
        CHECK(p.c.cwnd == Approx(90 * mss).epsilon(0.0001));
    }
    SECTION("a timeout leaves one segment, and that as ssthresh")
    {
        congestion_on_timeout(westwood_algorithm, p.c, 100 * mss, true);
        CHECK(p.c.cwnd == mss);
        CHECK(p.c.ssthresh == Approx(90 * mss).epsilon(0.0001));
    }
}

TEST_CASE("westwood: after a timeout CUBIC's curve begins at its plateau (RFC 9438 4.8)")
{
    Path p;
    p.rounds(100, 100 * mss);
    congestion_on_timeout(westwood_algorithm, p.c, 80 * mss, true);
    p.c.cwnd = p.c.ssthresh; // slow start is over
    std::uint32_t after = p.c.cwnd;
    for (unsigned n = 10; n > 0; --n) {
        p.now += p.rtt;
        p.ack(p.c.cwnd, true);
    }
    CHECK(p.c.cwnd <= after + 10 * mss); // Reno's slope; towards the old maximum it was faster
}

TEST_CASE("westwood: a mark never widens the window, however much is in flight above it")
{
    Path p;
    p.rounds(100, 100 * mss);
    p.c.cwnd = 60 * mss; // an earlier mark; what is SACKed counts as in flight
    congestion_on_mark(westwood_algorithm, p.c, 90 * mss);
    CHECK(p.c.cwnd <= 60 * mss);
}

TEST_CASE("westwood: a queue is taken off the window, down to what CUBIC leaves")
{
    Path p;
    p.ack(mss);
    p.rounds(10, 100 * mss);
    SECTION("a fifth of the window was queue")
    {
        p.min_rtt_us = 80'000;
        p.round(100 * mss);
        CHECK(p.left_by_loss(100 * mss) == Approx(80 * mss).epsilon(0.0001));
    }
    SECTION("half of it")
    {
        p.min_rtt_us = 50'000;
        p.round(100 * mss);
        CHECK(p.left_by_loss(100 * mss) == 70 * mss);
    }
    SECTION("never below two segments")
    {
        CHECK(p.left_by_loss(mss) == 2 * mss);
    }
}

TEST_CASE("westwood: without an estimate a loss is CUBIC's, and CUBIC grows the window")
{
    Path p(1000);
    CHECK(p.left_by_loss(1000 * mss) == 700 * mss);
    CHECK(p.c.cubic.w_max == Approx(1000));
    CongestionState cubic;
    congestion_start(cubic_algorithm, cubic, mss);
    cubic.cwnd = 1000 * mss;
    congestion_on_loss(cubic_algorithm, cubic, 1000 * mss);
    for (unsigned i = 0; i < 20; ++i) {
        p.now += p.rtt;
        AckFacts a = p.facts(700 * mss, true);
        congestion_on_ack(westwood_algorithm, p.c, a);
        congestion_on_ack(cubic_algorithm, cubic, a);
    }
    CHECK(p.c.cwnd == cubic.cwnd);
    CHECK(p.c.cwnd > 850 * mss);
}

TEST_CASE("westwood: what a recovery delivers is measured, SACKed octets when they are SACKed")
{
    Path p;
    p.ack(mss);
    p.rounds(5, 100 * mss);
    for (unsigned i = 1; i <= 4; ++i) { // a hole: SACKs rise by a window each round trip
        p.now += p.rtt;
        AckFacts a = p.facts(0, true);
        a.sacked = i * 100 * mss;
        westwood_algorithm.observe_recovery(p.c, a);
    }
    CHECK(p.rate() == Approx(1e6));
    std::uint32_t window = p.c.cwnd;
    p.now += p.rtt;
    p.ack(500 * mss); // the hole is filled
    CHECK(p.rate() == Approx(1e6));
    CHECK(p.c.cwnd == window);
    SECTION("octets whose SACKs a timeout forgot do not count again")
    {
        p.now += p.rtt;
        AckFacts a = p.facts(0, true);
        a.sacked = 100 * mss;
        westwood_algorithm.observe_recovery(p.c, a);
        p.now += p.rtt;
        a = p.facts(0, true); // no SACKs
        westwood_algorithm.observe_recovery(p.c, a);
        CHECK(p.rate() == Approx(1e6 * (1 - 1.0 / 64))); // a sample of nothing
        p.now += p.rtt;
        p.ack(100 * mss);
        CHECK(p.rate() == Approx(1e6 * (1 - 1.0 / 64 * (1 + 7.0 / 8 + 7.0 / 8)))); // and another
    }
}

TEST_CASE("westwood: an idle time is no part of a sample, a slow application is what the samples say")
{
    Path p;
    p.ack(mss);
    p.rounds(20, 100 * mss);
    SECTION("idle")
    {
        p.now += base::seconds(60);
        congestion_after_idle(westwood_algorithm, p.c, base::seconds(60), base::millis(300));
        CHECK(p.c.cubic.epoch == base::never);
        p.ack(mss);
        p.rounds(3, 100 * mss);
        CHECK(p.rate() == Approx(1e6));
    }
    SECTION("a pause shorter than the timeout weighs a sixty-fourth")
    {
        p.now += base::millis(200) - p.rtt;
        p.round(100 * mss);
        CHECK(p.rate() == Approx(1e6 - 0.5e6 / 64).epsilon(0.01));
    }
    SECTION("slow")
    {
        p.rounds(100, 10 * mss);
        CHECK(p.rate() == Approx(1e5).epsilon(0.01));
    }
}

TEST_CASE("westwood: chosen and left while the connection lives, the window stays and the estimate begins anew")
{
    Pair p(path("cubic"));
    auto [client, server] = p.connected(5001);
    Flow f{*client, *server};
    p.run_for(base::millis(500), [&] { f.pump(); });
    std::uint32_t window = state_of(*client).cwnd;
    REQUIRE(p.a.set_congestion(*client, "westwood") == 0);
    CHECK(state_of(*client).cwnd == window);
    CHECK(state_of(*client).westwood.rate == 0);
    p.run_for(base::seconds(1), [&] { f.pump(); });
    CHECK(static_cast<double>(state_of(*client).westwood.rate) == Approx(link_octets_per_s).epsilon(0.03));
    CHECK(state_of(*client).westwood.min_rtt_us == Approx(20'000).epsilon(0.1));
    window = state_of(*client).cwnd;
    REQUIRE(p.a.set_congestion(*client, "reno") == 0);
    CHECK(state_of(*client).cwnd == window);
    std::uint64_t before = f.got;
    p.run_for(base::seconds(1), [&] { f.pump(); });
    CHECK(static_cast<double>(f.got - before) > 0.9 * link_octets_per_s);
    p.close_all();
    p.expect_clean();
}

TEST_CASE("westwood: ACKs that find the window unused are measured too")
{
    Pair p(path("westwood"));
    auto [client, server] = p.connected(5001);
    Flow f{*client, *server};
    p.run_for(base::seconds(1), [&] { f.pump(); });
    CHECK(static_cast<double>(state_of(*client).westwood.rate) == Approx(link_octets_per_s).epsilon(0.03));
    base::Instant next = p.clock.now();
    std::vector<unsigned char> bytes(65536);
    p.run_for(base::seconds(10), [&, client = client, server = server] {
        if (p.clock.now() >= next) { // 1 MB/s
            next = p.clock.now() + base::millis(5);
            client->write(bytes.data(), 5000);
        }
        while (server->take(bytes.data(), bytes.size()) != 0) {
        }
    });
    CHECK(static_cast<double>(state_of(*client).westwood.rate) == Approx(1e6).epsilon(0.1));
}

TEST_CASE("westwood: TCP_CC_INFO tells the round trips in the form of Vegas, as on Linux")
{
    Pair p(path("westwood"));
    auto [client, server] = p.connected(5001);
    Flow f{*client, *server};
    p.run_for(base::seconds(1), [&] { f.pump(); });
    p.a.run(0, [&, client = client](protocols::Domain& d) {
        tcp_cc_info i{};
        std::uint32_t size = sizeof i;
        REQUIRE(protocols::tcp_get_option(d, client->so, IPPROTO_TCP, TCP_CC_INFO, &i, size) == base::Error::none);
        CHECK(size == sizeof i.vegas);
        CHECK(i.vegas.tcpv_enabled == 1);
        CHECK(i.vegas.tcpv_rttcnt == 0);
        CHECK(i.vegas.tcpv_minrtt == state_of(*client).westwood.min_rtt_us);
        CHECK(i.vegas.tcpv_rtt >= i.vegas.tcpv_minrtt);
    });
}

TEST_CASE("westwood: a connection stays awake, or its estimate would be forgotten")
{
    for (const char* name : {"cubic", "westwood"}) {
        Pair p(path(name));
        auto [client, server] = p.connected(5001);
        p.run_for(base::seconds(1));
        CHECK(protocols::tcp_may_sleep(client->so) == (std::string_view(name) == "cubic"));
    }
}

TEST_CASE("westwood: where frames are lost without a queue it gets twice what CUBIC gets, and a clean link as well")
{
    double ours = goodput("westwood", 0.005);
    double cubic = goodput("cubic", 0.005);
    INFO("westwood " << ours * 8 / 1e6 << " Mbit/s, CUBIC " << cubic * 8 / 1e6);
    CHECK(ours > 2 * cubic);
    CHECK(goodput("westwood", 0) > 0.97 * link_octets_per_s);
}

namespace {

struct Shares { // of the first of two flows over one link
    double mean = 0;
    double least = 1;
    double most = 0;
    double used = 0; // of the link
    unsigned runs = 0;
};

struct Contest {
    const char* mine;
    const char* other;
    double queue_products;
    unsigned seconds;
};

// It begins `head_start` before the other, or after it.
void add_share(Shares& s, const Contest& c, std::uint64_t seed, base::Micros head_start)
{
    PairOptions o = path(c.other, c.queue_products);
    o.seed = seed;
    Pair p(o);
    auto [one, one_server] = p.connected(5001);
    auto [two, two_server] = p.connected(5002);
    REQUIRE(p.a.set_congestion(*one, c.mine) == 0);
    Flow a{*one, *one_server};
    Flow b{*two, *two_server};
    bool first = head_start >= base::Micros{0};
    p.run_for(first ? head_start : -head_start, [&] { (first ? a : b).pump(); });
    a.got = b.got = 0;
    p.run_for(base::seconds(c.seconds), [&] {
        a.pump();
        b.pump();
    });
    auto both = static_cast<double>(a.got + b.got);
    double share = static_cast<double>(a.got) / both;
    s.mean = (s.mean * s.runs + share) / (s.runs + 1);
    s.used = (s.used * s.runs + both / (c.seconds * link_octets_per_s)) / (s.runs + 1);
    s.least = std::min(s.least, share);
    s.most = std::max(s.most, share);
    ++s.runs;
}

Shares shares(const Contest& c, std::uint64_t seeds)
{
    Shares s;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        for (int head_start_ms : {-2000, 0, 2000}) {
            add_share(s, c, seed, base::millis(head_start_ms));
        }
    }
    return s;
}

std::string say(const Shares& s)
{
    return std::to_string(s.mean) + " (" + std::to_string(s.least) + " to " + std::to_string(s.most) + "), together " +
           std::to_string(s.used) + " of the link";
}

} // namespace

TEST_CASE("westwood beside CUBIC: behind a queue of a bandwidth-delay product it gets what a CUBIC would get")
{
    Shares beside = shares({"westwood", "cubic", 1, 8}, 1);
    Shares cubics = shares({"cubic", "cubic", 1, 8}, 1);
    INFO("westwood " << say(beside) << "; CUBIC in its place " << say(cubics));
    CHECK(beside.mean == Approx(cubics.mean).epsilon(0.05));
}

TEST_CASE("westwood beside CUBIC: the shares of decision 0036", "[.figures]")
{
    for (double queue : {0.1, 0.25, 0.5, 1.0, 2.0}) {
        WARN("queue " << queue << ": westwood beside CUBIC " << say(shares({"westwood", "cubic", queue, 30}, 3))
                      << "; CUBIC beside CUBIC " << say(shares({"cubic", "cubic", queue, 30}, 3))
                      << "; westwood beside westwood " << say(shares({"westwood", "westwood", queue, 30}, 3)));
    }
}
