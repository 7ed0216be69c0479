// The pure parts of loss recovery, each alone: the scoreboard of runs, RACK, TLP, PRR, and the detection of spurious
// retransmissions. Connections are in the packet scripts.
#include <catch2/catch.hpp>

#include "base/random.hpp"
#include "protocols/tcp/pacer.hpp"
#include "protocols/tcp/prr.hpp"
#include "protocols/tcp/tcp_scoreboard.hpp"
#include "protocols/tcp/tlp.hpp"
#include "protocols/tcp/undo.hpp"

using namespace protocols::tcp;

namespace {

constexpr std::uint32_t mss = 1000;
constexpr std::uint32_t min_rtt_us = 32000;     // a run collects a millisecond
constexpr std::uint32_t start_us = 0xffff0000U; // times wrap in every test
constexpr std::uint32_t ms(std::uint32_t n)
{
    return start_us + n * 1000;
}
constexpr Seq at(std::uint32_t n)
{
    return Seq{0xfffff000U + n}; // and so do sequence numbers
}

// A sender with nine segments in flight, one every 2 ms, and the ACKs it gets.
struct Flight {
    Scoreboard b;
    Rack rack;
    Delivery d;

    explicit Flight(unsigned segments = 9, std::uint32_t gap_ms = 2)
    {
        b.use_sack = true;
        b.reset(at(0));
        rack.reset(at(0));
        for (unsigned i = 0; i < segments; ++i) {
            b.sent(at((i + 1) * mss), ms(i * gap_ms), min_rtt_us);
        }
    }
    void now(std::uint32_t t, std::uint32_t min_rtt_ms = 20)
    {
        d = {};
        d.ack.now_us = ms(t);
        d.ack.min_rtt_us = min_rtt_ms * 1000;
    }
    void sack(std::uint32_t from, std::uint32_t to) { b.sack(at(from), at(to), rack, d); }
    void ack(std::uint32_t to) { b.acked(at(to), rack, d); }
    std::uint32_t detect(std::uint32_t t, std::uint32_t reo_wnd = 0)
    {
        std::uint32_t next = 0;
        return b.detect(rack, ms(t), reo_wnd, next);
    }
};

} // namespace

TEST_CASE("scoreboard: new text in one thirty-second of a round trip is one run, with the time of its last")
{
    Scoreboard b;
    b.reset(at(0));
    b.sent(at(1000), ms(0), min_rtt_us);
    b.sent(at(2000), ms(1), min_rtt_us);
    CHECK(b.runs() == 1);
    CHECK(b.at(0).time_us() == (ms(1) & ~15U));
    b.sent(at(3000), ms(2), min_rtt_us);
    CHECK(b.runs() == 2);
    CHECK(b.flight() == 3000);
    CHECK(b.pipe(mss) == 3000);
    CHECK(b.plain());
}

TEST_CASE("scoreboard: a retransmission ends the run, so that what is sent after it is not taken for older or younger")
{
    Flight f(2);
    f.b.mark_lost(at(0), at(1000));
    REQUIRE(f.b.resend(1000, ms(3)));
    f.b.sent(at(3000), ms(3), min_rtt_us);
    REQUIRE(f.b.runs() == 3);
    f.b.sent(at(4000), ms(4), min_rtt_us);
    CHECK(f.b.runs() == 3);
    f.now(22);
    f.sack(1000, 2000); // sent before the retransmission: no evidence against it
    CHECK(f.detect(60) == 0);
    f.sack(2000, 3000);
    CHECK(f.detect(60) == 1000);
}

TEST_CASE("scoreboard: a run that had to grow over a long time is judged by its last time and is no evidence")
{
    Flight f(0);
    std::uint32_t end = 0;
    for (unsigned i = 0; i < 200; ++i) { // 20 ms apart: each a run of its own, as long as there is room
        f.b.sent(at(end += 100), ms(i * 20), min_rtt_us);
    }
    REQUIRE(f.b.runs() == sent_runs_max - 16);
    REQUIRE(f.b.at(f.b.runs() - 1).blurred());
    f.now(4100);
    f.sack(15000, 15100); // of the last run, sent at 3000 ms or so
    CHECK(f.d.octets == 100);
    CHECK(f.detect(4100) == 0);
    CHECK(f.b.flight() == 20000);
    f.now(4110);
    f.sack(100, 200); // sent at 20 ms, and known to be
    CHECK(f.detect(4110) == 100);
}

