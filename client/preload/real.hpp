// The next definitions (libc's) of the names this library interposes. Every pointer starts as a function that resolves
// the whole table, because other libraries' constructors may call before ours runs. Written once, before threads.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>

namespace preload {

// clang-format off
#define PRELOAD_REAL_CALLS(X)                                                                                          \
    X(socket)                                                                                                          \
    X(bind)                                                                                                            \
    X(listen)                                                                                                          \
    X(accept)                                                                                                          \
    X(accept4)                                                                                                         \
    X(connect)                                                                                                         \
    X(shutdown)                                                                                                        \
    X(close) X(close_range) X(closefrom) X(dup) X(dup2) X(dup3) X(read) X(readv) X(recv) X(recvfrom) X(recvmsg)        \
        X(recvmmsg) X(write) X(writev) X(send) X(sendto) X(sendmsg) X(sendmmsg) X(sendfile) X(splice) X(getsockopt)    \
            X(setsockopt) X(getsockname) X(getpeername) X(poll) X(ppoll) X(select) X(pselect) X(epoll_create)          \
                X(epoll_create1) X(epoll_ctl) X(epoll_wait) X(epoll_pwait) X(epoll_pwait2) X(execv) X(execve)          \
                    X(execvp) X(execvpe) X(fexecve) X(vdprintf) X(preadv2) X(pwritev2)
// clang-format on

struct Real {
#define PRELOAD_MEMBER(name) decltype(&::name) name;
    PRELOAD_REAL_CALLS(PRELOAD_MEMBER)
#undef PRELOAD_MEMBER
    FILE* (*fdopen)(int, const char*);
    int (*__vdprintf_chk)(int, int, const char*, va_list);
    long (*syscall)(long, long, long, long, long, long, long);
    int (*fcntl)(int, int, ...);
    int (*ioctl)(int, unsigned long, ...);
};

extern Real real;
void resolve_real();

} // namespace preload
