// syscall(2): the calls that programs make by number (libuv sends and receives with sendmmsg so where its libc may lack
// it). What concerns a descriptor of ours goes to the call with a name, everything else to the kernel.
// Any thread. No cancellation point, as syscall(2) is none.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <optional>

#include <fcntl.h>

#include "client/preload/calls.hpp"
#include "client/signal_guard.hpp"

namespace preload {
namespace {

struct Numbered {
    long number;
    long a, b, c, d, e, f;

    bool ours() const { return peek(fd()) != nullptr; }
    int fd() const { return static_cast<int>(a); }
    template <typename T>
    static T* at(long argument)
    {
        return reinterpret_cast<T*>(argument); // NOLINT(performance-no-int-to-ptr): what the kernel's interface is
    }
};

// The kernel's signal sets have 8 octets, libc's 128.
class SignalSet {
public:
    SignalSet(long from, long size) : wrong_(from != 0 && size != sizeof(std::uint64_t)), given_(from != 0 && !wrong_)
    {
        sigemptyset(&set_);
        if (given_) {
            std::memcpy(&set_, Numbered::at<void>(from), sizeof(std::uint64_t));
        }
    }
    bool wrong() const { return wrong_; }
    const sigset_t* get() const { return given_ ? &set_ : nullptr; }

private:
    bool wrong_;
    bool given_;
    sigset_t set_;
};

long wrong_size()
{
    errno = EINVAL;
    return -1;
}

std::optional<long> transfer(const Numbered& n)
{
    auto size = static_cast<std::size_t>(n.c);
    switch (n.number) {
    case SYS_read:
        return ::read(n.fd(), n.at<void>(n.b), size);
    case SYS_write:
        return ::write(n.fd(), n.at<void>(n.b), size);
    case SYS_readv:
        return ::readv(n.fd(), n.at<iovec>(n.b), static_cast<int>(n.c));
    case SYS_writev:
        return ::writev(n.fd(), n.at<iovec>(n.b), static_cast<int>(n.c));
    case SYS_sendto:
        return ::sendto(
            n.fd(), n.at<void>(n.b), size, static_cast<int>(n.d), n.at<sockaddr>(n.e), static_cast<socklen_t>(n.f));
    case SYS_recvfrom:
        return ::recvfrom(
            n.fd(), n.at<void>(n.b), size, static_cast<int>(n.d), n.at<sockaddr>(n.e), n.at<socklen_t>(n.f));
    case SYS_preadv2: // the offset's upper half, which e is, has nothing to say where registers have 64 bits
        return ::preadv2(n.fd(), n.at<iovec>(n.b), static_cast<int>(n.c), n.d, static_cast<int>(n.f));
    case SYS_pwritev2:
        return ::pwritev2(n.fd(), n.at<iovec>(n.b), static_cast<int>(n.c), n.d, static_cast<int>(n.f));
    case SYS_recvmsg:
        return ::recvmsg(n.fd(), n.at<msghdr>(n.b), static_cast<int>(n.c));
    case SYS_recvmmsg:
        return ::recvmmsg(
            n.fd(), n.at<mmsghdr>(n.b), static_cast<unsigned>(n.c), static_cast<int>(n.d), n.at<timespec>(n.e));
    case SYS_sendfile:
        return ::sendfile(n.fd(), static_cast<int>(n.b), n.at<off_t>(n.c), static_cast<std::size_t>(n.d));
    default:
        return std::nullopt;
    }
}

std::optional<long> of_socket(const Numbered& n)
{
    auto* address = n.at<sockaddr>(n.b);
    auto* size = n.at<socklen_t>(n.c);
    switch (n.number) {
    case SYS_connect:
        return ::connect(n.fd(), address, static_cast<socklen_t>(n.c));
    case SYS_bind:
        return ::bind(n.fd(), address, static_cast<socklen_t>(n.c));
    case SYS_listen:
        return ::listen(n.fd(), static_cast<int>(n.b));
    case SYS_accept:
        return ::accept(n.fd(), address, size);
    case SYS_accept4:
        return ::accept4(n.fd(), address, size, static_cast<int>(n.d));
    case SYS_shutdown:
        return ::shutdown(n.fd(), static_cast<int>(n.b));
    case SYS_getsockname:
        return ::getsockname(n.fd(), address, size);
    case SYS_getpeername:
        return ::getpeername(n.fd(), address, size);
    case SYS_setsockopt:
        return ::setsockopt(
            n.fd(), static_cast<int>(n.b), static_cast<int>(n.c), n.at<void>(n.d), static_cast<socklen_t>(n.e));
    case SYS_getsockopt:
        return ::getsockopt(
            n.fd(), static_cast<int>(n.b), static_cast<int>(n.c), n.at<void>(n.d), n.at<socklen_t>(n.e));
    default:
        return std::nullopt;
    }
}

std::optional<long> of_descriptor(const Numbered& n)
{
    switch (n.number) {
    case SYS_dup:
        return ::dup(n.fd());
    case SYS_fcntl:
        return ::fcntl(n.fd(), static_cast<int>(n.b), n.c);
    case SYS_ioctl:
        return ::ioctl(n.fd(), static_cast<unsigned long>(n.b), n.c);
    default:
        return std::nullopt;
    }
}

// Calls that name several descriptors, or make one: the calls with names look themselves whose they are.
std::optional<long> of_several(const Numbered& n)
{
    switch (n.number) {
    case SYS_socket:
        return ::socket(n.fd(), static_cast<int>(n.b), static_cast<int>(n.c));
    case SYS_sendmsg: // sockets of netd may be in the message
        return ::sendmsg(n.fd(), n.at<msghdr>(n.b), static_cast<int>(n.c));
    case SYS_sendmmsg:
        return ::sendmmsg(n.fd(), n.at<mmsghdr>(n.b), static_cast<unsigned>(n.c), static_cast<int>(n.d));
    case SYS_close_range:
        return ::close_range(static_cast<unsigned>(n.a), static_cast<unsigned>(n.b), static_cast<int>(n.c));
    case SYS_close: // the library's own stay; before there are any, an allocator that begins may close something here
        return keeps_own() || n.ours() ? std::optional<long>(::close(n.fd())) : std::nullopt;
#ifdef SYS_dup2
    case SYS_dup2:
        return ::dup2(n.fd(), static_cast<int>(n.b));
#endif
    case SYS_dup3:
        return ::dup3(n.fd(), static_cast<int>(n.b), static_cast<int>(n.c));
#ifdef SYS_epoll_create
    case SYS_epoll_create:
        return ::epoll_create(n.fd());
#endif
    case SYS_epoll_create1:
        return ::epoll_create1(n.fd());
    case SYS_epoll_ctl:
        return ::epoll_ctl(n.fd(), static_cast<int>(n.b), static_cast<int>(n.c), n.at<epoll_event>(n.d));
    case SYS_splice:
        return ::splice(n.fd(), n.at<off64_t>(n.b), static_cast<int>(n.c), n.at<off64_t>(n.d),
            static_cast<std::size_t>(n.e), static_cast<unsigned>(n.f));
    default:
        return std::nullopt;
    }
}

// The kernel's own ppoll and pselect6 write what is left of the time; libc's calls do not, and nobody relies on it.
std::optional<long> waiting(const Numbered& n)
{
    int count = static_cast<int>(n.c);
    switch (n.number) {
#ifdef SYS_poll
    case SYS_poll:
        return ::poll(n.at<pollfd>(n.a), static_cast<unsigned>(n.b), count);
#endif
    case SYS_ppoll: {
        SignalSet mask(n.d, n.e);
        return mask.wrong() ? wrong_size()
                            : ::ppoll(n.at<pollfd>(n.a), static_cast<unsigned>(n.b), n.at<timespec>(n.c), mask.get());
    }
#ifdef SYS_select
    case SYS_select:
        return ::select(n.fd(), n.at<fd_set>(n.b), n.at<fd_set>(n.c), n.at<fd_set>(n.d), n.at<timeval>(n.e));
#endif
    case SYS_pselect6: {
        long packed[2] = {0, 0}; // where the set is, and its size
        if (n.f != 0) {
            std::memcpy(packed, n.at<void>(n.f), sizeof packed);
        }
        SignalSet mask(packed[0], packed[1]);
        return mask.wrong() ? wrong_size()
                            : ::pselect(n.fd(), n.at<fd_set>(n.b), n.at<fd_set>(n.c), n.at<fd_set>(n.d),
                                  n.at<timespec>(n.e), mask.get());
    }
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
        return ::epoll_wait(n.fd(), n.at<epoll_event>(n.b), count, static_cast<int>(n.d));
#endif
    case SYS_epoll_pwait: {
        SignalSet mask(n.e, n.f);
        return mask.wrong() ? wrong_size()
                            : ::epoll_pwait(n.fd(), n.at<epoll_event>(n.b), count, static_cast<int>(n.d), mask.get());
    }
    case SYS_epoll_pwait2: {
        SignalSet mask(n.e, n.f);
        return mask.wrong() ? wrong_size()
                            : ::epoll_pwait2(n.fd(), n.at<epoll_event>(n.b), count, n.at<timespec>(n.d), mask.get());
    }
    default:
        return std::nullopt;
    }
}

std::optional<long> by_name(const Numbered& n)
{
    client::CancelGuard no_cancel;
    if (n.ours()) {
        for (auto* family : {transfer, of_socket, of_descriptor}) {
            if (std::optional<long> result = family(n)) {
                return result;
            }
        }
    }
    std::optional<long> result = of_several(n);
    return result ? result : waiting(n);
}

} // namespace

// Declared by what it is in registers: how many arguments there are, only the kernel knows.
extern "C" __attribute__((visibility("default"))) long passed_syscall(
    long number, long a, long b, long c, long d, long e, long f) noexcept __asm__("syscall");
long passed_syscall(long number, long a, long b, long c, long d, long e, long f) noexcept
{
    if (number == SYS_io_uring_setup) { // its requests would meet placeholders; libraries fall back where it is not
        errno = ENOSYS;
        return -1;
    }
    std::optional<long> result = by_name({number, a, b, c, d, e, f});
    return result ? *result : real.syscall(number, a, b, c, d, e, f);
}

} // namespace preload
