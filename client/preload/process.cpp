#include "client/preload/process.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>

#include <bitset>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>

#include "client/admission.hpp"
#include "client/preload/epoll_set.hpp"
#include "client/preload/fd_table.hpp"
#include "client/preload/preload_report.hpp"
#include "client/preload/real.hpp"
#include "client/signal_guard.hpp"
#include "sockbuf/socket_path.hpp"

namespace preload {

namespace {

constexpr int own_fds_from = 512; // below a usual limit of 1024, above what programs count on
constexpr int own_words = fds_max / 64;

struct Process {
    Settings settings;
    std::string socket_path;
    std::string share;
    std::mutex attach_mutex;
    std::unique_ptr<client::Admission> admission;
    std::atomic<client::Admission*> attached{nullptr};
    bool attach_failed_said = false;  // attach_mutex
    std::atomic<int> placeholder{-1}; // written once, under attach_mutex
    std::atomic<pid_t> pid{0};
    // Around fork(), under table_mutex.
    client::ForkTicket ticket;
    bool ticket_valid = false;
};

// Never destroyed: other threads may be in a call while exit() runs.
Process& process()
{
    static Process* one = new Process;
    return *one;
}

constinit std::atomic<std::uint64_t> own_bits[own_words] = {};
constinit std::atomic<bool> some_own{false}; // there were

pid_t kernel_pid()
{
    return static_cast<pid_t>(real.syscall(SYS_getpid, 0, 0, 0, 0, 0, 0));
}

void read_environment(Process& p)
{
    p.socket_path = sockbuf::client_socket_path();
    p.settings.socket_path = p.socket_path.c_str();
    const char* share = std::getenv("NETD_SHARE");
    if (share != nullptr && *share != '\0') {
        p.share = share;
        p.settings.share = p.share.c_str();
    }
    if (const char* us = std::getenv("NETD_SPIN_US"); us != nullptr) {
        p.settings.spin_us = static_cast<std::uint32_t>(std::strtoul(us, nullptr, 10));
    }
    p.settings.why = std::getenv("NETD_WHY") != nullptr;
    p.settings.strict = std::getenv("NETD_STRICT") != nullptr;
    if (const char* rules = std::getenv("NETD_KERNEL"); rules != nullptr) {
        if (!parse_kernel_rules(rules, p.settings.kernel_rules)) {
            report("NETD_KERNEL: not PREFIX[:PORT],...: %s", rules);
        }
    }
}

// ---- fork(). Not vfork and not posix_spawn, which run no handlers.

// libc lets signals in again before it runs the handlers behind the fork: one that closes would wait for its own
// thread.
thread_local std::optional<client::SignalGuard> fork_guard;

void before_fork()
{
    Process& p = process();
    fork_guard.emplace();
    table_mutex.lock(); // the order: table, sets, attach
    lock_all_sets();
    p.attach_mutex.lock();
    client::Admission* a = p.attached.load();
    p.ticket_valid = a != nullptr && a->prepare_fork(p.ticket) == 0;
    if (!p.ticket_valid) {
        return;
    }
    client::Session child = a->session();
    child.process = p.ticket.process;
    for (int fd = 0; fd <= highest_fd(); ++fd) {
        Entry* e = fd_slot(fd).load(std::memory_order_relaxed);
        if (e != nullptr && e->state.load(std::memory_order_relaxed) == EntryState::netd) {
            client::sock_hold(child, e->sock);
        }
    }
}

void after_fork_in_parent()
{
    Process& p = process();
    if (p.ticket_valid) {
        p.attached.load()->keep(p.ticket);
    }
    share_undecided();
    p.attach_mutex.unlock();
    unlock_all_sets();
    table_mutex.unlock();
    fork_guard.reset();
}

void after_fork_in_child()
{
    Process& p = process();
    p.pid.store(kernel_pid());
    if (client::Admission* a = p.attached.load()) {
        if (p.ticket_valid) {
            a->adopt(p.ticket);
        } else {
            a->disown();
            report("netd gave no place to a forked child: its sockets fail");
        }
        orphan_all_sets();
    }
    forget_calls_of_others();
    share_undecided();
    p.attach_mutex.unlock();
    unlock_all_sets();
    table_mutex.unlock();
    fork_guard.reset();
}

// Of what netd answers, or does instead of an answer.
const char* why_not_attached(int error)
{
    switch (error) {
    case EPIPE:
    case ECONNRESET:
        return "it turned this program away, its log says why ([admission] of its configuration)";
    case ENOMEM:
        return "it has no room for another program, its log says of what ([limits] of its configuration)";
    default:
        return std::strerror(error);
    }
}

client::Session* attach(Process& p)
{
    std::lock_guard lock(p.attach_mutex);
    if (client::Admission* a = p.attached.load()) {
        return &a->session();
    }
    int error = client::Admission::attach(p.settings.socket_path, p.admission, p.settings.share);
    if (error == 0) {
        p.admission->look_for(base::Micros{p.settings.spin_us});
        p.attached.store(p.admission.get());
        return &p.admission->session();
    }
    if (!p.attach_failed_said) {
        p.attach_failed_said = true;
        report("cannot attach to netd at %s: %s", p.settings.socket_path, why_not_attached(-error));
    }
    errno = ENETDOWN;
    return nullptr;
}

int placeholder(Process& p)
{
    if (int fd = p.placeholder.load(std::memory_order_acquire); fd >= 0) {
        return fd;
    }
    client::SignalGuard no_handlers; // accept may be called in one
    std::lock_guard lock(p.attach_mutex);
    if (p.placeholder.load() < 0) {
        int fd = real.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        p.placeholder.store(fd < 0 ? -1 : keep_own(fd));
    }
    return p.placeholder.load();
}

} // namespace

const Settings& settings()
{
    return process().settings;
}

client::Session* session()
{
    Process& p = process();
    if (client::Admission* a = p.attached.load(std::memory_order_acquire)) {
        return &a->session();
    }
    return attach(p);
}

client::Session* session_if_attached()
{
    client::Admission* a = process().attached.load(std::memory_order_acquire);
    return a == nullptr ? nullptr : &a->session();
}

bool is_own(int fd)
{
    if (static_cast<unsigned>(fd) >= static_cast<unsigned>(fds_max)) {
        return false;
    }
    if ((own_bits[fd / 64].load(std::memory_order_relaxed) >> (fd % 64) & 1) != 0) {
        return true;
    }
    client::Admission* a = process().attached.load(std::memory_order_acquire);
    return a != nullptr && a->owns(fd);
}

std::vector<int> own_fds()
{
    std::vector<int> fds;
    if (client::Admission* a = process().attached.load(std::memory_order_acquire)) {
        fds = a->own_fds();
    }
    for (int word = 0; word < own_words; ++word) {
        for (std::uint64_t bits = own_bits[word].load(std::memory_order_relaxed); bits != 0; bits &= bits - 1) {
            fds.push_back(word * 64 + __builtin_ctzll(bits));
        }
    }
    return fds;
}

bool keeps_own()
{
    return some_own.load(std::memory_order_relaxed);
}

void add_own(int fd)
{
    some_own.store(true, std::memory_order_relaxed);
    own_bits[fd / 64].fetch_or(std::uint64_t{1} << (fd % 64), std::memory_order_relaxed);
}

void drop_own(int fd)
{
    own_bits[fd / 64].fetch_and(~(std::uint64_t{1} << (fd % 64)), std::memory_order_relaxed);
}

int keep_own(int fd)
{
    int high = real.fcntl(fd, F_DUPFD_CLOEXEC, own_fds_from);
    if (high < 0) {
        high = real.fcntl(fd, F_DUPFD_CLOEXEC, 0); // a low limit: anywhere will do
    }
    int before = errno;
    real.close(fd);
    errno = before;
    if (high >= 0) {
        add_own(high);
    }
    return high;
}

int placeholder_fd(bool close_on_exec)
{
    int fd = placeholder(process());
    return fd < 0 ? -1 : real.fcntl(fd, close_on_exec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
}

bool placeholder_over(int fd)
{
    int from = placeholder(process());
    int flags = real.fcntl(fd, F_GETFD);
    return from >= 0 && flags >= 0 && real.dup3(from, fd, (flags & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0) == fd;
}

bool is_foreign_process()
{
    return process().pid.load(std::memory_order_relaxed) != kernel_pid();
}

void start()
{
    resolve_real();
    Process& p = process();
    if (p.pid.load() != 0) {
        return;
    }
    p.pid.store(kernel_pid());
    read_environment(p);
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

} // namespace preload
