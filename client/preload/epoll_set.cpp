#include "client/preload/epoll_set.hpp"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>

#include "client/looking.hpp"
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
    for (int fd : {own_epfd_, kick_}) {
        if (fd >= 0) {
            drop_own(fd);
            real.close(fd);
        }
    }
}

// ---- epoll_ctl ------------------------------------------------------------------------------------------------------

int EpollSet::register_tag(int fd, std::uint64_t tag)
{
    epoll_event event{EPOLLIN, {}};
    event.data.u64 = tag;
    return real.epoll_ctl(own_epfd_, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

// The waiter and the kick of a set that gets its first socket of netd (or lives on in a forked child).
int EpollSet::prepare(client::Session& s)
{
    if (waiter_.fd >= 0) {
        return 0; // another thread may be waiting with it
    }
    session_ = &s;
    by_slot_.resize(s.view.sockets());
    if (kick_ < 0) {
        int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        kick_ = fd < 0 ? -1 : keep_own(fd);
        int rc = kick_ < 0 ? -errno : register_tag(kick_, kick_tag());
        if (rc != 0) {
            return rc;
        }
    }
    if (int error = s.host->make_waiter(sockbuf::WaiterKind::set, waiter_)) {
        waiter_.fd = -1;
        return error == -EPIPE ? 0 : error; // netd is gone: the sockets report that without a waiter
    }
    for (Interest* i : all_) {
        if (i->kind == Member::netd) {
            client::sock_watch(s, i->entry->sock, waiter_.index);
            queue(*i);
        }
    }
    return register_tag(waiter_.fd, pipe_tag());
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
    if (sleepers_ > 0 || in_kernel_.load(std::memory_order_seq_cst) > 0) {
        kick();
    }
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
    has_nested_ = has_nested_ || kind == Member::nested;
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
        if (sleepers_ > 0) {
            kick();
        }
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

int EpollSet::move_to_netd(client::Session& s, Interest& i)
{
    std::lock_guard lock(mutex_);
    real.epoll_ctl(own_epfd_, EPOLL_CTL_DEL, i.fd, nullptr);
    kernel_removed();
    if (int error = prepare(s)) {
        return error;
    }
    start_watching(i);
    return 0;
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
        members_.fetch_sub(1, std::memory_order_release);
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
    // The descriptors stay open: their registrations in E, which parent and child share, are the parent's.
    waiter_ = {};
    kick_ = -1;
    kicked_ = armed_ = false;
    sleepers_ = 0;
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

void EpollSet::netd_died()
{
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
    if (kicked_) {
        kicked_ = false;
        std::uint64_t count;
        [[maybe_unused]] ssize_t n = real.read(kick_, &count, sizeof count);
    }
    if (waiter_.fd < 0 && session_->host->alive()) {
        prepare(*session_); // after fork; the failure shows as sockets that are only looked at when asked
    }
    take_bits();
    if (!died_ && !session_->host->alive()) {
        netd_died();
    }
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

// ---- Sleeping; arm, disarm, drain_pipe, kick and pass_on with mutex_ held -------------------------------------------

void EpollSet::arm()
{
    if (!armed_ && waiter_.fd >= 0) {
        armed_ = true;
        client::arm_waiter(*session_, waiter_);
    }
}

void EpollSet::disarm()
{
    if (armed_) {
        armed_ = false;
        client::disarm_waiter(*session_, waiter_);
    }
}

// Also what a wake left there that came too late for the sleep it was meant for.
void EpollSet::drain_pipe()
{
    armed_ = false;
    if (waiter_.fd >= 0) {
        session_->view.waiter(waiter_.index).sleeping.store(0, std::memory_order_seq_cst);
        session_->host->sleep(waiter_, base::Instant{});
    }
}

void EpollSet::kick()
{
    if (!kicked_ && kick_ >= 0) {
        kicked_ = true;
        std::uint64_t one = 1;
        [[maybe_unused]] ssize_t n = real.write(kick_, &one, sizeof one);
    }
}

// One wake reaches one sleeper: what is left over, and what comes from now on, must reach the next.
void EpollSet::pass_on()
{
    if (sleepers_ == 0) {
        return;
    }
    arm();
    if (ready_count_ > 0 || (waiter_.fd >= 0 && bits_pending())) {
        kick();
    }
}

// Takes our own events out; returns how many are left.
int EpollSet::filter_tags(epoll_event* out, int n)
{
    bool pipe = false;
    int kept = 0;
    for (int k = 0; k < n; ++k) {
        if (out[k].data.u64 == pipe_tag()) {
            pipe = true;
        } else if (out[k].data.u64 != kick_tag()) {
            out[kept++] = out[k];
        }
    }
    if (pipe) {
        std::lock_guard lock(mutex_);
        drain_pipe();
    }
    return kept;
}

int EpollSet::kernel_now(int epfd, epoll_event* out, int max, const sigset_t* mask)
{
    turns_.store(0, std::memory_order_relaxed);
    int n = real.epoll_pwait(epfd, out, max, 0, mask);
    return n > 0 ? filter_tags(out, n) : n;
}

// One stay in the kernel. As wait, but 0 = look again.
int EpollSet::sleep(
    int epfd, epoll_event* out, int max, const timespec* left, const sigset_t* mask, client::Looking& looking)
{
    {
        std::lock_guard lock(mutex_);
        ++sleepers_;
        arm();
    }
    if (has_nested_) {
        std::lock_guard topology(table_mutex);
        for (Interest* i : all_) {
            if (i->kind == Member::nested && i->entry->set->has_netd()) {
                i->entry->set->expose();
            }
        }
    }
    int found = collect(out, max);
    int error = 0;
    bool slept = found == 0;
    if (slept) {
        found = real.epoll_pwait2(epfd, out, max, left, mask);
        error = found < 0 ? errno : 0;
        found = found > 0 ? filter_tags(out, found) : 0;
    }
    {
        std::lock_guard lock(mutex_);
        if (--sleepers_ == 0) {
            disarm();
        }
    }
    if (error == 0 && slept && found < max) { // else a level-triggered member would be reported twice
        int ours = collect(out + found, max - found);
        found += ours;
        if (ours == 0) {
            looking.unpaid();
        }
    }
    std::lock_guard lock(mutex_);
    pass_on();
    if (error != 0) {
        errno = error;
        return -1;
    }
    return found;
}

int EpollSet::wait(int epfd, epoll_event* out, int max, const timespec* timeout, const sigset_t* mask)
{
    if (max <= 0) {
        errno = EINVAL;
        return -1;
    }
    constexpr unsigned kernel_every = 8; // calls in a row that netd's members alone may fill
    using base::Instant;
    bool poll = timeout != nullptr && timeout->tv_sec == 0 && timeout->tv_nsec == 0;
    Instant deadline = base::never;
    if (timeout != nullptr && !poll && timeout->tv_sec < INT64_C(1'000'000'000)) {
        deadline = session_->host->now() + base::Micros{timeout->tv_sec * 1'000'000 + (timeout->tv_nsec + 999) / 1000};
    }
    // Not for as long as it pays: a server of many connections answers more of them when it lets requests gather.
    client::Looking looking(*session_, deadline, session_->look_min);
    auto news = [this] { return waiter_.fd >= 0 && bits_pending(); };
    for (;;) {
        // Kernel members are asked along with ours, as one set would; a full house of ours leaves them a place now and
        // then.
        bool kernel = kernel_fds_.load(std::memory_order_relaxed) > 0;
        int room = kernel && ++turns_ >= kernel_every ? max - 1 : max;
        int found = room > 0 ? collect(out, room) : 0;
        if (found > 0 || poll || room == 0) {
            int n = kernel && found < max ? kernel_now(epfd, out + found, max - found, mask) : 0;
            if (found > 0 || n != 0 || (poll && room > 0)) {
                return found > 0 ? found + std::max(n, 0) : n;
            }
            continue;
        }
        int others = 0;
        auto ask_others = [&] { return kernel && (others = kernel_now(epfd, out, max, mask)) != 0; };
        if (looking.until(news, ask_others)) {
            if (others != 0) {
                return others;
            }
            continue;
        }
        timespec left{};
        if (deadline != base::never) {
            std::int64_t us = std::max<std::int64_t>((deadline - session_->host->now()).count(), 0);
            left = {us / 1'000'000, us % 1'000'000 * 1000};
        }
        int n = sleep(epfd, out, max, deadline == base::never ? nullptr : &left, mask, looking);
        if (n != 0 || (deadline != base::never && session_->host->now() >= deadline)) {
            return n;
        }
    }
}

// Announced before the look at the members, as start_watching adds the member before its look at the announcement.
int EpollSet::wait_for_kernel(int epfd, epoll_event* out, int max, const timespec* timeout, const sigset_t* mask)
{
    for (;;) {
        in_kernel_.fetch_add(1, std::memory_order_seq_cst);
        int n = members_.load(std::memory_order_seq_cst) != 0 ? 0 : real.epoll_pwait2(epfd, out, max, timeout, mask);
        in_kernel_.fetch_sub(1, std::memory_order_seq_cst);
        bool netd = members_.load(std::memory_order_seq_cst) != 0;
        int kept = n > 0 ? filter_tags(out, n) : n;
        if (kept != 0 || (n == 0 && !netd)) {
            return kept;
        }
        if (netd) {
            return wait(epfd, out, max, timeout, mask); // the timeout starts anew, once
        }
    }
}

void EpollSet::expose()
{
    std::lock_guard lock(mutex_);
    drain_pipe();
    arm();
    if (any_ready()) {
        kick();
    }
}

// ---- Topology -------------------------------------------------------------------------------------------------------

void leave_all_sets(Entry& e)
{
    while (e.interests != nullptr) {
        e.interests->set->leave(*e.interests);
    }
}

void move_to_netd(client::Session& s, Entry& e)
{
    for (Interest* i = e.interests; i != nullptr; i = i->entry_next) {
        i->set->move_to_netd(s, *i);
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
