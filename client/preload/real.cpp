#include "client/preload/real.hpp"

#include <dlfcn.h>

#include <cstdarg>
#include <cstdlib>

#include "client/real_calls.hpp"

// libc declares what may be null and what must be used; a table of pointers has no place for that.
#pragma GCC diagnostic ignored "-Wignored-attributes"

namespace preload {

namespace {

void* next(const char* name)
{
    void* found = dlsym(RTLD_NEXT, name);
    if (found == nullptr) {
        static constexpr char text[] = "netrun: this C library lacks a call that netd's preload library needs\n";
        // write(2) is ours and may be the very call that is missing.
        static_cast<void>(::fwrite(text, 1, sizeof text - 1, stderr));
        std::abort();
    }
    return found;
}

// A member's first function: resolves, then calls.
template <auto Member, typename Pointer>
struct First;
template <auto Member, typename R, typename... A>
struct First<Member, R (*)(A...)> {
    static R call(A... a)
    {
        resolve_real();
        return (real.*Member)(a...);
    }
};
template <auto Member, typename R, typename... A>
struct First<Member, R (*)(A...) noexcept> {
    static R call(A... a) noexcept
    {
        resolve_real();
        return (real.*Member)(a...);
    }
};

int first_fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void* argument = va_arg(list, void*);
    va_end(list);
    resolve_real();
    return real.fcntl(fd, command, argument);
}

int first_ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    void* argument = va_arg(list, void*);
    va_end(list);
    resolve_real();
    return real.ioctl(fd, request, argument);
}

} // namespace

constinit Real real{
#define PRELOAD_FIRST(name) &First<&Real::name, decltype(Real::name)>::call,
    PRELOAD_REAL_CALLS(PRELOAD_FIRST)
#undef PRELOAD_FIRST
        & First<&Real::fdopen, decltype(Real::fdopen)>::call,
    &First<&Real::__vdprintf_chk, decltype(Real::__vdprintf_chk)>::call,
    &First<&Real::syscall, decltype(Real::syscall)>::call, &first_fcntl, &first_ioctl};

void resolve_real()
{
    static bool done = false;
    if (done) {
        return;
    }
    done = true;
#define PRELOAD_RESOLVE(name) real.name = reinterpret_cast<decltype(real.name)>(next(#name));
    PRELOAD_REAL_CALLS(PRELOAD_RESOLVE)
    PRELOAD_RESOLVE(fdopen)
    PRELOAD_RESOLVE(__vdprintf_chk)
    PRELOAD_RESOLVE(syscall)
    PRELOAD_RESOLVE(fcntl)
    PRELOAD_RESOLVE(ioctl)
#undef PRELOAD_RESOLVE
    client::real_calls = {real.read, real.write, real.close, real.ppoll, real.fcntl, real.socket, real.connect,
        real.sendmsg, real.recvmsg, reinterpret_cast<long (*)(long, ...)>(real.syscall)};
}

} // namespace preload
