// Waking another process's waiter without netd in between (joined pairs). Its pipe is opened for the wake and closed
// again: were it held open, the sleeper would not read end of file when netd dies (decision 0003). What is held is an
// O_PATH descriptor, which counts neither as reader nor as writer. System calls by number, so that no cancellation
// point lies between open and close. Where this cannot be done, netd wakes.
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "client/admission.hpp"
#include "client/admission_packets.hpp"
#include "client/real_calls.hpp"
#include "client/signal_guard.hpp"

namespace client {

bool Admission::can_wake(std::uint32_t)
{
    return direct_wakes_.load(std::memory_order_relaxed) && alive();
}

bool Admission::wake_waiter(std::uint32_t w)
{
    int before = errno;
    waking_.fetch_add(1, std::memory_order_seq_cst);
    bool done = !forking_.load(std::memory_order_seq_cst) && write_to(w);
    waking_.fetch_sub(1, std::memory_order_release);
    errno = before;
    return done;
}

// The waiter may have been given out anew since: its generation is read after `sleeping` was taken, so whoever sleeps
// by then gets the byte.
bool Admission::write_to(std::uint32_t w)
{
    Waker& waker = wakers_[w];
    std::uint64_t generation = session_.view.waiter(w).generation.load(std::memory_order_seq_cst) + std::uint64_t{1};
    if (waker.generation.load(std::memory_order_acquire) != generation && !fetch_waker(w)) {
        return false;
    }
    char path[32] = "/proc/self/fd/";
    char* end = path + std::strlen(path);
    *std::to_chars(end, path + sizeof path - 1, waker.fd.load(std::memory_order_relaxed)).ptr = '\0';
    // A reader too: whoever sleeps there may die before the write, which would be a SIGPIPE for this program then.
    long fd = real_calls.syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT || errno == EACCES || errno == EPERM) {
            direct_wakes_.store(false, std::memory_order_relaxed);
        }
        return false;
    }
    bool written = real_calls.syscall(SYS_write, fd, "", 1) == 1;
    real_calls.syscall(SYS_close, fd);
    return written;
}

bool Admission::fetch_waker(std::uint32_t w)
{
    SignalGuard no_handlers;
    std::unique_lock lock(mutex_, std::try_to_lock); // a handler may have come into a round trip of its own thread
    if (!lock.owns_lock() || !alive()) {
        return false;
    }
    sockbuf::WakerReply reply{};
    FdList fds;
    int rc = send_hello(fd_, sockbuf::Hello::waker, static_cast<std::int32_t>(w));
    rc = rc != 0 ? rc : receive_reply(fd_, &reply, sizeof reply, fds);
    if (rc == -EPIPE) {
        alive_.store(false);
    }
    if (rc != 0 || reply.error != 0 || fds.count != 1) {
        fds.close_all();
        return false;
    }
    Waker& waker = wakers_[w];
    int held = waker.fd.load(std::memory_order_relaxed);
    if (held == 0) {
        waker.fd.store(fds.fds[0], std::memory_order_relaxed);
    } else {
        // In place: another thread may be about to open it by number.
        real_calls.syscall(SYS_dup3, fds.fds[0], held, O_CLOEXEC);
        fds.close_all();
    }
    waker.generation.store(reply.generation + std::uint64_t{1}, std::memory_order_release);
    return true;
}

} // namespace client
