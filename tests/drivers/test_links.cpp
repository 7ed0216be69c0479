// Loopback and the simulated link in stepped worlds: order, copies, statistics, and a seed that gives the same run; and
// the wire between threads.
#include "driver_world.hpp"

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/endian.hpp"
#include "drivers/loopback.hpp"
#include "drivers/sim_link.hpp"

using namespace driver_test;

namespace {

Bytes numbered(std::uint32_t n, std::size_t size = 200)
{
    Bytes b = pattern(size, n);
    base::store_be32(&b[20], n);
    return b;
}

struct Pair {
    explicit Pair(const drivers::SimLinkOptions& options, std::size_t cpus_a = 1, std::size_t cpus_b = 1)
        : a(clock, cpus_a), b(clock, cpus_b), link(drivers::make_sim_link(options))
    {
        a.attach(*link.a);
        b.attach(*link.b);
    }
    ~Pair()
    {
        link.a->detach();
        link.b->detach();
    }
    // Until nothing happens any more.
    void settle()
    {
        for (;;) {
            bool worked = a.set->step();
            worked |= b.set->step();
            if (worked) {
                continue;
            }
            base::Instant next = std::min(a.set->next_deadline(), b.set->next_deadline());
            if (next == base::never) {
                return;
            }
            clock.advance_to(std::max(next, clock.now()));
        }
    }
    lwkt::VirtualClock clock;
    World a, b;
    drivers::SimLink link;
};

std::vector<std::uint32_t> numbers(const World& w)
{
    std::vector<std::uint32_t> all;
    for (const Received& r : w.received) {
        all.push_back(base::load_be32(&r.bytes[20]));
    }
    return all;
}

} // namespace

TEST_CASE("loopback delivers in order, later, and a copy of what lies in send rings")
{
    lwkt::VirtualClock clock;
    World w(clock, 2);
    drivers::Loopback lo;
    w.attach(lo);
    for (std::uint32_t i = 0; i < 40; ++i) {
        w.send(lo, numbered(i, i % 2 == 0 ? 300 : 9000), i % 2 == 0 ? 0 : 8900, 1);
    }
    while (w.set->step()) {
    }
    REQUIRE(w.received.size() == 40);
    for (std::uint32_t i = 0; i < 40; ++i) {
        CHECK(w.received[i].bytes == numbered(i, i % 2 == 0 ? 300 : 9000));
        CHECK(w.received[i].cpu == 1);
        CHECK(w.received[i].csum == netmsg::Csum::valid);
    }
    lo.detach();
    CHECK(w.in_use() == 0);
}

TEST_CASE("loopback: what input transmits is not delivered inside input")
{
    lwkt::VirtualClock clock;
    World w(clock);
    struct Echo {
        drivers::Loopback* lo;
        int depth = 0, deepest = 0, left = 10;
    } echo{nullptr};
    drivers::Loopback lo;
    echo.lo = &lo;
    std::string error;
    REQUIRE(lo.attach(
        *w.set, *w.pool,
        [](void* context, netmsg::Packet& p) {
            auto& e = *static_cast<Echo*>(context);
            e.deepest = std::max(e.deepest, ++e.depth);
            if (--e.left > 0) {
                e.lo->transmit(p);
            } else {
                p.free();
            }
            --e.depth;
        },
        &echo, error));
    w.send(lo, numbered(1));
    while (w.set->step()) {
    }
    CHECK(echo.left == 0);
    CHECK(echo.deepest == 1);
    lo.detach();
    CHECK(w.in_use() == 0);
}

