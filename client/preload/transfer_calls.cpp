// Interposed: moving bytes. On a descriptor of the kernel each is one load and one branch more than libc's; no
// allocation and no lock on either way.
#include <algorithm>
#include <csignal>
#include <cstring>

#include "client/preload/calls.hpp"
#include "client/preload/preload_report.hpp"

using namespace preload;

namespace {

// send(2): EPIPE comes with SIGPIPE, which is the thread's, unless asked not to.
ssize_t sent(const Entry& e, ssize_t result, int flags)
{
    if (result == -EPIPE && (flags & MSG_NOSIGNAL) == 0 && (e.type & 0xf) == SOCK_STREAM) {
        raise(SIGPIPE);
    }
    return outcome(result);
}

// netd's entry for a send to `to` (null: to the peer); null with `refused` false: the kernel's.
Entry* sender(const Held& h, int fd, const sockaddr* to, socklen_t len, bool& refused)
{
    if (h.in(EntryState::undecided) != nullptr && to != nullptr) {
        refused = settle(fd, *h.get(), "send", to, len, Use::destination) == Whose::nobody;
    }
    return refused ? nullptr : h.netd();
}

bool carries_netd_socket(const msghdr* m)
{
    if (m == nullptr || m->msg_controllen == 0) {
        return false;
    }
    auto* mutable_m = const_cast<msghdr*>(m); // CMSG_NXTHDR only reads
    for (cmsghdr* c = CMSG_FIRSTHDR(mutable_m); c != nullptr; c = CMSG_NXTHDR(mutable_m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
            int passed;
            std::memcpy(&passed, reinterpret_cast<char*>(c) + at, sizeof passed);
            if (Held(passed).netd() != nullptr) {
                return true;
            }
        }
    }
    return false;
}

ssize_t kernel_sendmsg(int fd, const msghdr* m, int flags)
{
    if (carries_netd_socket(m)) {
        report("fd %d: sockets of netd cannot be passed to other processes (SCM_RIGHTS) yet", fd);
        errno = EOPNOTSUPP;
        return -1;
    }
    return real.sendmsg(fd, m, flags);
}

ssize_t netd_recv(const Entry& e, void* data, std::size_t size, int flags, sockaddr* from, socklen_t* len)
{
    return outcome(client::sock_recv(session_of_netd(), e.sock, data, size, flags, from, len));
}

ssize_t netd_recvmsg(const Entry& e, msghdr* m, int flags)
{
    return outcome(client::sock_recvmsg(session_of_netd(), e.sock, m, flags));
}

ssize_t netd_send(const Entry& e, const void* data, std::size_t size, int flags, const sockaddr* to, socklen_t len)
{
    return sent(e, client::sock_send(session_of_netd(), e.sock, data, size, flags, to, len), flags);
}

ssize_t netd_sendmsg(const Entry& e, const msghdr* m, int flags)
{
    return sent(e, client::sock_sendmsg(session_of_netd(), e.sock, m, flags), flags);
}

msghdr of_pieces(const iovec* pieces, int count)
{
    msghdr m{};
    m.msg_iov = const_cast<iovec*>(pieces);
    m.msg_iovlen = static_cast<std::size_t>(count);
    return m;
}

} // namespace

PRELOAD_CALL ssize_t read(int fd, void* data, std::size_t size)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.read(fd, data, size);
    }
    Held h(fd);
    Entry* e = h.netd();
    if (e != nullptr && size == 0) {
        return 0; // not recv(2), which takes a datagram
    }
    return e == nullptr ? real.read(fd, data, size) : netd_recv(*e, data, size, 0, nullptr, nullptr);
}

PRELOAD_CALL ssize_t write(int fd, const void* data, std::size_t size)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.write(fd, data, size);
    }
    Held h(fd);
    Entry* e = h.netd();
    return e == nullptr ? real.write(fd, data, size) : netd_send(*e, data, size, 0, nullptr, 0);
}

PRELOAD_CALL ssize_t readv(int fd, const iovec* pieces, int count)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.readv(fd, pieces, count);
    }
    Held h(fd);
    Entry* e = h.netd();
    if (e == nullptr || count < 0) {
        return real.readv(fd, pieces, count);
    }
    if (std::all_of(pieces, pieces + count, [](const iovec& piece) { return piece.iov_len == 0; })) {
        return 0;
    }
    msghdr m = of_pieces(pieces, count);
    return netd_recvmsg(*e, &m, 0);
}

PRELOAD_CALL ssize_t writev(int fd, const iovec* pieces, int count)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.writev(fd, pieces, count);
    }
    Held h(fd);
    Entry* e = h.netd();
    if (e == nullptr || count < 0) {
        return real.writev(fd, pieces, count);
    }
    msghdr m = of_pieces(pieces, count);
    return netd_sendmsg(*e, &m, 0);
}

