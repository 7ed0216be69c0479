// Software segmentation and the vnet header: whole packets against bytes written out here, and malformed input.
#include "driver_world.hpp"

#include <cstring>

#include "base/endian.hpp"
#include "drivers/vnet_header.hpp"
#include "netmsg/gso.hpp"

using namespace driver_test;

namespace {

// The plainest possible sum, to check against.
std::uint16_t slow_checksum(const Bytes& b, std::size_t from, std::size_t to, std::uint32_t start)
{
    std::uint32_t sum = start;
    for (std::size_t i = from; i < to; ++i) {
        sum += (i - from) % 2 == 0 ? std::uint32_t{b[i]} << 8 : b[i];
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return static_cast<std::uint16_t>(~sum);
}

std::uint32_t pseudo(const Bytes& b)
{
    std::uint32_t sum = 6 + static_cast<std::uint32_t>(b.size() - 34);
    for (std::size_t i = 26; i < 34; i += 2) {
        sum += base::load_be16(&b[i]);
    }
    return (sum & 0xffff) + (sum >> 16);
}

// Ethernet, IPv4, TCP with 12 bytes of options, then payload.
Bytes super_frame(std::size_t payload, unsigned char flags)
{
    Bytes f(66);
    for (std::size_t i = 0; i < 12; ++i) {
        f[i] = static_cast<unsigned char>(0x10 + i);
    }
    base::store_be16(&f[12], 0x0800);
    f[14] = 0x45;
    base::store_be16(&f[16], static_cast<std::uint16_t>(52 + payload));
    base::store_be16(&f[18], 0xfffe); // identification wraps
    f[20] = 0x40;
    f[22] = 64;
    f[23] = 6;
    base::store_be32(&f[26], 0x0a000001);
    base::store_be32(&f[30], 0x0a000002);
    base::store_be16(&f[34], 1000);
    base::store_be16(&f[36], 2000);
    base::store_be32(&f[38], 0xfffffff0); // sequence wraps
    base::store_be32(&f[42], 77);
    f[46] = 0x80;
    f[47] = flags;
    base::store_be16(&f[48], 512);
    std::memset(&f[54], 1, 12);
    Bytes data = pattern(payload, 9);
    f.insert(f.end(), data.begin(), data.end());
    return f;
}

netmsg::Packet* super_packet(World& w, Bytes& frame, std::uint16_t gso_size)
{
    netmsg::Packet* p = w.pool->allocate();
    std::memcpy(p->put(66), frame.data(), 66);
    if (frame.size() > 66) {
        std::size_t half = (frame.size() - 66) / 3 + 1;
        p->add_piece(&frame[66], std::min(half, frame.size() - 66));
        if (frame.size() > 66 + half) {
            p->add_piece(&frame[66 + half], frame.size() - 66 - half);
        }
    }
    p->gso = netmsg::Gso::tcp4;
    p->gso_size = gso_size;
    p->csum = netmsg::Csum::partial;
    p->csum_start = 34;
    p->csum_offset = 16;
    return p;
}

std::vector<Bytes> segments_of(World& w, Bytes& frame, std::uint16_t gso_size)
{
    std::vector<Bytes> all;
    w.set->call(0, [&](lwkt::Cpu&) {
        netmsg::Packet* p = super_packet(w, frame, gso_size);
        netmsg::PacketQueue out;
        REQUIRE(netmsg::gso_segment(*p, 14, *w.pool, out));
        p->free();
        while (lwkt::Message* m = out.pop()) {
            auto& s = static_cast<netmsg::Packet&>(*m);
            CHECK(s.gso == netmsg::Gso::none);
            CHECK(s.csum == netmsg::Csum::valid);
            all.push_back(bytes_of(s));
            s.free();
        }
    });
    CHECK(w.in_use() == 0);
    return all;
}

} // namespace

TEST_CASE("a TCP super-segment becomes the segments TCP would have sent")
{
    lwkt::VirtualClock clock;
    World w(clock);
    constexpr unsigned fin_psh_ack_cwr = 0x01 | 0x08 | 0x10 | 0x80;
    for (std::size_t payload : {0U, 1U, 99U, 100U, 101U, 4321U, 65000U}) {
        for (auto gso_size : {std::uint16_t{100}, std::uint16_t{1448}, std::uint16_t{8000}}) {
            INFO("payload " << payload << " gso_size " << gso_size);
            Bytes frame = super_frame(payload, fin_psh_ack_cwr);
            std::vector<Bytes> segments = segments_of(w, frame, gso_size);
            std::size_t count = std::max<std::size_t>(1, (payload + gso_size - 1) / gso_size);
            REQUIRE(segments.size() == count);
            for (std::size_t i = 0; i < count; ++i) {
                bool first = i == 0;
                bool last = i + 1 == count;
                std::size_t offset = i * gso_size;
                std::size_t n = std::min<std::size_t>(gso_size, payload - offset);
                Bytes expected(frame.begin(), frame.begin() + 66);
                base::store_be16(&expected[16], static_cast<std::uint16_t>(52 + n));
                base::store_be16(&expected[18], static_cast<std::uint16_t>(0xfffe + i));
                base::store_be32(&expected[38], static_cast<std::uint32_t>(0xfffffff0 + offset));
                expected[47] = static_cast<unsigned char>(0x10 | (first ? 0x80 : 0) | (last ? 0x09 : 0));
                auto from = frame.begin() + 66 + static_cast<std::ptrdiff_t>(offset);
                expected.insert(expected.end(), from, from + static_cast<std::ptrdiff_t>(n));
                base::store_be16(&expected[24], slow_checksum(expected, 14, 34, 0));
                base::store_be16(&expected[50], slow_checksum(expected, 34, expected.size(), pseudo(expected)));
                REQUIRE(segments[i] == expected);
            }
        }
    }
}

TEST_CASE("no sum has the zones that the addresses of what loops carry")
{
    lwkt::VirtualClock clock;
    World w(clock);
    Bytes packet(60);
    packet[0] = 0x60;
    base::store_be16(&packet[4], 20 + 300);
    packet[6] = 6;
    packet[7] = 64;
    for (std::size_t at : {8U, 24U}) { // fe80::1, fe80::2 of interface 5
        base::store_be16(&packet[at], 0xfe80);
        base::store_be16(&packet[at + 2], 5);
        packet[at + 15] = at == 8 ? 1 : 2;
    }
    packet[52] = 0x50;
    packet.resize(360, 9);
    w.set->call(0, [&](lwkt::Cpu&) {
        netmsg::Packet* p = w.pool->allocate();
        std::memcpy(p->put(360), packet.data(), 360);
        p->gso = netmsg::Gso::tcp6;
        p->gso_size = 100;
        p->csum = netmsg::Csum::partial;
        p->csum_start = 40;
        p->csum_offset = 16;
        netmsg::PacketQueue out;
        REQUIRE(netmsg::gso_segment(*p, 0, *w.pool, out));
        p->free();
        for (unsigned n = 0; lwkt::Message* m = out.pop(); ++n) {
            auto& s = static_cast<netmsg::Packet&>(*m);
            Bytes b = bytes_of(s);
            REQUIRE(b.size() == 160);
            CHECK(base::load_be16(&b[10]) == 5); // it is in the header still
            std::uint32_t sum = 6 + 120 + 0xfe80 * 2 + 1 + 2;
            CHECK(slow_checksum(b, 40, 160, (sum & 0xffff) + (sum >> 16)) == 0);
            s.free();
        }
    });
    CHECK(w.in_use() == 0);
}

TEST_CASE("headers that contradict the bytes are not segmented, and a dry pool leaks nothing")
{
    lwkt::VirtualClock clock;
    World w(clock, 1, {8, 1});
    w.set->call(0, [&](lwkt::Cpu&) {
        auto refused = [&](auto spoil) {
            Bytes frame = super_frame(5000, 0x10);
            netmsg::Packet* p = super_packet(w, frame, 1448);
            spoil(*p);
            netmsg::PacketQueue out;
            CHECK_FALSE(netmsg::gso_segment(*p, 14, *w.pool, out));
            CHECK(out.empty());
            p->free();
        };
        refused([](netmsg::Packet& p) { p.gso = netmsg::Gso::none; });
        refused([](netmsg::Packet& p) { p.gso = netmsg::Gso::udp; });
        refused([](netmsg::Packet& p) { p.gso_size = 0; });
        refused([](netmsg::Packet& p) { p.data[14] = std::byte{0x65}; });
        refused([](netmsg::Packet& p) { p.data[14] = std::byte{0x44}; });
        refused([](netmsg::Packet& p) { p.data[14] = std::byte{0x4f}; }); // options beyond data
        refused([](netmsg::Packet& p) { p.data[23] = std::byte{17}; });
        refused([](netmsg::Packet& p) { p.data[46] = std::byte{0x40}; });
        refused([](netmsg::Packet& p) { p.data[46] = std::byte{0xf0}; });
        refused([](netmsg::Packet& p) { p.truncate(50); });
        refused([](netmsg::Packet& p) { p.gso_size = 100; }); // 50 segments, 7 packets
    });
    CHECK(w.in_use() == 0);
}

TEST_CASE("a partial checksum is finished over all pieces")
{
    lwkt::VirtualClock clock;
    World w(clock);
    w.set->call(0, [&](lwkt::Cpu&) {
        for (std::size_t payload : {0U, 1U, 2U, 1001U, 4096U}) {
            Bytes frame = super_frame(payload, 0x18);
            base::store_be16(&frame[50], static_cast<std::uint16_t>(pseudo(frame)));
            netmsg::Packet* p = super_packet(w, frame, 1448);
            REQUIRE(netmsg::finish_checksum(*p));
            Bytes done = bytes_of(*p);
            std::uint16_t stored = base::load_be16(&done[50]);
            base::store_be16(&done[50], 0);
            CHECK(stored == slow_checksum(done, 34, done.size(), pseudo(done)));
            p->csum_start = 2000;
            CHECK_FALSE(netmsg::finish_checksum(*p));
            p->free();
        }
    });
}

namespace {

struct Header { // flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers
    unsigned char flags, gso_type;
    std::uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

} // namespace

TEST_CASE("received vnet headers: good ones are taken, contradictions refused")
{
    lwkt::VirtualClock clock;
    World w(clock);
    w.set->call(0, [&](lwkt::Cpu&) {
        auto take = [&](const Header& h, netmsg::Csum& csum) {
            netmsg::Packet* p = w.pool->allocate();
            p->put(200);
            bool good = drivers::take_vnet_header(&h, *p);
            csum = p->csum;
            p->free();
            return good;
        };
        netmsg::Csum csum;
        CHECK((take({0, 0, 0, 0, 0, 0, 0}, csum) && csum == netmsg::Csum::unknown));
        CHECK((take({2, 0, 0, 0, 0, 0, 0}, csum) && csum == netmsg::Csum::valid));
        CHECK((take({1, 0, 0, 0, 34, 16, 0}, csum) && csum == netmsg::Csum::valid));
        CHECK((take({1, 1, 66, 1448, 34, 16, 0}, csum) && csum == netmsg::Csum::valid));
        CHECK(take({1, 0x81, 66, 1448, 34, 16, 0}, csum)); // with ECN
        CHECK(take({1, 4, 86, 1428, 54, 16, 0}, csum));
        CHECK(take({1, 0, 0, 0, 182, 16, 0}, csum));
        CHECK_FALSE(take({1, 0, 0, 0, 183, 16, 0}, csum)); // behind the frame
        CHECK_FALSE(take({1, 0, 0, 0, 0xffff, 0xffff, 0}, csum));
        CHECK_FALSE(take({1, 1, 66, 0, 34, 16, 0}, csum));    // no size
        CHECK_FALSE(take({0, 1, 66, 1448, 34, 16, 0}, csum)); // no checksum to finish
        CHECK_FALSE(take({1, 1, 201, 1448, 34, 16, 0}, csum));
        CHECK_FALSE(take({1, 3, 66, 1448, 34, 16, 0}, csum)); // UFO
        CHECK_FALSE(take({1, 7, 66, 1448, 34, 16, 0}, csum));
        base::Random random(5);
        for (int i = 0; i < 100'000; ++i) { // whatever it holds, what is accepted is consistent
            std::uint64_t bits[2] = {random.next() & random.next(), random.next() & random.next()};
            netmsg::Packet* p = w.pool->allocate();
            p->put(random.below(1500));
            if (drivers::take_vnet_header(bits, *p)) {
                REQUIRE((p->csum_start == 0 || p->csum_start + p->csum_offset + 2U <= p->total()));
                REQUIRE((p->gso == netmsg::Gso::none) == (p->gso_size == 0));
            }
            p->free();
        }
    });
    CHECK(w.in_use() == 0);
}

TEST_CASE("transmitted vnet headers say what the kernel needs")
{
    lwkt::VirtualClock clock;
    World w(clock);
    w.set->call(0, [&](lwkt::Cpu&) {
        auto make = [&](std::size_t payload, unsigned char flags, auto change, Header& h) {
            Bytes frame = super_frame(payload, flags);
            netmsg::Packet* p = super_packet(w, frame, 1448);
            change(*p);
            bool good = drivers::make_vnet_header(*p, 14, &h);
            p->free();
            return good;
        };
        auto same = [](netmsg::Packet&) {};
        Header h{};
        REQUIRE(make(5000, 0x10, same, h));
        CHECK(h.flags == 1);
        CHECK(h.gso_type == 1);
        CHECK(h.hdr_len == 66);
        CHECK(h.gso_size == 1448);
        CHECK(h.csum_start == 34);
        CHECK(h.csum_offset == 16);
        REQUIRE(make(5000, 0x90, same, h));
        CHECK(h.gso_type == 0x81);
        REQUIRE(make(1448, 0x10, same, h)); // one segment is no super-segment
        CHECK(h.gso_type == 0);
        CHECK(h.gso_size == 0);
        REQUIRE(make(
            10, 0x10,
            [](netmsg::Packet& p) {
                p.gso = netmsg::Gso::none;
                p.csum = netmsg::Csum::valid;
            },
            h));
        CHECK(h.flags == 0);
        CHECK_FALSE(make(
            5000, 0x10, [](netmsg::Packet& p) { p.csum = netmsg::Csum::valid; }, h));
        CHECK_FALSE(make(
            5000, 0x10, [](netmsg::Packet& p) { p.csum_start = 6000; }, h));
        // UDP's header is 8 bytes, whatever stands behind it.
        auto udp = [](netmsg::Packet& p) { p.gso = netmsg::Gso::udp; };
        REQUIRE(make(5000, 0x10, udp, h));
        CHECK(h.flags == 1);
        CHECK(h.gso_type == 5);
        CHECK(h.hdr_len == 34 + 8);
        CHECK(h.gso_size == 1448);
        REQUIRE(make(1448 - 24, 0x10, udp, h)); // the 32 bytes of TCP's header less UDP's 8 are payload here
        CHECK(h.gso_type == 0);
        CHECK_FALSE(make(
            5000, 0x10,
            [](netmsg::Packet& p) {
                p.gso = netmsg::Gso::udp;
                p.csum = netmsg::Csum::valid;
            },
            h));
    });
}
