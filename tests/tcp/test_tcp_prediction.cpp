// Header prediction (decision 0020) saves work and changes nothing else: the same seeded world with it and without it
// goes through the same states, at every quiet moment of its virtual time. What is compared is whatever a segment may
// change in a Tcb and in its socket's slot.
#include <catch2/catch.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <sstream>

#include "tests/tcp/pair.hpp"

using namespace tcp_test;

namespace {

struct Figures {
    std::ostringstream out;
    template <typename T>
    Figures& operator<<(const T& value)
    {
        out << value << ' ';
        return *this;
    }
    Figures& operator<<(base::Seq s) { return *this << s.raw(); }
    Figures& operator<<(base::Instant t) { return *this << t.time_since_epoch().count(); }
    Figures& operator<<(base::Micros t) { return *this << t.count(); }
};

void note(Figures& f, const protocols::Tcb& t)
{
    f << protocols::tcp::state_name(t.state) << t.snd.una << t.snd.nxt << t.snd.wl1 << t.snd.wl2 << t.snd.small_end;
    f << t.snd.una_offset << t.snd.wnd << t.snd.wnd_max << t.snd.fin_sent;
    f << t.rcv.nxt << t.rcv.adv << t.rcv.nxt_offset << t.rcv.unacked << t.rcv.mss_seen << t.rcv.last_full
      << t.rcv.text_end_late;
    f << int{t.rcv.sack_news} << int{t.rcv.quick_acks} << t.rcv.last_text << t.rcv.fin_known << t.rcv.interactive;
    f << t.ts.recent << t.ts.recent_at << t.ts.last_ack_sent << t.ecn.echo << t.ecn.cwr_due << t.ecn.reduced;
    f << t.accecn.r_cep << t.accecn.r_ceb << t.accecn.r_e0b << t.accecn.told_cep << t.accecn.told_e0b;
    f << t.accecn.s_cep << t.accecn.s_ceb << t.accecn.mangled << t.accecn.deaf << t.predicted_flags;
    f << t.cc.cwnd << t.cc.ssthresh << t.cc.acked << t.rtt.srtt() << t.rtt.rttvar() << t.rtt.min() << t.rtt.rto();
    f << t.rack.xmit_us << t.rack.end_seq << t.rack.rtt_us << t.rack.fack << t.rack.reordering_seen;
    f << static_cast<int>(t.board.phase) << t.board.recover << t.board.duplicates << t.board.flight();
    f << t.board.sacked_bytes() << t.board.lost_bytes() << t.board.runs() << t.tlp.in_progress << t.tlp.end_seq;
    f << t.undo.armed << t.ack_now << t.ack_soon << t.output_due << t.cwnd_limited << t.timing << t.window_unused;
    f << t.probe_due << t.timed_end << t.timed_at << t.duplicate.start << t.duplicate.end << t.out_of_order.count();
    f << t.retries << t.persist_probes << t.keepalive_probes << t.unanswered << t.last_sent << t.last_received;
    f << t.bytes_acked << t.bytes_received << t.segments_out << t.segments_in << t.retransmitted << t.dsacks;
    for (base::Instant d : t.deadlines) {
        f << d;
    }
    if (t.so != nullptr) {
        const auto& owner = t.so->slot->owner;
        f << owner.snd_acked.load() << owner.rcv_produced.load() << owner.rcv_end.load() << owner.rcv_ring_at.load();
    }
}

std::string states(Pair& p)
{
    Figures f;
    f << p.clock.now();
    for (Host* h : {&p.a, &p.b}) {
        auto& all = h->tcp().all;
        for (protocols::Tcb* t = all.front(); t != nullptr; t = all.next(*t)) {
            note(f, *t);
        }
    }
    return f.out.str();
}

struct Run {
    std::vector<std::string> moments;
    std::uint64_t predicted = 0;
    std::uint64_t retransmits = 0;
};

// Applications that write and read what a die says, at each quiet moment; then both close.
Run run(PairOptions o, bool prediction, std::uint64_t bytes, std::uint32_t most)
{
    o.stack.tcp_prediction = prediction;
    Pair p(o);
    auto [client, server] = p.connected(5001);
    base::Random die(o.seed);
    std::vector<unsigned char> buffer(1U << 18, 'x');
    std::uint64_t left[2] = {bytes, bytes};
    App* ends[2] = {client, server};
    Run r;
    bool over = false;
    auto turn = [&] {
        r.moments.push_back(states(p));
        std::uint64_t unread = 0;
        for (unsigned i = 0; i < 2; ++i) {
            if (die.below(3) != 0) {
                left[i] -= ends[i]->write(buffer.data(), std::min<std::uint64_t>(left[i], die.below(most)));
            }
            if (die.below(2) != 0) {
                ends[i]->take(buffer.data(), die.below(2 * most));
            }
            unread += bytes - ends[i]->read;
        }
        over = left[0] + left[1] + unread == 0;
    };
    while (!over) {
        if (p.clock.now() > base::Instant{} + base::seconds(600)) {
            FAIL("stalled: prediction " << prediction << ", seed " << o.seed << '\n' << states(p));
        }
        p.run_for(base::millis(2), turn); // time goes on when the die lets everybody rest
    }
    client->finish();
    server->finish();
    p.run_for(base::seconds(5), [&] { r.moments.push_back(states(p)); });
    for (Host* h : {&p.a, &p.b}) {
        r.predicted += h->tcp().counters.predicted;
        r.retransmits += h->tcp().counters.retransmits;
    }
    return r;
}

// Both ways, and that prediction had its share.
Run compare(const PairOptions& o, std::uint64_t bytes, std::uint32_t most)
{
    Run without = run(o, false, bytes, most);
    Run with = run(o, true, bytes, most);
    CHECK(without.predicted == 0);
    CHECK(with.predicted > 50);
    CHECK(with.moments.size() > 50);
    for (std::size_t i = 0; i < std::min(with.moments.size(), without.moments.size()); ++i) {
        if (with.moments[i] != without.moments[i]) {
            FAIL("seed " << o.seed << ", moment " << i << "\n" << with.moments[i] << "\n" << without.moments[i]);
        }
    }
    REQUIRE(with.moments.size() == without.moments.size());
    return with;
}

PairOptions path(std::uint64_t seed)
{
    PairOptions o;
    o.seed = seed;
    o.split = seed % 2 == 0;
    o.weather.delay = base::millis(3);
    return o;
}

} // namespace

