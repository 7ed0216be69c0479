// Bytes in and out. What is no socket of ours (a pipe that a script made) is the kernel's. See calls.hpp.
#include <fcntl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "tests/packetdrill/calls.hpp"
#include "tests/packetdrill/kernel_call.hpp"

namespace packetdrill {

namespace {

constexpr std::size_t copy_max = 1 << 16; // what a pipe holds

} // namespace

ssize_t Calls::recvmsg(int fd, msghdr* m, int flags)
{
    InStack here(world_.pace());
    auto k = find(fd);
    return k ? client::sock_recvmsg(world_.session(), *k, m, flags) : no_socket(fd);
}

ssize_t Calls::sendmsg(int fd, const msghdr* m, int flags)
{
    InStack here(world_.pace());
    auto k = find(fd);
    return k ? client::sock_sendmsg(world_.session(), *k, m, flags) : no_socket(fd);
}

ssize_t Calls::recvfrom(int fd, void* data, std::size_t size, int flags, sockaddr* from, socklen_t* from_size)
{
    InStack here(world_.pace());
    auto k = find(fd);
    return k ? client::sock_recv(world_.session(), *k, data, size, flags, from, from_size) : no_socket(fd);
}

ssize_t Calls::sendto(int fd, const void* data, std::size_t size, int flags, const sockaddr* to, socklen_t to_size)
{
    InStack here(world_.pace());
    auto k = find(fd);
    return k ? client::sock_send(world_.session(), *k, data, size, flags, to, to_size) : no_socket(fd);
}

ssize_t Calls::readv(int fd, const iovec* parts, int count)
{
    if (!is_ours(fd)) {
        return kernel_call(SYS_readv, fd, parts, count);
    }
    msghdr m{};
    m.msg_iov = const_cast<iovec*>(parts);
    m.msg_iovlen = static_cast<std::size_t>(count);
    return recvmsg(fd, &m, 0);
}

ssize_t Calls::writev(int fd, const iovec* parts, int count)
{
    if (!is_ours(fd)) {
        return kernel_call(SYS_writev, fd, parts, count);
    }
    msghdr m{};
    m.msg_iov = const_cast<iovec*>(parts);
    m.msg_iovlen = static_cast<std::size_t>(count);
    return sendmsg(fd, &m, 0);
}

int Calls::pipe(int fds[2])
{
    return static_cast<int>(kernel_call(SYS_pipe2, fds, 0));
}

ssize_t Calls::splice(int from, loff_t* from_at, int to, loff_t* to_at, std::size_t count, unsigned flags)
{
    bool wait = (flags & SPLICE_F_NONBLOCK) == 0;
    bool receives = is_ours(from);
    if (!receives && !is_ours(to)) {
        return kernel_call(SYS_splice, from, from_at, to, to_at, count, flags);
    }
    std::vector<char> bytes(std::min(count, copy_max));
    if (receives) {
        ssize_t n = recvfrom(from, bytes.data(), bytes.size(), wait ? 0 : MSG_DONTWAIT, nullptr, nullptr);
        return n <= 0 ? n : kernel_call(SYS_write, to, bytes.data(), n);
    }
    ssize_t n = kernel_call(SYS_read, from, bytes.data(), bytes.size());
    return n <= 0 ? n : sendto(to, bytes.data(), static_cast<std::size_t>(n), wait ? 0 : MSG_DONTWAIT, nullptr, 0);
}

ssize_t Calls::sendfile(int to, int from, off_t* at, std::size_t count)
{
    std::vector<char> bytes(std::min(count, copy_max));
    ssize_t n = at != nullptr ? kernel_call(SYS_pread64, from, bytes.data(), bytes.size(), *at)
                              : kernel_call(SYS_read, from, bytes.data(), bytes.size());
    if (n <= 0) {
        return n;
    }
    ssize_t sent = sendto(to, bytes.data(), static_cast<std::size_t>(n), 0, nullptr, 0);
    ssize_t taken = std::max<ssize_t>(sent, 0);
    if (at != nullptr) {
        *at += taken;
    } else if (taken < n) {
        kernel_call(SYS_lseek, from, taken - n, SEEK_CUR);
    }
    return sent;
}

} // namespace packetdrill
