// netd's half of an epoll descriptor E. E itself is a real kernel epoll in which the kernel's descriptors are
// registered for real; netd's sockets are kept here, with one `set` waiter whose pipe is registered in E, so that one
// epoll_wait sleeps for both. netd sets ready bits by slot; we take bits before we look at a socket, so no event falls
// between.
//
// Any thread. Topology (which sets a descriptor is in) changes under table_mutex, and the lists under the set's own
// mutex, taken after it. epoll_wait takes the set's mutex alone.
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <mutex>
#include <vector>

#include "client/preload/fd_table.hpp"
#include "client/session.hpp"

namespace client {
class Looking;
}

namespace preload {

class Exposure;

enum class Member : std::uint8_t {
    netd,      // kept here
    undecided, // registered in E, remembered for the move when it becomes netd's
    nested,    // an epoll set, registered in E; must expose its netd events to the kernel before anyone sleeps
};

struct Interest {
    Entry* entry;
    EpollSet* set;
    int fd;
    Member kind;
    bool queued = false; // in the ready list
    bool enabled = true; // false: EPOLLONESHOT fired
    std::uint32_t events;
    epoll_data_t data;
    Interest* ready_next = nullptr;
    Interest* ready_previous = nullptr;
    Interest* entry_next = nullptr; // other memberships of the entry
    Interest* slot_next = nullptr;  // other descriptors of the same socket in this set
    std::size_t at = 0;             // in the set's all_
};

class EpollSet {
public:
    EpollSet() = default;
    ~EpollSet();
    EpollSet(const EpollSet&) = delete;
    EpollSet& operator=(const EpollSet&) = delete;

    // epoll_ctl; the caller holds table_mutex. 0 or a negative errno. `s` is needed for sockets of netd only.
    int add(int epfd, client::Session* s, int fd, Entry& e, const epoll_event& event);
    int modify(int epfd, int fd, Entry& e, const epoll_event& event);
    int remove(int epfd, int fd, Entry& e);
    // Registrations of an undecided entry move here from E when it becomes netd's, before the descriptor changes hands;
    // after expect_netd, which may fail.
    int expect_netd(client::Session& s);
    void move_to_netd(Interest& i);
    void leave(Interest& i);

    bool has_netd() const { return members_.load(std::memory_order_acquire) != 0; }
    void kernel_added() { ++kernel_fds_; }
    void kernel_removed();

    // epoll_pwait2; only when has_netd(). Result as the call's, errno set.
    int wait(int epfd, epoll_event* out, int max, const timespec* timeout, const sigset_t* mask);
    // The same while the set has no member of netd: the kernel's call, until one is added by another thread.
    int wait_for_kernel(int epfd, epoll_event* out, int max, const timespec* timeout, const sigset_t* mask);
    // Makes E readable if netd events are pending, and unreadable if not, for somebody who looks at E by other means.
    void expose();
    // That it stays so, until nobody watches any more (Exposure).
    void watch();
    void unwatch();
    void watch_nested(Exposure& exposure); // table_mutex held

    void lock() { mutex_.lock(); }
    void unlock() { mutex_.unlock(); }
    void orphan(); // in a forked child: the waiter is the parent's

private:
    int prepare(client::Session& s);
    int make_kick();
    void drop_kick();
    int make_waiter();
    int revive();
    int register_tag(int fd, std::uint64_t tag);
    std::uint64_t pipe_tag() const { return reinterpret_cast<std::uintptr_t>(&waiter_); }
    std::uint64_t kick_tag() const { return reinterpret_cast<std::uintptr_t>(&kick_); }
    Interest& link(int fd, Entry& e, Member kind, const epoll_event& event);
    void start_watching(Interest& i);
    void forget(Interest& i);
    void queue(Interest& i);
    void unqueue(Interest& i);
    void take_bits();
    bool bits_pending() const;
    void expose_members(Exposure& exposure);
    void look_and_show();
    int collect(epoll_event* out, int max); // how many, or a negative errno: nobody would be woken
    bool any_ready();
    void arm();
    void disarm();
    void drain_pipe();
    void kick();
    void unkick();
    void pass_on();
    bool awaited() const;
    void see_end();
    int filter_tags(epoll_event* out, int n);
    int filter_and_pass_on(epoll_event* out, int n);
    int kernel_now(int epfd, epoll_event* out, int max, const sigset_t* mask);
    int sleep(
        int epfd, epoll_event* out, int max, const timespec* left, const sigset_t* mask, client::Looking& looking);

    mutable std::mutex mutex_;
    int own_epfd_ = -1;           // a dup of E, made when needed; -1 until then
    int kick_ = -1;               // eventfd in E: the program's own threads wake sleepers with it
    client::WaiterHandle waiter_; // fd -1: none yet (or the parent's, after fork)
    bool armed_ = false;
    bool died_ = false;
    int sleepers_ = 0; // threads in the kernel's epoll_wait
    int watchers_ = 0; // calls that wait for E by other means
    bool kicked_ = false;
    std::atomic<int> in_kernel_{0};       // threads in wait_for_kernel
    std::atomic<unsigned> turns_{0};      // calls that found netd events since the kernel's were looked at
    client::Session* session_ = nullptr;  // c once there are members
    std::atomic<bool> has_nested_{false}; // written under table_mutex
    std::atomic<int> members_{0};         // of kind netd
    std::atomic<int> kernel_fds_{0};      // upper bound: the kernel drops closed ones by itself
    std::vector<Interest*> all_;
    std::vector<Interest*> by_slot_;
    Interest* ready_first_ = nullptr;
    Interest* ready_last_ = nullptr;
    int ready_count_ = 0;
};

// The sets whose descriptors a call waits for by other means than their own epoll_wait, and the sets in them: for as
// long as it stands they are readable while netd events are pending.
class Exposure {
public:
    Exposure() = default;
    ~Exposure() { end(); }
    Exposure(const Exposure&) = delete;
    Exposure& operator=(const Exposure&) = delete;
    void add(Entry& e); // an epoll set's; table_mutex held
    void end();

private:
    std::vector<Entry*> entries_; // each with a reference
};

// All with table_mutex held.
void leave_all_sets(Entry& e);
int expect_netd(client::Session& s, Entry& e);
void move_to_netd(Entry& e);
void lock_all_sets();
void unlock_all_sets();
void orphan_all_sets();

} // namespace preload
