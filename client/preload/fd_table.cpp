#include "client/preload/fd_table.hpp"

#include "base/check.hpp"
#include "client/preload/epoll_set.hpp"
#include "client/preload/process.hpp"

namespace preload {

constinit std::mutex table_mutex;
constinit Entry* fd_entries[fds_max] = {};

namespace {

std::atomic<Entry*> free_entries{nullptr}; // anybody puts; taken under table_mutex, so that none comes back meanwhile
std::atomic<int> highest{-1};              // written under table_mutex

void release(Entry* e)
{
    client::CancelGuard no_cancel; // a lingering close may sleep, in calls that must not throw
    client::CountedBy nobody(nullptr);
    if (e->state.load(std::memory_order_relaxed) == EntryState::netd) {
        if (client::Session* s = session_if_attached()) {
            client::sock_release(*s, e->sock);
        }
    }
    delete e->set;
    e->set = nullptr;
    e->options.clear();
    e->next_free = free_entries.load(std::memory_order_relaxed);
    while (!free_entries.compare_exchange_weak(e->next_free, e, std::memory_order_release, std::memory_order_relaxed)) {
    }
}

} // namespace

Entry* Held::take(int fd)
{
    for (;;) {
        Entry* e = peek(fd);
        if (e == nullptr) {
            return nullptr;
        }
        std::uint32_t refs = e->refs.load(std::memory_order_relaxed);
        while (refs != 0 && !e->refs.compare_exchange_weak(refs, refs + 1, std::memory_order_acq_rel)) {
        }
        if (refs == 0) {
            continue; // just closed: the table says so by now or at once
        }
        if (peek(fd) == e) {
            return e;
        }
        unref(e);
    }
}

void unref(Entry* e)
{
    if (e->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        release(e);
    }
}

Entry* new_entry(EntryState state)
{
    Entry* e = free_entries.load(std::memory_order_acquire);
    while (e != nullptr && !free_entries.compare_exchange_weak(e, e->next_free, std::memory_order_acquire)) {
    }
    if (e == nullptr) {
        e = new Entry;
    }
    e->descriptors = 0;
    e->shared = false;
    e->sock = {};
    e->state.store(state, std::memory_order_relaxed);
    e->refs.store(1, std::memory_order_release);
    return e;
}

Entry* install(int fd, Entry* e)
{
    INVARIANT(static_cast<unsigned>(fd) < static_cast<unsigned>(fds_max));
    Entry* stale = uninstall(fd);
    ++e->descriptors;
    if (fd > highest.load(std::memory_order_relaxed)) {
        highest.store(fd, std::memory_order_relaxed);
    }
    fd_slot(fd).store(e, std::memory_order_release);
    return stale;
}

Entry* add_dup(int fd, Entry* e)
{
    e->refs.fetch_add(1, std::memory_order_relaxed);
    return install(fd, e);
}

Entry* uninstall(int fd)
{
    if (static_cast<unsigned>(fd) >= static_cast<unsigned>(fds_max)) {
        return nullptr;
    }
    Entry* e = fd_slot(fd).exchange(nullptr, std::memory_order_acq_rel);
    if (e != nullptr && --e->descriptors == 0 && e->interests != nullptr) {
        leave_all_sets(*e); // epoll(7): with the last descriptor, whatever calls are still in flight
    }
    return e;
}

int highest_fd()
{
    return highest.load(std::memory_order_relaxed);
}

// Where fork() interrupted a call of this very thread (in a signal's handler), that call goes on in the child: then all
// references stay, as nobody knows whose is which.
void forget_calls_of_others()
{
    if (calls_under_way != 0) {
        return;
    }
    for (int fd = 0; fd <= highest_fd(); ++fd) {
        if (Entry* e = fd_slot(fd).load(std::memory_order_relaxed)) {
            e->refs.store(e->descriptors, std::memory_order_relaxed);
        }
    }
}

void share_undecided()
{
    for (int fd = 0; fd <= highest_fd(); ++fd) {
        Entry* e = fd_slot(fd).load(std::memory_order_relaxed);
        if (e != nullptr && e->state.load(std::memory_order_relaxed) == EntryState::undecided) {
            e->shared = true;
        }
    }
}

std::vector<int> fds_of(const Entry* e)
{
    std::vector<int> fds;
    for (int fd = 0; fd <= highest_fd() && fds.size() < e->descriptors; ++fd) {
        if (fd_slot(fd).load(std::memory_order_relaxed) == e) {
            fds.push_back(fd);
        }
    }
    return fds;
}

} // namespace preload
