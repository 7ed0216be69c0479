// Interposed: how sockets come to be, get their ends and their options.
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "client/preload/calls.hpp"
#include "client/preload/decide.hpp"
#include "client/preload/preload_report.hpp"

using namespace preload;

namespace {

bool could_be_netd(int domain, int type, int protocol)
{
    int kind = type & 0xf;
    return (domain == AF_INET || domain == AF_INET6) &&
           ((kind == SOCK_STREAM && (protocol == 0 || protocol == IPPROTO_TCP)) ||
               (kind == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP)));
}

bool fits_table(int fd)
{
    if (fd < fds_max) {
        return true;
    }
    real.close(fd);
    errno = EMFILE;
    return false;
}

void record_option(int fd, Entry& e, int level, int name, const void* value, socklen_t len)
{
    const auto* bytes = static_cast<const unsigned char*>(value);
    TableLock lock;
    if (peek(fd) == &e && e.state.load() == EntryState::undecided) {
        e.options.push_back({level, name, {bytes, bytes + len}});
    }
}

// inet6_bind, tcp_v6_connect: IPv4 addresses of such sockets are mapped ones. 0 or a negative errno.
int own_family(const Entry& e, const sockaddr* addr, socklen_t len, Use use)
{
    if (e.domain != AF_INET6 || addr == nullptr || len < sizeof(sa_family_t) || addr->sa_family == AF_INET6) {
        return 0;
    }
    if (use == Use::destination && ((e.type & 0xf) == SOCK_DGRAM || addr->sa_family == AF_UNSPEC)) {
        return 0;
    }
    return len < offsetof(sockaddr_in6, sin6_scope_id) ? -EINVAL : -EAFNOSUPPORT;
}

// A descriptor that is not the program's yet.
class Number {
public:
    explicit Number(bool close_on_exec) : fd_(placeholder_fd(close_on_exec))
    {
        if (fd_ >= 0 && !fits_table(fd_)) {
            fd_ = -1;
        }
    }
    ~Number()
    {
        int before = errno;
        if (fd_ >= 0) {
            client::CancelGuard no_cancel;
            real.close(fd_);
        }
        errno = before;
    }
    Number(const Number&) = delete;
    Number& operator=(const Number&) = delete;

    int fd() const { return fd_; }
    int give() { return std::exchange(fd_, -1); }

private:
    int fd_;
};

int install_accepted(int fd, const Entry& listener, client::Sock sock)
{
    Entry* stale;
    {
        TableLock lock;
        Entry* entry = new_entry(EntryState::netd);
        entry->sock = sock;
        entry->domain = listener.domain;
        entry->type = listener.type;
        entry->protocol = listener.protocol;
        stale = install(fd, entry);
    }
    drop(stale);
    return fd;
}

int own_option(const Entry& e, int name, int& out)
{
    switch (name) {
    case SO_DOMAIN:
        out = e.domain;
        return 0;
    case SO_TYPE:
        out = e.type & 0xf;
        return 0;
    case SO_PROTOCOL:
        out = (e.type & 0xf) == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
        return 0;
    default:
        return -1;
    }
}

} // namespace

PRELOAD_CALL int socket(int domain, int type, int protocol) __THROW
{
    if (!could_be_netd(domain, type, protocol)) {
        if (settings().strict && domain != AF_UNIX && domain != AF_NETLINK) {
            errno = EACCES;
            return -1;
        }
        return real.socket(domain, type, protocol);
    }
    int fd = real.socket(domain, type, protocol);
    if (fd < 0 || !fits_table(fd)) {
        return -1;
    }
    Entry* stale;
    {
        TableLock lock;
        Entry* e = new_entry(EntryState::undecided);
        e->domain = domain;
        e->type = type;
        e->protocol = protocol;
        stale = install(fd, e);
    }
    drop(stale);
    return fd;
}

