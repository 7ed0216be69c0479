// The structure through which packetdrill drives a stack in a shared object, member by member as the tool lays it out.
// A plain table of C functions; the first argument of each is `userdata`. Results are as the system calls': -1 and
// errno.
#pragma once

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>

extern "C" {

struct packetdrill_interface {
    void* userdata;
    void (*free)(void*);
    int (*socket)(void*, int domain, int type, int protocol);
    int (*bind)(void*, int, const sockaddr*, socklen_t);
    int (*listen)(void*, int, int);
    int (*accept)(void*, int, sockaddr*, socklen_t*);
    int (*connect)(void*, int, const sockaddr*, socklen_t);
    ssize_t (*read)(void*, int, void*, size_t);
    ssize_t (*readv)(void*, int, const iovec*, int);
    ssize_t (*recv)(void*, int, void*, size_t, int);
    ssize_t (*recvfrom)(void*, int, void*, size_t, int, sockaddr*, socklen_t*);
    ssize_t (*recvmsg)(void*, int, msghdr*, int);
    ssize_t (*write)(void*, int, const void*, size_t);
    ssize_t (*writev)(void*, int, const iovec*, int);
    ssize_t (*send)(void*, int, const void*, size_t, int);
    ssize_t (*sendto)(void*, int, const void*, size_t, int, const sockaddr*, socklen_t);
    ssize_t (*sendmsg)(void*, int, const msghdr*, int);
    int (*fcntl)(void*, int, int, ...);
    int (*ioctl)(void*, int, unsigned long, ...);
    int (*close)(void*, int);
    int (*shutdown)(void*, int, int);
    int (*getsockopt)(void*, int, int, int, void*, socklen_t*);
    int (*setsockopt)(void*, int, int, int, const void*, socklen_t);
    int (*poll)(void*, pollfd*, nfds_t, int);
    int (*netdev_send)(void*, const void*, size_t);
    int (*netdev_receive)(void*, void*, size_t*, long long*);
    int (*usleep)(void*, useconds_t);
    int (*gettimeofday)(void*, timeval*, struct timezone*);
    int (*epoll_create)(void*, int);
    int (*epoll_ctl)(void*, int, int, int, epoll_event*);
    int (*epoll_wait)(void*, int, epoll_event*, int, int);
    int (*pipe)(void*, int[2]);
    ssize_t (*splice)(void*, int, loff_t*, int, loff_t*, size_t, unsigned);
};

void packetdrill_interface_init(const char* flags, packetdrill_interface* out);
}

static_assert(sizeof(packetdrill_interface) == 33 * sizeof(void*));

// What the preload library asks the stack for, by calls of the program that do not go through the table. `handled`
// false: the descriptor is none of ours.
struct PreloadRoutes {
    void* userdata;
    int (*close)(void*, int fd, bool* handled);
    int (*getsockopt)(void*, int fd, int level, int name, void* value, socklen_t* size, bool* handled);
    ssize_t (*sendfile)(void*, int to, int from, off_t* at, size_t count, bool* handled);
};
inline constexpr const char* preload_register_name = "netd_packetdrill_routes";
using PreloadRegister = void (*)(const PreloadRoutes*); // null: there is no stack any more
