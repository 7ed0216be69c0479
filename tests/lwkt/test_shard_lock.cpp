// The three kinds of lock: exclusion, hand-over, no waiter forgotten. Threads report, the main thread asserts.
#include <catch2/catch.hpp>

#include <sched.h>

#include <memory>
#include <thread>
#include <vector>

#include "lwkt/shard_lock.hpp"

using lwkt::LockKind;
using lwkt::ShardLock;

namespace {

constexpr LockKind kinds[] = {LockKind::mutex, LockKind::spin, LockKind::queue};

// What the lock protects: not atomic, so TSan sees a lock that does not order, and a lost update shows without it.
struct Protected {
    std::uint64_t count = 0;
    std::uint64_t mirror = 0;
    bool torn = false;
};

} // namespace

TEST_CASE("many threads under one lock lose no update and all end")
{
    constexpr unsigned threads = 4;
    constexpr unsigned rounds = 20000;
    for (LockKind kind : kinds) {
        ShardLock lock;
        lock.choose(kind);
        Protected data;
        std::vector<std::thread> all;
        for (unsigned t = 0; t < threads; ++t) {
            all.emplace_back([&, t] {
                for (unsigned i = 0; i < rounds; ++i) {
                    if ((i + t) % 3 != 0 || !lock.try_lock()) {
                        lock.lock();
                    }
                    data.torn |= data.count != data.mirror;
                    ++data.count;
                    if (i % 512 == 0) {
                        sched_yield(); // waiters go to sleep
                    }
                    ++data.mirror;
                    lock.unlock();
                }
            });
        }
        for (std::thread& t : all) {
            t.join();
        }
        INFO(static_cast<int>(kind));
        CHECK(data.count == std::uint64_t{threads} * rounds);
        CHECK(data.mirror == data.count);
        CHECK_FALSE(data.torn);
        CHECK(lock.try_lock()); // free at the end
        lock.unlock();
    }
}

TEST_CASE("a lock that is held refuses to be tried, and its sleepers are woken one after the other")
{
    constexpr unsigned sleepers = 8;
    for (LockKind kind : kinds) {
        ShardLock lock;
        lock.choose(kind);
        lock.lock();
        bool refused = true;
        std::thread([&] { refused = !lock.try_lock(); }).join();
        CHECK(refused);
        unsigned passed = 0;
        std::atomic<unsigned> there{0};
        std::vector<std::thread> all;
        for (unsigned t = 0; t < sleepers; ++t) {
            all.emplace_back([&] {
                ++there;
                lock.lock();
                ++passed;
                lock.unlock();
            });
        }
        while (there != sleepers) {
            sched_yield();
        }
        for (int i = 0; i < 2000; ++i) { // most of them sleep by now; the test does not depend on it
            sched_yield();
        }
        lock.unlock();
        for (std::thread& t : all) {
            t.join();
        }
        CHECK(passed == sleepers);
    }
}
