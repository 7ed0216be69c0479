// poll over netd's and the kernel's descriptors in one call: netd's are asked, the kernel's are left to ppoll, and the
// thread's own waiter wakes that ppoll for netd's. Any thread.
#pragma once

#include <poll.h>

#include <csignal>

namespace preload {

// What a poll is about: the kernel's descriptors alone, sockets among them that may yet become netd's, or some of ours.
enum class Polls { kernel, undecided, ours };
Polls polls_what(const pollfd* fds, nfds_t count);
// As ppoll(2); only where something is ours.
int poll_mixed(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask);
// As ppoll(2), where nothing was ours when it began.
int poll_undecided(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask);

} // namespace preload
