// Interposed: descriptors as numbers (close, dup, fcntl, ioctl). The numbers stay the kernel's; the table follows.
// A child that shares our memory until it calls exec (vfork) works on its own descriptors with the parent's table in
// sight, so every change first asks whose process this is.
#include <linux/close_range.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sched.h>

#include <algorithm>
#include <climits>
#include <cstdarg>

#include "client/preload/calls.hpp"
#include "client/preload/epoll_set.hpp"

using namespace preload;

namespace {

bool hidden(int fd)
{
    return is_own(fd) && !is_foreign_process();
}

int bad_descriptor()
{
    errno = EBADF;
    return -1;
}

// The number a duplicating call made of `fd`.
template <typename Duplicate>
int duplicate(int fd, Duplicate make)
{
    if (is_foreign_process()) {
        return make();
    }
    Entry* stale = nullptr;
    int made;
    {
        TableLock lock;
        made = make();
        Entry* e = peek(fd);
        if (made >= fds_max && e != nullptr) {
            real.close(made);
            made = -1;
            errno = EMFILE;
        } else if (made >= 0) {
            stale = e == nullptr ? uninstall(made) : made == fd ? nullptr : add_dup(made, e);
        }
    }
    int before = errno;
    drop(stale);
    errno = before;
    return made;
}

template <typename Real>
int duplicate_over(int from, int to, Real make)
{
    if (peek(from) == nullptr && peek(to) == nullptr) {
        return hidden(to) ? bad_descriptor() : make();
    }
    return hidden(to) ? bad_descriptor() : duplicate(from, make);
}

int close_all_between(unsigned first, unsigned last)
{
    std::vector<int> own = own_fds();
    std::sort(own.begin(), own.end());
    std::vector<Entry*> dropped;
    int rc = 0;
    {
        TableLock lock;
        for (int fd = static_cast<int>(std::min<unsigned>(first, fds_max)); fd <= highest_fd(); ++fd) {
            if (static_cast<unsigned>(fd) <= last && peek(fd) != nullptr) {
                dropped.push_back(uninstall(fd));
            }
        }
        unsigned from = first;
        for (int mine : own) {
            auto skip = static_cast<unsigned>(mine);
            if (skip < from || skip > last) {
                continue;
            }
            rc = skip > from ? real.close_range(from, skip - 1, 0) : rc;
            from = skip + 1;
        }
        if (from <= last) {
            rc = real.close_range(from, last, 0);
        }
    }
    for (Entry* e : dropped) {
        drop(e);
    }
    return rc;
}

void* argument_of(va_list list)
{
    return va_arg(list, void*);
}

int netd_fcntl(int fd, const Entry& e, int command, void* argument)
{
    client::Session& s = session_of_netd();
    switch (command) {
    case F_GETFL:
        return outcome(client::sock_status_flags(s, e.sock));
    case F_SETFL:
        client::sock_set_status_flags(s, e.sock, static_cast<int>(reinterpret_cast<std::intptr_t>(argument)));
        return 0;
    default:
        return real.fcntl(fd, command, argument);
    }
}

int any_fcntl(int fd, int command, void* argument)
{
    if (peek(fd) == nullptr) {
        return real.fcntl(fd, command, argument);
    }
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
        return duplicate(fd, [&] { return real.fcntl(fd, command, argument); });
    }
    Held h(fd);
    Entry* e = h.netd();
    return e == nullptr ? real.fcntl(fd, command, argument) : netd_fcntl(fd, *e, command, argument);
}

