#include "lwkt/waiter.hpp"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

namespace lwkt {

std::unique_ptr<Waiter> Waiter::make(WaiterKind kind, int doorbell_fd, int doorbells_fd)
{
    switch (kind) {
    case WaiterKind::io_uring:
        return make_uring_waiter(doorbell_fd, doorbells_fd);
    case WaiterKind::epoll:
        return make_epoll_waiter(doorbell_fd, doorbells_fd);
    case WaiterKind::probe:
        break;
    }
    auto waiter = make_uring_waiter(doorbell_fd, doorbells_fd);
    return waiter != nullptr ? std::move(waiter) : make_epoll_waiter(doorbell_fd, doorbells_fd);
}

void Waiter::watch_only(const std::vector<int>& fds)
{
    if (fds == watched_) {
        return;
    }
    for (int fd : watched_) {
        if (!std::binary_search(fds.begin(), fds.end(), fd)) {
            unwatch(fd);
        }
    }
    for (int fd : fds) {
        if (!std::binary_search(watched_.begin(), watched_.end(), fd)) {
            watch(fd);
        }
    }
    watched_ = fds;
}

// Neither can block: the one is ours alone, the other never waits.
void Waiter::reset_doorbell(int fd) const
{
    if (fd == doorbell_fd_) {
        std::uint64_t rings;
        [[maybe_unused]] auto n = read(fd, &rings, sizeof rings); // EAGAIN: nobody rang
    } else {
        epoll_event rang[64]; // more than that: the next wait returns at once
        epoll_wait(fd, rang, 64, 0);
    }
}

} // namespace lwkt
