#include "lwkt/waiter.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdint>

namespace lwkt {

std::unique_ptr<Waiter> Waiter::make(WaiterKind kind, int doorbell_fd)
{
    switch (kind) {
    case WaiterKind::io_uring:
        return make_uring_waiter(doorbell_fd);
    case WaiterKind::epoll:
        return make_epoll_waiter(doorbell_fd);
    case WaiterKind::probe:
        break;
    }
    auto waiter = make_uring_waiter(doorbell_fd);
    return waiter != nullptr ? std::move(waiter) : make_epoll_waiter(doorbell_fd);
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

void Waiter::reset_doorbell() const
{
    std::uint64_t rings;
    [[maybe_unused]] auto n = read(doorbell_fd_, &rings, sizeof rings); // EAGAIN: nobody rang
}

} // namespace lwkt
