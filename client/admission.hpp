// Membership in a family served by netd: the connection to its UNIX socket, the mapped segment, and the Host whose
// sleeps are reads of pipes that only netd can write. One per process; lives as long as the process uses netd.
//
// Any application thread; round trips to netd take turns under a mutex, with signals blocked. Descriptors are moved to
// high numbers, so that the program's own are what they would be without us.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "client/session.hpp"

namespace client {

// What fork needs from netd beforehand: the child's own process index and admission connection.
struct ForkTicket {
    std::uint32_t process = 0;
    int fd = -1;
};

class Admission final : public Host {
public:
    // A new family for this process. 0 or a negative errno: -ENOENT or -ECONNREFUSED (no netd there), -EPROTO (another
    // version), or what netd answered.
    // share: null, or the name of the family of this user to join or to found.
    static int attach(const char* socket_path, std::unique_ptr<Admission>& out, const char* share = nullptr);
    ~Admission() override;

    Session& session() { return session_; }
    // Calls look for so long before they sleep, whether it pays or not. Before the first of them.
    void look_for(base::Micros at_least);

    // Around fork(): prepare before it, and keep() in the parent or adopt() in the child after it; no other thread's
    // round trip is under way in between. A prepare that fails (0 is success) needs neither.
    int prepare_fork(ForkTicket& out);
    void keep(ForkTicket& ticket);  // in the parent, also when fork failed
    void adopt(ForkTicket& ticket); // in the child: a member of the family with its own index from now on
    // In a child for which prepare_fork failed: nothing of netd's may be used, its parent's connection least of all.
    void disown();

    // True for descriptors of ours, which a program that closes what it does not know must not get at.
    // No lock: close(2) is allowed in a signal handler.
    bool owns(int fd) const;
    std::vector<int> own_fds() const; // all of which that is true

    void ring(std::uint32_t cpu) override;
    int make_waiter(sockbuf::WaiterKind kind, WaiterHandle& out) override;
    void drop_waiter(const WaiterHandle& w) override;
    int sleep(const WaiterHandle& w, base::Instant deadline) override;
    // admission_wake.cpp
    bool can_wake(std::uint32_t w) override;
    bool wake_waiter(std::uint32_t w) override;
    base::Instant now() override;
    bool alive() override { return alive_.load(std::memory_order_relaxed); }

private:
    // The way to another's waiter: its pipe, opened for each wake. Written under mutex_; fd never changes once set.
    struct Waker {
        std::atomic<int> fd{0};
        std::atomic<std::uint64_t> generation{0}; // of the waiter + 1, 0 = none yet
    };
    explicit Admission(int fd) : fd_(fd) {}
    bool fetch_waker(std::uint32_t w);
    bool write_to(std::uint32_t w);
    int map(const sockbuf::AttachReply& reply, int segment_fd, int page_fd);
    void close_waiters();

    std::mutex mutex_;                                  // round trips, pipes_
    std::atomic<int> fd_;                               // the admission connection
    std::vector<int> doorbells_;                        // c: eventfd of CPU i
    std::atomic<int> pipes_[sockbuf::max_waiters] = {}; // of this process's waiters; 0 = none: never one of ours
    Waker wakers_[sockbuf::max_waiters];
    std::atomic<bool> direct_wakes_{true}; // false: /proc is not to be had here
    std::atomic<int> waking_{0};           // threads with another's pipe open
    std::atomic<bool> forking_{false};     // no child may inherit one
    void* segment_ = nullptr;              // c
    std::size_t segment_bytes_ = 0;
    void* page_ = nullptr; // c: sleep words, read-only
    std::size_t page_bytes_ = 0;
    std::atomic<bool> alive_{true};
    Session session_;
};

} // namespace client
