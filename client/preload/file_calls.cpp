// Interposed: what joins sockets with files, streams and other programs: sendfile, splice, fdopen, dprintf, exec.
#include <algorithm>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "client/preload/calls.hpp"
#include "client/preload/preload_report.hpp"

using namespace preload;

namespace {

constexpr std::size_t chunk_bytes = 64 * 1024;

bool would_block(client::Session& s, const Entry& e)
{
    return (client::sock_status_flags(s, e.sock) & O_NONBLOCK) != 0 &&
           (client::sock_readiness(s, e.sock, EPOLLOUT) & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0;
}

// sendfile(2) from `at` on, which advances by what was sent. Bytes or a negative errno.
ssize_t send_file(const Entry& e, int in, off_t& at, std::size_t count)
{
    client::Session& s = session_of_netd();
    char buffer[chunk_bytes];
    std::size_t total = 0;
    while (total < count) {
        if (would_block(s, e)) { // before the file is read in vain
            return total > 0 ? static_cast<ssize_t>(total) : -EAGAIN;
        }
        ssize_t got = pread(in, buffer, std::min(count - total, sizeof buffer), at);
        if (got < 0) {
            int error = errno == ESPIPE ? EINVAL : errno;
            return total > 0 ? static_cast<ssize_t>(total) : -error;
        }
        if (got == 0) {
            break;
        }
        ssize_t sent = client::sock_send(s, e.sock, buffer, static_cast<std::size_t>(got), 0, nullptr, 0);
        if (sent == -EPIPE) {
            raise(SIGPIPE); // also where bytes went before, which is what the call gives then
        }
        if (sent < 0) {
            return total > 0 ? static_cast<ssize_t>(total) : sent;
        }
        at += sent;
        total += static_cast<std::size_t>(sent);
        if (sent < got) {
            break;
        }
    }
    return static_cast<ssize_t>(total);
}

ssize_t netd_sendfile(const Entry& e, int in, off_t* offset, std::size_t count)
{
    client::CancelGuard no_cancel; // libc declares that sendfile does not throw
    client::CountedBy counted(&e.descriptors);
    off_t at = offset != nullptr ? *offset : lseek(in, 0, SEEK_CUR);
    if (at < 0) {
        return outcome<ssize_t>(offset == nullptr && errno != ESPIPE ? -errno : -EINVAL);
    }
    ssize_t n = send_file(e, in, at, count);
    if (n > 0 && offset != nullptr) {
        *offset = at;
    } else if (n > 0) {
        lseek(in, at, SEEK_SET);
    }
    return outcome(n);
}

// ---- stdio on a socket of netd: libc's own streams call the kernel behind our back.

int fd_of(void* cookie)
{
    return static_cast<int>(reinterpret_cast<std::intptr_t>(cookie));
}
ssize_t stream_read(void* cookie, char* data, std::size_t size)
{
    return read(fd_of(cookie), data, size);
}
// All of it or an error: libc's streams write on after a part, but ask the writer of a cookie once.
std::size_t write_all(int fd, const char* data, std::size_t size)
{
    std::size_t done = 0;
    while (done < size) {
        ssize_t n = write(fd, data + done, size - done);
        if (n <= 0) {
            break;
        }
        done += static_cast<std::size_t>(n);
    }
    return done;
}
ssize_t stream_write(void* cookie, const char* data, std::size_t size)
{
    return static_cast<ssize_t>(write_all(fd_of(cookie), data, size)); // fopencookie(3): 0 is the error
}
// libc's streams forgive what cannot seek, where it says so.
int stream_seek(void*, off64_t*, int)
{
    errno = ESPIPE;
    return -1;
}
int stream_close(void* cookie)
{
    return close(fd_of(cookie));
}

// As dprintf(3) on a socket of netd; `text` is the outcome of vasprintf.
int print_to(int fd, char* text, int size)
{
    if (size < 0) {
        return -1;
    }
    std::size_t done = write_all(fd, text, static_cast<std::size_t>(size));
    int before = errno;
    std::free(text);
    errno = before;
    return done == static_cast<std::size_t>(size) ? size : -1;
}

bool has_socket(int fd)
{
    Entry* e = peek(fd);
    return e != nullptr && e->state.load(std::memory_order_acquire) != EntryState::epoll;
}

// Sockets that would reach the next program as an unconnected placeholder.
void report_exec()
{
    if (!settings().why) {
        return;
    }
    for (int fd = 0; fd <= highest_fd(); ++fd) {
        Entry* e = peek(fd);
        if (e != nullptr && e->state.load() == EntryState::netd && (real.fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0) {
            report("fd %d: sockets of netd do not live on through exec yet", fd);
        }
    }
}

} // namespace

PRELOAD_CALL ssize_t sendfile(int out, int in, off_t* offset, std::size_t count) __THROW
{
    if (peek(out) == nullptr) {
        return real.sendfile(out, in, offset, count);
    }
    Held h(out);
    Entry* e = h.netd();
    return e == nullptr ? real.sendfile(out, in, offset, count) : netd_sendfile(*e, in, offset, count);
}

PRELOAD_CALL ssize_t sendfile64(int out, int in, off64_t* offset, std::size_t count) __THROW
{
    static_assert(sizeof(off_t) == sizeof(off64_t));
    return sendfile(out, in, offset, count);
}

// Programs that splice fall back to read and write on EINVAL, as splice(2) lets them expect of any descriptor.
PRELOAD_CALL ssize_t splice(int in, off64_t* in_offset, int out, off64_t* out_offset, std::size_t size, unsigned flags)
{
    if (Held(in).netd() != nullptr || Held(out).netd() != nullptr) {
        errno = EINVAL;
        return -1;
    }
    return real.splice(in, in_offset, out, out_offset, size, flags);
}

PRELOAD_CALL FILE* fdopen(int fd, const char* mode) __THROW
{
    if (!has_socket(fd)) {
        return real.fdopen(fd, mode);
    }
    cookie_io_functions_t io{stream_read, stream_write, stream_seek, stream_close};
    FILE* stream = fopencookie(reinterpret_cast<void*>(static_cast<std::intptr_t>(fd)), mode, io);
    if (stream != nullptr) {
        stream->_fileno = fd; // for fileno(3); cookie streams do not look at it
    }
    return stream;
}

PRELOAD_CALL FILE* _IO_fdopen(int fd, const char* mode) __THROW
{
    return fdopen(fd, mode);
}

// libc's write to the descriptor by calls of its own.
PRELOAD_CALL int vdprintf(int fd, const char* format, va_list list)
{
    if (!has_socket(fd)) {
        return real.vdprintf(fd, format, list);
    }
    char* text = nullptr;
    int size = vasprintf(&text, format, list);
    return print_to(fd, text, size);
}

PRELOAD_CALL int dprintf(int fd, const char* format, ...)
{
    va_list list;
    va_start(list, format);
    int n = vdprintf(fd, format, list);
    va_end(list);
    return n;
}

// The same with _FORTIFY_SOURCE.
extern "C" int __vasprintf_chk(char** out, int flag, const char* format, va_list list) __THROW;

PRELOAD_CALL int __vdprintf_chk(int fd, int flag, const char* format, va_list list)
{
    if (!has_socket(fd)) {
        return real.__vdprintf_chk(fd, flag, format, list);
    }
    char* text = nullptr;
    int size = __vasprintf_chk(&text, flag, format, list);
    return print_to(fd, text, size);
}

PRELOAD_CALL int __dprintf_chk(int fd, int flag, const char* format, ...)
{
    va_list list;
    va_start(list, format);
    int n = __vdprintf_chk(fd, flag, format, list);
    va_end(list);
    return n;
}

PRELOAD_CALL int execve(const char* path, char* const argv[], char* const env[]) __THROW
{
    report_exec();
    return real.execve(path, argv, env);
}
PRELOAD_CALL int execv(const char* path, char* const argv[]) __THROW
{
    report_exec();
    return real.execv(path, argv);
}
PRELOAD_CALL int execvp(const char* file, char* const argv[]) __THROW
{
    report_exec();
    return real.execvp(file, argv);
}
PRELOAD_CALL int execvpe(const char* file, char* const argv[], char* const env[]) __THROW
{
    report_exec();
    return real.execvpe(file, argv, env);
}
PRELOAD_CALL int fexecve(int fd, char* const argv[], char* const env[]) __THROW
{
    report_exec();
    return real.fexecve(fd, argv, env);
}
