// What driver tests share: a stepped set with a pool that records what a driver delivers.
#pragma once

#include <catch2/catch.hpp>

#include <memory>
#include <string>
#include <vector>

#include "lwkt/cpu_set.hpp"
#include "netmsg/netif.hpp"

namespace driver_test {

using Bytes = std::vector<unsigned char>;

inline Bytes bytes_of(const netmsg::Packet& p)
{
    Bytes b(p.total());
    p.copy_out(0, b.data(), p.total());
    return b;
}

inline Bytes pattern(std::size_t n, unsigned seed)
{
    Bytes b(n);
    for (std::size_t i = 0; i < n; ++i) {
        b[i] = static_cast<unsigned char>(i * 7 + seed + i / 251);
    }
    return b;
}

struct Received {
    Bytes bytes;
    base::CpuId cpu;
    netmsg::Csum csum;
    netmsg::Gso gso;
    std::uint16_t gso_size;
    base::Instant stamp;
};

// One stack's worth of CPUs. Deliveries are recorded in order; unlocked, so threads only with one CPU.
struct World {
    explicit World(lwkt::Clock& clock, std::size_t cpus = 1, const netmsg::PacketPoolOptions& pool_options = {})
    {
        lwkt::CpuSetOptions options;
        options.pin.assign(cpus, -1);
        set = std::make_unique<lwkt::CpuSet>(clock, options);
        pool = std::make_unique<netmsg::PacketPool>(*set, pool_options);
    }
    void attach(netmsg::Netif& netif)
    {
        std::string error;
        bool attached = netif.attach(*set, *pool, &World::input, this, error);
        INFO(error);
        REQUIRE(attached);
    }
    static void input(void* context, netmsg::Packet& p)
    {
        auto& w = *static_cast<World*>(context);
        w.received.push_back({bytes_of(p), base::current_cpu, p.csum, p.gso, p.gso_size, p.stamp});
        p.free();
    }
    // Transmits a packet whose last bytes lie in memory that is overwritten afterwards, like a send ring's.
    void send(netmsg::Netif& netif, const Bytes& bytes, std::size_t in_piece = 0, base::CpuId cpu = 0)
    {
        set->call(cpu, [&](lwkt::Cpu&) {
            netmsg::Packet* p = pool->allocate();
            REQUIRE(p != nullptr);
            auto linear = static_cast<std::uint32_t>(bytes.size() - in_piece);
            std::copy_n(bytes.begin(), linear, reinterpret_cast<unsigned char*>(p->put(linear)));
            Bytes ring(bytes.end() - static_cast<std::ptrdiff_t>(in_piece), bytes.end());
            if (in_piece != 0) {
                p->add_piece(ring.data(), ring.size());
            }
            if (prepare) {
                prepare(*p);
            }
            netif.transmit(*p);
            std::fill(ring.begin(), ring.end(), 0xee);
        });
    }
    std::size_t in_use() const
    {
        std::size_t sum = 0;
        for (std::size_t i = 0; i < set->size(); ++i) {
            sum += pool->in_use(static_cast<base::CpuId>(i)) + pool->large_in_use(static_cast<base::CpuId>(i));
        }
        return sum;
    }

    std::unique_ptr<lwkt::CpuSet> set;
    std::unique_ptr<netmsg::PacketPool> pool;
    std::vector<Received> received;
    void (*prepare)(netmsg::Packet&) = nullptr;
};

} // namespace driver_test