TEST_CASE("scoreboard: SACKs split and join runs, pipe counts what is neither SACKed nor lost")
{
    Flight f;
    f.now(20);
    f.sack(1500, 2500);
    CHECK(f.d.octets == 1000);
    CHECK(f.b.sacked_bytes() == 1000);
    CHECK(f.b.pipe(mss) == 8000);
    f.sack(1500, 4000);
    CHECK(f.d.sacked == 2500);
    CHECK(!f.b.many_sacked(3 * mss));
    CHECK(f.b.many_sacked(mss));
    f.now(21);
    f.sack(1000, 5000);
    CHECK(f.d.octets == 1500); // only what is new
    CHECK(f.b.sacked_bytes() == 4000);
    CHECK(f.b.mark_lost(at(0), at(1000)) == 1000);
    CHECK(f.b.pipe(mss) == 4000);
    f.ack(5500);
    CHECK(f.d.octets == 1500 + 1000 + 500);
    CHECK(f.b.sacked_bytes() == 0);
    CHECK(f.b.lost_bytes() == 0);
    CHECK(f.b.pipe(mss) == 3500);
}

TEST_CASE("scoreboard: a hole goes again in pieces, what went is in flight")
{
    Flight f;
    CHECK(f.b.mark_lost(at(1000), at(4000)) == 3000);
    Seq start;
    Seq end;
    REQUIRE(f.b.first_lost(start, end));
    CHECK(start == at(1000));
    CHECK(end == at(4000));
    REQUIRE(f.b.resend(1500, ms(30)));
    CHECK(f.b.lost_bytes() == 1500);
    CHECK(f.b.resent_bytes() == 1500);
    CHECK(f.b.pipe(mss) == 9000 - 1500);
    REQUIRE(f.b.first_lost(start, end));
    CHECK(start == at(2500));
    REQUIRE(f.b.resend(1500, ms(30)));
    CHECK(!f.b.first_lost(start, end));
    CHECK(f.b.resent_bytes() == 3000);
    f.now(50);
    f.ack(9000);
    CHECK(f.b.resent_bytes() == 0);
    CHECK(f.b.runs() == 0);
    CHECK(f.d.resent);
    CHECK(f.b.plain());
}

TEST_CASE("scoreboard: full of holes it forgets SACKs, never text; by seed against a model")
{
    base::Random random(5);
    for (unsigned round = 0; round < 300; ++round) {
        Flight f(0);
        std::uint32_t una = 0;
        std::uint32_t nxt = 0;
        std::vector<char> sacked(400, 0); // per segment of 100, what the board was told
        for (unsigned step = 0; step < 300; ++step) {
            f.now(step);
            std::uint32_t what = random.below(10);
            if (what < 4 && nxt < 400) {
                nxt += 1 + random.below(3);
                f.b.sent(at(nxt * 100), ms(step), min_rtt_us);
            } else if (what < 8 && nxt > una + 1) {
                std::uint32_t from = una + 1 + random.below(nxt - una - 1);
                std::uint32_t to = std::min(nxt, from + 1 + random.below(2));
                f.sack(from * 100, to * 100);
                std::fill(sacked.begin() + from, sacked.begin() + to, 1);
            } else if (what == 8 && nxt > una) {
                f.b.mark_lost(at(una * 100), at((una + 1) * 100));
                if (f.b.lost_bytes() != 0) {
                    f.b.resend(std::min(100U, f.b.lost_bytes()), ms(step));
                }
            } else if (nxt > una) {
                una += 1 + random.below(std::min(nxt - una, 4U));
                f.ack(una * 100);
            }
            std::uint32_t told = 0;
            for (std::uint32_t i = una; i < nxt; ++i) {
                told += sacked[i] != 0 ? 100 : 0;
            }
            std::uint32_t sums[3] = {};
            bool rising = true;
            for (unsigned i = 0; i < f.b.runs(); ++i) {
                rising = rising && f.b.start_of(i) < f.b.at(i).end;
                sums[static_cast<unsigned>(f.b.at(i).fate())] +=
                    static_cast<std::uint32_t>(f.b.at(i).end - f.b.start_of(i));
            }
            REQUIRE(rising);
            REQUIRE(f.b.flight() == (nxt - una) * 100);
            REQUIRE(sums[1] == f.b.sacked_bytes());
            REQUIRE(sums[2] == f.b.lost_bytes());
            REQUIRE(sums[0] + sums[1] + sums[2] == f.b.flight());
            REQUIRE(f.b.sacked_bytes() <= told);
            REQUIRE(f.b.runs() <= sent_runs_max);
        }
    }
}