PRELOAD_CALL ssize_t recvfrom(int fd, void* data, std::size_t size, int flags, sockaddr* from, socklen_t* len)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.recvfrom(fd, data, size, flags, from, len);
    }
    Held h(fd);
    Entry* e = h.netd();
    return e == nullptr ? real.recvfrom(fd, data, size, flags, from, len) : netd_recv(*e, data, size, flags, from, len);
}

PRELOAD_CALL ssize_t recv(int fd, void* data, std::size_t size, int flags)
{
    return peek(fd) == nullptr ? real.recv(fd, data, size, flags) : recvfrom(fd, data, size, flags, nullptr, nullptr);
}

PRELOAD_CALL ssize_t sendto(int fd, const void* data, std::size_t size, int flags, const sockaddr* to, socklen_t len)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.sendto(fd, data, size, flags, to, len);
    }
    Held h(fd);
    bool refused = false;
    Entry* e = sender(h, fd, to, len, refused);
    if (refused) {
        return -1;
    }
    return e == nullptr ? real.sendto(fd, data, size, flags, to, len) : netd_send(*e, data, size, flags, to, len);
}

PRELOAD_CALL ssize_t send(int fd, const void* data, std::size_t size, int flags)
{
    return peek(fd) == nullptr ? real.send(fd, data, size, flags) : sendto(fd, data, size, flags, nullptr, 0);
}

PRELOAD_CALL ssize_t recvmsg(int fd, msghdr* m, int flags)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.recvmsg(fd, m, flags);
    }
    Held h(fd);
    Entry* e = h.netd();
    return e == nullptr ? real.recvmsg(fd, m, flags) : netd_recvmsg(*e, m, flags);
}

PRELOAD_CALL ssize_t sendmsg(int fd, const msghdr* m, int flags)
{
    if (peek(fd) == nullptr) [[likely]] {
        return kernel_sendmsg(fd, m, flags);
    }
    Held h(fd);
    bool refused = false;
    Entry* e = sender(h, fd, static_cast<const sockaddr*>(m->msg_name), m->msg_namelen, refused);
    if (refused) {
        return -1;
    }
    return e == nullptr ? real.sendmsg(fd, m, flags) : netd_sendmsg(*e, m, flags);
}

// recvmmsg(2): its timeout is looked at after each message only, as in the kernel.
PRELOAD_CALL int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.recvmmsg(fd, messages, count, flags, timeout);
    }
    Held h(fd);
    Entry* e = h.netd();
    if (e == nullptr) {
        return real.recvmmsg(fd, messages, count, flags, timeout);
    }
    client::Session& s = session_of_netd();
    base::Instant end = timeout == nullptr
                            ? base::never
                            : s.host->now() + base::Micros{timeout->tv_sec * 1'000'000 + timeout->tv_nsec / 1000};
    unsigned done = 0;
    while (done < count) {
        int each = flags & ~MSG_WAITFORONE;
        if (done > 0 && (flags & MSG_WAITFORONE) != 0) {
            each |= MSG_DONTWAIT;
        }
        ssize_t n = client::sock_recvmsg(s, e->sock, &messages[done].msg_hdr, each);
        if (n < 0) {
            return done > 0 ? static_cast<int>(done) : static_cast<int>(outcome(n));
        }
        messages[done++].msg_len = static_cast<unsigned>(n);
        if (end != base::never && s.host->now() >= end) {
            break;
        }
    }
    return static_cast<int>(done);
}

PRELOAD_CALL int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.sendmmsg(fd, messages, count, flags);
    }
    unsigned done = 0;
    while (done < count) {
        ssize_t n = sendmsg(fd, &messages[done].msg_hdr, flags);
        if (n < 0) {
            return done > 0 ? static_cast<int>(done) : -1;
        }
        messages[done++].msg_len = static_cast<unsigned>(n);
    }
    return static_cast<int>(done);
}

// ---- What programs built with _FORTIFY_SOURCE call; libc's own checks, then ours.

extern "C" void __chk_fail() __attribute__((noreturn));

PRELOAD_CALL ssize_t __read_chk(int fd, void* data, std::size_t size, std::size_t room)
{
    return size > room ? (__chk_fail(), -1) : read(fd, data, size);
}

PRELOAD_CALL ssize_t __recv_chk(int fd, void* data, std::size_t size, std::size_t room, int flags)
{
    return size > room ? (__chk_fail(), -1) : recv(fd, data, size, flags);
}

PRELOAD_CALL ssize_t __recvfrom_chk(
    int fd, void* data, std::size_t size, std::size_t room, int flags, sockaddr* from, socklen_t* len)
{
    return size > room ? (__chk_fail(), -1) : recvfrom(fd, data, size, flags, from, len);
}

// Older names that some libraries bind to.
PRELOAD_CALL ssize_t __read(int fd, void* data, std::size_t size)
{
    return read(fd, data, size);
}
PRELOAD_CALL ssize_t __write(int fd, const void* data, std::size_t size)
{
    return write(fd, data, size);
}
PRELOAD_CALL ssize_t __send(int fd, const void* data, std::size_t size, int flags)
{
    return send(fd, data, size, flags);
}
