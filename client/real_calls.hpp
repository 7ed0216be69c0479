// The libc calls the client library itself makes on kernel descriptors. A program that links the library uses libc's;
// the preload library, which interposes these very names, assigns the next definitions (dlsym RTLD_NEXT) before
// anything else of the client runs. Calls that block are real libc calls, so that they stay cancellation points.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <csignal>
#include <ctime>

namespace client {

struct RealCalls {
    ssize_t (*read)(int, void*, std::size_t);
    ssize_t (*write)(int, const void*, std::size_t);
    int (*close)(int);
    int (*ppoll)(pollfd*, nfds_t, const timespec*, const sigset_t*);
    int (*fcntl)(int, int, ...);
    int (*socket)(int, int, int);
    int (*connect)(int, const sockaddr*, socklen_t);
    ssize_t (*sendmsg)(int, const msghdr*, int);
    ssize_t (*recvmsg)(int, msghdr*, int);
    long (*syscall)(
        long, ...); // by number: no cancellation point, and not the interposed one, which guards our descriptors
};

extern RealCalls real_calls; // written once, before the process has threads

} // namespace client