TEST_CASE("RFC 6298 5.4: a list full of what is lost has room for what goes again after a timeout")
{
    Flight f(0);
    f.b.sent(at(300000), ms(0), min_rtt_us);
    f.now(40);
    for (std::uint32_t from = 20000; from < 300000; from += 3000) {
        f.sack(from, from + 1000);
    }
    REQUIRE(f.b.runs() > sent_runs_max - 10);
    f.b.mark_lost(at(0), at(290000));
    REQUIRE(f.b.resend(10000, ms(50)));
    for (unsigned i = 0; f.b.runs() < sent_runs_max; ++i) { // each at a time of its own
        REQUIRE(f.b.resend(1000, ms(60 + i)));
    }
    f.b.enter_timeout(f.rack.rtt_us, ms(400), 0, mss);
    f.b.enter_timeout(f.rack.rtt_us, ms(1200), 0, mss);
    REQUIRE(f.b.lost_bytes() == 300000);
    REQUIRE(f.b.resend(1000, ms(1200)));
    CHECK(f.b.lost_bytes() == 299000);
    CHECK(f.b.resent_bytes() == 1000);
    CHECK(f.b.runs() == 2);
    f.now(1250);
    f.ack(1000);
    CHECK(f.d.octets == 1000);
    CHECK(f.b.flight() == 299000);
}

TEST_CASE("RFC 8985 6.2 step 2: the latest transmission delivered counts, and a retransmission only when it can be it")
{
    Flight f;
    f.now(40);
    f.sack(3000, 4000); // sent at 6 ms
    CHECK(f.rack.xmit_us == (ms(6) & ~15U));
    CHECK(f.rack.rtt_us - 34000 < 8);
    f.ack(1000); // sent earlier: the newest stays
    CHECK(f.rack.xmit_us == (ms(6) & ~15U));
    f.b.mark_lost(at(1000), at(2000));
    f.b.resend(1000, ms(41));
    f.now(50); // 9 ms after the retransmission, minimum 20: the original arrived
    f.ack(2000);
    CHECK(f.rack.xmit_us == (ms(6) & ~15U));
    f.b.mark_lost(at(2000), at(3000));
    f.b.resend(1000, ms(51));
    f.now(80);
    f.d.ack.has_echo = true;
    f.d.ack.echo_end_us = ms(50); // it echoes what was sent before the retransmission
    f.ack(4000);
    CHECK(f.rack.xmit_us == (ms(6) & ~15U));
    f.b.mark_lost(at(4000), at(5000));
    f.b.resend(1000, ms(81));
    f.now(110);
    f.d.ack.has_echo = true;
    f.d.ack.echo_end_us = ms(82);
    f.ack(5000);
    CHECK(f.rack.xmit_us == (ms(81) & ~15U));
    f.b.mark_lost(at(5000), at(6000));
    f.b.resend(1000, ms(111));
    f.now(150, 0); // no shortest round trip is known, and no echo tells
    f.ack(6000);
    CHECK(f.rack.xmit_us == (ms(81) & ~15U));
}

TEST_CASE("RFC 8985 6.2 step 2: text sent 36 minutes and more after what was delivered last is younger")
{
    Flight f(1);
    f.now(40);
    f.ack(1000);
    constexpr std::uint32_t later_ms = 0x80000010U / 1000 + 1;
    f.rack.began(ms(later_ms), at(1000));
    f.b.sent(at(2000), ms(later_ms), min_rtt_us);
    f.b.sent(at(3000), ms(later_ms + 5), min_rtt_us);
    f.now(later_ms + 40);
    f.sack(1000, 2000);
    CHECK(f.rack.xmit_us == (ms(later_ms) & ~15U));
    CHECK(f.detect(later_ms + 60) == 0); // what went out after it is not judged
}

TEST_CASE("RFC 8985 6.2 step 3: a hole that fills itself is reordering, one that we filled is not")
{
    Flight f;
    f.now(30);
    f.sack(2000, 3000);
    CHECK(!f.rack.reordering_seen);
    f.b.mark_lost(at(0), at(1000));
    f.b.resend(1000, ms(31));
    f.now(60);
    f.ack(1000);
    CHECK(!f.rack.reordering_seen);
    f.now(61);
    f.sack(1000, 2000);
    CHECK(f.rack.reordering_seen);
}

