// Waiting, for lwIP's threaded side: look for a while, then sleep on a futex. On one CPU a look gives the CPU away, so
// that whoever is waited for runs and need not wake anybody; on several it is a pause. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <ctime>

namespace lwip_bench {

// All threads share one CPU; set before the first of them starts.
extern bool one_cpu;
// CPU of the thread that lwIP makes for itself.
extern int stack_cpu;

// How often a thread slept, and was woken.
extern std::atomic<std::uint64_t> futex_waits;
extern std::atomic<std::uint64_t> futex_wakes;

void look_again(unsigned look); // between two looks: a pause, or the CPU for others
void futex_sleep(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::uint64_t timeout_ns); // 0 = no limit
void futex_wake_one(std::atomic<std::uint32_t>& word);

inline constexpr unsigned looks_one_cpu = 64; // some tens of microseconds, as netd's threads look
inline constexpr unsigned looks_many = 1024;

class Sleeper {
public:
    // Returns true as soon as ready() does; false when the time is over. `ready` reads what its writer stored
    // (sequentially consistent) before rouse().
    template <typename Ready>
    bool await(Ready&& ready, std::uint64_t timeout_ns)
    {
        unsigned looks = one_cpu ? looks_one_cpu : looks_many;
        for (unsigned i = 0; i < looks; ++i) {
            if (ready()) {
                return true;
            }
            look_again(i);
        }
        for (;;) {
            asleep_.store(1);
            if (ready()) {
                asleep_.store(0, std::memory_order_relaxed);
                return true;
            }
            futex_sleep(asleep_, 1, timeout_ns);
            asleep_.store(0, std::memory_order_relaxed);
            if (ready()) {
                return true;
            }
            if (timeout_ns != 0) {
                return false; // early sometimes, which lwIP's timers and a worker's look for its end both bear
            }
        }
    }
    void rouse()
    {
        if (asleep_.load() != 0 && asleep_.exchange(0) != 0) {
            futex_wake_one(asleep_);
        }
    }

private:
    std::atomic<std::uint32_t> asleep_{0};
};

// For a few instructions; its holder is rarely met.
class SpinLock {
public:
    void lock()
    {
        for (unsigned i = 0; word_.exchange(1, std::memory_order_acquire) != 0; ++i) {
            look_again(i);
        }
    }
    void unlock() { word_.store(0, std::memory_order_release); }

private:
    std::atomic<std::uint32_t> word_{0};
};

} // namespace lwip_bench
