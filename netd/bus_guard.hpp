// SIGBUS over clients' segments (the system ran out of memory for them): zero pages replace the segment, the client is
// marked, and netd goes on for the others. One per process. The handler runs on whatever thread touched the page
// and uses only async-signal-safe calls; the table is written by the control thread.
#pragma once

#include <csignal>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "netd/unique_fd.hpp"

namespace netd {

// Addresses that one thread sets and a signal's handler reads, on any thread and at any time.
class GuardedRange {
public:
    void set(std::uintptr_t begin, std::uintptr_t end);
    void clear() { set(0, 0); }
    // Begin and end as they were set together; end 0 = unused, or being set just now. `between` runs between the
    // reads: for tests.
    template <typename F>
    std::pair<std::uintptr_t, std::uintptr_t> get(F between) const
    {
        for (;;) {
            std::uint32_t version = version_.load(std::memory_order_acquire);
            std::uintptr_t end = end_.load(std::memory_order_acquire); // with a later one comes a later version
            between();
            std::uintptr_t begin = begin_.load(std::memory_order_acquire);
            if (version % 2 != 0) {
                return {0, 0};
            }
            if (version_.load(std::memory_order_relaxed) == version) {
                return {begin, end};
            }
        }
    }
    std::pair<std::uintptr_t, std::uintptr_t> get() const
    {
        return get([] {});
    }

private:
    std::atomic<std::uint32_t> version_{0}; // odd while the others are written
    std::atomic<std::uintptr_t> begin_{0};
    std::atomic<std::uintptr_t> end_{0};
};

class BusGuard {
public:
    // `segments_max` ranges at most are watched at a time.
    explicit BusGuard(std::size_t segments_max);
    ~BusGuard(); // the default action is back
    BusGuard(const BusGuard&) = delete;
    BusGuard& operator=(const BusGuard&) = delete;

    // From now on a fault in the range marks `id`. False when all entries are in use.
    bool watch(const void* base, std::size_t bytes, std::uint32_t id);
    // The client is gone. Its range stays guarded until the entry is needed or the addresses are used again, since the
    // protocols may send from it a while longer.
    void unwatch(std::uint32_t id);
    // Readable when there is something to take.
    int event_fd() const { return event_.get(); }
    // The ids marked since the last call.
    std::vector<std::uint32_t> take_marked();

private:
    struct Range { // written by the control thread
        GuardedRange at;
        std::atomic<std::uint32_t> id{0};
        std::atomic<std::uint32_t> marked{0};
        bool retired = false; // control thread
    };
    static void handle(int signal, siginfo_t* info, void* context);
    bool absorb(std::uintptr_t address);

    std::unique_ptr<Range[]> ranges_;
    std::size_t count_;
    UniqueFd event_;
};

} // namespace netd
