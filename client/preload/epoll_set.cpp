#include "client/preload/epoll_set.hpp"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "client/preload/preload_report.hpp"
#include "client/preload/process.hpp"
#include "client/preload/real.hpp"
#include "client/ready_bits.hpp"

namespace preload {

namespace {

std::vector<EpollSet*> sets; // table_mutex: those that have members

void unlink_from_entry(Interest& i)
{
    Interest** at = &i.entry->interests;
    while (*at != &i) {
        at = &(*at)->entry_next;
    }
    *at = i.entry_next;
}

Interest* find(const EpollSet* set, int fd, const Entry& e)
{
    for (Interest* i = e.interests; i != nullptr; i = i->entry_next) {
        if (i->set == set && i->fd == fd) {
            return i;
        }
    }
    return nullptr;
}

// Whether E would report fd again: it leaves a one-shot registration that fired no events (proc_pid_fdinfo(5)), and
// tells so nowhere else.
bool is_armed(int epfd, int fd)
{
    char line[256];
    std::snprintf(line, sizeof line, "/proc/self/fdinfo/%d", epfd);
    FILE* info = std::fopen(line, "re");
    bool armed = info == nullptr;
    while (!armed && std::fgets(line, sizeof line, info) != nullptr) {
        int target;
        unsigned events;
        armed =
            std::sscanf(line, "tfd: %d events: %x", &target, &events) == 2 && target == fd && (events & EPOLLERR) != 0;
    }
    if (info != nullptr) {
        std::fclose(info);
    }
    return armed;
}

Member kind_of(const Entry& e)
{
    switch (e.state.load(std::memory_order_relaxed)) {
    case EntryState::netd:
        return Member::netd;
    case EntryState::epoll:
        return Member::nested;
    default:
        return Member::undecided;
    }
}

} // namespace

EpollSet::~EpollSet()
{
    {
        std::lock_guard topology(table_mutex);
        while (!all_.empty()) {
            leave(*all_.back());
        }
        std::erase(sets, this);
    }
    if (waiter_.fd >= 0) {
        session_->host->drop_waiter(waiter_);
    }
    drop_kick();
    if (own_epfd_ >= 0) {
        drop_own(own_epfd_);
        real.close(own_epfd_);
    }
}

// ---- epoll_ctl ------------------------------------------------------------------------------------------------------

int EpollSet::register_tag(int fd, std::uint64_t tag)
{
    epoll_event event{EPOLLIN, {}};
    event.data.u64 = tag;
    return real.epoll_ctl(own_epfd_, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

int EpollSet::make_kick()
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    kick_ = fd < 0 ? -1 : keep_own(fd);
    int rc = kick_ < 0 ? -errno : register_tag(kick_, kick_tag());
    if (rc != 0) {
        drop_kick();
    }
    return rc;
}

void EpollSet::drop_kick()
{
    if (kick_ >= 0) {
        drop_own(kick_);
        real.close(kick_);
        kick_ = -1;
    }
}

int EpollSet::make_waiter()
{
    if (int error = client::make_set_waiter(*session_, waiter_)) {
        waiter_ = {};
        if (static std::atomic<bool> said{false}; error == -ENOSPC && !said.exchange(true)) {
            report("an epoll set fails: all that may wait at a time do");
        }
        return error == -EPIPE ? 0 : error; // netd is gone: the sockets report that without a waiter
    }
    int error = register_tag(waiter_.fd, pipe_tag());
    if (error != 0) {
        session_->host->drop_waiter(waiter_);
        waiter_ = {};
    }
    return error;
}

// The waiter and the kick of a set that gets its first socket of netd (or lives on in a forked child). Without them no
// event would ever be heard of, so whoever needs them fails.
int EpollSet::prepare(client::Session& s)
{
    if (waiter_.fd >= 0) {
        return 0; // another thread may be waiting with it
    }
    session_ = &s;
    by_slot_.resize(s.view.sockets());
    int rc = kick_ < 0 ? make_kick() : 0;
    rc = rc != 0 ? rc : make_waiter();
    if (rc != 0 || waiter_.fd < 0) {
        return rc;
    }
    for (Interest* i : all_) {
        if (i->kind == Member::netd) {
            client::sock_watch(s, i->entry->sock, waiter_.index);
            queue(*i);
        }
    }
    return 0;
}

Interest& EpollSet::link(int fd, Entry& e, Member kind, const epoll_event& event)
{
    auto* i = new Interest{};
    i->entry = &e;
    i->set = this;
    i->fd = fd;
    i->kind = kind;
    i->events = event.events;
    i->data = event.data;
    i->entry_next = e.interests;
    e.interests = i;
    i->at = all_.size();
    all_.push_back(i);
    return *i;
}

void EpollSet::start_watching(Interest& i)
{
    i.kind = Member::netd;
    i.slot_next = by_slot_[i.entry->sock.slot];
    by_slot_[i.entry->sock.slot] = &i;
    members_.fetch_add(1, std::memory_order_seq_cst);
    if (waiter_.fd >= 0) {
        client::sock_watch(*session_, i.entry->sock, waiter_.index);
    }
    queue(i); // it may be ready already
    pass_on();
}

int EpollSet::add(int epfd, client::Session* s, int fd, Entry& e, const epoll_event& event)
{
    if (find(this, fd, e) != nullptr) {
        return -EEXIST;
    }
    std::lock_guard lock(mutex_);
    if (own_epfd_ < 0) {
        int copy = real.dup(epfd);
        own_epfd_ = copy < 0 ? -1 : keep_own(copy);
        if (own_epfd_ < 0) {
            return -errno;
        }
        sets.push_back(this);
    }
    Member kind = kind_of(e);
    if (kind == Member::netd) {
        if (int error = prepare(*s)) {
            return error;
        }
        start_watching(link(fd, e, kind, event));
        return 0;
    }
    epoll_event copy = event;
    if (real.epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &copy) != 0) {
        return -errno;
    }
    link(fd, e, kind, event);
    if (kind == Member::nested) {
        has_nested_.store(true, std::memory_order_release);
        e.set->expose(); // whoever waits in this one already does not
    }
    ++kernel_fds_;
    return 0;
}

int EpollSet::modify(int epfd, int fd, Entry& e, const epoll_event& event)
{
    Interest* i = find(this, fd, e);
    if (i == nullptr) {
        return -ENOENT;
    }
    std::lock_guard lock(mutex_);
    if (i->kind != Member::netd) {
        epoll_event copy = event;
        if (real.epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &copy) != 0) {
            return -errno;
        }
    } else if (((event.events | i->events) & EPOLLEXCLUSIVE) != 0) {
        return -EINVAL; // epoll_ctl(2)
    }
    i->events = event.events;
    i->data = event.data;
    i->enabled = true;
    if (i->kind == Member::netd) {
        queue(*i);
        pass_on();
    }
    return 0;
}