TEST_CASE("RFC 8985 6.2 step 4: the reordering window")
{
    Rack r;
    r.reset(at(0));
    CHECK(r.reo_wnd_us(false, false, 40000, 50000) == 10000); // a quarter of the minimum
    CHECK(r.reo_wnd_us(true, false, 40000, 50000) == 0);      // no reordering seen: recovery is urgent
    CHECK(r.reo_wnd_us(false, true, 40000, 50000) == 0);      // DupThresh
    r.reordering_seen = true;
    CHECK(r.reo_wnd_us(true, true, 40000, 50000) == 10000);
    r.saw_dsack(at(1000), at(5000));
    CHECK(r.reo_wnd_us(true, true, 40000, 50000) == 20000);
    r.saw_dsack(at(4000), at(9000)); // the same round trip
    CHECK(r.reo_wnd_us(true, true, 40000, 50000) == 20000);
    r.saw_dsack(at(5000), at(9000));
    CHECK(r.reo_wnd_us(true, true, 40000, 50000) == 30000);
    for (unsigned i = 0; i < 10; ++i) {
        r.saw_dsack(at(10000 * (i + 1)), at(10000 * (i + 2)));
    }
    CHECK(r.reo_wnd_us(true, true, 40000, 50000) == 50000); // never above SRTT
    for (unsigned i = 0; i < 15; ++i) {
        r.recovery_ended();
        CHECK(r.reo_wnd_mult > 1);
    }
    r.recovery_ended(); // the sixteenth without D-SACK
    CHECK(r.reo_wnd_us(true, true, 40000, 50000) == 10000);
}

TEST_CASE("RFC 8985 6.2 step 4: a D-SACK widens the window however much arrived since the one before it")
{
    Flight f(3);
    f.rack.saw_dsack(at(0), at(2000));
    f.now(40);
    f.ack(1000);
    CHECK(f.rack.in_dsack_round);
    f.ack(2000);
    CHECK_FALSE(f.rack.in_dsack_round);
    constexpr std::uint32_t since = 3U << 30; // more than sequence numbers can compare
    f.rack.saw_dsack(at(2000) + since, at(3000) + since);
    CHECK(f.rack.reo_wnd_mult == 3);
}

TEST_CASE("RFC 8985 6.2 step 5: lost is what was sent a round trip and the window before the newest that arrived")
{
    Flight f;
    f.now(40);
    f.sack(2000, 3000); // sent at 4 ms, rtt 36 ms
    std::uint32_t next_us = 0;
    CHECK(f.b.detect(f.rack, ms(40), 5000, next_us) == 0); // the first is 1 ms, the second 3 ms from being lost
    CHECK(next_us == 3000);
    CHECK(f.b.detect(f.rack, ms(41), 5000, next_us) == 1000);
    CHECK(f.b.detect(f.rack, ms(43), 5000, next_us) == 1000);
    CHECK(next_us == 0);
    CHECK(f.b.detect(f.rack, ms(500), 5000, next_us) == 0); // what was sent later is not judged
    CHECK(f.b.lost_bytes() == 2000);
}

TEST_CASE("RFC 8985 3.4: a lost tail and a lost retransmission")
{
    Flight f;
    f.now(40);
    f.sack(8000, 9000); // the last of nine, sent at 16 ms: everything before it is older
    CHECK(f.detect(40) == 8000);
    Seq start;
    Seq end;
    REQUIRE(f.b.resend(1000, ms(40)));
    REQUIRE(f.b.resend(1000, ms(41)));
    f.now(65);
    f.sack(1000, 2000); // the second retransmission arrived, the first did not
    CHECK(f.detect(65) == 1000);
    REQUIRE(f.b.first_lost(start, end));
    CHECK(start == at(0));
}

TEST_CASE("RFC 8985 6.3: a timeout takes the first segment and what is old, not what was just sent")
{
    Flight f(9, 10); // the last was sent at 80 ms
    f.now(20);
    f.ack(1000); // rtt 20 ms
    f.b.enter_timeout(f.rack.rtt_us, ms(62), 0, mss);
    CHECK(f.b.lost_bytes() == 4000); // sent at 10, 20, 30, 40
    CHECK(f.b.phase == Recovery::timeout);
    CHECK(f.b.force_one);
}

