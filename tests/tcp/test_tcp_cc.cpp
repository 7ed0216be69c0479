// Congestion control without a connection: Reno, CUBIC's equations with worked numbers, HyStart++ round by round,
// DCTCP.
#include <catch2/catch.hpp>

#include <cmath>

#include "protocols/tcp/tcp_cc.hpp"

using namespace protocols::tcp;

namespace {

constexpr std::uint32_t mss = 1000;
const base::Instant epoch0{base::seconds(100)};

AckFacts ack_of(std::uint32_t octets, base::Instant now = epoch0, base::Micros rtt = base::millis(100))
{
    AckFacts a;
    a.acked = octets;
    a.now = now;
    a.srtt = rtt;
    return a;
}

CongestionState started(const CongestionAlgorithm& a, std::uint32_t segments)
{
    CongestionState c;
    congestion_start(a, c, mss);
    c.cwnd = segments * mss;
    return c;
}

double in_segments(const CongestionState& c)
{
    return static_cast<double>(c.cwnd) / mss;
}

// A window is acknowledged per round trip, segment by segment, for `time`.
void run_for(const CongestionAlgorithm& a, CongestionState& c, base::Instant& now, base::Micros rtt, base::Micros time)
{
    for (base::Instant end = now + time; now < end; now += rtt) {
        for (std::uint32_t n = c.cwnd / mss; n > 0; --n) {
            congestion_on_ack(a, c, ack_of(mss, now, rtt));
        }
    }
}

} // namespace

TEST_CASE("RFC 5681: slow start counts octets, avoidance adds a segment per window, loss halves the flight")
{
    const CongestionAlgorithm& reno = congestion_algorithm(static_cast<unsigned>(congestion_by_name("reno")));
    CongestionState c;
    congestion_start(reno, c, mss);
    CHECK(c.cwnd == 10 * mss); // RFC 6928
    congestion_on_ack(reno, c, ack_of(500));
    congestion_on_ack(reno, c, ack_of(500)); // divided ACKs gain nothing
    CHECK(c.cwnd == 11 * mss);
    congestion_on_loss(reno, c, 11 * mss);
    CHECK(c.cwnd == 5500);
    CHECK(c.ssthresh == 5500);
    congestion_on_ack(reno, c, ack_of(5499));
    CHECK(c.cwnd == 5500);
    congestion_on_ack(reno, c, ack_of(1));
    CHECK(c.cwnd == 6500);
    congestion_on_timeout(reno, c, 6000, true);
    CHECK(c.cwnd == mss);
    CHECK(c.ssthresh == 3000);
    congestion_on_timeout(reno, c, 1000, false); // the same segment again
    CHECK(c.ssthresh == 3000);
    AckFacts after = ack_of(3000);
    after.after_timeout = true;
    congestion_on_ack(reno, c, after); // RFC 3465 2.3: L = 1
    CHECK(c.cwnd == 2 * mss);
    CHECK(congestion_by_name("vegas") == -1);
}

TEST_CASE("RFC 9438 4.2: equations 1 and 2")
{
    CHECK(cubic_window(2.5, 2.5, 100) == Approx(100));
    CHECK(cubic_window(4.5, 2.5, 100) == Approx(100 + 0.4 * 8));
    CHECK(cubic_window(0, std::cbrt(30 / 0.4), 100) == Approx(70)); // after a loss at 100 the curve begins at 70
}