TEST_CASE("an unimpaired link delivers everything once, in order, at the time it was sent")
{
    Pair p({}, 2, 2);
    for (std::uint32_t i = 0; i < 3000; ++i) { // more than what is posted
        p.a.send(*p.link.a, numbered(i, i % 50 == 0 ? 1400 : 100), i % 50 == 0 ? 1300 : 0, 1);
    }
    p.settle();
    REQUIRE(p.b.received.size() == 3000);
    for (std::uint32_t i = 0; i < 3000; ++i) {
        REQUIRE(p.b.received[i].bytes == numbered(i, i % 50 == 0 ? 1400 : 100));
        REQUIRE(p.b.received[i].cpu == 1);
        REQUIRE(p.b.received[i].csum == netmsg::Csum::unknown);
    }
    p.link.a->detach();
    p.link.b->detach();
    CHECK(p.a.in_use() == 0);
    CHECK(p.b.in_use() == 0);
}

TEST_CASE("delay and rate are kept, and the queue in front of the rate has an end")
{
    drivers::SimLinkOptions o;
    o.a.send.delay = base::millis(10);
    o.a.send.rate_bits_per_s = 8'000'000; // 1000 bytes take 1 ms
    o.a.send.queue_bytes_max = 5000;
    Pair p(o);
    base::Instant start = p.clock.now();
    for (std::uint32_t i = 0; i < 20; ++i) {
        p.a.send(*p.link.a, numbered(i, 1000));
    }
    p.settle();
    REQUIRE(p.b.received.size() == 6); // one on the wire, five queued
    for (std::size_t i = 0; i < 6; ++i) {
        CHECK(p.b.received[i].stamp - start == base::millis(10 + static_cast<std::int64_t>(i) + 1));
    }
    CHECK(p.link.counters(0).queue_full == 14);
}

TEST_CASE("impairments happen as often as asked, and the same seed gives the same run")
{
    auto run = [](std::uint64_t seed, drivers::SimLinkCounters& counted) {
        drivers::SimLinkOptions o;
        o.seed = seed;
        o.held_frames_max = 6000;
        o.a.send.loss = 0.1;
        o.a.send.duplicate = 0.05;
        o.a.send.reorder = 0.05;
        o.a.send.corrupt = 0.02;
        o.a.send.delay = base::millis(1);
        Pair p(o);
        p.a.prepare = [](netmsg::Packet& packet) { packet.csum = netmsg::Csum::valid; };
        for (std::uint32_t i = 0; i < 5000; ++i) {
            p.a.send(*p.link.a, numbered(i, 60));
        }
        p.settle();
        counted = p.link.counters(0);
        CHECK(p.b.received.size() == 5000 - counted.lost + counted.duplicated);
        CHECK(counted.held_full == 0);
        std::vector<Bytes> bytes;
        std::size_t wrong = 0;
        for (const Received& r : p.b.received) {
            bool intact = r.bytes == numbered(base::load_be32(&r.bytes[20]), 60);
            bool to_verify = r.csum == netmsg::Csum::unknown; // the corrupt ones and only those
            REQUIRE((intact || to_verify));
            wrong += to_verify ? 1U : 0U;
            bytes.push_back(r.bytes);
        }
        CHECK(wrong >= counted.corrupted); // a duplicate is corrupt too
        CHECK(wrong < counted.corrupted + 30);
        std::vector<std::uint32_t> order = numbers(p.b);
        CHECK_FALSE(std::is_sorted(order.begin(), order.end()));
        return bytes;
    };
    drivers::SimLinkCounters one, again, other;
    auto first = run(7, one);
    CHECK(first == run(7, again));
    CHECK(first != run(8, other));
    CHECK((one.lost > 400 && one.lost < 600));
    CHECK((one.duplicated > 150 && one.duplicated < 300));
    CHECK((one.reordered > 150 && one.reordered < 350));
    CHECK((one.corrupted > 50 && one.corrupted < 140));
}