int EpollSet::remove(int epfd, int fd, Entry& e)
{
    Interest* i = find(this, fd, e);
    if (i == nullptr) {
        return -ENOENT;
    }
    if (i->kind != Member::netd && real.epoll_ctl(epfd, EPOLL_CTL_DEL, fd, nullptr) != 0) {
        return -errno;
    }
    leave(*i);
    return 0;
}

int EpollSet::expect_netd(client::Session& s)
{
    std::lock_guard lock(mutex_);
    return prepare(s);
}

void EpollSet::move_to_netd(Interest& i)
{
    std::lock_guard lock(mutex_);
    i.enabled = (i.events & EPOLLONESHOT) == 0 || is_armed(own_epfd_, i.fd);
    real.epoll_ctl(own_epfd_, EPOLL_CTL_DEL, i.fd, nullptr);
    kernel_removed();
    start_watching(i);
}

void EpollSet::leave(Interest& i)
{
    std::lock_guard lock(mutex_);
    if (i.kind == Member::netd) {
        unqueue(i);
        Interest** at = &by_slot_[i.entry->sock.slot];
        while (*at != &i) {
            at = &(*at)->slot_next;
        }
        *at = i.slot_next;
        if (by_slot_[i.entry->sock.slot] == nullptr && waiter_.fd >= 0) {
            client::sock_unwatch(*session_, i.entry->sock, waiter_.index);
        }
        if (members_.fetch_sub(1, std::memory_order_seq_cst) == 1) {
            unkick(); // what it was about is gone, and from now on nobody would take it
        }
    } else {
        kernel_removed();
    }
    unlink_from_entry(i);
    all_[i.at] = all_.back();
    all_[i.at]->at = i.at;
    all_.pop_back();
    delete &i;
}

void EpollSet::kernel_removed()
{
    int now = kernel_fds_.load(std::memory_order_relaxed);
    while (now > 0 && !kernel_fds_.compare_exchange_weak(now, now - 1)) {
    }
}

