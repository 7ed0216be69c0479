#include "client/admission_packets.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "client/real_calls.hpp"

namespace client {

namespace {

constexpr int high_numbers = 1000; // out of select's and most programs' way
constexpr std::size_t reply_fds_max = sizeof FdList::fds / sizeof(int);

// `fd` under a high number if the limit has room there, close-on-exec in any case.
int move_high(int fd)
{
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t room = limit.rlim_cur - std::min<rlim_t>(limit.rlim_cur, 256);
    for (rlim_t from : {rlim_t{high_numbers}, std::min<rlim_t>(room, high_numbers), rlim_t{100}}) {
        int moved = real_calls.fcntl(fd, F_DUPFD_CLOEXEC, static_cast<int>(from));
        if (moved >= 0) {
            real_calls.close(fd);
            return moved;
        }
    }
    return fd;
}

} // namespace

void FdList::close_all()
{
    while (count != 0) {
        real_calls.close(fds[--count]);
    }
}

int connect_admission(const char* socket_path)
{
    sockaddr_un addr{};
    addr.sun_family = AF_UNIX;
    if (std::strlen(socket_path) >= sizeof addr.sun_path) {
        return -ENAMETOOLONG;
    }
    std::strcpy(addr.sun_path, socket_path);
    int fd = real_calls.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (real_calls.connect(fd, reinterpret_cast<const sockaddr*>(&addr), sizeof addr) != 0) {
        int error = errno;
        real_calls.close(fd);
        return -error;
    }
    return move_high(fd);
}

namespace {

int send_request(int fd, void* request, std::size_t size)
{
    iovec piece{request, size};
    msghdr m{};
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    ssize_t n;
    do {
        n = real_calls.sendmsg(fd, &m, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n == static_cast<ssize_t>(size) ? 0 : -EPIPE;
}

sockbuf::AdmissionRequest make_request(sockbuf::Hello hello, std::int32_t value)
{
    return {sockbuf::abi_magic, sockbuf::abi_version, static_cast<std::uint32_t>(hello), value};
}

} // namespace

int send_hello(int fd, sockbuf::Hello hello, std::int32_t value)
{
    sockbuf::AdmissionRequest request = make_request(hello, value);
    return send_request(fd, &request, sizeof request);
}

int send_share(int fd, const char* name)
{
    sockbuf::ShareRequest request{make_request(sockbuf::Hello::share, 0), {}};
    std::strncpy(request.name, name, sockbuf::share_name_max);
    return send_request(fd, &request, sizeof request);
}

int receive_reply(int fd, void* reply, std::size_t size, FdList& fds)
{
    alignas(cmsghdr) unsigned char control[CMSG_SPACE(sizeof(int) * reply_fds_max)];
    iovec piece{reply, size};
    msghdr m{};
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    ssize_t n;
    do {
        n = real_calls.recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        return -EPIPE;
    }
    for (cmsghdr* c = CMSG_FIRSTHDR(&m); c != nullptr; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count && fds.count < reply_fds_max; ++i) {
            int received;
            std::memcpy(&received, CMSG_DATA(c) + i * sizeof(int), sizeof received);
            fds.fds[fds.count++] = move_high(received);
        }
    }
    return n == static_cast<ssize_t>(size) && (m.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) == 0 ? 0 : -EPROTO;
}

} // namespace client
