// The pure parts of TCP, each alone: state table, options, ranges, scoreboard, RTO estimator, congestion control.
#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <sstream>

#include "base/random.hpp"
#include "protocols/tcp/accecn.hpp"
#include "protocols/tcp/flow_table.hpp"
#include "protocols/tcp/listener.hpp"
#include "protocols/tcp/plpmtu.hpp"
#include "protocols/tcp/seq_ranges.hpp"
#include "protocols/tcp/tcp_rtt.hpp"
#include "protocols/tcp/tcp_state.hpp"
#include "protocols/wire/tcp_wire.hpp"

using namespace protocols;
using namespace protocols::tcp;

namespace {

constexpr Seq at(std::uint32_t n)
{
    return Seq{0xfffff000U + n}; // every range test crosses the wrap
}

// Parses a header whose option bytes are given; the data offset follows from their number.
bool parse(std::initializer_list<unsigned char> options, std::uint8_t flags, wire::TcpHeader& h)
{
    unsigned char bytes[60] = {};
    std::copy(options.begin(), options.end(), bytes + 20);
    std::size_t size = 20 + (options.size() + 3) / 4 * 4;
    bytes[12] = static_cast<unsigned char>(size / 4 << 4);
    bytes[13] = flags;
    return wire::tcp_parse(bytes, size, h);
}

} // namespace

TEST_CASE("RFC 9293 figure 5: every legal pair of state and event")
{
    std::ostringstream s;
    for (unsigned from = 0; from < state_count; ++from) {
        for (unsigned event = 0; event + 1 < event_count; ++event) { // the last, dead, is legal everywhere
            State f{static_cast<std::uint8_t>(from)};
            Event e{static_cast<std::uint8_t>(event)};
            if (legal(f, e)) {
                s << from << '+' << event << '=' << static_cast<unsigned>(state_after(f, e)) << ' ';
            }
        }
    }
    CHECK(s.str() == "0+0=1 0+1=2 1+2=3 2+2=3 2+3=4 3+4=4 4+5=5 4+6=7 5+6=8 5+7=6 6+6=10 7+5=9 8+7=10 9+7=0 ");
    CHECK(state_after(State::time_wait, Event::dead) == State::closed);
}

TEST_CASE("options: what emit writes, parse reads")
{
    wire::TcpHeader h;
    h.source_port = 1;
    h.destination_port = 65535;
    h.seq = Seq{0xdeadbeef};
    h.ack = Seq{7};
    h.flags = wire::tcp_ack;
    h.window = 513;
    h.options.has_timestamp = true;
    h.options.ts_val = 0x01020304;
    h.options.ts_ecr = 0x05060708;
    h.options.sack_count = 3;
    for (std::uint32_t i = 0; i < 3; ++i) {
        h.options.sack[i] = {Seq{i * 10}, Seq{i * 10 + 5}};
    }
    unsigned char bytes[60];
    REQUIRE(wire::tcp_emit_bytes(h) == 60);
    REQUIRE(wire::tcp_emit(h, bytes) == 60);
    wire::TcpHeader back;
    REQUIRE(wire::tcp_parse(bytes, 60, back));
    CHECK(back.seq == h.seq);
    CHECK(back.ack == h.ack);
    CHECK(back.window == 513);
    CHECK(back.destination_port == 65535);
    CHECK(back.options.ts_ecr == 0x05060708);
    REQUIRE(back.options.sack_count == 3);
    CHECK(back.options.sack[2] == wire::SackBlock{Seq{20}, Seq{25}});
}

