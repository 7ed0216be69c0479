// Interposed: moving bytes. On a descriptor of the kernel each is one load and one branch more than libc's; no
// allocation and no lock on either way (but for a receive on a socket that nobody has decided yet).
#include <algorithm>
#include <climits>
#include <csignal>
#include <cstring>
#include <vector>

#include "client/preload/calls.hpp"
#include "client/preload/deadline.hpp"
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

constexpr std::size_t pieces_max = 1024; // UIO_MAXIOV

bool is_length(std::size_t bytes)
{
    return bytes <= SSIZE_MAX;
}

// 0 or the errno of a list of pieces.
int wrong_with(const msghdr& m)
{
    if (m.msg_iovlen > pieces_max) {
        return -EMSGSIZE;
    }
    std::size_t sum = 0;
    for (const iovec* piece = m.msg_iov; piece != m.msg_iov + m.msg_iovlen; ++piece) {
        if (!is_length(piece->iov_len) || !is_length(sum += piece->iov_len)) {
            return -EINVAL;
        }
    }
    return 0;
}

ssize_t netd_recvmsg(const Entry& e, msghdr* m, int flags)
{
    if (int error = wrong_with(*m)) {
        return outcome<ssize_t>(error);
    }
    return outcome(client::sock_recvmsg(session_of_netd(), e.sock, m, flags));
}

ssize_t netd_send(const Entry& e, const void* data, std::size_t size, int flags, const sockaddr* to, socklen_t len)
{
    return sent(e, client::sock_send(session_of_netd(), e.sock, data, size, flags, to, len), flags);
}

ssize_t netd_sendmsg(const Entry& e, const msghdr* m, int flags)
{
    if (int error = wrong_with(*m)) {
        return outcome<ssize_t>(error);
    }
    return sent(e, client::sock_sendmsg(session_of_netd(), e.sock, m, flags), flags);
}

// A receive of netd, or of the kernel. One that sleeps on the socket which stands in for an undecided one is woken when
// another thread's call makes it netd's (settle.cpp), and goes on there; `again` takes back what the kernel wrote.
template <typename Kernel, typename Again, typename Netd>
auto receive(const Held& h, Kernel kernel, Again again, Netd netd)
{
    if (const Entry* e = h.netd()) {
        return netd(*e);
    }
    const Entry* undecided = h.in(EntryState::undecided);
    auto n = kernel();
    if (n < 0 || undecided == nullptr || !became_netd(*undecided)) {
        return n;
    }
    again();
    return netd(*undecided);
}

bool are_empty(const iovec* pieces, int count)
{
    return std::all_of(pieces, pieces + count, [](const iovec& piece) { return piece.iov_len == 0; });
}

msghdr of_pieces(const iovec* pieces, int count)
{
    msghdr m{};
    m.msg_iov = const_cast<iovec*>(pieces);
    m.msg_iovlen = static_cast<std::size_t>(count);
    return m;
}

bool is_count(int count)
{
    return count >= 0 && static_cast<std::size_t>(count) <= pieces_max;
}

ssize_t netd_readv(const Entry& e, const iovec* pieces, int count, int flags)
{
    if (!is_count(count)) {
        return outcome<ssize_t>(-EINVAL);
    }
    if (are_empty(pieces, count)) {
        return 0;
    }
    msghdr m = of_pieces(pieces, count);
    return netd_recvmsg(e, &m, flags);
}

ssize_t netd_writev(const Entry& e, const iovec* pieces, int count, int flags)
{
    if (!is_count(count)) {
        return outcome<ssize_t>(-EINVAL);
    }
    if (are_empty(pieces, count)) {
        return 0; // unlike write(2), which sends an empty datagram
    }
    msghdr m = of_pieces(pieces, count);
    return netd_sendmsg(e, &m, flags);
}

// What preadv2(2) and pwritev2(2) at no offset say by their flags; else the errno.
int transfer_flags(off_t offset, int flags, int& out)
{
    constexpr int known = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND;
    out = (flags & RWF_NOWAIT) != 0 ? MSG_DONTWAIT : 0;
    return offset != -1 ? -ESPIPE : (flags & ~known) != 0 ? -EOPNOTSUPP : 0;
}

} // namespace

PRELOAD_CALL ssize_t read(int fd, void* data, std::size_t size)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.read(fd, data, size);
    }
    Call h(fd);
    if (h.netd() != nullptr && size == 0) {
        return 0; // not recv(2), which takes a datagram
    }
    if (!is_length(size)) {
        return outcome<ssize_t>(-EFAULT); // no buffer is as long
    }
    auto kernel = [&] { return real.read(fd, data, size); };
    return receive(
        h, kernel, [] {}, [&](const Entry& e) { return netd_recv(e, data, size, 0, nullptr, nullptr); });
}

PRELOAD_CALL ssize_t write(int fd, const void* data, std::size_t size)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.write(fd, data, size);
    }
    Call h(fd);
    Entry* e = h.netd();
    if (e == nullptr) {
        return real.write(fd, data, size);
    }
    return is_length(size) ? netd_send(*e, data, size, 0, nullptr, 0) : outcome<ssize_t>(-EFAULT);
}

