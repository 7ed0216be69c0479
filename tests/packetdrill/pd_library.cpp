// libnetd-packetdrill.so: fills packetdrill's table with functions that go to Calls and World, and tells the preload
// library, if it is there, how to reach them. One stack per call of packetdrill_interface_init.
#include <dlfcn.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/packetdrill/calls.hpp"
#include "tests/packetdrill/interface.hpp"
#include "tests/packetdrill/kernel_call.hpp"

namespace packetdrill {

namespace {

struct Library {
    explicit Library(Flags flags) : world(std::move(flags)), calls(world) {}
    World world;
    Calls calls;
    PreloadRoutes routes{};
};

Library& library(void* u)
{
    return *static_cast<Library*>(u);
}

// The way of system calls.
template <typename T>
T result(T rc)
{
    if (rc < 0) {
        errno = static_cast<int>(-rc);
        return -1;
    }
    return rc;
}

// A member whose arguments are those of a call of Calls.
template <auto Call, typename Return, typename... Arguments>
Return forward(void* u, Arguments... arguments)
{
    return result((library(u).calls.*Call)(arguments...));
}

ssize_t do_recv(void* u, int fd, void* data, std::size_t size, int flags)
{
    return result(library(u).calls.recvfrom(fd, data, size, flags, nullptr, nullptr));
}

ssize_t do_send(void* u, int fd, const void* data, std::size_t size, int flags)
{
    return result(library(u).calls.sendto(fd, data, size, flags, nullptr, 0));
}

ssize_t do_read(void* u, int fd, void* data, std::size_t size)
{
    iovec whole{data, size};
    return result(library(u).calls.readv(fd, &whole, 1));
}

ssize_t do_write(void* u, int fd, const void* data, std::size_t size)
{
    iovec whole{const_cast<void*>(data), size};
    return result(library(u).calls.writev(fd, &whole, 1));
}

int do_fcntl(void* u, int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    int argument = va_arg(arguments, int);
    va_end(arguments);
    return result(library(u).calls.fcntl(fd, command, argument));
}

int do_ioctl(void* u, int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    int* argument = va_arg(arguments, int*);
    va_end(arguments);
    return result(library(u).calls.ioctl(fd, request, argument));
}

int do_pipe(void* u, int* fds)
{
    return result(library(u).calls.pipe(fds));
}

int do_netdev_send(void* u, const void* packet, std::size_t bytes)
{
    library(u).world.send(packet, bytes);
    return 0;
}

int do_netdev_receive(void* u, void* packet, std::size_t* bytes, long long* time_us)
{
    constexpr std::size_t room = 65536; // of the tool's buffer; it does not say so in *bytes
    Emitted e;
    *bytes = 0;
    if (library(u).world.receive(e)) {
        *bytes = std::min(room, e.packet.size());
        std::memcpy(packet, e.packet.data(), *bytes);
        *time_us = e.time_us;
    }
    return 0;
}

int do_usleep(void* u, useconds_t us)
{
    library(u).world.pace().sleep_for(us);
    return 0;
}

int do_gettimeofday(void* u, timeval* t, struct timezone*)
{
    std::int64_t us = library(u).world.pace().read_clock();
    *t = {us / 1'000'000, us % 1'000'000};
    return 0;
}

int routed_close(void* u, int fd, bool* handled)
{
    *handled = library(u).calls.owns(fd);
    return *handled ? result(library(u).calls.close(fd)) : 0;
}

int routed_getsockopt(void* u, int fd, int level, int name, void* value, socklen_t* size, bool* handled)
{
    *handled = library(u).calls.is_ours(fd);
    return *handled ? result(library(u).calls.getsockopt(fd, level, name, value, size)) : 0;
}

ssize_t routed_sendfile(void* u, int to, int from, off_t* at, std::size_t count, bool* handled)
{
    *handled = library(u).calls.is_ours(to);
    return *handled ? result(library(u).calls.sendfile(to, from, at, count)) : 0;
}

void tell_preload(const PreloadRoutes* routes)
{
    if (void* found = dlsym(RTLD_DEFAULT, preload_register_name)) {
        reinterpret_cast<PreloadRegister>(found)(routes);
    }
}

void do_free(void* u)
{
    tell_preload(nullptr);
    delete static_cast<Library*>(u);
}

void fill(packetdrill_interface& f)
{
    f.free = do_free;
    f.socket = forward<&Calls::socket, int, int, int, int>;
    f.bind = forward<&Calls::bind, int, int, const sockaddr*, socklen_t>;
    f.listen = forward<&Calls::listen, int, int, int>;
    f.accept = forward<&Calls::accept, int, int, sockaddr*, socklen_t*>;
    f.connect = forward<&Calls::connect, int, int, const sockaddr*, socklen_t>;
    f.read = do_read;
    f.readv = forward<&Calls::readv, ssize_t, int, const iovec*, int>;
    f.recv = do_recv;
    f.recvfrom = forward<&Calls::recvfrom, ssize_t, int, void*, std::size_t, int, sockaddr*, socklen_t*>;
    f.recvmsg = forward<&Calls::recvmsg, ssize_t, int, msghdr*, int>;
    f.write = do_write;
    f.writev = forward<&Calls::writev, ssize_t, int, const iovec*, int>;
    f.send = do_send;
    f.sendto = forward<&Calls::sendto, ssize_t, int, const void*, std::size_t, int, const sockaddr*, socklen_t>;
    f.sendmsg = forward<&Calls::sendmsg, ssize_t, int, const msghdr*, int>;
    f.fcntl = do_fcntl;
    f.ioctl = do_ioctl;
    f.close = forward<&Calls::close, int, int>;
    f.shutdown = forward<&Calls::shutdown, int, int, int>;
    f.getsockopt = forward<&Calls::getsockopt, int, int, int, int, void*, socklen_t*>;
    f.setsockopt = forward<&Calls::setsockopt, int, int, int, int, const void*, socklen_t>;
    f.poll = forward<&Calls::poll, int, pollfd*, nfds_t, int>;
    f.netdev_send = do_netdev_send;
    f.netdev_receive = do_netdev_receive;
    f.usleep = do_usleep;
    f.gettimeofday = do_gettimeofday;
    f.epoll_create = forward<&Calls::epoll_create, int, int>;
    f.epoll_ctl = forward<&Calls::epoll_ctl, int, int, int, int, epoll_event*>;
    f.epoll_wait = forward<&Calls::epoll_wait, int, int, epoll_event*, int, int>;
    f.pipe = do_pipe;
    f.splice = forward<&Calls::splice, ssize_t, int, loff_t*, int, loff_t*, std::size_t, unsigned>;
}

} // namespace

} // namespace packetdrill

extern "C" __attribute__((visibility("default"))) void packetdrill_interface_init(
    const char* flags, packetdrill_interface* out)
{
    using namespace packetdrill;
    std::string error;
    auto parsed = parse_flags(flags == nullptr ? "" : flags, error);
    if (!parsed) {
        std::fprintf(stderr, "libnetd-packetdrill: %s\n", error.c_str());
        std::exit(2);
    }
    auto* made = new Library(*parsed);
    fill(*out);
    out->userdata = made;
    made->routes = {made, routed_close, routed_getsockopt, routed_sendfile};
    tell_preload(&made->routes);
}
