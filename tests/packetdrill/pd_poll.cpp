// poll and epoll over sockets of the stack, both on embed::Events. See calls.hpp.
#include <fcntl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <vector>

#include "tests/packetdrill/calls.hpp"
#include "tests/packetdrill/kernel_call.hpp"

namespace packetdrill {

namespace {

// Registered even when a caller asks for nothing: errors and hang-ups are always reported.
std::uint32_t interest_of(std::uint32_t events)
{
    return events | EPOLLERR | EPOLLHUP;
}

} // namespace

base::Instant Calls::deadline(int ms)
{
    return ms < 0 ? base::never : world_.session().host->now() + base::millis(ms);
}

int Calls::poll(pollfd* fds, nfds_t count, int ms)
{
    InStack here(world_.pace());
    embed::Events events;
    if (int rc = events.open(world_.stack()); rc < 0) {
        return rc;
    }
    int invalid = 0;
    for (nfds_t i = 0; i < count; ++i) {
        fds[i].revents = 0;
        if (fds[i].fd < 0) {
            continue;
        }
        auto k = find(fds[i].fd);
        if (!k) {
            fds[i].revents = POLLNVAL; // nothing but sockets of the stack is waited for
            ++invalid;
            continue;
        }
        events.add(*k, interest_of(static_cast<std::uint16_t>(fds[i].events)), &fds[i]);
    }
    std::vector<embed::Event> found(count + 1);
    int n = events.wait(found, invalid != 0 ? base::Instant{} : deadline(ms));
    for (int i = 0; i < n; ++i) {
        static_cast<pollfd*>(found[static_cast<std::size_t>(i)].user)->revents =
            static_cast<short>(found[static_cast<std::size_t>(i)].events);
    }
    return n < 0 ? n : n + invalid;
}

int Calls::epoll_create(int size)
{
    if (size <= 0) {
        return -EINVAL;
    }
    InStack here(world_.pace());
    auto set = std::make_shared<EventSet>();
    if (int rc = set->events.open(world_.stack()); rc < 0) {
        return rc;
    }
    int fd = static_cast<int>(kernel_call(SYS_epoll_create1, EPOLL_CLOEXEC));
    if (fd >= 0) {
        std::lock_guard lock(mutex_);
        sets_[fd] = std::move(set);
    }
    return fd;
}

std::shared_ptr<Calls::EventSet> Calls::find_set(int epoll)
{
    std::lock_guard lock(mutex_);
    auto at = sets_.find(epoll);
    return at == sets_.end() ? nullptr : at->second;
}

int Calls::add_member(EventSet& set, int fd, const epoll_event& event)
{
    auto k = find(fd);
    if (!k) {
        return kernel_call(SYS_fcntl, fd, F_GETFD) < 0 ? -EBADF : -EPERM;
    }
    auto [at, fresh] = set.members.try_emplace(fd);
    if (!fresh) {
        return -EEXIST;
    }
    at->second = {*k, event};
    set.events.add(*k, interest_of(event.events), &at->second);
    return 0;
}

int Calls::remove_member(EventSet& set, int fd)
{
    auto at = set.members.find(fd);
    if (at == set.members.end()) {
        return -ENOENT;
    }
    if (at->second.armed) {
        set.events.remove(at->second.sock);
    }
    set.members.erase(at);
    return 0;
}

int Calls::epoll_ctl(int epoll, int operation, int fd, epoll_event* event)
{
    InStack here(world_.pace());
    auto set = find_set(epoll);
    if (set == nullptr) {
        return kernel_call(SYS_fcntl, epoll, F_GETFD) < 0 ? -EBADF : -EINVAL;
    }
    switch (operation) {
    case EPOLL_CTL_ADD:
        return add_member(*set, fd, *event);
    case EPOLL_CTL_DEL:
        return remove_member(*set, fd);
    case EPOLL_CTL_MOD: {
        epoll_event wanted = *event;
        int rc = remove_member(*set, fd);
        return rc < 0 ? rc : add_member(*set, fd, wanted);
    }
    default:
        return -EINVAL;
    }
}

int Calls::epoll_wait(int epoll, epoll_event* events, int max, int ms)
{
    InStack here(world_.pace());
    auto set = find_set(epoll);
    if (set == nullptr) {
        return kernel_call(SYS_fcntl, epoll, F_GETFD) < 0 ? -EBADF : -EINVAL;
    }
    if (max <= 0) {
        return -EINVAL;
    }
    std::vector<embed::Event> found(static_cast<std::size_t>(max));
    int n = set->events.wait(found, deadline(ms));
    for (int i = 0; i < n; ++i) {
        const embed::Event& e = found[static_cast<std::size_t>(i)];
        auto& interest = *static_cast<Interest*>(e.user);
        events[i] = interest.event;
        events[i].events = e.events;
        if ((interest.event.events & EPOLLONESHOT) != 0) {
            set->events.remove(interest.sock);
            interest.armed = false;
        }
    }
    return n;
}

// A closed descriptor is in no set any more.
void Calls::leave_sets(int fd)
{
    std::vector<std::shared_ptr<EventSet>> all;
    {
        std::lock_guard lock(mutex_);
        for (auto& [epoll, set] : sets_) {
            all.push_back(set);
        }
    }
    for (auto& set : all) {
        remove_member(*set, fd);
    }
}

} // namespace packetdrill
