// poll over netd's and the kernel's descriptors in one call: netd's are asked, the kernel's are left to ppoll, and the
// thread's own waiter wakes that ppoll for netd's. Any thread.
#pragma once

#include <poll.h>

#include <csignal>

namespace preload {

// True when a plain poll of the kernel would miss something of ours.
bool needs_us(const pollfd* fds, nfds_t count);
// As ppoll(2); only where needs_us().
int poll_mixed(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask);

} // namespace preload