TEST_CASE("RFC 9768 3.2.3: an AccECN option of any length: the whole fields that fit")
{
    wire::TcpHeader h;
    const wire::AccEcnOption& o = h.options.accecn;
    CHECK(parse({172, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9}, wire::tcp_ack, h));
    CHECK(o.kind == wire::tcp_kind_accecn0);
    CHECK(o.fields == 3);
    CHECK(o.value[0] == 0x010203);
    CHECK(o.value[2] == 0x070809);
    CHECK(parse({174, 8, 1, 2, 3, 4, 5, 6}, wire::tcp_ack, h));
    CHECK(o.kind == wire::tcp_kind_accecn1);
    CHECK(o.fields == 2);
    CHECK(parse({172, 5, 1, 2, 3}, wire::tcp_ack, h));
    CHECK(o.fields == 1);
    CHECK(parse({172, 2}, wire::tcp_ack, h));
    CHECK((o.kind == wire::tcp_kind_accecn0 && o.fields == 0));
    CHECK(parse({172, 7, 1, 2, 3, 4, 5}, wire::tcp_ack, h)); // no length of today's
    CHECK(o.fields == 1);
    CHECK(o.value[0] == 0x010203);
    CHECK(parse({172, 15, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, wire::tcp_ack, h));
    CHECK(o.fields == 3);
    CHECK(parse({1, 1, 1, 1}, wire::tcp_ack, h));
    CHECK(o.kind == 0);
}

TEST_CASE("RFC 9768 A.2: how many marks three bits stand for")
{
    constexpr std::uint32_t size = 1000;
    auto plain = [](unsigned ace, std::uint32_t known, std::uint32_t packets) {
        return marks_risen(ace, known, packets, false, 0, size);
    };
    CHECK(plain(5, 5, 7) == 0);
    CHECK(plain(7, 5, 2) == 2);
    CHECK(plain(1, 6, 3) == 3); // 6, 7, 0, 1
    CHECK(plain(7, 5, 9) == 2); // the RFC's examples
    CHECK(plain(7, 5, 10) == 10);
    CHECK(plain(5, 5, 8) == 8);
    CHECK(plain(5, 5, 44) == 40);
    CHECK(plain(7, 5, 1) == 2); // control packets may have been marked as well
    auto counted = [](unsigned ace, std::uint32_t known, std::uint32_t packets, std::uint32_t octets) {
        return marks_risen(ace, known, packets, true, octets, size);
    };
    CHECK(counted(7, 5, 10, 1460) == 2);
    CHECK(counted(5, 5, 10, 1000) == 8); // no packet would have carried them
    CHECK(counted(5, 5, 44, 15000) == 16);
    CHECK(counted(5, 5, 10, 90000) == 8); // but no more than were acknowledged
}

TEST_CASE("options: malformed ones end the list, unknown ones are skipped (RFC 9293 MUST-6, MUST-7)")
{
    wire::TcpHeader h;
    CHECK(parse({253, 4, 9, 9, 2, 4, 5, 180}, wire::tcp_syn, h));
    CHECK(h.options.mss == 1460);
    CHECK(parse({2, 4, 5, 180, 3, 1, 2, 4}, wire::tcp_syn, h)); // length 1
    CHECK(h.options.mss == 1460);
    CHECK(!h.options.has_scale);
    CHECK(parse({2, 40, 5, 180}, wire::tcp_syn, h)); // longer than the header
    CHECK(h.options.mss == 0);
    CHECK(parse({2, 0, 5, 180}, wire::tcp_syn, h)); // length 0
    CHECK(h.options.mss == 0);
    CHECK(parse({1, 1, 1, 8}, wire::tcp_syn, h)); // a kind without length
    CHECK(!h.options.has_timestamp);
    CHECK(parse({0, 2, 4, 5, 180}, wire::tcp_syn, h)); // behind the end
    CHECK(h.options.mss == 0);
    CHECK(parse({3, 3, 200}, wire::tcp_syn, h));
    CHECK(h.options.scale == 14);                   // RFC 7323 2.3
    CHECK(parse({2, 4, 5, 180}, wire::tcp_ack, h)); // only in a SYN
    CHECK(h.options.mss == 0);
    CHECK(parse({5, 9, 0, 0, 0, 0, 0, 0, 0}, wire::tcp_ack, h)); // not a multiple of 8
    CHECK(h.options.sack_count == 0);
    unsigned char bytes[20] = {};
    CHECK(!wire::tcp_parse(bytes, 19, h));
    CHECK(!wire::tcp_parse(bytes, 20, h)); // offset 0
    bytes[12] = 0x60;
    CHECK(!wire::tcp_parse(bytes, 20, h)); // offset behind the bytes
}

TEST_CASE("ranges merge, count fresh octets, and are bounded")
{
    SeqRanges<3> r;
    CHECK(r.add(at(100), at(200)).fresh == 100);
    CHECK(r.add(at(300), at(400)).fresh == 100);
    CHECK(r.add(at(150), at(350)).fresh == 100);
    REQUIRE(r.count() == 1);
    CHECK(r[0].start == at(100));
    CHECK(r[0].end == at(400));
    CHECK(r.add(at(100), at(400)).fresh == 0);
    CHECK(r.add(at(400), at(500)).fresh == 100); // neighbours are one
    REQUIRE(r.count() == 1);
    CHECK(r.add(at(5000), at(5001)).stored);
    CHECK(r.add(at(10), at(20)).stored);
    CHECK(!r.add(at(600), at(700)).stored); // full, nothing changed
    CHECK(r.bytes() == 411);
    CHECK(r.add(at(490), at(5000)).stored); // joins two although full
    CHECK(r.count() == 2);
    CHECK(r.bytes() == 10 + 4901);
    r.trim_below(at(1000));
    CHECK(r.count() == 1);
    CHECK(r.bytes() == 4001);
    r.trim_below(at(9000));
    CHECK(r.empty());
    CHECK(r.bytes() == 0);
}

TEST_CASE("RFC 6298: estimator and back-off")
{
    RttEstimator r;
    CHECK(r.rto() == base::seconds(1)); // 2.1
    r.sample(base::millis(400));        // 2.2: RTO = R + 4 * R / 2
    CHECK(r.srtt() == base::millis(400));
    CHECK(r.rto() == base::millis(1200));
    r.sample(base::millis(800)); // 2.3
    CHECK(r.rttvar() == base::millis(250));
    CHECK(r.srtt() == base::millis(450));
    CHECK(r.rto() == base::millis(1450));
    r.back_off(); // 5.5
    CHECK(r.rto() == base::millis(2900));
    for (int i = 0; i < 40; ++i) {
        r.back_off();
    }
    CHECK(r.rto() == rto_max);
    for (int i = 0; i < 200; ++i) {
        r.sample(base::millis(1));
    }
    CHECK(r.rto() - r.srtt() == rto_min); // as Linux: a minimum of what the round trip varies by
    RttEstimator slow;
    slow.handshake_was_slow(); // 5.7
    CHECK(slow.rto() == base::seconds(3));
}

TEST_CASE("RFC 4821: the search between what passes and what might")
{
    Plpmtu p;
    base::Instant now = base::Instant{} + base::seconds(5);
    CHECK(!p.on());
    p.begin(1064, 1500);
    std::uint32_t path = 1401;
    unsigned probes = 0;
    while (std::uint32_t size = p.next(now, 1500)) {
        REQUIRE(++probes < 10);
        p.sent(size, Seq{1}, Seq{2});
        CHECK(p.next(now, 1500) == 0); // one at a time
        size <= path ? p.passed() : p.failed();
    }
    CHECK(p.low <= path);
    CHECK(p.low + plpmtu_close_enough > path);
    CHECK(p.next(now + plpmtu_raise_time - base::Micros{1}, 1500) == 0);
    CHECK(p.next(now + plpmtu_raise_time, 1500) > path); // it may have changed
    p.limit(1300);
    CHECK(p.low == 1300);
    p.black_hole(88);
    CHECK(p.low == 650);
    CHECK(p.high == 1300);
    for (int i = 0; i < 9; ++i) {
        p.black_hole(88);
    }
    CHECK(p.low == 88);
}

TEST_CASE("RFC 8899 4.6: what a router said while a probe was in flight outlasts the probe")
{
    base::Instant now = base::Instant{} + base::seconds(5);
    for (bool arrived : {false, true}) {
        Plpmtu p;
        p.begin(1064, 1500);
        std::uint32_t size = p.next(now, 1500);
        REQUIRE(size > 1100);
        p.sent(size, Seq{1}, Seq{2});
        p.limit(1100);
        arrived ? p.passed() : p.failed();
        CHECK(p.low <= 1100);
        CHECK(p.high == 1100);
        CHECK(p.next(now, 1500) <= 1100);
    }
}

TEST_CASE("RFC 4821 7.6.4: what of a probe goes again makes it inconclusive")
{
    Plpmtu p;
    p.begin(1064, 1500);
    p.sent(p.next(base::Instant{}, 1500), at(100), at(1200));
    std::uint32_t probe = p.probe;
    p.sent_again(at(50), at(100));
    p.sent_again(at(1200), at(1300));
    CHECK(p.probe == probe);
    p.sent_again(at(1100), at(1300));
    CHECK(p.probe == 0);
    CHECK((p.low == 1064 && p.high == 1500));
}

TEST_CASE("the flow table finds everything while it grows and shrinks")
{
    FlowTable table({1, 2});
    std::vector<std::unique_ptr<FlowNode>> nodes;
    for (unsigned i = 0; i < 5000; ++i) {
        base::FourTuple f;
        f.local = {base::IpAddr::v4(0x0a000001), 80};
        f.peer = {base::IpAddr::v4(0x0b000000 + i / 100), static_cast<std::uint16_t>(i % 100 + 1)};
        nodes.push_back(std::make_unique<FlowNode>(NodeKind::tcb, f));
        table.insert(*nodes.back());
        if (i % 7 == 0) {
            CHECK(table.find(nodes[i / 2]->flow) == nodes[i / 2].get());
        }
    }
    unsigned found = 0;
    for (auto& n : nodes) {
        found += table.find(n->flow) == n.get() ? 1 : 0;
    }
    CHECK(found == 5000);
    for (unsigned i = 0; i < 5000; i += 2) {
        table.remove(*nodes[i]);
    }
    found = 0;
    for (auto& n : nodes) {
        found += table.find(n->flow) != nullptr ? 1 : 0;
    }
    CHECK(found == 2500);
    CHECK(table.size() == 2500);
}

TEST_CASE("the flow table against a set: seeded insertions and removals, lines overfull")
{
    base::Random random(11);
    FlowTable table({3, 4});
    std::vector<std::unique_ptr<FlowNode>> in;
    std::vector<std::unique_ptr<FlowNode>> out;
    for (unsigned i = 0; i < 700; ++i) { // 64 lines, growth at 256: full lines come and go at every size
        base::FourTuple f{{base::IpAddr::v4(0x0a000001), 80}, {base::IpAddr::v4(0x0b000000), 1}};
        f.peer.port = static_cast<std::uint16_t>(i + 1);
        out.push_back(std::make_unique<FlowNode>(NodeKind::tcb, f));
    }
    bool right = true;
    auto steering_hash = [](const FlowNode& n) { return n.flow.peer.port % 150U; }; // many share a place
    for (unsigned step = 0; step < 40000; ++step) {
        bool grow = step % 8000 < 4000 ? random.below(3) != 0 : random.below(3) == 0;
        auto& from = grow ? out : in;
        auto& to = grow ? in : out;
        if (from.empty()) {
            continue;
        }
        std::swap(from[random.below(static_cast<std::uint32_t>(from.size()))], from.back());
        FlowNode& n = *from.back();
        right = right && (table.find(n.flow) == (grow ? nullptr : &n));
        grow ? table.insert(n) : table.remove(n);
        right = right && (table.find(n.flow) == (grow ? &n : nullptr));
        if (grow && step % 3 != 0) {
            table.remember(n, steering_hash(n) + step % 2); // a place of its own, and another
            right = right && table.recent(n.flow, steering_hash(n) + step % 2) == &n;
        }
        right = right && (grow || table.recent(n.flow, steering_hash(n)) == nullptr);
        right = right && (grow || table.recent(n.flow, steering_hash(n) + 1) == nullptr);
        to.push_back(std::move(from.back()));
        from.pop_back();
        const auto& any = in.empty() ? to : in;
        const FlowNode& other = *any[random.below(static_cast<std::uint32_t>(any.size()))];
        right = right && (in.empty() || table.find(other.flow) == &other);
    }
    CHECK(right);
    CHECK(table.size() == in.size());
}

TEST_CASE("listeners of one port: the address, then all of its family, then those that take both")
{
    base::Random random(3);
    base::IpAddr v4 = base::IpAddr::v4(0x0a000001);
    base::IpAddr v6 = base::parse_ip("2001:db8::1").value();
    base::IpAddr any_v6{};
    auto slot = std::make_unique<sockbuf::SocketSlot>();
    slot->share.holders.store(1); // else it is closed already
    Socket so;
    so.slot = slot.get();
    std::array<Listener, 8> all;
    std::array<base::IpAddr, 4> at{v4, base::IpAddr::any_v4(), any_v6, v6};
    ListenerTable table;
    for (std::size_t i = 0; i < all.size(); ++i) { // two of each: a group
        all[i].local = {at[i / 2], 80};
        all[i].reuse_key = random.next();
        all[i].so = &so;
        table.insert(all[i]);
    }
    auto expect = [&](const base::IpAddr& to, const base::IpAddr& bound) {
        std::array<unsigned, 8> taken{};
        for (int i = 0; i < 64; ++i) {
            Listener* l = table.find({to, 80}, random.next());
            REQUIRE(l != nullptr);
            CHECK(l->local.addr == bound);
            ++taken[static_cast<std::size_t>(l - all.data())];
        }
        CHECK(std::count(taken.begin(), taken.end(), 0U) == 6); // both members of one group
    };
    base::IpAddr other_v4 = base::IpAddr::v4(0x0a000002);
    base::IpAddr other_v6 = base::parse_ip("2001:db8::2").value();
    expect(v4, v4);
    expect(v6, v6);
    expect(other_v4, base::IpAddr::any_v4());
    expect(other_v6, any_v6);
    all[2].link.unlink();
    all[3].link.unlink();
    expect(other_v4, any_v6);
    CHECK(table.find({other_v4, 81}, 1) == nullptr);
    for (Listener& l : all) {
        if (l.link.linked()) {
            l.link.unlink();
        }
    }
}
