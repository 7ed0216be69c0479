#include "client/admission.hpp"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "client/admission_packets.hpp"
#include "client/real_calls.hpp"
#include "client/signal_guard.hpp"
#include "sockbuf/side_lock.hpp"

namespace client {

namespace {

constexpr base::Micros look_max{50}; // what a sleep and a wake-up cost at worst, twice

} // namespace

int Admission::attach(const char* socket_path, std::unique_ptr<Admission>& out, const char* share)
{
    SignalGuard no_handlers;
    int fd = connect_admission(socket_path);
    if (fd < 0) {
        return fd;
    }
    std::unique_ptr<Admission> a(new Admission(fd));
    sockbuf::AttachReply reply{};
    FdList fds;
    int rc = share != nullptr ? send_share(fd, share) : send_hello(fd, sockbuf::Hello::attach, 0);
    rc = rc != 0 ? rc : receive_reply(fd, &reply, sizeof reply, fds);
    if (rc == 0 && reply.error != 0) {
        rc = -reply.error;
    } else if (rc == 0 && (reply.version != sockbuf::abi_version || fds.count != std::size_t{2} + reply.cpus)) {
        rc = -EPROTO;
    }
    if (rc != 0) {
        fds.close_all();
        return rc;
    }
    rc = a->map(reply, fds.fds[0], fds.fds[1]);
    a->doorbells_.assign(fds.fds + 2, fds.fds + fds.count);
    fds.count = 2; // the mappings keep the memory
    fds.close_all();
    if (rc == 0) {
        out = std::move(a);
    }
    return rc;
}

int Admission::map(const sockbuf::AttachReply& reply, int segment_fd, int page_fd)
{
    segment_bytes_ = reply.segment_bytes;
    page_bytes_ = reply.page_bytes;
    void* p = mmap(nullptr, segment_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, segment_fd, 0);
    if (p == MAP_FAILED) {
        return -errno;
    }
    segment_ = p;
    p = mmap(nullptr, page_bytes_, PROT_READ, MAP_SHARED, page_fd, 0);
    if (p == MAP_FAILED) {
        return -errno;
    }
    page_ = p;
    const auto& header = *static_cast<const sockbuf::SegmentHeader*>(segment_);
    if (segment_bytes_ < sizeof header || header.magic != sockbuf::abi_magic ||
        header.version != sockbuf::abi_version || header.bytes > segment_bytes_ || header.cpus != reply.cpus ||
        page_bytes_ < std::size_t{64} * reply.cpus) {
        return -EPROTO;
    }
    session_.view = sockbuf::SegmentView(static_cast<std::byte*>(segment_), header);
    session_.sleep_words = static_cast<const std::atomic<std::uint32_t>*>(page_);
    session_.process = reply.process;
    session_.host = this;
    session_.near = cpus_near(header);
    session_.defer_signals = true;
    session_.look_max = look_max;
    return 0;
}

void Admission::look_for(base::Micros at_least)
{
    session_.look_min = at_least;
    session_.look_max = std::max(session_.look_max, at_least);
}

Admission::~Admission()
{
    retire();
    close_waiters();
    for (const Waker& w : wakers_) {
        if (w.fd != 0) {
            real_calls.close(w.fd);
        }
    }
    for (int fd : doorbells_) {
        real_calls.close(fd);
    }
    if (segment_ != nullptr) {
        munmap(segment_, segment_bytes_);
    }
    if (page_ != nullptr) {
        munmap(page_, page_bytes_);
    }
    if (fd_ >= 0) {
        real_calls.close(fd_);
    }
}

int Admission::prepare_fork(ForkTicket& out)
{
    mutex_.lock(); // until keep() or adopt(): the child must not inherit it held by a thread it does not have
    SignalGuard no_handlers;
    sockbuf::ForkReply reply{};
    FdList fds;
    int rc = alive() ? send_hello(fd_, sockbuf::Hello::fork, 0) : -EPIPE;
    rc = rc != 0 ? rc : receive_reply(fd_, &reply, sizeof reply, fds);
    if (rc == -EPIPE) {
        alive_.store(false);
    }
    if (rc == 0 && (reply.error != 0 || fds.count != 1)) {
        rc = reply.error != 0 ? -reply.error : -EPROTO;
    }
    if (rc != 0) {
        fds.close_all();
        mutex_.unlock();
        return rc;
    }
    out = {reply.process, fds.fds[0]};
    // Bounded: the handler of a signal that came in the middle of a wake may fork.
    forking_.store(true);
    for (int i = 0; i < 1000 && waking_.load() != 0; ++i) {
        sched_yield();
    }
    return 0;
}

void Admission::keep(ForkTicket& ticket)
{
    forking_.store(false);
    mutex_.unlock();
    real_calls.close(ticket.fd);
    ticket.fd = -1;
}

void Admission::close_waiters()
{
    for (std::atomic<int>& pipe : pipes_) {
        if (pipe != 0) {
            real_calls.close(pipe.exchange(0));
        }
    }
}

void Admission::adopt(ForkTicket& ticket)
{
    forking_.store(false);
    waking_.store(0); // threads that are not here
    mutex_.unlock();
    renew_after_fork();
    sockbuf::side_lock_after_fork();
    close_waiters();       // they are the parent's
    real_calls.close(fd_); // ours would hide the parent's death
    fd_ = ticket.fd;
    ticket.fd = -1;
    session_.process = ticket.process;
}

void Admission::disown()
{
    renew_after_fork();
    close_waiters();
    alive_.store(false);
    real_calls.close(fd_);
    fd_ = -1;
}

bool Admission::owns(int fd) const
{
    return fd > 0 &&
           (fd == fd_.load() || std::find(doorbells_.begin(), doorbells_.end(), fd) != doorbells_.end() ||
               std::find(std::begin(pipes_), std::end(pipes_), fd) != std::end(pipes_) ||
               std::any_of(std::begin(wakers_), std::end(wakers_), [fd](const Waker& w) { return w.fd == fd; }));
}

std::vector<int> Admission::own_fds() const
{
    std::vector<int> fds = doorbells_;
    fds.push_back(fd_.load());
    fds.insert(fds.end(), std::begin(pipes_), std::end(pipes_));
    for (const Waker& w : wakers_) {
        fds.push_back(w.fd);
    }
    std::erase_if(fds, [](int fd) { return fd <= 0; });
    return fds;
}

void Admission::ring(std::uint32_t cpu)
{
    std::uint64_t one = 1;
    int before = errno;
    // At its limit, where only a program that meddles brings it, it is not heard, which is that family's loss; nor is
    // it once netd is gone: no failure matters.
    [[maybe_unused]] ssize_t n = real_calls.write(doorbells_[cpu], &one, sizeof one);
    errno = before;
}

int Admission::make_waiter(sockbuf::WaiterKind kind, WaiterHandle& out)
{
    SignalGuard no_handlers;
    std::lock_guard lock(mutex_);
    if (!alive()) {
        return -EPIPE;
    }
    sockbuf::WaiterReply reply{};
    FdList fds;
    int rc = send_hello(fd_, sockbuf::Hello::waiter, static_cast<std::int32_t>(kind));
    rc = rc != 0 ? rc : receive_reply(fd_, &reply, sizeof reply, fds);
    if (rc == -EPIPE) {
        alive_.store(false);
    }
    if (rc == 0 && (reply.error != 0 || fds.count != 1 || reply.waiter >= sockbuf::max_waiters)) {
        rc = reply.error != 0 ? -reply.error : -EPROTO;
    }
    if (rc != 0) {
        fds.close_all();
        return rc;
    }
    out = {reply.waiter, fds.fds[0]};
    pipes_[out.index] = out.fd;
    return 0;
}

void Admission::drop_waiter(const WaiterHandle& w)
{
    SignalGuard no_handlers;
    std::lock_guard lock(mutex_);
    if (w.fd <= 0 || w.index >= sockbuf::max_waiters || pipes_[w.index] != w.fd) {
        return; // adopt() closed it
    }
    pipes_[w.index] = 0;
    real_calls.close(w.fd);
    if (alive()) {
        send_hello(fd_, sockbuf::Hello::drop_waiter, static_cast<std::int32_t>(w.index));
    }
}

int Admission::sleep(const WaiterHandle& w, base::Instant deadline)
{
    char bytes[64];
    if (deadline == base::never) {
        // A plain blocking read: whether a signal restarts it or not is the kernel's decision.
        ssize_t n = real_calls.read(w.fd, bytes, sizeof bytes);
        if (n > 0) {
            return 0;
        }
        if (n < 0 && errno == EINTR) {
            return -EINTR;
        }
        alive_.store(false);
        return -EPIPE;
    }
    std::int64_t left = std::max<std::int64_t>((deadline - now()).count(), 0);
    timespec timeout{left / 1'000'000, (left % 1'000'000) * 1000};
    pollfd fds[2] = {{fd_, 0, 0}, {w.fd, POLLIN, 0}}; // a negative descriptor is ignored
    int n = real_calls.ppoll(fds, 2, &timeout, nullptr);
    if (n < 0) {
        return errno == EINTR ? -EINTR : -EPIPE;
    }
    if (n == 0) {
        return -ETIMEDOUT;
    }
    if ((fds[1].revents & POLLIN) != 0 && real_calls.read(w.fd, bytes, sizeof bytes) > 0) {
        return 0;
    }
    alive_.store(false);
    return -EPIPE;
}

base::Instant Admission::now()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return base::Instant{base::Micros{t.tv_sec * 1'000'000 + t.tv_nsec / 1000}};
}

} // namespace client