int set_nonblocking(client::Session& s, const Entry& e, bool on)
{
    int flags = client::sock_status_flags(s, e.sock);
    if (flags >= 0) {
        client::sock_set_status_flags(s, e.sock, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
    }
    return std::min(flags, 0);
}

// SIOCOUTQNSD: what netd has not sent once. 0 or a negative errno.
int not_sent(client::Session& s, const Entry& e)
{
    tcp_info info{};
    socklen_t len = sizeof info;
    int rc = client::sock_getsockopt(s, e.sock, IPPROTO_TCP, TCP_INFO, &info, &len);
    return rc != 0 ? -EINVAL : static_cast<int>(std::min<std::uint32_t>(info.tcpi_notsent_bytes, INT_MAX));
}

// The kernel's interfaces by their IPv4 addresses: any of its IPv4 sockets answers, the placeholder is none.
int ask_inet_socket(unsigned long request, void* argument)
{
    int fd = real.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    client::CancelGuard no_cancel;
    int rc = real.ioctl(fd, request, argument);
    int before = errno;
    real.close(fd);
    errno = before;
    return rc;
}

int netd_ioctl(int fd, const Entry& e, unsigned long request, void* argument)
{
    client::Session& s = session_of_netd();
    auto* number = static_cast<int*>(argument);
    int rc = 0;
    switch (request) {
    case FIONREAD:
        rc = client::sock_fionread(s, e.sock);
        break;
    case TIOCOUTQ: // SIOCOUTQ
        rc = client::sock_outq(s, e.sock);
        break;
    case SIOCATMARK:
        rc = client::sock_at_mark(s, e.sock);
        break;
    case SIOCOUTQNSD:
        rc = not_sent(s, e);
        break;
    case SIOCGIFADDR:
    case SIOCGIFBRDADDR:
    case SIOCGIFDSTADDR:
    case SIOCGIFNETMASK:
        return e.domain == AF_INET ? ask_inet_socket(request, argument) : real.ioctl(fd, request, argument);
    case FIONBIO:
        return outcome(set_nonblocking(s, e, *number != 0));
    case FIOASYNC:
        return *number == 0 ? 0 : outcome(-EOPNOTSUPP); // no SIGIO from netd
    default:
        return real.ioctl(fd, request, argument); // about interfaces: the placeholder answers as any socket
    }
    if (rc >= 0) {
        *number = rc;
        return 0;
    }
    return outcome(rc);
}

} // namespace

PRELOAD_CALL int close(int fd)
{
    if (peek(fd) == nullptr) {
        return hidden(fd) ? bad_descriptor() : real.close(fd);
    }
    if (is_foreign_process()) {
        return real.close(fd);
    }
    pthread_testcancel(); // before anything is done; inside, a cancel would leave the socket behind
    Entry* e;
    int rc;
    {
        TableLock lock;
        e = uninstall(fd);
        rc = real.close(fd);
    }
    int before = errno;
    drop(e);
    errno = before;
    return rc;
}

PRELOAD_CALL int close_range(unsigned first, unsigned last, int flags) __THROW
{
    constexpr int unshares = CLOSE_RANGE_UNSHARE;
    if ((flags & ~unshares) != 0 || first > last || is_foreign_process()) { // CLOSE_RANGE_CLOEXEC: ours have it
        return real.close_range(first, last, flags);
    }
    if ((flags & unshares) != 0 && unshare(CLONE_FILES) != 0) {
        return -1;
    }
    return close_all_between(first, last);
}

PRELOAD_CALL void closefrom(int first) __THROW
{
    if (is_foreign_process()) {
        real.closefrom(first);
    } else {
        close_all_between(static_cast<unsigned>(std::max(first, 0)), ~0U);
    }
}

PRELOAD_CALL int dup(int fd) __THROW
{
    return peek(fd) == nullptr ? real.dup(fd) : duplicate(fd, [&] { return real.dup(fd); });
}

PRELOAD_CALL int dup2(int from, int to) __THROW
{
    return duplicate_over(from, to, [&] { return real.dup2(from, to); });
}

PRELOAD_CALL int dup3(int from, int to, int flags) __THROW
{
    return duplicate_over(from, to, [&] { return real.dup3(from, to, flags); });
}

PRELOAD_CALL int fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void* argument = argument_of(list);
    va_end(list);
    return any_fcntl(fd, command, argument);
}

PRELOAD_CALL int fcntl64(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void* argument = argument_of(list);
    va_end(list);
    return any_fcntl(fd, command, argument);
}

PRELOAD_CALL int ioctl(int fd, unsigned long request, ...) __THROW
{
    va_list list;
    va_start(list, request);
    void* argument = argument_of(list);
    va_end(list);
    if (peek(fd) == nullptr) {
        return real.ioctl(fd, request, argument);
    }
    Held h(fd);
    Entry* e = h.netd();
    return e == nullptr ? real.ioctl(fd, request, argument) : netd_ioctl(fd, *e, request, argument);
}

// libc's own asks its own ioctl.
PRELOAD_CALL int sockatmark(int fd) __THROW
{
    int at = 0;
    return ioctl(fd, SIOCATMARK, &at) < 0 ? -1 : at;
}

// ---- Older names.
PRELOAD_CALL int __close(int fd)
{
    return close(fd);
}
PRELOAD_CALL int __dup2(int from, int to) __THROW
{
    return dup2(from, to);
}
PRELOAD_CALL int __fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void* argument = argument_of(list);
    va_end(list);
    return any_fcntl(fd, command, argument);
}
