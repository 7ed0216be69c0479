// Packets of the admission protocol over a SOCK_SEQPACKET connection, with the descriptors that come with them.
// Internal to client/.
#pragma once

#include "sockbuf/admission.hpp"
#include <cstddef>
#include <cstdint>

namespace client {

// Descriptors that came with a reply. No allocation: a waiter may be made in a signal handler.
struct FdList {
    int fds[2 + sockbuf::max_cpus];
    std::size_t count = 0;
    void close_all();
};

// Connected, close-on-exec, at a high number; or a negative errno.
int connect_admission(const char* socket_path);
// 0 or a negative errno (-EPIPE: netd is gone).
int send_hello(int fd, sockbuf::Hello hello, std::int32_t value);
int send_share(int fd, const char* name); // Hello::share; a long name is cut
// A reply of exactly `size` bytes and its descriptors, moved to high numbers. 0, -EPIPE (netd is gone), -EPROTO.
int receive_reply(int fd, void* reply, std::size_t size, FdList& fds);

} // namespace client