namespace {

// An Ethernet frame whose IP header has the traffic class; of IPv4 with its checksum.
Bytes frame_of_class(unsigned version, unsigned traffic_class)
{
    Bytes b(100, 0x11);
    base::store_be16(&b[12], version == 4 ? 0x0800 : 0x86dd);
    base::store_be16(
        &b[14], static_cast<std::uint16_t>(version == 4 ? 0x4500 | traffic_class : 0x6000 | traffic_class << 4));
    if (version == 6) {
        return b;
    }
    base::store_be16(&b[24], 0);
    std::uint32_t sum = 0;
    for (std::size_t i = 14; i < 34; i += 2) {
        sum += base::load_be16(&b[i]);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    base::store_be16(&b[24], static_cast<std::uint16_t>(~((sum & 0xffff) + (sum >> 16))));
    return b;
}

} // namespace

TEST_CASE("a link marks frames that are ECN-capable instead of dropping them (RFC 3168 5), and no others")
{
    drivers::SimLinkOptions options;
    options.a.send.mark = 1;
    Pair p(options);
    for (unsigned version : {4U, 6U}) {
        for (unsigned before : {0x00U, 0x01U, 0x02U, 0x03U, 0xb8U, 0xbaU}) {
            p.a.send(*p.link.a, frame_of_class(version, before));
            p.settle();
            unsigned after = (before & 3) == 0 ? before : before | 3;
            REQUIRE(p.b.received.size() == 1);
            CHECK(p.b.received[0].bytes == frame_of_class(version, after));
            p.b.received.clear();
        }
    }
    CHECK(p.link.counters(0).marked == 8);
    Bytes arp(60, 0); // whatever is no IP
    p.a.send(*p.link.a, arp);
    p.settle();
    CHECK(p.b.received.at(0).bytes == arp);
}

TEST_CASE("a side that is detached gets nothing, and its memory is all home")
{
    Pair p({});
    p.a.send(*p.link.a, numbered(1));
    p.settle();
    CHECK(p.b.received.size() == 1);
    p.link.b->detach();
    CHECK(p.b.in_use() == 0);
    p.a.send(*p.link.a, numbered(2));
    p.settle();
    CHECK(p.b.received.size() == 1);
    CHECK(p.link.a->counters(0).out_dropped.load() == 1);
}

TEST_CASE("the wire between threads loses, doubles and reorders nothing, whether its ends sleep or not")
{
    lwkt::RealClock clock;
    struct End {
        std::atomic<std::uint32_t> next{0};
        std::atomic<std::uint32_t> wrong{0};
    } end;
    World a(clock), b(clock);
    drivers::SimLink link = drivers::make_sim_link({});
    a.attach(*link.a);
    std::string error;
    REQUIRE(link.b->attach(
        *b.set, *b.pool,
        [](void* context, netmsg::Packet& p) {
            auto& e = *static_cast<End*>(context);
            std::uint32_t n = 0;
            p.copy_out(20, &n, 4);
            if (__builtin_bswap32(n) != e.next.load(std::memory_order_relaxed)) {
                e.wrong.fetch_add(1);
            }
            p.free();
            e.next.fetch_add(1, std::memory_order_release);
        },
        &end, error));
    a.set->start();
    b.set->start();
    constexpr std::uint32_t bursts = 300;
    std::uint32_t sent = 0;
    for (std::uint32_t burst = 0; burst < bursts; ++burst) {
        a.set->call(0, [&](lwkt::Cpu&) {
            for (std::uint32_t i = 0; i <= burst % 7; ++i) {
                Bytes bytes = numbered(sent++);
                netmsg::Packet* p = a.pool->allocate();
                std::copy(bytes.begin(), bytes.end(), reinterpret_cast<unsigned char*>(p->put(200)));
                link.a->transmit(*p);
            }
        });
        while (burst % 3 == 0 && end.next.load(std::memory_order_acquire) != sent) {
            std::this_thread::yield(); // so that both ends fall asleep now and then; a lost wake-up hangs here
        }
    }
    while (end.next.load(std::memory_order_acquire) != sent) {
        std::this_thread::yield();
    }
    CHECK(end.wrong.load() == 0);
    link.b->detach(); // while the other side runs
    link.a->detach();
    a.set->stop();
    b.set->stop();
    CHECK(a.in_use() == 0);
    CHECK(b.in_use() == 0);
}