PRELOAD_CALL int bind(int fd, const sockaddr* addr, socklen_t len) __THROW
{
    if (peek(fd) == nullptr) {
        return real.bind(fd, addr, len);
    }
    Held h(fd);
    if (h.get() == nullptr || h.in(EntryState::epoll) != nullptr) {
        return real.bind(fd, addr, len);
    }
    if (int error = own_family(*h.get(), addr, len, Use::bind)) {
        return outcome(error);
    }
    switch (settle(fd, *h.get(), "bind", addr, len, Use::bind)) {
    case Whose::kernel:
        return real.bind(fd, addr, len);
    case Whose::nobody:
        return -1;
    case Whose::netd:
        break;
    }
    return outcome(client::sock_bind(session_of_netd(), h.get()->sock, addr, len));
}

PRELOAD_CALL int listen(int fd, int backlog) __THROW
{
    if (peek(fd) == nullptr) {
        return real.listen(fd, backlog);
    }
    Held h(fd);
    if (h.in(EntryState::undecided) != nullptr && (h.get()->type & 0xf) == SOCK_STREAM) {
        // listen(2) without bind takes the wildcard and a port of its own.
        sockaddr_in any{};
        any.sin_family = AF_INET;
        if (settle(fd, *h.get(), "listen", reinterpret_cast<sockaddr*>(&any), sizeof any, Use::bind) == Whose::nobody) {
            return -1;
        }
    }
    Entry* e = h.netd();
    return e == nullptr ? real.listen(fd, backlog) : outcome(client::sock_listen(session_of_netd(), e->sock, backlog));
}

PRELOAD_CALL int accept4(int fd, sockaddr* addr, socklen_t* len, int flags)
{
    if (peek(fd) == nullptr) {
        return real.accept4(fd, addr, len, flags);
    }
    Call h(fd);
    Entry* e = h.netd();
    if (e == nullptr) {
        return real.accept4(fd, addr, len, flags);
    }
    client::Session& s = session_of_netd();
    base::Instant deadline = client::accept_deadline(s, e->sock);
    for (;;) {
        if (int error = client::sock_await_accept(s, e->sock, flags, deadline)) {
            return outcome(error);
        }
        Number number((flags & SOCK_CLOEXEC) != 0);
        if (number.fd() < 0) {
            return -1; // EMFILE: what waits stays queued
        }
        client::Sock sock;
        int rc = client::sock_accept_now(s, e->sock, addr, len, flags, sock);
        if (rc < 0) {
            return outcome(rc);
        }
        if (rc == 1) {
            return install_accepted(number.give(), *e, sock);
        }
    }
}

PRELOAD_CALL int accept(int fd, sockaddr* addr, socklen_t* len)
{
    return peek(fd) == nullptr ? real.accept(fd, addr, len) : accept4(fd, addr, len, 0);
}

PRELOAD_CALL int connect(int fd, const sockaddr* addr, socklen_t len)
{
    if (peek(fd) == nullptr) {
        return real.connect(fd, addr, len);
    }
    Call h(fd);
    if (h.get() == nullptr || h.in(EntryState::epoll) != nullptr) {
        return real.connect(fd, addr, len);
    }
    if (h.netd() == nullptr && addr != nullptr && len >= sizeof(sa_family_t) && addr->sa_family == AF_UNSPEC) {
        return real.connect(fd, addr, len); // nothing to dissolve
    }
    if (int error = own_family(*h.get(), addr, len, Use::destination)) {
        return outcome(error);
    }
    switch (settle(fd, *h.get(), "connect", addr, len, Use::destination)) {
    case Whose::kernel:
        return real.connect(fd, addr, len);
    case Whose::nobody:
        return -1;
    case Whose::netd:
        break;
    }
    return outcome(client::sock_connect(session_of_netd(), h.get()->sock, addr, len));
}

PRELOAD_CALL int __connect(int fd, const sockaddr* addr, socklen_t len)
{
    return connect(fd, addr, len);
}

PRELOAD_CALL int shutdown(int fd, int how) __THROW
{
    if (peek(fd) == nullptr) {
        return real.shutdown(fd, how);
    }
    Held h(fd);
    Entry* e = h.netd();
    return e == nullptr ? real.shutdown(fd, how) : outcome(client::sock_shutdown(session_of_netd(), e->sock, how));
}

