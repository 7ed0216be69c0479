// epoll_wait on a set: what netd's sockets and the kernel's descriptors have now, and the sleep for both.
#include <algorithm>
#include <cerrno>

#include "client/looking.hpp"
#include "client/preload/deadline.hpp"
#include "client/preload/epoll_set.hpp"
#include "client/preload/real.hpp"

namespace preload {

// ---- Sleeping; arm, disarm, drain_pipe, kick and pass_on with mutex_ held -------------------------------------------

void EpollSet::arm()
{
    if (!armed_ && waiter_.fd >= 0) {
        armed_ = true;
        client::arm_waiter(*session_, waiter_);
    }
}

void EpollSet::disarm()
{
    if (armed_) {
        armed_ = false;
        client::disarm_waiter(*session_, waiter_);
    }
}

// Also what a wake left there that came too late for the sleep it was meant for.
void EpollSet::drain_pipe()
{
    armed_ = false;
    if (waiter_.fd >= 0) {
        session_->view.waiter(waiter_.index).sleeping.store(0, std::memory_order_seq_cst);
        session_->host->sleep(waiter_, base::Instant{});
    }
}

void EpollSet::kick()
{
    if (!kicked_ && kick_ >= 0) {
        kicked_ = true;
        std::uint64_t one = 1;
        [[maybe_unused]] ssize_t n = real.write(kick_, &one, sizeof one);
    }
}

void EpollSet::unkick()
{
    if (kicked_) {
        kicked_ = false;
        std::uint64_t count;
        [[maybe_unused]] ssize_t n = real.read(kick_, &count, sizeof count);
    }
}

bool EpollSet::awaited() const
{
    return sleepers_ > 0 || watchers_ > 0 || in_kernel_.load(std::memory_order_seq_cst) > 0;
}

// One wake reaches one of those who wait: what is left over, and what comes from now on, must reach the next. Also when
// the program changed what there is to wait for.
void EpollSet::pass_on()
{
    if (!awaited()) {
        return;
    }
    arm();
    if (any_ready()) {
        kick();
    }
}

// Takes our own events out; returns how many are left.
int EpollSet::filter_tags(epoll_event* out, int n)
{
    bool pipe = false;
    int kept = 0;
    for (int k = 0; k < n; ++k) {
        if (out[k].data.u64 == pipe_tag()) {
            pipe = true;
        } else if (out[k].data.u64 != kick_tag()) {
            out[kept++] = out[k];
        }
    }
    if (pipe) {
        std::lock_guard lock(mutex_);
        drain_pipe();
        see_end();
    }
    return kept;
}

// As filter_tags, for who is not counted among those who wait: what he took away may have been meant for them.
int EpollSet::filter_and_pass_on(epoll_event* out, int n)
{
    int kept = filter_tags(out, n);
    if (kept != n) {
        std::lock_guard lock(mutex_);
        pass_on();
    }
    return kept;
}

int EpollSet::kernel_now(int epfd, epoll_event* out, int max, const sigset_t* mask)
{
    turns_.store(0, std::memory_order_relaxed);
    Exposure exposure;
    expose_members(exposure);
    int n = real.epoll_pwait(epfd, out, max, 0, mask);
    return n > 0 ? filter_and_pass_on(out, n) : n;
}

// One stay in the kernel. As wait, but 0 = look again.
int EpollSet::sleep(
    int epfd, epoll_event* out, int max, const timespec* left, const sigset_t* mask, client::Looking& looking)
{
    {
        std::lock_guard lock(mutex_);
        ++sleepers_;
        arm();
    }
    Exposure exposure;
    expose_members(exposure);
    int found = collect(out, max);
    int error = std::max(-found, 0);
    bool slept = found == 0;
    if (slept) {
        found = real.epoll_pwait2(epfd, out, max, left, mask);
        error = found < 0 ? errno : 0;
        found = found > 0 ? filter_tags(out, found) : 0;
    }
    {
        std::lock_guard lock(mutex_);
        --sleepers_;
        if (!awaited()) {
            disarm();
        }
    }
    if (error == 0 && slept && found < max) { // else a level-triggered member would be reported twice
        int ours = std::max(collect(out + found, max - found), 0);
        found += ours;
        if (ours == 0) {
            looking.unpaid();
        }
    }
    std::lock_guard lock(mutex_);
    pass_on();
    if (error != 0) {
        errno = error;
        return -1;
    }
    return found;
}

int EpollSet::wait(int epfd, epoll_event* out, int max, const timespec* timeout, const sigset_t* mask)
{
    if (max <= 0) {
        errno = EINVAL;
        return -1;
    }
    constexpr unsigned kernel_every = 8; // calls in a row that netd's members alone may fill
    bool poll = is_zero(timeout);
    base::Instant deadline = deadline_of(timeout);
    // Not for as long as it pays: a server of many connections answers more of them when it lets requests gather.
    client::Looking looking(*session_, deadline, session_->look_min);
    auto news = [this] { return waiter_.fd >= 0 && bits_pending(); };
    for (;;) {
        // Kernel members are asked along with ours, as one set would; a full house of ours leaves them a place now and
        // then.
        bool kernel = kernel_fds_.load(std::memory_order_relaxed) > 0;
        int room = kernel && ++turns_ >= kernel_every ? max - 1 : max;
        int found = room > 0 ? collect(out, room) : 0;
        if (found < 0) {
            errno = -found;
            return -1;
        }
        if (found > 0 || poll || room == 0) {
            const sigset_t* lets_in = found == 0 ? mask : nullptr; // signals end the call where nothing is ready
            bool ask = found < max && (kernel || (poll && lets_in != nullptr));
            int n = ask ? kernel_now(epfd, out + found, max - found, lets_in) : 0;
            if (found > 0 || n != 0 || (poll && room > 0)) {
                return found > 0 ? found + std::max(n, 0) : n;
            }
            continue;
        }
        int others = 0;
        auto ask_others = [&] { return kernel && (others = kernel_now(epfd, out, max, mask)) != 0; };
        if (looking.until(news, ask_others)) {
            if (others != 0) {
                return others;
            }
            continue;
        }
        timespec left = deadline == base::never ? timespec{} : left_until(deadline);
        int n = sleep(epfd, out, max, deadline == base::never ? nullptr : &left, mask, looking);
        if (n != 0 || (deadline != base::never && monotonic_now() >= deadline)) {
            return n;
        }
    }
}

// Announced before the look at the members, as start_watching adds the member before its look at the announcement. Who
// is in the kernel when the first one comes stays there, and is woken as those in sleep are.
int EpollSet::wait_for_kernel(int epfd, epoll_event* out, int max, const timespec* timeout, const sigset_t* mask)
{
    base::Instant deadline = deadline_of(timeout);
    timespec left;
    for (;;) {
        Exposure exposure;
        expose_members(exposure);
        in_kernel_.fetch_add(1, std::memory_order_seq_cst);
        int n = members_.load(std::memory_order_seq_cst) != 0 ? 0 : real.epoll_pwait2(epfd, out, max, timeout, mask);
        in_kernel_.fetch_sub(1, std::memory_order_seq_cst);
        bool netd = members_.load(std::memory_order_seq_cst) != 0;
        int kept = n > 0 ? filter_and_pass_on(out, n) : n;
        if (kept != 0 || (n == 0 && !netd)) {
            return kept;
        }
        if (deadline != base::never) {
            left = left_until(deadline);
            timeout = &left;
        }
        if (netd) {
            return wait(epfd, out, max, timeout, mask);
        }
    }
}

// What sets in this one have is the kernel's to see before it is asked.
void EpollSet::expose_members(Exposure& exposure)
{
    if (has_nested_.load(std::memory_order_acquire)) {
        TableLock topology;
        watch_nested(exposure);
    }
}

void EpollSet::watch_nested(Exposure& exposure)
{
    for (Interest* i : all_) {
        if (i->kind == Member::nested) {
            exposure.add(*i->entry);
        }
    }
}

void EpollSet::expose()
{
    std::lock_guard lock(mutex_);
    look_and_show();
}

void EpollSet::watch()
{
    std::lock_guard lock(mutex_);
    ++watchers_;
    look_and_show();
}

void EpollSet::unwatch()
{
    std::lock_guard lock(mutex_);
    --watchers_;
    if (!awaited()) {
        disarm();
    }
}

void EpollSet::look_and_show()
{
    revive(); // a failure is for the set's own call to tell
    drain_pipe();
    arm();
    if (any_ready()) {
        kick();
    } else {
        unkick(); // what was ready when somebody was told is not now
    }
}

// As deep as the kernel nests, which lets no set be in itself.
void Exposure::add(Entry& e)
{
    if (std::find(entries_.begin(), entries_.end(), &e) != entries_.end()) {
        return;
    }
    e.refs.fetch_add(1, std::memory_order_relaxed);
    ++calls_under_way;
    entries_.push_back(&e);
    e.set->watch();
    e.set->watch_nested(*this);
}

void Exposure::end()
{
    int before = errno;
    for (Entry* e : entries_) {
        e->set->unwatch();
        end_call(e);
    }
    entries_.clear();
    errno = before;
}

} // namespace preload