void EpollSet::orphan()
{
    // What is registered in E, which parent and child share, is the parent's, and ends with it if nobody else has it
    // open.
    waiter_ = {}; // closed by the session
    drop_kick();
    kicked_ = armed_ = false;
    if (calls_under_way == 0) { // else one of them may be this thread's; too many cost a wake-up now and then
        sleepers_ = watchers_ = 0;
        in_kernel_.store(0, std::memory_order_seq_cst);
    }
}

// ---- Ready list; mutex_ held ----------------------------------------------------------------------------------------

void EpollSet::queue(Interest& i)
{
    if (i.queued) {
        return;
    }
    i.queued = true;
    i.ready_next = nullptr;
    i.ready_previous = ready_last_;
    (ready_last_ == nullptr ? ready_first_ : ready_last_->ready_next) = &i;
    ready_last_ = &i;
    ++ready_count_;
}

void EpollSet::unqueue(Interest& i)
{
    if (!i.queued) {
        return;
    }
    i.queued = false;
    (i.ready_previous == nullptr ? ready_first_ : i.ready_previous->ready_next) = i.ready_next;
    (i.ready_next == nullptr ? ready_last_ : i.ready_next->ready_previous) = i.ready_previous;
    --ready_count_;
}

bool EpollSet::bits_pending() const
{
    return client::ready_bits_pending(session_->view, waiter_.index);
}

void EpollSet::take_bits()
{
    if (waiter_.fd < 0) {
        return;
    }
    client::take_ready_bits(session_->view, waiter_.index, [this](std::uint32_t slot) {
        for (Interest* i = by_slot_[slot]; i != nullptr; i = i->slot_next) {
            queue(*i);
        }
    });
}

// In a forked child.
int EpollSet::revive()
{
    return waiter_.fd < 0 && session_ != nullptr && session_->host->alive() ? prepare(*session_) : 0;
}

// netd's end, once.
void EpollSet::see_end()
{
    if (died_ || session_->host->alive()) {
        return;
    }
    died_ = true;
    if (waiter_.fd >= 0) {
        real.epoll_ctl(own_epfd_, EPOLL_CTL_DEL, waiter_.fd, nullptr); // at EOF for ever
    }
    for (Interest* i : all_) {
        if (i->kind == Member::netd) {
            queue(*i);
        }
    }
}

int EpollSet::collect(epoll_event* out, int max)
{
    std::lock_guard lock(mutex_);
    if (int error = revive()) {
        return error;
    }
    bool kicked = kicked_;
    unkick();
    take_bits();
    see_end();
    int found = 0;
    for (int left = ready_count_; left > 0 && found < max; --left) {
        Interest& i = *ready_first_;
        unqueue(i);
        std::uint32_t events = i.enabled ? client::sock_readiness(*session_, i.entry->sock, i.events) : 0;
        if (events == 0) {
            continue;
        }
        out[found].events = events;
        out[found].data = i.data;
        ++found;
        if ((i.events & EPOLLONESHOT) != 0) {
            i.enabled = false;
        } else if ((i.events & EPOLLET) == 0) {
            queue(i); // level-triggered: looked at again by the next call
        }
    }
    if (kicked) {
        pass_on(); // it was for all who wait
    }
    return found;
}

bool EpollSet::any_ready()
{
    take_bits();
    for (int left = ready_count_; left > 0; --left) {
        Interest& i = *ready_first_;
        if (i.enabled && client::sock_readiness(*session_, i.entry->sock, i.events) != 0) {
            return true;
        }
        unqueue(i);
    }
    return false;
}

// ---- Topology -------------------------------------------------------------------------------------------------------

void leave_all_sets(Entry& e)
{
    while (e.interests != nullptr) {
        e.interests->set->leave(*e.interests);
    }
}

int expect_netd(client::Session& s, Entry& e)
{
    int error = 0;
    for (Interest* i = e.interests; i != nullptr && error == 0; i = i->entry_next) {
        error = i->set->expect_netd(s);
    }
    return error;
}

void move_to_netd(Entry& e)
{
    for (Interest* i = e.interests; i != nullptr; i = i->entry_next) {
        i->set->move_to_netd(*i);
    }
}

void lock_all_sets()
{
    std::for_each(sets.begin(), sets.end(), [](EpollSet* set) { set->lock(); });
}

void unlock_all_sets()
{
    std::for_each(sets.begin(), sets.end(), [](EpollSet* set) { set->unlock(); });
}

void orphan_all_sets()
{
    std::for_each(sets.begin(), sets.end(), [](EpollSet* set) { set->orphan(); });
}

} // namespace preload