TEST_CASE("RFC 2018 8: a second timeout, or a SACKed first octet, forgets the SACKs")
{
    Flight f(3);
    f.now(20);
    f.sack(1000, 2000);
    f.b.enter_timeout(f.rack.rtt_us, ms(300), 0, mss);
    CHECK(f.b.sacked_bytes() == 1000);
    CHECK(f.b.pipe(mss) == 0);
    f.b.enter_timeout(f.rack.rtt_us, ms(900), 0, mss);
    CHECK(f.b.sacked_bytes() == 0);
    CHECK(f.b.lost_bytes() == 3000);
    Flight g(3);
    g.now(20);
    g.sack(0, 1000);
    g.b.enter_timeout(g.rack.rtt_us, ms(300), 0, mss);
    CHECK(g.b.sacked_bytes() == 0);
}

TEST_CASE("RFC 6582: without SACK a partial ACK moves the hole, the recovery point ends it")
{
    Flight f(5);
    f.b.use_sack = false;
    f.b.duplicates = 3;
    CHECK(f.b.mark_lost(at(0), at(1000)) == 1000);
    f.b.enter_fast(at(5000));
    CHECK(f.b.pipe(mss) == 5000 - 1000 - 3000);
    f.b.resend(1000, ms(20));
    f.now(40);
    f.ack(2000);
    f.b.settle(2000, mss);
    CHECK(f.b.phase == Recovery::fast);
    CHECK(f.b.force_one);
    CHECK(f.b.duplicates == 2); // one of the three is acknowledged now
    Seq start;
    Seq end;
    REQUIRE(f.b.first_lost(start, end));
    CHECK(start == at(2000));
    CHECK(end == at(3000));
    f.ack(5000);
    f.b.settle(3000, mss);
    CHECK(f.b.phase == Recovery::none);
}

TEST_CASE("RFC 8985 7.2: the probe timeout")
{
    CHECK(Tlp::timeout(base::millis(50), false, base::seconds(1)) == base::millis(100) + tlp_margin);
    CHECK(
        Tlp::timeout(base::millis(50), true, base::seconds(1)) == base::millis(300)); // a delayed ACK may be on its way
    CHECK(Tlp::timeout(base::millis(50), true, base::millis(200)) == base::millis(200)); // never behind the RTO
    CHECK(Tlp::timeout({}, false, base::seconds(3)) == base::seconds(1));
    CHECK(Tlp::timeout(base::millis(50), false, base::millis(-3)) == base::Micros{0});
}

TEST_CASE("RFC 8985 7.4.2: what the ACK after a probe says")
{
    Tlp p;
    CHECK(!p.acknowledged({at(1000), false, false})); // no probe
    p.sent(at(5000), false);
    CHECK(!p.acknowledged({at(4000), false, false}));
    CHECK(p.in_progress);
    CHECK(!p.acknowledged({at(5000), false, false})); // new text arrived
    CHECK(!p.in_progress);
    p.sent(at(5000), true);
    CHECK(!p.acknowledged({at(5000), false, false})); // original or probe? not known yet
    CHECK(p.in_progress);
    SECTION("a D-SACK: both")
    {
        CHECK(!p.acknowledged({at(5000), true, false}));
        CHECK(!p.in_progress);
    }
    SECTION("a duplicate from a receiver without D-SACK: both")
    {
        CHECK(!p.acknowledged({at(5000), false, true}));
        CHECK(!p.in_progress);
    }
    SECTION("an ACK beyond it and neither of these: the original was lost")
    {
        CHECK(p.acknowledged({at(6000), false, false}));
        CHECK(!p.in_progress);
    }
}

TEST_CASE("RFC 9937: 100 segments in flight, one lost, the window halves: a segment for every other ACK")
{
    // the pattern of its figure 1: with ssthresh half of RecoverFS every second ACK lets one segment out
    Prr p;
    p.begin(100 * mss, 0);
    std::uint32_t ssthresh = 50 * mss;
    std::uint32_t in_flight = 98 * mss; // one lost, one SACKed
    std::uint32_t sent = 0;
    for (unsigned i = 0; i < 90; ++i) {
        std::uint32_t cwnd = p.window(mss, in_flight, ssthresh, mss, false);
        REQUIRE(cwnd >= in_flight);
        std::uint32_t now = (cwnd - in_flight) / mss * mss;
        CHECK(now <= mss);
        p.out += now;
        sent += now;
        in_flight += now;
        in_flight -= mss; // the next ACK
    }
    CHECK(sent == 45 * mss);
    CHECK(in_flight == 98 * mss - 90 * mss + 45 * mss);
}

