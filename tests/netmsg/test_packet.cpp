// Packet arithmetic against a model: the packet's bytes as one vector.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/random.hpp"
#include "lwkt/cpu_set.hpp"
#include "netmsg/packet_pool.hpp"

namespace {

using Bytes = std::vector<unsigned char>;

struct World {
    World()
    {
        lwkt::CpuSetOptions options;
        options.pin = {-1, -1};
        set = std::make_unique<lwkt::CpuSet>(clock, options);
        pool = std::make_unique<netmsg::PacketPool>(*set, netmsg::PacketPoolOptions{16, 4});
    }
    lwkt::VirtualClock clock;
    std::unique_ptr<lwkt::CpuSet> set;
    std::unique_ptr<netmsg::PacketPool> pool;
};

Bytes bytes_of(const netmsg::Packet& p)
{
    Bytes b(p.total());
    p.copy_out(0, b.data(), p.total());
    return b;
}

Bytes random_bytes(base::Random& random, std::size_t n)
{
    Bytes b(n);
    for (auto& byte : b) {
        byte = static_cast<unsigned char>(random.next());
    }
    return b;
}

struct Model {
    netmsg::Packet* p;
    Bytes bytes;
    std::vector<Bytes> outside; // memory of pieces, as a send ring would hold it
};

void change(Model& m, base::Random& random)
{
    netmsg::Packet& p = *m.p;
    switch (random.below(7)) {
    case 0: {
        auto n = random.below(p.headroom() + 1);
        Bytes b = random_bytes(random, n);
        std::copy(b.begin(), b.end(), reinterpret_cast<unsigned char*>(p.push(n)));
        m.bytes.insert(m.bytes.begin(), b.begin(), b.end());
        break;
    }
    case 1: {
        auto n = random.below(p.size + 1);
        p.pull(n);
        m.bytes.erase(m.bytes.begin(), m.bytes.begin() + n);
        break;
    }
    case 2:
        if (p.piece_count == 0) {
            auto n = random.below(p.tailroom() / 4 + 1);
            Bytes b = random_bytes(random, n);
            std::copy(b.begin(), b.end(), reinterpret_cast<unsigned char*>(p.put(n)));
            m.bytes.insert(m.bytes.end(), b.begin(), b.end());
        }
        break;
    case 3:
        if (p.piece_count < netmsg::packet_pieces_max) {
            m.outside.push_back(random_bytes(random, 1 + random.below(300)));
            p.add_piece(m.outside.back().data(), m.outside.back().size());
            m.bytes.insert(m.bytes.end(), m.outside.back().begin(), m.outside.back().end());
        }
        break;
    case 4: {
        auto n = p.total() - random.below(std::min(p.total(), 400U) + 1);
        p.truncate(n);
        m.bytes.resize(n);
        break;
    }
    case 5: {
        auto n = random.below(p.total() + 100);
        bool possible = n <= p.size || (n <= p.total() && n - p.size <= p.tailroom());
        REQUIRE(p.pullup(n) == possible);
        REQUIRE((!possible || p.size >= n));
        break;
    }
    default: {
        auto offset = random.below(p.total() + 1);
        auto n = random.below(p.total() - offset + 1);
        iovec parts[netmsg::packet_pieces_max + 1];
        unsigned count = p.span(offset, n, parts);
        Bytes seen;
        for (unsigned i = 0; i < count; ++i) {
            REQUIRE(parts[i].iov_len != 0);
            auto* at = static_cast<unsigned char*>(parts[i].iov_base);
            seen.insert(seen.end(), at, at + parts[i].iov_len);
        }
        REQUIRE(seen == Bytes(m.bytes.begin() + offset, m.bytes.begin() + offset + n));
        break;
    }
    }
}

} // namespace

TEST_CASE("packet operations agree with a vector of bytes")
{
    World w;
    w.set->call(0, [&](lwkt::Cpu&) {
        for (std::uint64_t seed = 1; seed <= 300; ++seed) {
            base::Random random(seed);
            Model m{w.pool->allocate(), {}, {}};
            REQUIRE(m.p != nullptr);
            m.outside.reserve(100); // pieces point into its elements
            for (int i = 0; i < 60; ++i) {
                INFO("seed " << seed << " step " << i);
                change(m, random);
                REQUIRE(m.p->total() == m.bytes.size());
                REQUIRE(bytes_of(*m.p) == m.bytes);
                if (netmsg::Packet* copy = w.pool->clone(*m.p)) {
                    REQUIRE(bytes_of(*copy) == m.bytes);
                    REQUIRE(netmsg::owns_bytes(*copy));
                    copy->free();
                }
            }
            m.p->free();
        }
    });
    CHECK(w.pool->in_use(0) == 0);
    CHECK(w.pool->large_in_use(0) == 0);
    CHECK(w.pool->exhausted(0) == 0);
}

TEST_CASE("a clone keeps 64 KiB of pieces and the metadata")
{
    World w;
    w.set->call(0, [&](lwkt::Cpu&) {
        base::Random random(7);
        Bytes ring = random_bytes(random, 65535);
        netmsg::Packet* p = w.pool->allocate();
        std::memset(p->put(54), 0x55, 54);
        p->l3 = p->data + 14;
        p->add_piece(ring.data(), 30000);
        p->add_piece(ring.data() + 30000, 35535);
        p->csum = netmsg::Csum::partial;
        p->csum_start = 34;
        p->csum_offset = 16;
        p->gso = netmsg::Gso::tcp4;
        p->gso_size = 1448;
        CHECK_FALSE(netmsg::owns_bytes(*p));
        netmsg::Packet* copy = w.pool->clone(*p);
        REQUIRE(copy != nullptr);
        Bytes before = bytes_of(*p);
        std::fill(ring.begin(), ring.end(), 0); // the ring is reused
        CHECK(bytes_of(*copy) == before);
        CHECK(copy->piece_count == 1);
        CHECK(copy->l3 == copy->data + 14);
        CHECK(copy->csum == netmsg::Csum::partial);
        CHECK(copy->csum_start == 34);
        CHECK(copy->csum_offset == 16);
        CHECK(copy->gso == netmsg::Gso::tcp4);
        CHECK(copy->gso_size == 1448);
        p->free();
        copy->free();
    });
}
