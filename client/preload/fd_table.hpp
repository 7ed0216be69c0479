// Which descriptors of this process are ours. A slot of the table is null for everything that is the kernel's (the data
// path of those is one load and one branch); otherwise it points to an Entry, one per open file description, that
// all its dups share.
//
// Any thread. The table is changed under `table_mutex` only and read without it: a call in flight holds a reference, so
// a close meanwhile neither frees the entry nor lets its socket be used by another. Entries are type-stable (recycled,
// never unmapped), which is what makes taking a reference from a stale pointer harmless.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "client/call_end.hpp"
#include "client/signal_guard.hpp"
#include "client/socket_calls.hpp"

namespace preload {

class EpollSet;
struct Interest;

inline constexpr int fds_max = 1 << 20; // what lies above is the kernel's; sockets there are refused (EMFILE)

enum class EntryState : std::uint8_t {
    undecided, // the descriptor is a kernel socket; bind, connect or the first send decides
    netd,      // the descriptor is a placeholder; `sock` is the socket
    epoll,     // the descriptor is a kernel epoll; `set` knows netd's sockets in it
};

struct RecordedOption {
    int level;
    int name;
    std::vector<unsigned char> value;
};

struct Entry {
    std::atomic<std::uint32_t> refs{0};                   // descriptors and calls under way; 0 = in the free list
    std::atomic<EntryState> state{EntryState::undecided}; // changes only from undecided, under table_mutex
    std::atomic<std::uint32_t> descriptors{0};            // written under table_mutex
    client::Sock sock;                                    // c once netd
    int domain = 0, type = 0, protocol = 0;               // c
    bool shared = false;                 // undecided: a forked process has the kernel's socket too; table_mutex
    std::vector<RecordedOption> options; // undecided: to replay, in order; table_mutex
    Interest* interests = nullptr;       // memberships in epoll sets; table_mutex
    EpollSet* set = nullptr;             // c, of epoll
    Entry* next_free = nullptr;
};

extern std::mutex table_mutex;

// The mutex for a change of the table. No handler of a signal runs in its holder, as close, dup2 and accept may be
// called in one, and none of the system calls in between is a cancellation point.
class TableLock {
    client::SignalGuard no_handlers_;
    std::lock_guard<std::mutex> lock_{table_mutex};
};

extern Entry* fd_entries[fds_max]; // through fd_slot: plain, so that clang too zero-initialises a million of them

inline std::atomic_ref<Entry*> fd_slot(int fd)
{
    return std::atomic_ref<Entry*>(fd_entries[fd]);
}

// Null for the kernel's descriptors. Valid only while the caller knows that nobody closes fd, or to compare with null.
inline Entry* peek(int fd)
{
    return static_cast<unsigned>(fd) < static_cast<unsigned>(fds_max) ? fd_slot(fd).load(std::memory_order_acquire)
                                                                      : nullptr;
}

void unref(Entry* e);      // the last one releases what the entry stands for
inline void drop(Entry* e) // as unref; null: nothing
{
    if (e != nullptr) {
        unref(e);
    }
}

// References that calls of this thread have: those of other threads are void in a child that this one forks.
[[gnu::tls_model("initial-exec")]] inline constinit thread_local std::uint32_t calls_under_way = 0;

inline void end_call(Entry* e)
{
    --calls_under_way;
    unref(e);
}

// A reference for the length of a call.
class Held {
public:
    explicit Held(int fd) : entry_(take(fd)) { calls_under_way += entry_ != nullptr; }
    ~Held()
    {
        if (entry_ != nullptr) {
            end_call(entry_);
        }
    }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

    Entry* get() const { return entry_; }
    // The reference is the caller's from now on (end_call).
    Entry* give()
    {
        Entry* e = entry_;
        entry_ = nullptr;
        return e;
    }
    Entry* in(EntryState state) const
    {
        return entry_ != nullptr && entry_->state.load(std::memory_order_acquire) == state ? entry_ : nullptr;
    }
    Entry* netd() const { return in(EntryState::netd); }

private:
    static Entry* take(int fd);
    Entry* entry_;
};

// The same for a call that may sleep: POSIX makes it a cancellation point also where it need not, and it ends when the
// program took its descriptor away and then interrupts it.
class Call : public Held {
public:
    explicit Call(int fd) : Held((pthread_testcancel(), fd)), counted_(get() == nullptr ? nullptr : &get()->descriptors)
    {
    }

private:
    client::CountedBy counted_;
};

// ---- Changes; the caller holds table_mutex, and drops what comes back after it let go of the mutex.

Entry* new_entry(EntryState state); // one reference, the caller's, which install takes over
// fd stands for e from now on; returns what a close that went past us left there, or null.
Entry* install(int fd, Entry* e);
Entry* add_dup(int fd, Entry* e); // as install, with a reference of its own
// fd is the kernel's (or nobody's) from now on; returns the entry whose reference the caller now holds, or null.
Entry* uninstall(int fd);
int highest_fd();                        // upper bound of what was ever installed
std::vector<int> fds_of(const Entry* e); // all its descriptors
// In a forked child: the other threads' calls are none of its own.
void forget_calls_of_others();
// On both sides of a fork.
void share_undecided();

} // namespace preload