TEST_CASE("RFC 9438 4.6, 4.4, 4.5: after a loss at 1000 segments the window is 700, 1000 again at K, and then convex")
{
    CongestionState c = started(cubic_algorithm, 1000);
    congestion_on_loss(cubic_algorithm, c, 1000 * mss);
    CHECK(c.cwnd == 700 * mss);
    CHECK(c.ssthresh == 700 * mss);
    CHECK(c.cubic.w_max == Approx(1000));
    base::Micros rtt = base::millis(100); // long: the Reno-friendly region stays below
    auto k = base::Micros{static_cast<std::int64_t>(std::cbrt(300 / 0.4) * 1e6)}; // 9.086 s
    base::Instant now = epoch0;
    run_for(cubic_algorithm, c, now, rtt, k / 2);
    CHECK(c.cubic.k_s == Approx(9.086).epsilon(0.001));
    // half way: 1000 - 0.4 * (4.543)^3 = 962.5; cwnd is where the curve is one round trip on
    CHECK(in_segments(c) == Approx(962.5).epsilon(0.01));
    run_for(cubic_algorithm, c, now, rtt, k / 2);
    CHECK(in_segments(c) == Approx(1000).epsilon(0.005));
    run_for(cubic_algorithm, c, now, rtt, base::seconds(5));
    CHECK(in_segments(c) == Approx(1000 + 0.4 * 125).epsilon(0.02));
}

TEST_CASE("RFC 9438 4.3 equation 4: on a short path CUBIC grows as Reno of the same average would")
{
    CongestionState c = started(cubic_algorithm, 20);
    congestion_on_loss(cubic_algorithm, c, 20 * mss);
    CHECK(c.cwnd == 14 * mss);
    base::Instant now = epoch0;
    base::Micros rtt = base::millis(10);
    run_for(cubic_algorithm, c, now, rtt, base::millis(100)); // ten windows at alpha = 3 * 0.3 / 1.7 = 0.529
    CHECK(in_segments(c) == Approx(14 + 10 * 0.529).epsilon(0.02));
    run_for(cubic_algorithm, c, now, rtt, base::millis(100)); // past 20, where alpha is 1
    CHECK(in_segments(c) > 26);
    CHECK(in_segments(c) < 30);
}

TEST_CASE("RFC 9438 4.4: the target is at most half as much again per round trip")
{
    CongestionState c = started(cubic_algorithm, 100);
    congestion_on_loss(cubic_algorithm, c, 100 * mss);
    congestion_on_ack(cubic_algorithm, c, ack_of(mss, epoch0));
    std::uint32_t before = c.cwnd;
    base::Instant much_later = epoch0 + base::seconds(60);
    for (std::uint32_t n = before / mss; n > 0; --n) {
        congestion_on_ack(cubic_algorithm, c, ack_of(mss, much_later));
    }
    CHECK(c.cwnd <= before + before / 2 + before / 10);
    CHECK(c.cwnd >= before + before / 3);
}

TEST_CASE("RFC 9438 4.7: fast convergence")
{
    CongestionState c = started(cubic_algorithm, 1000);
    congestion_on_loss(cubic_algorithm, c, 1000 * mss);
    c.cwnd = 800 * mss; // the next loss, below the old maximum
    congestion_on_loss(cubic_algorithm, c, 800 * mss);
    CHECK(c.cubic.w_max == Approx(800 * 0.85));
    CHECK(c.cubic.cwnd_prior == Approx(800));
}

TEST_CASE("RFC 9438 4.2: the clock stands still while the application leaves the window unused")
{
    CongestionState used = started(cubic_algorithm, 200);
    congestion_on_loss(cubic_algorithm, used, 200 * mss);
    CongestionState paused = used;
    base::Instant now = epoch0;
    run_for(cubic_algorithm, used, now, base::millis(50), base::seconds(2));
    base::Instant then = epoch0;
    run_for(cubic_algorithm, paused, then, base::millis(50), base::seconds(1));
    AckFacts idle = ack_of(mss, then, base::millis(50));
    idle.limited = false;
    std::uint32_t before = paused.cwnd;
    congestion_on_ack(cubic_algorithm, paused, idle);
    then += base::seconds(30);
    idle.now = then;
    congestion_on_ack(cubic_algorithm, paused, idle);
    CHECK(paused.cwnd == before);
    run_for(cubic_algorithm, paused, then, base::millis(50), base::seconds(1));
    CHECK(in_segments(paused) == Approx(in_segments(used)).epsilon(0.01));
}

