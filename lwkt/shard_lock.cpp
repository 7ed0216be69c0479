// See shard_lock.hpp.
#include "lwkt/shard_lock.hpp"

#include "base/pause.hpp"
#include "lwkt/futex.hpp"

namespace lwkt {
namespace {

constexpr int spins = 100; // a few microseconds: longer than a usual visit of a shard, shorter than a futex sleep

} // namespace

void SpinLock::lock()
{
    for (int i = 0; i < spins; ++i) {
        if (word_.load(std::memory_order_relaxed) == free && try_lock()) {
            return;
        }
        base::pause_cpu();
    }
    // Who has slept cannot know whether others still do, so it takes the lock as one that somebody sleeps for.
    while (word_.exchange(slept_for, std::memory_order_acquire) != free) {
        futex_wait(word_, slept_for);
    }
}

void SpinLock::unlock()
{
    if (word_.exchange(free, std::memory_order_release) == slept_for) {
        futex_wake(word_, 1);
    }
}

bool QueueLock::try_lock()
{
    Node* expected = nullptr;
    return tail_.compare_exchange_strong(expected, &head_, std::memory_order_acquire, std::memory_order_relaxed);
}

void QueueLock::await(Node& n)
{
    for (int i = 0; i < spins; ++i) {
        if (n.turn.load(std::memory_order_acquire) == yours) {
            return;
        }
        base::pause_cpu();
    }
    std::uint32_t expected = waiting;
    if (!n.turn.compare_exchange_strong(expected, asleep, std::memory_order_acquire)) {
        return;
    }
    while (n.turn.load(std::memory_order_acquire) != yours) {
        futex_wait(n.turn, asleep);
    }
}

void QueueLock::hand_to(Node& n)
{
    if (n.turn.exchange(yours, std::memory_order_release) == asleep) {
        futex_wake(n.turn, 1); // the node may be gone by now, see futex.hpp
    }
}

// Whoever has put itself behind us tells us a moment later.
QueueLock::Node* QueueLock::successor(std::atomic<Node*>& next)
{
    Node* n = next.load(std::memory_order_acquire);
    while (n == nullptr) {
        base::pause_cpu();
        n = next.load(std::memory_order_acquire);
    }
    return n;
}

void QueueLock::lock()
{
    Node mine;
    Node* before = tail_.load(std::memory_order_relaxed);
    for (;;) {
        if (before == nullptr) {
            if (tail_.compare_exchange_weak(before, &head_, std::memory_order_acquire, std::memory_order_relaxed)) {
                return;
            }
        } else if (tail_.compare_exchange_weak(before, &mine, std::memory_order_acq_rel, std::memory_order_relaxed)) {
            break;
        }
    }
    before->next.store(&mine, std::memory_order_release);
    await(mine);
    // Held. This node ends with the call, so the lock takes over its place in the queue.
    head_.next.store(nullptr, std::memory_order_relaxed);
    Node* last = &mine;
    if (mine.next.load(std::memory_order_acquire) != nullptr ||
        !tail_.compare_exchange_strong(last, &head_, std::memory_order_acq_rel, std::memory_order_relaxed)) {
        head_.next.store(successor(mine.next), std::memory_order_release);
    }
}

void QueueLock::unlock()
{
    if (head_.next.load(std::memory_order_acquire) == nullptr) {
        Node* last = &head_;
        if (tail_.compare_exchange_strong(last, nullptr, std::memory_order_release, std::memory_order_relaxed)) {
            return;
        }
    }
    Node* first = successor(head_.next);
    head_.next.store(nullptr, std::memory_order_relaxed);
    hand_to(*first);
}

} // namespace lwkt
