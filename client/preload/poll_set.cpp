#include "client/preload/poll_set.hpp"

#include <algorithm>
#include <memory>

#include "client/looking.hpp"
#include "client/preload/calls.hpp"
#include "client/preload/deadline.hpp"
#include "client/preload/epoll_set.hpp"

namespace preload {

namespace {

static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT && POLLERR == EPOLLERR && POLLHUP == EPOLLHUP &&
              POLLRDHUP == EPOLLRDHUP && POLLPRI == EPOLLPRI && POLLRDNORM == EPOLLRDNORM);

constexpr std::size_t small_count = 64; // descriptors without an allocation
constexpr base::Micros nap{1000};       // no waiter to be had
constexpr timespec at_once{0, 0};

// The descriptors of one call, with references to ours.
class Polled {
public:
    Polled(client::Session* s, pollfd* fds, nfds_t count) : s_(s), fds_(fds), count_(count)
    {
        if (count > small_count) {
            many_entries_.reset(new Entry*[count]);
            many_kernel_.reset(new pollfd[count + 1]);
            entries_ = many_entries_.get();
            kernel_ = many_kernel_.get();
        }
        for (nfds_t i = 0; i < count; ++i) {
            entries_[i] = Held(fds[i].fd).give();
            fds[i].revents = 0; // nobody's are those of a negative number
            kernel_[i] = fds[i];
            if (netd(i) != nullptr) {
                kernel_[i].fd = -1;
            } else {
                kernel_count_ += fds[i].fd >= 0;
            }
        }
    }
    ~Polled()
    {
        unwatch();
        for (nfds_t i = 0; i < count_; ++i) {
            if (entries_[i] != nullptr) {
                end_call(entries_[i]);
            }
        }
    }
    Polled(const Polled&) = delete;
    Polled& operator=(const Polled&) = delete;

    bool has_kernel() const { return kernel_count_ != 0; }

    // Fills revents of netd's; how many are ready.
    int ask_netd()
    {
        int ready = 0;
        for (nfds_t i = 0; i < count_; ++i) {
            if (Entry* e = netd(i)) {
                auto events = static_cast<std::uint32_t>(static_cast<std::uint16_t>(fds_[i].events));
                fds_[i].revents = static_cast<short>(client::sock_readiness(*s_, e->sock, events));
                ready += fds_[i].revents != 0;
            }
        }
        return ready;
    }
    // The program took the descriptor of one of netd's away: a signal that says so may have come already.
    bool abandoned() const
    {
        for (nfds_t i = 0; i < count_; ++i) {
            if (Entry* e = netd(i); e != nullptr && e->descriptors.load() == 0) {
                return true;
            }
        }
        return false;
    }
    // Epoll sets are polled by the kernel, which must see what is pending in them.
    void expose_sets()
    {
        exposure_.end();
        for (nfds_t i = 0; i < count_; ++i) {
            if (entries_[i] != nullptr && entries_[i]->set != nullptr) {
                TableLock topology;
                exposure_.add(*entries_[i]);
            }
        }
    }
    // ppoll of the kernel's part; fills their revents. The result without the waiter; woken: the waiter was readable.
    int ask_kernel(const timespec* timeout, const sigset_t* mask, bool& woken)
    {
        nfds_t count = count_;
        if (watching_) {
            kernel_[count++] = {waiter_.fd, POLLIN, 0};
        }
        int n = real.ppoll(kernel_, count, timeout, mask);
        woken = n > 0 && watching_ && kernel_[count_].revents != 0;
        int ready = 0;
        for (nfds_t i = 0; i < count_ && n >= 0; ++i) {
            if (kernel_[i].revents != 0 && was_decided(i)) {
                take_over(i);
            } else if (netd(i) == nullptr) {
                fds_[i].revents = kernel_[i].revents;
                ready += kernel_[i].revents != 0;
            }
        }
        return n < 0 ? n : ready;
    }
    // False: no waiter.
    bool watch()
    {
        if (watching_ || client::thread_waiter(*s_, waiter_) != 0) {
            return watching_;
        }
        watching_ = true;
        for (nfds_t i = 0; i < count_; ++i) {
            if (Entry* e = netd(i)) {
                client::sock_watch(*s_, e->sock, waiter_.index);
            }
        }
        return true;
    }
    void arm()
    {
        client::arm_waiter(*s_, waiter_);
        for (nfds_t i = 0; i < count_; ++i) {
            if (Entry* e = netd(i)) {
                client::sock_arm(*s_, e->sock);
            }
        }
    }
    void disarm(bool woken)
    {
        s_->view.waiter(waiter_.index).sleeping.store(0, std::memory_order_seq_cst);
        if (woken) {
            s_->host->sleep(waiter_, base::Instant{}); // takes what is in the pipe; sees netd's end
        }
    }

private:
    Entry* netd(nfds_t i) const
    {
        Entry* e = entries_[i];
        return e != nullptr && e->state.load(std::memory_order_acquire) == EntryState::netd ? e : nullptr;
    }
    // Meanwhile, for netd: then its event told only that.
    bool was_decided(nfds_t i) const
    {
        Entry* e = entries_[i];
        return e != nullptr && e->state.load(std::memory_order_acquire) != EntryState::epoll && became_netd(*e);
    }
    void take_over(nfds_t i)
    {
        kernel_[i].fd = -1;
        kernel_[i].revents = 0;
        --kernel_count_;
        if (watching_) {
            client::sock_watch(*s_, entries_[i]->sock, waiter_.index);
        }
    }
    void unwatch()
    {
        for (nfds_t i = 0; watching_ && i < count_; ++i) {
            if (Entry* e = netd(i)) {
                client::sock_unwatch(*s_, e->sock, waiter_.index);
            }
        }
        if (watching_) {
            client::give_thread_waiter(*s_, waiter_);
        }
        watching_ = false;
    }

