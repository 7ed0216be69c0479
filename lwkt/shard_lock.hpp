// The locks of the disciplines giant and striped, three kinds behind one interface that is chosen at construction by a
// branch and not by a virtual call. Any thread. Uncontended, each is one atomic read-modify-write to lock and one to
// unlock. The mutex sleeps at once, the others spin for a while before: a waiter that only spun would keep a preempted
// holder off its CPU.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "lwkt/discipline.hpp"

namespace lwkt {

// What a program would use that thought of nothing special.
class MutexLock {
public:
    bool try_lock() { return mutex_.try_lock(); }
    void lock() { mutex_.lock(); }
    void unlock() { mutex_.unlock(); }

private:
    std::mutex mutex_;
};

// Spin, then park (a futex word: free, held, held and somebody sleeps). Not fair: who comes by while it is free has it.
class SpinLock {
public:
    bool try_lock()
    {
        std::uint32_t expected = free;
        return word_.compare_exchange_strong(expected, held, std::memory_order_acquire, std::memory_order_relaxed);
    }
    void lock();
    void unlock();

private:
    static constexpr std::uint32_t free = 0, held = 1, slept_for = 2;
    std::atomic<std::uint32_t> word_{free};
};

// First come, first served: every waiter spins (then sleeps) on a word of its own, which its predecessor writes
// (Mellor-Crummey and Scott 1991). The holder needs no node: the lock itself keeps the head of the queue for it.
class QueueLock {
public:
    bool try_lock();
    void lock();
    void unlock();

private:
    struct Node {
        std::atomic<Node*> next{nullptr};
        std::atomic<std::uint32_t> turn{waiting};
    };
    static constexpr std::uint32_t waiting = 0, asleep = 1, yours = 2;
    static void await(Node& n);
    static void hand_to(Node& n);
    static Node* successor(std::atomic<Node*>& next);

    std::atomic<Node*> tail_{nullptr}; // null = free; &head_ = held and nobody waits; else the last waiter
    Node head_;                        // its `next` is the first waiter; `turn` is not used
};

class ShardLock {
public:
    void choose(LockKind kind) { kind_ = kind; } // before its first use

    bool try_lock()
    {
        return kind_ == LockKind::mutex  ? mutex_.try_lock()
               : kind_ == LockKind::spin ? spin_.try_lock()
                                         : queue_.try_lock();
    }
    void lock() { kind_ == LockKind::mutex ? mutex_.lock() : kind_ == LockKind::spin ? spin_.lock() : queue_.lock(); }
    void unlock()
    {
        kind_ == LockKind::mutex ? mutex_.unlock() : kind_ == LockKind::spin ? spin_.unlock() : queue_.unlock();
    }

private:
    LockKind kind_ = LockKind::mutex; // c
    MutexLock mutex_;
    SpinLock spin_;
    QueueLock queue_;
};

} // namespace lwkt