PRELOAD_CALL ssize_t readv(int fd, const iovec* pieces, int count)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.readv(fd, pieces, count);
    }
    Call h(fd);
    auto kernel = [&] { return real.readv(fd, pieces, count); };
    return receive(
        h, kernel, [] {}, [&](const Entry& e) { return netd_readv(e, pieces, count, 0); });
}

PRELOAD_CALL ssize_t writev(int fd, const iovec* pieces, int count)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.writev(fd, pieces, count);
    }
    Call h(fd);
    Entry* e = h.netd();
    return e == nullptr ? real.writev(fd, pieces, count) : netd_writev(*e, pieces, count, 0);
}

PRELOAD_CALL ssize_t preadv2(int fd, const iovec* pieces, int count, off_t offset, int flags)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.preadv2(fd, pieces, count, offset, flags);
    }
    Call h(fd);
    auto kernel = [&] { return real.preadv2(fd, pieces, count, offset, flags); };
    return receive(
        h, kernel, [] {},
        [&](const Entry& e) {
            int how = 0;
            int error = transfer_flags(offset, flags, how);
            return error != 0 ? outcome<ssize_t>(error) : netd_readv(e, pieces, count, how);
        });
}

PRELOAD_CALL ssize_t pwritev2(int fd, const iovec* pieces, int count, off_t offset, int flags)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.pwritev2(fd, pieces, count, offset, flags);
    }
    Call h(fd);
    Entry* e = h.netd();
    if (e == nullptr) {
        return real.pwritev2(fd, pieces, count, offset, flags);
    }
    int how = 0;
    int error = transfer_flags(offset, flags, how);
    return error != 0 ? outcome<ssize_t>(error) : netd_writev(*e, pieces, count, how);
}

PRELOAD_CALL ssize_t recvfrom(int fd, void* data, std::size_t size, int flags, sockaddr* from, socklen_t* len)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.recvfrom(fd, data, size, flags, from, len);
    }
    Call h(fd);
    socklen_t room = len != nullptr ? *len : 0;
    auto kernel = [&] { return real.recvfrom(fd, data, size, flags, from, len); };
    auto again = [&] {
        if (len != nullptr) {
            *len = room;
        }
    };
    return receive(h, kernel, again, [&](const Entry& e) { return netd_recv(e, data, size, flags, from, len); });
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
    Call h(fd);
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
    Call h(fd);
    msghdr asked{};
    auto kernel = [&] {
        asked = *m;
        return real.recvmsg(fd, m, flags);
    };
    return receive(
        h, kernel, [&] { *m = asked; }, [&](const Entry& e) { return netd_recvmsg(e, m, flags); });
}

PRELOAD_CALL ssize_t sendmsg(int fd, const msghdr* m, int flags)
{
    if (peek(fd) == nullptr) [[likely]] {
        return kernel_sendmsg(fd, m, flags);
    }
    Call h(fd);
    bool refused = false;
    Entry* e = sender(h, fd, static_cast<const sockaddr*>(m->msg_name), m->msg_namelen, refused);
    if (refused) {
        return -1;
    }
    return e == nullptr ? real.sendmsg(fd, m, flags) : netd_sendmsg(*e, m, flags);
}

PRELOAD_CALL int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout)
{
    if (peek(fd) == nullptr) [[likely]] {
        return real.recvmmsg(fd, messages, count, flags, timeout);
    }
    Call h(fd);
    std::vector<mmsghdr> asked;
    auto kernel = [&] {
        asked.assign(messages, messages + std::min(count, 1024U)); // more the kernel does not take
        return real.recvmmsg(fd, messages, count, flags, timeout);
    };
    auto again = [&] { std::copy(asked.begin(), asked.end(), messages); };
    return receive(h, kernel, again, [&](const Entry& e) {
        if (!is_time(timeout)) {
            return outcome(-EINVAL);
        }
        return outcome(client::sock_recvmmsg(session_of_netd(), e.sock, messages, count, flags, timeout));
    });
}

PRELOAD_CALL int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags)
{
    bool ours = peek(fd) != nullptr;
    if (!ours && session_if_attached() == nullptr) [[likely]] {
        return real.sendmmsg(fd, messages, count, flags);
    }
    count = std::min(count, 1024U); // as the kernel
    auto carries = [](const mmsghdr& m) { return carries_netd_socket(&m.msg_hdr); };
    if (!ours && (messages == nullptr || std::none_of(messages, messages + count, carries))) {
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

// Older names that some libraries bind to, and those of programs with large files.
PRELOAD_CALL ssize_t preadv64v2(int fd, const iovec* pieces, int count, off64_t offset, int flags)
{
    return preadv2(fd, pieces, count, offset, flags);
}
PRELOAD_CALL ssize_t pwritev64v2(int fd, const iovec* pieces, int count, off64_t offset, int flags)
{
    return pwritev2(fd, pieces, count, offset, flags);
}
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