TEST_CASE("RFC 9438 4.8: after a timeout the curve begins at its plateau, the window with which slow start ends")
{
    const CongestionAlgorithm& cubic = cubic_algorithm;
    CongestionState c = started(cubic, 1000);
    congestion_on_timeout(cubic, c, 1000 * mss, true);
    CHECK(c.cwnd == mss);
    REQUIRE(c.ssthresh == 700 * mss);
    c.cwnd = c.ssthresh;
    base::Instant now = epoch0;
    run_for(cubic, c, now, base::millis(100), base::seconds(3));
    CHECK(in_segments(c) == Approx(716).margin(3)); // Reno's slope; by the old maximum it would be 910
    run_for(cubic, c, now, base::millis(100), base::seconds(9));
    CHECK(in_segments(c) == Approx(700 + 0.4 * 12 * 12 * 12).margin(30));
}

TEST_CASE("RFC 9438 4.9: a congestion event that was none is taken back, curve and all")
{
    CongestionState c = started(cubic_algorithm, 100);
    congestion_on_loss(cubic_algorithm, c, 100 * mss);
    base::Instant now = epoch0;
    run_for(cubic_algorithm, c, now, base::millis(50), base::seconds(3));
    CongestionState before = c;
    congestion_on_loss(cubic_algorithm, c, c.cwnd);
    CHECK(c.cwnd < before.cwnd);
    congestion_undo(c, before);
    CHECK(c.cwnd == before.cwnd);
    CHECK(c.ssthresh == before.ssthresh);
    CHECK(c.cubic.w_max == before.cubic.w_max);
    CHECK(c.cubic.epoch == before.cubic.epoch);
    c.cwnd = 2 * before.cwnd; // it has grown meanwhile
    congestion_undo(c, before);
    CHECK(c.cwnd == 2 * before.cwnd);
}

TEST_CASE("RFC 2861: an idle connection halves its window per RTO down to the initial one, and begins a new curve")
{
    CongestionState c = started(cubic_algorithm, 100);
    c.ssthresh = 20 * mss;
    c.cubic.epoch = epoch0;
    congestion_after_idle(cubic_algorithm, c, base::millis(500), base::millis(200));
    CHECK(c.cwnd == 25 * mss);
    CHECK(c.ssthresh == 75 * mss);
    CHECK(c.cubic.epoch == base::never);
    congestion_after_idle(cubic_algorithm, c, base::seconds(10), base::millis(200));
    CHECK(c.cwnd == 10 * mss);
}

namespace {

// One round of HyStart++: a window's worth of ACKs with these round trips.
HyStart::Verdict round(HyStart& h, std::uint32_t& at, std::uint32_t rtt_us, unsigned acks = 10)
{
    HyStart::Verdict last = HyStart::Verdict::grow;
    for (unsigned i = 0; i < acks; ++i) {
        at += mss;
        HyStart::Verdict v = h.on_ack(Seq{at}, Seq{at + acks * mss}, rtt_us);
        if (last != HyStart::Verdict::leave) {
            last = v;
        }
    }
    return last;
}

} // namespace

TEST_CASE("RFC 9406 4.2: steady round trips never end slow start")
{
    HyStart h;
    std::uint32_t at = 0xfffff000U;
    for (unsigned i = 0; i < 50; ++i) {
        REQUIRE(round(h, at, 20000 + i % 3 * 1000) == HyStart::Verdict::grow);
    }
}

