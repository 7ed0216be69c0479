// libnetd-packetdrill-preload.so, for LD_PRELOAD: close, getsockopt and sendfile that the tool or a script's code makes
// by itself, without the interface's table, reach the stack when they are about one of its descriptors. Any thread; the
// routes are set before the first descriptor exists and cleared after the last call.
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "tests/packetdrill/interface.hpp"

namespace {

std::atomic<const PreloadRoutes*> routes{nullptr};

// `routed(r, handled)` where there is a stack and the descriptor is its own; else the system call.
template <typename T, typename Routed, typename... Arguments>
T route(Routed routed, long number, Arguments... arguments)
{
    bool handled = false;
    if (const PreloadRoutes* r = routes.load(std::memory_order_acquire)) {
        T result = routed(*r, &handled);
        if (handled) {
            return result;
        }
    }
    return static_cast<T>(::syscall(number, arguments...));
}

} // namespace

extern "C" {

#define EXPORTED __attribute__((visibility("default")))

EXPORTED void netd_packetdrill_routes(const PreloadRoutes* r)
{
    routes.store(r, std::memory_order_release);
}

EXPORTED int close(int fd)
{
    return route<int>([&](const PreloadRoutes& r, bool* ours) { return r.close(r.userdata, fd, ours); }, SYS_close, fd);
}

EXPORTED int getsockopt(int fd, int level, int name, void* value, socklen_t* size) noexcept
{
    return route<int>([&](const PreloadRoutes& r,
                          bool* ours) { return r.getsockopt(r.userdata, fd, level, name, value, size, ours); },
        SYS_getsockopt, fd, level, name, value, size);
}

EXPORTED ssize_t sendfile(int to, int from, off_t* at, size_t count) noexcept
{
    return route<ssize_t>(
        [&](const PreloadRoutes& r, bool* ours) { return r.sendfile(r.userdata, to, from, at, count, ours); },
        SYS_sendfile, to, from, at, count);
}
}
