// The waiter where io_uring is refused.
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "base/check.hpp"
#include "lwkt/waiter.hpp"

namespace lwkt {
namespace {

class EpollWaiter final : public Waiter {
public:
    EpollWaiter(int epoll_fd, int doorbell_fd, int doorbells_fd)
        : Waiter(doorbell_fd, doorbells_fd), epoll_fd_(epoll_fd)
    {
        EpollWaiter::watch(doorbell_fd);
        if (doorbells_fd >= 0) {
            EpollWaiter::watch(doorbells_fd);
        }
    }
    ~EpollWaiter() override { close(epoll_fd_); }

    void wait(base::Micros timeout) override
    {
        epoll_event events[16];
        int n = wait_for(events, 16, timeout);
        for (int i = 0; i < n; ++i) {
            if (is_doorbell(events[i].data.fd)) {
                reset_doorbell(events[i].data.fd);
            }
        }
    }
    const char* name() const override { return "epoll"; }

protected:
    void watch(int fd) override
    {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.fd = fd;
        INVARIANT(epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) == 0 || errno == EEXIST);
    }
    void unwatch(int fd) override { epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr); } // gone already when closed

private:
    int wait_for(epoll_event* events, int max, base::Micros timeout)
    {
        bool forever = timeout == base::Micros::max();
        if (!no_pwait2_) {
            timespec limit{timeout.count() / 1'000'000, timeout.count() % 1'000'000 * 1000};
            int n = epoll_pwait2(epoll_fd_, events, max, forever ? nullptr : &limit, nullptr);
            if (n >= 0 || errno != ENOSYS) {
                return n;
            }
            no_pwait2_ = true;
        }
        std::int64_t rounded_up = (timeout.count() + 999) / 1000;
        return epoll_wait(
            epoll_fd_, events, max, forever ? -1 : static_cast<int>(rounded_up < 60'000 ? rounded_up : 60'000));
    }

    int epoll_fd_;           // c
    bool no_pwait2_ = false; // o: kernel before 5.11
};

} // namespace

std::unique_ptr<Waiter> make_epoll_waiter(int doorbell_fd, int doorbells_fd)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? nullptr : std::make_unique<EpollWaiter>(fd, doorbell_fd, doorbells_fd);
}

} // namespace lwkt
