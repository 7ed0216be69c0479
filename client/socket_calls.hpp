// BSD-call semantics over shared-memory sockets: the one source of them, for the preload library, for linked clients
// and for embedding. A socket is a slot of the family's segment. Results are >= 0 or a negative errno, as the kernel's
// would be (man 2 of each call); SIGPIPE is raised by the caller's layer, not here. Any thread; several threads and
// processes may use one socket (side locks in the slot).
//
// Blocking: a call blocks unless the slot's status has O_NONBLOCK or flags has MSG_DONTWAIT; then -EAGAIN (-EINPROGRESS
// for connect). SO_RCVTIMEO and SO_SNDTIMEO are honoured. A call on a dead netd fails (-ECONNRESET, -ENETDOWN for new
// work).
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>

#include "client/session.hpp"

namespace client {

// type: SOCK_STREAM or SOCK_DGRAM, | SOCK_NONBLOCK. Takes a granted slot; no round trip when one is in the lane.
int sock_socket(Session& s, int domain, int type, int protocol, Sock& out);
int sock_bind(Session& s, Sock k, const sockaddr* addr, socklen_t len);
int sock_listen(Session& s, Sock k, int backlog);
// Takes from this thread's preferred lane first, then steals from the others. flags: SOCK_NONBLOCK.
int sock_accept(Session& s, Sock k, sockaddr* addr, socklen_t* len, int flags, Sock& out);
// Its two parts, for who needs something between them: 0 once there is something to accept, by `deadline` (what
// accept_deadline gave), and the taking: 1, or 0 when somebody else took it.
base::Instant accept_deadline(Session& s, Sock k);
int sock_await_accept(Session& s, Sock k, int flags, base::Instant deadline);
int sock_accept_now(Session& s, Sock k, sockaddr* addr, socklen_t* len, int flags, Sock& out);
int sock_connect(Session& s, Sock k, const sockaddr* addr, socklen_t len);
int sock_shutdown(Session& s, Sock k, int how);
// This process gives up its last descriptor of the socket. The last holder of the family closes it (lingers if asked).
int sock_release(Session& s, Sock k);
// This process holds the socket from now on (fork, received descriptor).
void sock_hold(Session& s, Sock k);

ssize_t sock_sendmsg(Session& s, Sock k, const msghdr* m, int flags);
ssize_t sock_recvmsg(
    Session& s, Sock k, msghdr* m, int flags); // MSG_PEEK, MSG_WAITALL, MSG_TRUNC, MSG_DONTWAIT, MSG_OOB
// recvmmsg(2): its timeout is looked at after each message only; an error behind the first is the next call's.
int sock_recvmmsg(Session& s, Sock k, mmsghdr* messages, unsigned count, int flags, const timespec* timeout);
ssize_t sock_send(
    Session& s, Sock k, const void* data, std::size_t size, int flags, const sockaddr* to, socklen_t to_len);
ssize_t sock_recv(Session& s, Sock k, void* data, std::size_t size, int flags, sockaddr* from, socklen_t* from_len);

int sock_getsockopt(Session& s, Sock k, int level, int name, void* value, socklen_t* len);
int sock_setsockopt(Session& s, Sock k, int level, int name, const void* value, socklen_t len);
int sock_getsockname(Session& s, Sock k, sockaddr* addr, socklen_t* len);
int sock_getpeername(Session& s, Sock k, sockaddr* addr, socklen_t* len);
int sock_fionread(Session& s, Sock k); // bytes readable (datagram: of the next one)
int sock_outq(Session& s, Sock k);     // SIOCOUTQ: bytes not yet acknowledged
int sock_at_mark(Session& s, Sock k);  // SIOCATMARK

int sock_status_flags(Session& s, Sock k); // O_NONBLOCK | O_RDWR ...
void sock_set_status_flags(Session& s, Sock k, int flags);

// What epoll would report now: EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR, EPOLLPRI. Asking for EPOLLOUT on a
// full ring sets want_space, so that the event follows.
std::uint32_t sock_readiness(Session& s, Sock k, std::uint32_t interest);

// Registers waiter `w` with the socket (events wake it) or takes it out again.
void sock_watch(Session& s, Sock k, std::uint32_t waiter);
void sock_unwatch(Session& s, Sock k, std::uint32_t waiter);

// The calling thread, whose waiter is registered, is about to sleep for `k` again: after arm_waiter, before the last
// look.
void sock_arm(Session& s, Sock k);

// A waiter of the calling thread's own until it is given back: a wait that was interrupted by a signal, whose handler
// waits too, loses nothing. The next wait of the thread has it again, unless all are in use and another took it.
int thread_waiter(Session& s, WaiterHandle& out);
void give_thread_waiter(Session& s, const WaiterHandle& w);
// As Host::make_waiter, of a set: where all are in use, one that a thread of this process kept is given up for it.
int make_set_waiter(Session& s, WaiterHandle& out);
// Announces that the holder of `w` is about to sleep; look at all conditions again afterwards, then Host::sleep. The
// epoll layer sleeps in epoll_wait on the waiter's descriptor instead.
void arm_waiter(Session& s, const WaiterHandle& w);
void disarm_waiter(Session& s, const WaiterHandle& w); // drains a wake that was sent meanwhile

} // namespace client