TEST_CASE("prediction changes no state: requests and answers, nothing lost")
{
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        compare(path(seed), 100'000, 900);
    }
}

TEST_CASE("prediction changes no state: bulk both ways, windows that fill")
{
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        PairOptions o = path(seed);
        o.ring_shift = 14 + static_cast<std::uint32_t>(seed);
        compare(o, 2'000'000, 60'000);
    }
}

TEST_CASE("prediction changes no state: loss, reordering, duplication")
{
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        PairOptions o = path(seed);
        o.weather.loss = o.weather.reorder = o.weather.duplicate = 0.02;
        CHECK(compare(o, 1'000'000, 20'000).retransmits != 0);
    }
}

TEST_CASE("prediction changes no state: without timestamps, without SACK, with ECN, each congestion control")
{
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        PairOptions o = path(seed);
        o.weather.loss = 0.01;
        o.stack.tcp_timestamps = seed % 3 != 0;
        o.stack.tcp_sack = seed % 2 != 0;
        constexpr protocols::Ecn ways[] = {protocols::Ecn::on, protocols::Ecn::off, protocols::Ecn::accurate};
        o.stack.ecn = ways[seed % 3];
        o.congestion = static_cast<std::uint8_t>(seed % 4);
        compare(o, 500'000, 20'000);
    }
}