    client::Session* s_;
    pollfd* fds_;
    nfds_t count_;
    int kernel_count_ = 0;
    client::WaiterHandle waiter_;
    bool watching_ = false;
    Exposure exposure_;
    Entry* few_entries_[small_count];
    pollfd few_kernel_[small_count + 1];
    std::unique_ptr<Entry*[]> many_entries_;
    std::unique_ptr<pollfd[]> many_kernel_;
    Entry** entries_ = few_entries_;
    pollfd* kernel_ = few_kernel_;
};

} // namespace

Polls polls_what(const pollfd* fds, nfds_t count)
{
    Polls what = Polls::kernel;
    for (nfds_t i = 0; i < count; ++i) {
        Entry* e = peek(fds[i].fd);
        if (e == nullptr) {
            continue;
        }
        if (e->state.load(std::memory_order_acquire) != EntryState::undecided && session_if_attached() != nullptr) {
            return Polls::ours;
        }
        what = Polls::undecided;
    }
    return what;
}

int poll_undecided(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask)
{
    base::Instant deadline = deadline_of(timeout);
    int n = real.ppoll(fds, count, timeout, mask);
    if (n <= 0) {
        return n;
    }
    {
        TableLock topology; // as became_netd()
        if (polls_what(fds, count) != Polls::ours) {
            return n;
        }
    }
    timespec left = deadline == base::never ? timespec{} : left_until(deadline);
    return poll_mixed(fds, count, deadline == base::never ? timeout : &left, mask);
}

int poll_mixed(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask)
{
    if (!is_time(timeout)) {
        errno = EINVAL;
        return -1;
    }
    pthread_testcancel();
    client::Session& s = *session_if_attached();
    Polled polled(&s, fds, count);
    bool once = is_zero(timeout);
    base::Instant deadline = deadline_of(timeout);
    client::Looking looking(s, deadline);
    for (;;) {
        bool woken = false;
        int ready = polled.ask_netd();
        if (ready > 0 || once) {
            polled.expose_sets();
            const sigset_t* lets_in = ready == 0 ? mask : nullptr; // signals end the call where nothing is ready
            bool ask = polled.has_kernel() || lets_in != nullptr;
            int n = ask ? polled.ask_kernel(&at_once, lets_in, woken) : 0;
            return n < 0 ? n : ready + n;
        }
        int others = 0;
        auto ask_others = [&] {
            others = polled.has_kernel() ? polled.ask_kernel(&at_once, mask, woken) : 0;
            return others != 0;
        };
        if (looking.until([&] { return polled.ask_netd() > 0; }, ask_others)) {
            if (others != 0) {
                return others;
            }
            continue;
        }
        bool can_wake = polled.watch();
        if (can_wake) {
            polled.arm();
            if (polled.ask_netd() > 0) {
                polled.disarm(false);
                continue;
            }
        }
        if (polled.abandoned()) {
            if (can_wake) {
                polled.disarm(false);
            }
            errno = EINTR;
            return -1;
        }
        polled.expose_sets();
        base::Instant sleep_end = can_wake ? deadline : std::min(deadline, s.host->now() + nap);
        timespec left = sleep_end == base::never ? timespec{} : left_until(sleep_end);
        int n = polled.ask_kernel(sleep_end == base::never ? nullptr : &left, mask, woken);
        int error = errno;
        if (can_wake) {
            polled.disarm(woken);
        }
        ready = polled.ask_netd();
        if (ready == 0) {
            looking.unpaid();
        }
        if (n < 0 && ready == 0) {
            errno = error;
            return -1;
        }
        if (ready > 0 || n > 0 || (deadline != base::never && s.host->now() >= deadline)) {
            return ready + std::max(n, 0);
        }
    }
}

} // namespace preload
