// The waiter on io_uring: a one-shot poll per descriptor, armed again at the next wait once it fired, and one system
// call that submits and sleeps. A poll that fired while the CPU was awake is armed again before sleeping, and completes
// at once if its descriptor is still readable; a doorbell is reset only after a wait, never before one, because the
// ring it holds may be the one that this very sleep must not miss.
#include <liburing.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <vector>

#include "base/check.hpp"
#include "lwkt/waiter.hpp"

namespace lwkt {
namespace {

constexpr unsigned queue_entries = 64;
constexpr std::uint64_t ignored = ~std::uint64_t{0};

class UringWaiter final : public Waiter {
public:
    UringWaiter(int doorbell_fd, int doorbells_fd) : Waiter(doorbell_fd, doorbells_fd) {}
    ~UringWaiter() override
    {
        if (ready_) {
            io_uring_queue_exit(&ring_);
        }
    }

    bool init()
    {
        io_uring_params params{};
        if (io_uring_queue_init_params(queue_entries, &ring_, &params) != 0) {
            return false;
        }
        ready_ = true;
        if ((params.features & IORING_FEAT_EXT_ARG) == 0) { // before Linux 5.11 a timed wait needs entries of its own
            return false;
        }
        watch(doorbell_fd());
        if (doorbells_fd() >= 0) {
            watch(doorbells_fd());
        }
        return true;
    }

    void wait(base::Micros timeout) override
    {
        reap(false);
        for (Watch& w : watches_) {
            if (!w.armed) {
                arm(w);
            }
        }
        __kernel_timespec limit{};
        limit.tv_sec = timeout.count() / 1'000'000;
        limit.tv_nsec = timeout.count() % 1'000'000 * 1000;
        io_uring_cqe* cqe = nullptr;
        io_uring_submit_and_wait_timeout(
            &ring_, &cqe, 1, timeout == base::Micros::max() ? nullptr : &limit, nullptr); // ETIME, EINTR: look again
        reap(true);
    }
    const char* name() const override { return "io_uring"; }

protected:
    void watch(int fd) override { watches_.push_back(Watch{fd, ++serial_, false}); }
    // The kernel's poll holds the open file, so it is removed now and not at the next wait.
    void unwatch(int fd) override
    {
        auto w = std::find_if(watches_.begin(), watches_.end(), [fd](const Watch& each) { return each.fd == fd; });
        INVARIANT(w != watches_.end());
        std::uint64_t serial = w->serial;
        bool armed = w->armed;
        watches_.erase(w);
        if (armed) {
            io_uring_sqe* sqe = entry();
            io_uring_prep_poll_remove(sqe, serial);
            sqe->user_data = ignored;
            submit();
        }
    }

private:
    struct Watch {
        int fd;
        std::uint64_t serial; // names this arming of this descriptor to the kernel
        bool armed;
    };

    io_uring_sqe* entry()
    {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        if (sqe == nullptr) {
            submit();
            sqe = io_uring_get_sqe(&ring_);
        }
        INVARIANT(sqe != nullptr);
        return sqe;
    }
    void submit()
    {
        while (io_uring_submit(&ring_) == -EINTR) {
        }
    }
    void arm(Watch& w)
    {
        io_uring_sqe* sqe = entry();
        io_uring_prep_poll_add(sqe, w.fd, POLLIN);
        sqe->user_data = w.serial;
        w.armed = true;
    }
    // Takes all completions.
    void reap(bool reset)
    {
        io_uring_cqe* cqe = nullptr;
        while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
            for (Watch& w : watches_) {
                if (w.serial == cqe->user_data) {
                    w.armed = false;
                    w.serial = ++serial_;
                    if (reset && is_doorbell(w.fd)) {
                        reset_doorbell(w.fd);
                    }
                }
            }
            io_uring_cqe_seen(&ring_, cqe);
        }
    }

    io_uring ring_{};            // o
    bool ready_ = false;         // o
    std::uint64_t serial_ = 0;   // o
    std::vector<Watch> watches_; // o
};

} // namespace

std::unique_ptr<Waiter> make_uring_waiter(int doorbell_fd, int doorbells_fd)
{
    auto waiter = std::make_unique<UringWaiter>(doorbell_fd, doorbells_fd);
    return waiter->init() ? std::move(waiter) : nullptr;
}

} // namespace lwkt
