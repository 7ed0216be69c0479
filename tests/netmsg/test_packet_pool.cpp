// The packet pool: runs out cleanly, and memory goes home from another CPU.
#include <catch2/catch.hpp>

#include <vector>

#include "lwkt/cpu_set.hpp"
#include "netmsg/packet_pool.hpp"

namespace {

struct Set {
    Set()
    {
        lwkt::CpuSetOptions options;
        options.pin = {-1, -1};
        set = std::make_unique<lwkt::CpuSet>(clock, options);
    }
    void settle()
    {
        for (int i = 0; i < 8; ++i) {
            set->step();
        }
    }
    lwkt::VirtualClock clock;
    std::unique_ptr<lwkt::CpuSet> set;
};

} // namespace

TEST_CASE("a used-up pool refuses and counts, per kind of memory and per CPU")
{
    Set s;
    netmsg::PacketPool pool(*s.set, {8, 2});
    std::vector<netmsg::Packet*> held;
    s.set->call(0, [&](lwkt::Cpu&) {
        for (int i = 0; i < 8; ++i) {
            held.push_back(pool.allocate());
            REQUIRE(held.back() != nullptr);
            REQUIRE(held.back()->headroom() == netmsg::packet_headroom);
        }
        CHECK(pool.allocate() == nullptr);
        CHECK(pool.add_large(*held[0]));
        CHECK(pool.add_large(*held[1]));
        CHECK_FALSE(pool.add_large(*held[2]));
        CHECK(held[2]->large == nullptr);
        CHECK(pool.clone(*held[0]) == nullptr);
    });
    CHECK(pool.in_use(0) == 8);
    CHECK(pool.large_in_use(0) == 2);
    CHECK(pool.exhausted(0) == 3);
    s.set->call(1, [&](lwkt::Cpu&) {
        netmsg::Packet* p = pool.allocate(); // CPU 1 has its own share
        REQUIRE(p != nullptr);
        p->free();
    });
    s.set->call(0, [&](lwkt::Cpu&) {
        for (netmsg::Packet* p : held) {
            p->free();
        }
    });
    CHECK(pool.in_use(0) == 0);
    CHECK(pool.large_in_use(0) == 0);
}

TEST_CASE("a clone that needs a large buffer and gets none leaks nothing")
{
    Set s;
    netmsg::PacketPool pool(*s.set, {8, 1});
    s.set->call(0, [&](lwkt::Cpu&) {
        std::vector<char> ring(5000);
        netmsg::Packet* holder = pool.allocate();
        REQUIRE(pool.add_large(*holder));
        netmsg::Packet* p = pool.allocate();
        p->add_piece(ring.data(), ring.size());
        CHECK(pool.clone(*p) == nullptr);
        CHECK(pool.in_use(0) == 2);
        holder->free();
        netmsg::Packet* copy = pool.clone(*p);
        CHECK(copy != nullptr);
        copy->free();
        p->free();
    });
    CHECK(pool.in_use(0) == 0);
    CHECK(pool.large_in_use(0) == 0);
}

TEST_CASE("packets and large buffers freed on another CPU go home")
{
    Set s;
    netmsg::PacketPool pool(*s.set, {8, 4});
    for (int round = 0; round < 20; ++round) {
        std::vector<netmsg::Packet*> travelling;
        s.set->call(0, [&](lwkt::Cpu&) {
            for (int i = 0; i < 4; ++i) {
                netmsg::Packet* p = pool.allocate();
                REQUIRE(p != nullptr);
                REQUIRE(pool.add_large(*p));
                REQUIRE(p->home == 0);
                travelling.push_back(p);
            }
        });
        s.set->call(1, [&](lwkt::Cpu&) {
            for (netmsg::Packet* p : travelling) {
                p->free();
            }
        });
        s.settle();
        REQUIRE(pool.in_use(0) == 0);
        REQUIRE(pool.large_in_use(0) == 0);
    }
    CHECK(pool.in_use(1) == 0);
    CHECK(pool.exhausted(0) == 0);
}