TEST_CASE("RFC 9937: below ssthresh it is packet conserving, and one segment faster where recovery goes well")
{
    Prr p;
    p.begin(20 * mss, 0);
    std::uint32_t ssthresh = 10 * mss;
    CHECK(p.window(mss, 4 * mss, ssthresh, mss, false) == 5 * mss); // CRB
    p.out += mss;
    CHECK(p.window(mss, 4 * mss, ssthresh, mss, true) == 6 * mss); // SSRB: one more
    p.out += 2 * mss;
    CHECK(p.window(9 * mss, 4 * mss, ssthresh, mss, true) == 10 * mss); // never above ssthresh
    Prr q;
    q.begin(20 * mss, 0);
    CHECK(q.window(0, 10 * mss, 10 * mss, mss, false) == 11 * mss); // the fast retransmit goes in any case
    q.out = mss;
    CHECK(q.window(0, 10 * mss, 10 * mss, mss, false) == 10 * mss);
}

TEST_CASE("RFC 5682: F-RTO")
{
    Undo u;
    u.begin(at(5000));
    u.frto = Frto::wait_first;
    SECTION("2 b, 3 b: new text, then text that was never retransmitted arrives: spurious")
    {
        CHECK(u.frto_ack(true, false, false, true) == FrtoVerdict::send_new);
        CHECK(u.frto_ack(true, true, false, true) == FrtoVerdict::spurious);
        CHECK(u.frto == Frto::off);
    }
    SECTION("3 a: a duplicate: a real loss")
    {
        CHECK(u.frto_ack(true, false, false, true) == FrtoVerdict::send_new);
        CHECK(u.frto_ack(false, false, true, true) == FrtoVerdict::conventional);
        CHECK(u.frto_ack(true, true, false, true) == FrtoVerdict::nothing);
    }
    SECTION("2 a: a duplicate first, or nothing new to send")
    {
        bool duplicate_first = GENERATE(false, true);
        CHECK(u.frto_ack(!duplicate_first, false, duplicate_first, false) == FrtoVerdict::conventional);
        CHECK(u.frto == Frto::off);
    }
}

TEST_CASE("RFC 3522: the echo of a timestamp older than the first retransmission; the first ACK alone decides")
{
    Undo u;
    u.begin(at(5000));
    u.retransmitted(1000, true, 500);
    u.retransmitted(1000, true, 700); // the first one's counts
    SECTION("older: spurious")
    {
        CHECK(u.eifel(499));
    }
    SECTION("the same: not")
    {
        CHECK(!u.eifel(500));
        CHECK(!u.eifel(499)); // a later ACK
    }
    Undo none;
    CHECK(!none.eifel(1));
}

TEST_CASE("RFC 3708: every retransmitted octet was a duplicate")
{
    Undo u;
    u.begin(at(5000));
    u.retransmitted(2000, false, 0);
    CHECK(!u.dsack(at(6000), at(7000))); // not of this recovery
    CHECK(!u.dsack(at(0), at(1000)));
    CHECK(u.dsack(at(1000), at(2000)));
    CHECK(!u.dsack(at(1000), at(2000)));
}

TEST_CASE("pacing: twice the window a round trip in slow start, a fifth more than it afterwards, and the limit")
{
    CHECK(Pacer::rate(100000, base::millis(100), true, ~0ULL) == 2'000'000);
    CHECK(Pacer::rate(100000, base::millis(100), false, ~0ULL) == 1'200'000);
    CHECK(Pacer::rate(100000, base::millis(100), false, 500'000) == 500'000);
    CHECK(Pacer::rate(100000, {}, false, 500'000) == 500'000);
    CHECK(Pacer::rate(0, base::millis(100), false, 500'000) == 1); // never 0, which is "not paced"
    CHECK(Pacer::rate(100000, base::millis(100), false, 0) == 0);  // but where that is asked for
    CHECK(Pacer::burst(1'000'000, mss) == 2 * mss);
    CHECK(Pacer::burst(50'000'000, mss) == 50 * mss);
    Pacer p;
    base::Instant now{base::seconds(5)};
    p.sent(1000, 1'000'000, now);
    CHECK(p.next == now + base::millis(1));
    p.sent(1000, 1'000'000, now);
    CHECK(p.next == now + base::millis(2));
    p.sent(1000, 1'000'000, now + base::seconds(1));
    CHECK(p.next == now + base::seconds(1) + base::millis(1));
    p.sent(1000, 1'000'000, p.next + base::Micros{300}); // the timer was late
    CHECK(p.next == now + base::seconds(1) + base::millis(2));
}