TEST_CASE("RFC 9406 4.2: a rise by an eighth, at least 4 and at most 16 ms, begins conservative slow start")
{
    HyStart h;
    std::uint32_t at = 0;
    round(h, at, 20000);
    round(h, at, 20000);
    CHECK(round(h, at, 23999) == HyStart::Verdict::grow); // 20 ms / 8 is below 4 ms
    HyStart far;
    at = 0;
    round(far, at, 400000);
    round(far, at, 400000);
    CHECK(round(far, at, 415999) == HyStart::Verdict::grow); // 400 ms / 8 is above 16 ms
    HyStart mid;
    at = 0;
    round(mid, at, 80000);
    round(mid, at, 80000);
    CHECK(round(mid, at, 90000) == HyStart::Verdict::grow_less);
    SECTION("seven samples in a round are not enough")
    {
        HyStart few;
        at = 0;
        round(few, at, 20000);
        round(few, at, 20000);
        CHECK(round(few, at, 40000, 7) == HyStart::Verdict::grow);
    }
}

TEST_CASE("RFC 9406 4.2: five rounds of conservative slow start end it; a fall of the round trip takes it back")
{
    HyStart h;
    std::uint32_t at = 0;
    round(h, at, 20000);
    round(h, at, 20000);
    REQUIRE(round(h, at, 30000) == HyStart::Verdict::grow_less);
    SECTION("five rounds")
    {
        for (unsigned i = 0; i < 4; ++i) {
            REQUIRE(round(h, at, 30000) == HyStart::Verdict::grow_less);
        }
        CHECK(round(h, at, 30000) == HyStart::Verdict::leave);
    }
    SECTION("the rise was spurious")
    {
        round(h, at, 29000);
        CHECK(!h.in_css);
    }
}

TEST_CASE("RFC 9406 4.2: cwnd grows by a quarter in conservative slow start and stays where it ends")
{
    CongestionState c = started(reno_algorithm, 10);
    c.hystart.in_css = true;
    c.hystart.css_baseline_us = 1;
    c.hystart.in_round = true;
    c.hystart.window_end = Seq{100000};
    AckFacts a = ack_of(4 * mss);
    a.rtt_us = 20000;
    a.ack = Seq{4000};
    a.nxt = Seq{50000};
    congestion_on_ack(reno_algorithm, c, a);
    CHECK(c.cwnd == 11 * mss);
    c.hystart.css_rounds = 4;
    a.ack = Seq{100000};
    congestion_on_ack(reno_algorithm, c, a);
    CHECK(c.ssthresh == 11 * mss);
    CHECK(c.cwnd >= 11 * mss);
}

TEST_CASE("RFC 8257 3.3: alpha follows the marked share, the window shrinks by half of it")
{
    CongestionState c = started(dctcp_algorithm, 100);
    c.ssthresh = 50 * mss;
    CHECK(c.dctcp.alpha == 1); // step 3.3: the first mark halves
    congestion_on_mark(dctcp_algorithm, c, 100 * mss);
    CHECK(c.cwnd == 50 * mss);
    std::uint32_t at = 0;
    auto window = [&](unsigned marked_of_ten) {
        for (unsigned i = 0; i < 10; ++i) {
            AckFacts a = ack_of(mss);
            at += mss;
            a.ack = Seq{at};
            a.nxt = Seq{at + 10 * mss};
            a.marked = i < marked_of_ten ? a.acked : 0;
            a.limited = false;
            congestion_on_ack(dctcp_algorithm, c, a);
        }
    };
    window(0);
    window(0);
    double alpha = 1;
    for (unsigned i = 0; i < 100; ++i) {
        window(2);
    }
    CHECK(c.dctcp.alpha == Approx(0.2).epsilon(0.05));
    alpha = static_cast<double>(c.dctcp.alpha);
    c.cwnd = 100 * mss;
    congestion_on_mark(dctcp_algorithm, c, 100 * mss);
    CHECK(in_segments(c) == Approx(100 * (1 - alpha / 2)).epsilon(0.001));
    congestion_on_loss(dctcp_algorithm, c, 90 * mss); // 3.5: loss halves
    CHECK(c.cwnd == 45 * mss);
}
