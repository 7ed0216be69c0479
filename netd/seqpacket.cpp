#include "netd/seqpacket.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include <fmt/format.h>

#include "base/check.hpp"
#include "netd/exit_codes.hpp"

namespace netd {

namespace {

constexpr int backlog = 128;
constexpr std::size_t fds_max = 253; // SCM_MAX_FD

bool make_address(const std::string& path, sockaddr_un& addr)
{
    addr = {};
    addr.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof addr.sun_path) {
        return false;
    }
    std::memcpy(addr.sun_path, path.data(), path.size());
    return true;
}

int connect_errno(int fd, const sockaddr_un& addr)
{
    int rc;
    do {
        rc = connect(fd, reinterpret_cast<const sockaddr*>(&addr), sizeof addr);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : errno;
}

// Two netds that start at once must not both find the file stale: they take turns by a lock on its directory.
class DirectoryLock {
public:
    explicit DirectoryLock(const std::string& path)
    {
        auto slash = path.rfind('/');
        std::string directory = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
        fd_.reset(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        error_ = fd_ ? 0 : errno;
        for (int tries = 0; fd_ && flock(fd_.get(), LOCK_EX | LOCK_NB) != 0; ++tries) {
            if (errno != EWOULDBLOCK || tries == 100) {
                error_ = errno;
                return;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
    }
    int error() const { return error_; }

private:
    UniqueFd fd_; // the lock goes with it
    int error_ = 0;
};

int bind_with_mode(int fd, const sockaddr_un& addr, unsigned mode)
{
    mode_t before = umask(~mode & 0777); // no moment with wider permissions
    int rc = bind(fd, reinterpret_cast<const sockaddr*>(&addr), sizeof addr);
    int error = rc == 0 ? 0 : errno;
    umask(before);
    return error;
}

// Removes a socket file that nobody listens on. 0, EADDRINUSE (somebody does), ENOTSOCK, or what unlink says.
int remove_stale(const std::string& path, const sockaddr_un& addr)
{
    struct stat st {};
    if (lstat(path.c_str(), &st) != 0) {
        return errno == ENOENT ? 0 : errno;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return ENOTSOCK;
    }
    UniqueFd probe(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    int error = probe ? connect_errno(probe.get(), addr) : errno;
    if (error == 0 || error == EAGAIN) { // EAGAIN: alive, its backlog is full
        return EADDRINUSE;
    }
    if (error == EPROTOTYPE) {
        return ENOTSOCK; // a socket of another type: somebody else's
    }
    if (error != ECONNREFUSED) {
        return error;
    }
    return unlink(path.c_str()) == 0 ? 0 : errno;
}

int explain(const std::string& path, int error, std::string& text)
{
    switch (error) {
    case EADDRINUSE:
        text = fmt::format("netd already running on {}", path);
        return exit_unavailable;
    case ENOTSOCK:
        text = fmt::format("{} is there and is not netd's socket; remove it or choose another --socket", path);
        return exit_os;
    case EACCES:
    case EPERM:
    case EROFS:
        text =
            fmt::format("cannot make {}: {}; choose a --socket where this user may write", path, std::strerror(error));
        return exit_permission;
    default:
        text = fmt::format("cannot listen on {}: {}", path, std::strerror(error));
        return exit_os;
    }
}

} // namespace

std::string check_socket_path(const std::string& path)
{
    sockaddr_un addr;
    return make_address(path, addr)
               ? ""
               : fmt::format("socket path \"{}\" is empty or longer than {} bytes", path, sizeof addr.sun_path - 1);
}

UniqueFd listen_on(const std::string& path, unsigned mode, std::string& error, int& exit_code)
{
    sockaddr_un addr;
    if (!make_address(path, addr)) {
        error = check_socket_path(path);
        exit_code = exit_usage;
        return {};
    }
    DirectoryLock turn(path);
    UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    int failed = turn.error() != 0 ? turn.error() : fd ? 0 : errno;
    if (failed == 0) {
        failed = remove_stale(path, addr);
    }
    if (failed == 0) {
        failed = bind_with_mode(fd.get(), addr, mode);
    }
    if (failed == 0 && listen(fd.get(), backlog) != 0) {
        failed = errno;
    }
    if (failed != 0) {
        exit_code = explain(path, failed, error);
        return {};
    }
    return fd;
}

int connect_to(const std::string& path, UniqueFd& out)
{
    sockaddr_un addr;
    if (!make_address(path, addr)) {
        return ENAMETOOLONG;
    }
    out.reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    return out ? connect_errno(out.get(), addr) : errno;
}

int send_packet(int fd, std::string_view bytes, std::span<const int> fds)
{
    INVARIANT(fds.size() <= fds_max);
    alignas(cmsghdr) unsigned char control[CMSG_SPACE(sizeof(int) * fds_max)] = {};
    iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
    msghdr m{};
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    if (!fds.empty()) {
        m.msg_control = control;
        m.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
    }
    ssize_t n;
    do {
        n = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? errno : 0;
}

long receive_packet(int fd, void* data, std::size_t size, int flags, bool& whole)
{
    iovec piece{data, size};
    msghdr m{};
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    ssize_t n;
    do {
        n = recvmsg(fd, &m, flags | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    whole = (m.msg_flags & MSG_TRUNC) == 0;
    return n < 0 ? -long{errno} : n;
}

} // namespace netd
