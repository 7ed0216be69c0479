// Interposed: poll, select and their kin. select is poll with other arguments.
#include <algorithm>
#include <memory>

#include "client/preload/calls.hpp"
#include "client/preload/deadline.hpp"
#include "client/preload/poll_set.hpp"

// libc declares that poll only writes its array; the definition may read what it was given.
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

using namespace preload;

namespace {

constexpr short read_events = POLLIN | POLLRDNORM | POLLHUP | POLLERR; // select(2): as the kernel's POLLIN_SET ...
constexpr short write_events = POLLOUT | POLLWRNORM | POLLERR;
constexpr short except_events = POLLPRI;

bool is_in(int fd, fd_set* set)
{
    return set != nullptr && FD_ISSET(fd, set);
}

Polls select_polls(int count, fd_set* r, fd_set* w, fd_set* x)
{
    Polls what = Polls::kernel;
    for (int fd = 0; fd < count && what != Polls::ours; ++fd) {
        if (peek(fd) != nullptr && (is_in(fd, r) || is_in(fd, w) || is_in(fd, x))) {
            pollfd one{fd, 0, 0};
            what = std::max(what, polls_what(&one, 1));
        }
    }
    return what;
}

int poll_any(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask)
{
    return polls_what(fds, count) == Polls::ours ? poll_mixed(fds, count, timeout, mask)
                                                 : poll_undecided(fds, count, timeout, mask);
}

int report_in(fd_set* set, const pollfd& p, short events)
{
    if (!is_in(p.fd, set)) {
        return 0;
    }
    if ((p.revents & events) != 0) {
        return 1;
    }
    FD_CLR(p.fd, set);
    return 0;
}

int select_mixed(int count, fd_set* r, fd_set* w, fd_set* x, const timespec* timeout, const sigset_t* mask)
{
    pollfd fds[FD_SETSIZE];
    nfds_t n = 0;
    for (int fd = 0; fd < std::min(count, FD_SETSIZE); ++fd) {
        int events = (is_in(fd, r) ? POLLIN : 0) | (is_in(fd, w) ? POLLOUT : 0) | (is_in(fd, x) ? POLLPRI : 0);
        if (events != 0) {
            fds[n++] = {fd, static_cast<short>(events), 0};
        }
    }
    int rc = poll_any(fds, n, timeout, mask);
    if (rc < 0) {
        return rc;
    }
    int found = 0;
    for (nfds_t i = 0; i < n; ++i) {
        if ((fds[i].revents & POLLNVAL) != 0) {
            errno = EBADF;
            return -1;
        }
        found += report_in(r, fds[i], read_events) + report_in(w, fds[i], write_events) +
                 report_in(x, fds[i], except_events);
    }
    return found;
}

} // namespace

PRELOAD_CALL int poll(pollfd* fds, nfds_t count, int ms)
{
    if (polls_what(fds, count) == Polls::kernel) {
        return real.poll(fds, count, ms);
    }
    timespec t;
    return poll_any(fds, count, from_ms(ms, t), nullptr);
}

PRELOAD_CALL int ppoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask)
{
    return polls_what(fds, count) == Polls::kernel ? real.ppoll(fds, count, timeout, mask)
                                                   : poll_any(fds, count, timeout, mask);
}

PRELOAD_CALL int pselect(int count, fd_set* r, fd_set* w, fd_set* x, const timespec* timeout, const sigset_t* mask)
{
    return select_polls(count, r, w, x) == Polls::kernel ? real.pselect(count, r, w, x, timeout, mask)
                                                         : select_mixed(count, r, w, x, timeout, mask);
}

// select(2), Linux: what is left of the time is stored back.
PRELOAD_CALL int select(int count, fd_set* r, fd_set* w, fd_set* x, timeval* timeout)
{
    if (select_polls(count, r, w, x) == Polls::kernel) {
        return real.select(count, r, w, x, timeout);
    }
    if (timeout == nullptr) {
        return select_mixed(count, r, w, x, nullptr, nullptr);
    }
    if (timeout->tv_sec < 0 || timeout->tv_usec < 0) {
        errno = EINVAL;
        return -1;
    }
    timespec t{timeout->tv_sec + timeout->tv_usec / 1'000'000, timeout->tv_usec % 1'000'000 * 1000};
    base::Instant before = monotonic_now();
    int rc = select_mixed(count, r, w, x, &t, nullptr);
    std::int64_t us = t.tv_sec * 1'000'000 + t.tv_nsec / 1000 - (monotonic_now() - before).count();
    us = std::max<std::int64_t>(us, 0);
    *timeout = {us / 1'000'000, us % 1'000'000};
    return rc;
}

extern "C" void __chk_fail() __attribute__((noreturn));

PRELOAD_CALL int __poll_chk(pollfd* fds, nfds_t count, int ms, std::size_t room)
{
    return room / sizeof *fds < count ? (__chk_fail(), -1) : poll(fds, count, ms);
}
PRELOAD_CALL int __ppoll_chk(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask, std::size_t room)
{
    return room / sizeof *fds < count ? (__chk_fail(), -1) : ppoll(fds, count, timeout, mask);
}
PRELOAD_CALL int __poll(pollfd* fds, nfds_t count, int ms)
{
    return poll(fds, count, ms);
}
PRELOAD_CALL int __select(int count, fd_set* r, fd_set* w, fd_set* x, timeval* timeout)
{
    return select(count, r, w, x, timeout);
}