PRELOAD_CALL int getsockname(int fd, sockaddr* addr, socklen_t* len) __THROW
{
    if (peek(fd) == nullptr) {
        return real.getsockname(fd, addr, len);
    }
    Held h(fd);
    Entry* e = h.netd();
    if (e == nullptr) {
        return real.getsockname(fd, addr, len);
    }
    return outcome(client::sock_getsockname(session_of_netd(), e->sock, addr, len));
}

PRELOAD_CALL int getpeername(int fd, sockaddr* addr, socklen_t* len) __THROW
{
    if (peek(fd) == nullptr) {
        return real.getpeername(fd, addr, len);
    }
    Held h(fd);
    Entry* e = h.netd();
    return e == nullptr ? real.getpeername(fd, addr, len)
                        : outcome(client::sock_getpeername(session_of_netd(), e->sock, addr, len));
}

PRELOAD_CALL int getsockopt(int fd, int level, int name, void* value, socklen_t* len) __THROW
{
    if (peek(fd) == nullptr) {
        return real.getsockopt(fd, level, name, value, len);
    }
    Held h(fd);
    Entry* e = h.netd();
    if (e == nullptr) {
        return real.getsockopt(fd, level, name, value, len);
    }
    int number;
    if (level == SOL_SOCKET && own_option(*e, name, number) == 0) {
        if (static_cast<std::int32_t>(*len) < 0) {
            return outcome(-EINVAL);
        }
        *len = std::min<socklen_t>(*len, sizeof number);
        std::memcpy(value, &number, *len);
        return 0;
    }
    return outcome(client::sock_getsockopt(session_of_netd(), e->sock, level, name, value, len));
}

namespace {

// The interface that an option about groups names by its address; false when it names none.
bool names_interface(int level, int name, const void* value, socklen_t len, sockaddr_in& out)
{
    if (level != IPPROTO_IP || value == nullptr) {
        return false;
    }
    std::size_t at = 0;
    switch (name) {
    case IP_MULTICAST_IF:
        at = len < sizeof(ip_mreq) ? 0 : offsetof(ip_mreq, imr_interface);
        break;
    case IP_ADD_MEMBERSHIP:
        at = offsetof(ip_mreq, imr_interface);
        break;
    case IP_ADD_SOURCE_MEMBERSHIP:
    case IP_BLOCK_SOURCE:
        at = offsetof(ip_mreq_source, imr_interface);
        break;
    default:
        return false;
    }
    if (len < at + sizeof out.sin_addr) {
        return false;
    }
    out.sin_family = AF_INET;
    std::memcpy(&out.sin_addr, static_cast<const std::byte*>(value) + at, sizeof out.sin_addr);
    return out.sin_addr.s_addr != htonl(INADDR_ANY);
}

// A group by an interface of netd's makes the socket netd's, as a bind to its address does; by another one it decides
// nothing.
void settle_by_group(Held& h, int fd, int level, int name, const void* value, socklen_t len)
{
    sockaddr_in by{};
    client::Session* s = names_interface(level, name, value, len, by) ? session() : nullptr;
    base::Endpoint at{base::IpAddr::v4(ntohl(by.sin_addr.s_addr)), 0};
    if (s != nullptr && decide(s->view.layout(), settings().kernel_rules, at, Use::bind, false).netd) {
        settle(fd, *h.get(), "setsockopt", reinterpret_cast<const sockaddr*>(&by), sizeof by, Use::bind);
    }
}

} // namespace

PRELOAD_CALL int setsockopt(int fd, int level, int name, const void* value, socklen_t len) __THROW
{
    if (peek(fd) == nullptr) {
        return real.setsockopt(fd, level, name, value, len);
    }
    Held h(fd);
    if (h.in(EntryState::undecided) != nullptr) {
        settle_by_group(h, fd, level, name, value, len);
    }
    if (Entry* e = h.netd()) {
        return outcome(client::sock_setsockopt(session_of_netd(), e->sock, level, name, value, len));
    }
    int rc = real.setsockopt(fd, level, name, value, len);
    if (rc == 0 && h.in(EntryState::undecided) != nullptr) {
        record_option(fd, *h.get(), level, name, value, len);
    }
    return rc;
}
