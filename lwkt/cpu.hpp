// One CPU of a stack: its run loop, its queues, its side of the CPU x CPU rings. Owner: its protocol thread, except
// where a member says otherwise. Knows no networking.
//
// A round of the loop: clock; drain rings into class queues; net and serial in alternation; bio; gen (both aged in);
// clock again between batches; roll-ups; flush spills. Every class has a budget in items and in time; what is left
// carries over to the next round.
#pragma once

#include <atomic>
#include <cstdint>
#include <iterator>
#include <memory>

#include "base/list.hpp"
#include "base/ownership.hpp"
#include "base/units.hpp"
#include "lwkt/clock.hpp"
#include "lwkt/message.hpp"
#include "lwkt/poller.hpp"

namespace lwkt {

class CpuSet;
struct CpuImpl;

// Lateness of timers: up to so many us each, and more.
inline constexpr std::int64_t late_bounds_us[] = {10, 100, 200, 500, 1000, 2000, 5000, 10000};
inline constexpr unsigned late_classes = std::size(late_bounds_us) + 1;

// Why the loop did what it did; s: written by the owner relaxed, read by anyone approximately.
struct CpuCounters {
    std::atomic<std::uint64_t> rounds{0};
    std::atomic<std::uint64_t> sleeps{0};
    std::atomic<std::uint64_t> messages_in{0};  // from other CPUs and threads
    std::atomic<std::uint64_t> messages_out{0}; // to other CPUs
    std::atomic<std::uint64_t> passive_out{0};
    std::atomic<std::uint64_t> doorbells_sent{0};
    std::atomic<std::uint64_t> doorbells_suppressed{0};
    std::atomic<std::uint64_t> spills{0};                 // messages that found a ring full
    std::atomic<std::uint64_t> shed{0};                   // messages refused by try_send at the stated depth
    std::atomic<std::uint64_t> busy_rounds{0};            // rounds that found something to do
    std::atomic<std::uint64_t> batch_max{0};              // most messages that one round took in
    std::atomic<std::uint64_t> items[class_count] = {};   // messages dispatched and items polled, per class
    std::atomic<std::uint64_t> busy_us[class_count] = {}; // time per class
    std::atomic<std::uint64_t> longest_handler_us{0};
    std::atomic<std::uint64_t> timer_late_max_us{0};
    std::atomic<std::uint64_t> timer_late[late_classes] = {}; // times class clock had something due, by how late it was
    // Of a shard. "Timed": one visit in 64.
    std::atomic<std::uint64_t> operations{0}; // run in their callers
    std::atomic<std::uint64_t> lock_waits{0};
    std::atomic<std::uint64_t> lock_wait_ns{0};
    std::atomic<std::uint64_t> holds_timed{0};
    std::atomic<std::uint64_t> hold_ns{0};        // of the timed ones
    std::atomic<std::uint64_t> left_to_holder{0}; // visits that found the lock taken; any thread adds
};

// When try_send refuses: a flood of what nobody misses leaves room for what is missed.
enum class Shed : std::uint8_t {
    early, // at half the depth: datagrams, which their senders do not slow down
    late,  // at three quarters: what opens connections
    last,  // at the whole depth: what established connections wait for
};

class Cpu {
public:
    ~Cpu();
    Cpu(const Cpu&) = delete;
    Cpu& operator=(const Cpu&) = delete;

    CpuId id() const { return owner_.id(); }
    const base::Owner& owner() const { return owner_; }
    CpuSet& set() const { return set_; }
    // The time at the start of the current batch; cheap. Owner only.
    Instant now() const { return now_; }
    // Reads the clock and moves now() forward. Owner only.
    Instant refresh_now();

    // Sends to a CPU of the same set, itself included (queued, never run nested). Never blocks, never fails: on a full
    // ring the message spills and keeps its order. Rings the doorbell of a sleeper. Owner only.
    void send(CpuId to, Message& m);
    // As send(), but refused (false, counted, caller keeps m) when `to` has as many messages waiting as `shed` says, of
    // packets_queued_max.
    bool try_send(CpuId to, Message& m, Shed shed = Shed::last);
    // Without a doorbell: the target sees it at its next round or before it sleeps. For frees. Owner only.
    void send_passive(CpuId to, Message& m);

    // Pollers are polled in the order added, in their class; rollups run in the order added. Owner, or before start().
    void add_poller(Class cls, Poller& p);
    void remove_poller(Class cls, Poller& p);
    void add_rollup(Rollup& r);
    void remove_rollup(Rollup& r);

    // For threads that publish in memory of their own: after the publication (sequentially consistent), look at the
    // word, and if it is not 0 ring. Any thread.
    const std::atomic<std::uint32_t>& sleep_word() const { return *sleep_word_; }
    void ring();
    // For other processes, which write 8 bytes to a descriptor instead: a doorbell of their own, that ring() does not
    // use and nobody here reads or writes, so that whatever they do to it can lose or block no rings but theirs
    // (decision 0033). -1: no descriptors. remove_doorbell() closes it. Any thread; discipline message.
    int add_doorbell();
    void remove_doorbell(int fd);
    // The one that ring() writes and the CPU reads: not for other processes.
    int doorbell_fd() const;

    const CpuCounters& counters() const { return counters_; }

    // The CPU on whose protocol thread the caller runs; null elsewhere.
    static Cpu* current();

private:
    friend class CpuSet;
    friend class Service;
    friend struct CpuImpl;
    friend struct Visitor;
    Cpu(CpuSet& set, CpuId id, std::atomic<std::uint32_t>* sleep_word);

    // Senders read this line at every send, so nothing that changes may stand on it.
    base::Owner owner_;                      // c
    CpuSet& set_;                            // c
    std::atomic<std::uint32_t>* sleep_word_; // p: owner (seq_cst, 0 awake, 1 arming or asleep); q: ringers
    std::unique_ptr<CpuImpl> impl_;          // o: queues, rings, waiter (lwkt/cpu_impl.hpp, private to lwkt)
    alignas(base::apart) Instant now_{};     // o
    CpuCounters counters_;                   // s
};

// Runs `f` now, or, while this thread holds a shard's lock, after its release: for system calls. Any thread.
void after_release(void (*f)(void*), void* argument);

} // namespace lwkt
