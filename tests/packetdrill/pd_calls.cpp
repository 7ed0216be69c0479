// Descriptors, names, options and ends. See calls.hpp.
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tests/packetdrill/calls.hpp"
#include "tests/packetdrill/kernel_call.hpp"

namespace packetdrill {

Calls::~Calls()
{
    InStack here(world_.pace());
    for (auto& [fd, set] : sets_) {
        set->events.close();
    }
}

std::optional<client::Sock> Calls::find(int fd)
{
    std::lock_guard lock(mutex_);
    auto at = sockets_.find(fd);
    return at == sockets_.end() ? std::nullopt : std::optional(at->second);
}

bool Calls::is_ours(int fd)
{
    return find(fd).has_value();
}

bool Calls::owns(int fd)
{
    std::lock_guard lock(mutex_);
    return sockets_.contains(fd) || sets_.contains(fd);
}

int Calls::no_socket(int fd)
{
    return kernel_call(SYS_fcntl, fd, F_GETFD) < 0 ? -EBADF : -ENOTSOCK;
}

// TCP even for a datagram socket: a script may ask the bare descriptor for TCP_INFO.
int Calls::hand_out(client::Sock k)
{
    int fd = static_cast<int>(kernel_call(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (fd < 0) {
        client::sock_release(world_.session(), k);
        return fd;
    }
    std::lock_guard lock(mutex_);
    sockets_[fd] = k;
    return fd;
}

// What sysctl gives every socket and a socket option can give to one.
void Calls::configure(client::Sock k, int type)
{
    if ((type & 0xf) != SOCK_STREAM) {
        return;
    }
    client::Session& s = world_.session();
    const Settings& settings = world_.settings();
    if (auto name = settings.text("net.ipv4.tcp_congestion_control")) {
        client::sock_setsockopt(s, k, IPPROTO_TCP, TCP_CONGESTION, name->data(), static_cast<socklen_t>(name->size()));
    }
    constexpr std::pair<const char*, int> numbers[] = {
        {"net.ipv4.tcp_syn_retries", TCP_SYNCNT},
        {"net.ipv4.tcp_keepalive_time", TCP_KEEPIDLE},
        {"net.ipv4.tcp_keepalive_intvl", TCP_KEEPINTVL},
        {"net.ipv4.tcp_keepalive_probes", TCP_KEEPCNT},
        {"net.ipv4.tcp_notsent_lowat", TCP_NOTSENT_LOWAT},
    };
    for (auto [key, option] : numbers) {
        if (auto value = settings.number(key)) {
            int v = static_cast<int>(*value);
            client::sock_setsockopt(s, k, IPPROTO_TCP, option, &v, sizeof v);
        }
    }
}

int Calls::socket(int domain, int type, int protocol)
{
    InStack here(world_.pace());
    client::Sock k;
    if (int rc = client::sock_socket(world_.session(), domain, type, protocol, k); rc < 0) {
        return rc;
    }
    configure(k, type);
    return hand_out(k);
}

int Calls::bind(int fd, const sockaddr* addr, socklen_t size)
{
    InStack here(world_.pace());
    auto k = find(fd);
    return k ? client::sock_bind(world_.session(), *k, addr, size) : no_socket(fd);
}

int Calls::listen(int fd, int backlog)
{
    InStack here(world_.pace());
    auto k = find(fd);
    return k ? client::sock_listen(world_.session(), *k, backlog) : no_socket(fd);
}

int Calls::accept(int fd, sockaddr* addr, socklen_t* size)
{
    InStack here(world_.pace());
    auto k = find(fd);
    if (!k) {
        return no_socket(fd);
    }
    client::Sock accepted;
    int rc = client::sock_accept(world_.session(), *k, addr, size, 0, accepted);
    return rc < 0 ? rc : hand_out(accepted);
}

int Calls::connect(int fd, const sockaddr* addr, socklen_t size)
{
    InStack here(world_.pace());
    auto k = find(fd);
    return k ? client::sock_connect(world_.session(), *k, addr, size) : no_socket(fd);
}

int Calls::shutdown(int fd, int how)
{
    InStack here(world_.pace());
    auto k = find(fd);
    return k ? client::sock_shutdown(world_.session(), *k, how) : no_socket(fd);
}

int Calls::close(int fd)
{
    std::optional<client::Sock> k;
    std::shared_ptr<EventSet> set;
    InStack here(world_.pace());
    leave_sets(fd);
    {
        std::lock_guard lock(mutex_);
        if (auto at = sockets_.find(fd); at != sockets_.end()) {
            k = at->second;
            sockets_.erase(at);
        }
        if (auto at = sets_.find(fd); at != sets_.end()) {
            set = std::move(at->second);
            sets_.erase(at);
        }
    }
    if (set != nullptr) {
        set->events.close();
    }
    if (k) {
        client::sock_release(world_.session(), *k);
    }
    return static_cast<int>(kernel_call(SYS_close, fd));
}

int Calls::fcntl(int fd, int command, int argument)
{
    InStack here(world_.pace());
    auto k = find(fd);
    if (k && command == F_GETFL) {
        return client::sock_status_flags(world_.session(), *k);
    }
    if (k && command == F_SETFL) {
        client::sock_set_status_flags(world_.session(), *k, argument);
        return 0;
    }
    return static_cast<int>(kernel_call(SYS_fcntl, fd, command, argument));
}

int Calls::ioctl(int fd, unsigned long request, int* argument)
{
    InStack here(world_.pace());
    auto k = find(fd);
    if (!k) {
        return static_cast<int>(kernel_call(SYS_ioctl, fd, request, argument));
    }
    client::Session& s = world_.session();
    int value = 0;
    switch (request) {
    case FIONBIO: {
        int flags = client::sock_status_flags(s, *k);
        client::sock_set_status_flags(s, *k, *argument != 0 ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
        return 0;
    }
    case SIOCINQ: // FIONREAD
        value = client::sock_fionread(s, *k);
        break;
    case SIOCOUTQ:
        value = client::sock_outq(s, *k);
        break;
    case SIOCATMARK:
        value = client::sock_at_mark(s, *k);
        break;
    case SIOCOUTQNSD: {
        tcp_info info{};
        socklen_t size = sizeof info;
        value = client::sock_getsockopt(s, *k, IPPROTO_TCP, TCP_INFO, &info, &size);
        value = value < 0 ? value : static_cast<int>(info.tcpi_notsent_bytes);
        break;
    }
    default:
        return -ENOTTY;
    }
    if (value < 0) {
        return value;
    }
    *argument = value;
    return 0;
}

namespace {

// SO_MEMINFO as far as the stack has such things: what is queued and what the limits are.
int memory_info(client::Session& s, client::Sock k, void* value, socklen_t* size)
{
    std::uint32_t info[SK_MEMINFO_VARS] = {};
    auto number = [&](int name) {
        int v = 0;
        socklen_t bytes = sizeof v;
        client::sock_getsockopt(s, k, SOL_SOCKET, name, &v, &bytes);
        return static_cast<std::uint32_t>(v);
    };
    info[SK_MEMINFO_RMEM_ALLOC] = static_cast<std::uint32_t>(std::max(client::sock_fionread(s, k), 0));
    info[SK_MEMINFO_RCVBUF] = number(SO_RCVBUF);
    info[SK_MEMINFO_SNDBUF] = number(SO_SNDBUF);
    info[SK_MEMINFO_WMEM_QUEUED] = static_cast<std::uint32_t>(std::max(client::sock_outq(s, k), 0));
    *size = std::min<socklen_t>(*size, sizeof info);
    std::memcpy(value, info, *size);
    return 0;
}

} // namespace

int Calls::getsockopt(int fd, int level, int name, void* value, socklen_t* size)
{
    InStack here(world_.pace());
    auto k = find(fd);
    if (!k) {
        return no_socket(fd);
    }
    if (level == SOL_SOCKET && name == SO_MEMINFO) {
        return memory_info(world_.session(), *k, value, size);
    }
    if (level == IPPROTO_TCP && name == TCP_CC_INFO) {
        *size = 0; // as of an algorithm that has nothing to tell
        return 0;
    }
    return client::sock_getsockopt(world_.session(), *k, level, name, value, size);
}

int Calls::setsockopt(int fd, int level, int name, const void* value, socklen_t size)
{
    InStack here(world_.pace());
    auto k = find(fd);
    return k ? client::sock_setsockopt(world_.session(), *k, level, name, value, size) : no_socket(fd);
}

} // namespace packetdrill
