// The side lock: exclusion, sleeping waiters, dead holders, and a handler that finds its own thread's lock.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "sockbuf/side_lock.hpp"

using namespace sockbuf;

namespace {

bool take(std::atomic<std::uint32_t>& word, std::uint32_t process)
{
    SideLockResult r;
    do {
        r = side_lock_acquire(word, side_lock_holder(process));
    } while (r == SideLockResult::timed_out);
    return r == SideLockResult::taken;
}

void until_waited_for(std::atomic<std::uint32_t>& word)
{
    while ((word.load() & side_lock_waiters) == 0) {
        std::this_thread::yield();
    }
}

} // namespace

TEST_CASE("threads exclude each other")
{
    std::atomic<std::uint32_t> word{0};
    std::uint64_t guarded = 0;
    std::vector<std::thread> threads;
    for (std::uint32_t p = 0; p < 4; ++p) {
        threads.emplace_back([&, p] {
            for (int i = 0; i < 20'000; ++i) {
                if (take(word, p)) {
                    ++guarded;
                    side_lock_release(word);
                }
            }
        });
    }
    for (auto& t : threads) {
        t.join();
    }
    CHECK(guarded == 80'000);
    CHECK(word == 0);
}

TEST_CASE("the holder is recorded and its own thread is told, not blocked")
{
    std::atomic<std::uint32_t> word{0};
    REQUIRE(take(word, 62));
    CHECK((word & 63) == 63);
    CHECK(side_lock_acquire(word, side_lock_holder(62)) == SideLockResult::self_held);
    SideLockResult other = SideLockResult::taken;
    std::thread([&] { other = side_lock_acquire(word, side_lock_holder(62)); }).join();
    CHECK(other == SideLockResult::timed_out);
    side_lock_release(word);
    CHECK(word == 0);
}

TEST_CASE("a sleeping waiter is woken by the release")
{
    std::atomic<std::uint32_t> word{0};
    REQUIRE(take(word, 0));
    std::atomic<bool> got{false};
    std::thread waiter([&] {
        got = take(word, 1);
        side_lock_release(word);
    });
    until_waited_for(word);
    CHECK(!got);
    side_lock_release(word);
    waiter.join();
    CHECK(got);
}

TEST_CASE("a dead process's lock is released, nobody else's")
{
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    auto& word = *static_cast<std::atomic<std::uint32_t>*>(page);
    pid_t child = fork();
    if (child == 0) {
        side_lock_after_fork();
        _exit(side_lock_acquire(word, side_lock_holder(7)) == SideLockResult::taken ? 0 : 1);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(status == 0);
    std::atomic<bool> got{false};
    std::thread waiter([&] {
        got = take(word, 1);
        side_lock_release(word);
    });
    until_waited_for(word);
    CHECK(!side_lock_release_dead(word, 6));
    CHECK(!got);
    CHECK(side_lock_release_dead(word, 7));
    waiter.join();
    CHECK(got);
    CHECK(!side_lock_release_dead(word, 7));
    munmap(page, 4096);
}
