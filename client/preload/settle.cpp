// From undecided to netd's or the kernel's. The kernel socket that stood in is either kept as it is or replaced, under
// the same number, by the placeholder, with options, O_NONBLOCK and epoll registrations carried over.
#include <netinet/in.h>
#include <sys/single_threaded.h>

#include <cstring>

#include "client/preload/calls.hpp"
#include "client/preload/epoll_set.hpp"
#include "client/preload/preload_report.hpp"
#include "client/sockaddr.hpp"

namespace preload {

namespace {

// table_mutex held.
void keep_kernel(Entry& e, std::vector<Entry*>& dropped)
{
    while (e.interests != nullptr) {
        EpollSet* set = e.interests->set;
        set->leave(*e.interests);
        set->kernel_added(); // only our note of it goes
    }
    for (int fd : fds_of(&e)) {
        dropped.push_back(uninstall(fd));
    }
}

void replay(client::Session& s, int fd, Entry& e)
{
    for (const RecordedOption& o : e.options) {
        int rc =
            client::sock_setsockopt(s, e.sock, o.level, o.name, o.value.data(), static_cast<socklen_t>(o.value.size()));
        if (rc != 0 && settings().why) {
            report("fd %d: option %d of level %d is not netd's: %s", fd, o.name, o.level, std::strerror(-rc));
        }
    }
    e.options.clear();
}

// Threads that sleep in a receive or a poll of the kernel's socket would hear nothing any more; a shutdown wakes them,
// and they look again whose it is (became_netd). Of a stream that is not connected no call waits. Not where a forked
// process has the same socket, to which it is still the kernel's; a program of one thread has none that sleeps.
void wake_sleepers(int fd, const Entry& e)
{
    if ((e.type & 0xf) == SOCK_DGRAM && !e.shared && !__libc_single_threaded) {
        real.shutdown(fd, SHUT_RDWR);
    }
}

// table_mutex held. 0 or a negative errno.
int become_netd(client::Session& s, int fd, Entry& e)
{
    int flags = real.fcntl(fd, F_GETFL);
    int nonblocking = flags >= 0 && (flags & O_NONBLOCK) != 0 ? SOCK_NONBLOCK : 0;
    client::Sock sock;
    if (expect_netd(s, e) != 0) {
        return -ENOBUFS; // a socket that connects, and of which no event is ever told, is the worse end
    }
    if (int error = client::sock_socket(s, e.domain, (e.type & 0xf) | nonblocking, e.protocol, sock)) {
        return error;
    }
    e.sock = sock;
    replay(s, fd, e);
    move_to_netd(e);
    wake_sleepers(fd, e);
    for (int each : fds_of(&e)) {
        if (!placeholder_over(each)) {
            int error = -errno;
            client::sock_release(s, sock);
            return error;
        }
    }
    e.state.store(EntryState::netd, std::memory_order_release);
    return 0;
}

bool is_v6_only(int fd, const Entry& e)
{
    int on = 0;
    socklen_t len = sizeof on;
    return e.domain == AF_INET6 && real.getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, &len) == 0 && on != 0;
}

Whose settle_kernel(int fd, Entry& e, const char* call, const base::Endpoint& at, Use use, const char* reason)
{
    report_decision(fd, e.type, call, at, reason);
    if (settings().strict) {
        errno = use == Use::bind ? EACCES : ENETUNREACH;
        return Whose::nobody;
    }
    std::vector<Entry*> dropped;
    {
        TableLock lock;
        if (peek(fd) == &e && e.state.load() == EntryState::undecided) {
            keep_kernel(e, dropped);
        }
    }
    for (Entry* d : dropped) {
        unref(d);
    }
    return Whose::kernel;
}

} // namespace

Whose settle(int fd, Entry& e, const char* call, const sockaddr* addr, socklen_t len, Use use)
{
    if (e.state.load(std::memory_order_acquire) == EntryState::netd) {
        return Whose::netd;
    }
    client::CancelGuard no_cancel; // bind is no cancellation point, and nobody is to meet half of a change
    base::Endpoint at;
    auto* parse = use == Use::destination ? client::parse_destination : client::parse_sockaddr;
    if (parse(addr, len, e.domain, at) != 0) {
        return Whose::kernel; // not an address: the kernel's error, and the socket stays undecided
    }
    client::Session* s = session();
    if (s == nullptr) {
        return Whose::nobody;
    }
    Verdict v = decide(s->view.layout(), settings().kernel_rules, at, use, is_v6_only(fd, e));
    if (!v.netd) {
        return settle_kernel(fd, e, call, at, use, v.reason);
    }
    int error = 0;
    {
        TableLock lock;
        if (e.state.load() == EntryState::undecided) {
            error = peek(fd) == &e ? become_netd(*s, fd, e) : -EBADF;
        }
    }
    if (error != 0) {
        errno = -error;
        return Whose::nobody;
    }
    report_decision(fd, e.type, call, at, nullptr);
    return Whose::netd;
}

} // namespace preload
