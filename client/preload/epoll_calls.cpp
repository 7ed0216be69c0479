// Interposed: epoll, and what would go round it. A set without sockets of netd costs one load more than the kernel's
// own, and a look at the clock where there is a timeout.
#include "client/preload/calls.hpp"
#include "client/preload/deadline.hpp"
#include "client/preload/epoll_set.hpp"

using namespace preload;

namespace {

int remember(int epfd)
{
    if (epfd < 0 || epfd >= fds_max) {
        return epfd;
    }
    Entry* stale;
    {
        TableLock lock;
        Entry* e = new_entry(EntryState::epoll);
        e->set = new EpollSet;
        stale = install(epfd, e);
    }
    drop(stale);
    return epfd;
}

// epoll_ctl(2): what may stand beside EPOLLEXCLUSIVE.
bool is_exclusive_among_others(std::uint32_t events)
{
    constexpr std::uint32_t known = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
    return (events & EPOLLEXCLUSIVE) != 0 && (events & ~known) != 0;
}

int add(int epfd, EpollSet& set, int fd, Entry& target, const epoll_event* event)
{
    if (event == nullptr) {
        return -EFAULT;
    }
    return is_exclusive_among_others(event->events) ? -EINVAL
                                                    : set.add(epfd, session_if_attached(), fd, target, *event);
}

int control(int epfd, EpollSet& set, int operation, int fd, Entry& target, const epoll_event* event)
{
    std::lock_guard lock(table_mutex);
    if (peek(fd) != &target) {
        return -EBADF;
    }
    switch (operation) {
    case EPOLL_CTL_ADD:
        return add(epfd, set, fd, target, event);
    case EPOLL_CTL_MOD:
        return event == nullptr ? -EFAULT : set.modify(epfd, fd, target, *event);
    case EPOLL_CTL_DEL:
        return set.remove(epfd, fd, target);
    default:
        return -EINVAL;
    }
}

// timeout null: for ever.
int wait(int epfd, epoll_event* out, int max, const timespec* timeout, const sigset_t* mask)
{
    pthread_testcancel();
    Held h(epfd);
    Entry* e = h.in(EntryState::epoll);
    if (e == nullptr) {
        return real.epoll_pwait2(epfd, out, max, timeout, mask);
    }
    return e->set->has_netd() ? e->set->wait(epfd, out, max, timeout, mask)
                              : e->set->wait_for_kernel(epfd, out, max, timeout, mask);
}

} // namespace

PRELOAD_CALL int epoll_create1(int flags) __THROW
{
    return remember(real.epoll_create1(flags));
}

PRELOAD_CALL int epoll_create(int size) __THROW
{
    return remember(real.epoll_create(size));
}

PRELOAD_CALL int epoll_ctl(int epfd, int operation, int fd, epoll_event* event) __THROW
{
    if (peek(epfd) == nullptr) {
        return real.epoll_ctl(epfd, operation, fd, event);
    }
    Held set(epfd);
    Held target(fd);
    Entry* e = set.in(EntryState::epoll);
    if (e == nullptr) {
        return real.epoll_ctl(epfd, operation, fd, event);
    }
    if (target.get() != nullptr && target.get() != e) {
        return outcome(control(epfd, *e->set, operation, fd, *target.get(), event));
    }
    int rc = real.epoll_ctl(epfd, operation, fd, event);
    if (rc == 0 && operation == EPOLL_CTL_ADD) {
        e->set->kernel_added();
    } else if (rc == 0 && operation == EPOLL_CTL_DEL) {
        e->set->kernel_removed();
    }
    return rc;
}

PRELOAD_CALL int epoll_wait(int epfd, epoll_event* out, int max, int ms)
{
    timespec t;
    return peek(epfd) == nullptr ? real.epoll_wait(epfd, out, max, ms) : wait(epfd, out, max, from_ms(ms, t), nullptr);
}

PRELOAD_CALL int epoll_pwait(int epfd, epoll_event* out, int max, int ms, const sigset_t* mask)
{
    timespec t;
    return peek(epfd) == nullptr ? real.epoll_pwait(epfd, out, max, ms, mask)
                                 : wait(epfd, out, max, from_ms(ms, t), mask);
}

PRELOAD_CALL int epoll_pwait2(int epfd, epoll_event* out, int max, const timespec* timeout, const sigset_t* mask)
{
    return peek(epfd) == nullptr || !is_time(timeout) ? real.epoll_pwait2(epfd, out, max, timeout, mask)
                                                      : wait(epfd, out, max, timeout, mask);
}
