// The admission side of the fake netd, and its life and death. See fake_netd.hpp.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/check.hpp"
#include "sockbuf/admission.hpp"
#include "sockbuf/side_lock.hpp"
#include "tests/client/fake_netd.hpp"

namespace fake {

using namespace sockbuf;

namespace {

void send_packet(int fd, const void* data, std::size_t size, const std::vector<int>& fds)
{
    alignas(cmsghdr) unsigned char control[CMSG_SPACE(sizeof(int) * 72)] = {};
    iovec piece{const_cast<void*>(data), size};
    msghdr m{};
    m.msg_iov = &piece;
    m.msg_iovlen = 1;
    if (!fds.empty()) {
        m.msg_control = control;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
        cmsghdr* c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
        std::memcpy(CMSG_DATA(c), fds.data(), sizeof(int) * fds.size());
    }
    sendmsg(fd, &m, MSG_NOSIGNAL);
}

} // namespace

Netd::Netd(const Options& options) : options_(options)
{
    char name[] = "/tmp/fake-netd-XXXXXX";
    INVARIANT(mkdtemp(name) != nullptr);
    directory_ = name;
    path_ = directory_ + "/socket";
    make_segment();
    stop_fd_ = eventfd(0, EFD_CLOEXEC);
    waiter_fds_.assign(max_waiters, -1);
    listen_fd_ = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    sockaddr_un addr{};
    addr.sun_family = AF_UNIX;
    std::strcpy(addr.sun_path, path_.c_str());
    INVARIANT(::bind(listen_fd_, reinterpret_cast<sockaddr*>(&addr), sizeof addr) == 0);
    INVARIANT(::listen(listen_fd_, 8) == 0);
    protocol_ = std::thread([this] { run(); });
    admission_ = std::thread([this] { admit(); });
}

void Netd::die()
{
    if (stop_.exchange(true)) {
        return;
    }
    std::uint64_t many = 1;
    INVARIANT(write(stop_fd_, &many, sizeof many) == sizeof many);
    protocol_.join();
    admission_.join();
    std::lock_guard lock(mutex_);
    for (const Process& p : processes_) {
        ::close(p.fd);
    }
    for (int fd : waiter_fds_) {
        if (fd >= 0) {
            ::close(fd);
        }
    }
    ::close(listen_fd_);
}

Netd::~Netd()
{
    die();
    munmap(view_.base(), view_.layout().bytes);
    munmap(sleep_words_, view_.layout().page_bytes);
    for (int fd : doorbells_) {
        ::close(fd);
    }
    for (int fd : {segment_fd_, page_fd_, stop_fd_}) {
        ::close(fd);
    }
    unlink(path_.c_str());
    rmdir(directory_.c_str());
}

void Netd::admit()
{
    while (!stop_) {
        std::vector<pollfd> fds{{stop_fd_, POLLIN, 0}, {listen_fd_, POLLIN, 0}};
        for (const Process& p : processes_) {
            fds.push_back({p.fd, POLLIN, 0});
        }
        poll(fds.data(), fds.size(), -1);
        std::lock_guard lock(mutex_);
        for (std::size_t i = fds.size(); i-- > 2;) {
            if (fds[i].revents != 0 && !answer(processes_[i - 2])) {
                Process gone = processes_[i - 2];
                processes_.erase(processes_.begin() + static_cast<long>(i - 2));
                ::close(gone.fd);
                process_gone(gone.index);
            }
        }
        if ((fds[1].revents & POLLIN) != 0) {
            processes_.push_back({accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC), max_processes});
        }
    }
}

bool Netd::answer(Process& p)
{
    AdmissionRequest r;
    if (recv(p.fd, &r, sizeof r, 0) != sizeof r || r.magic != abi_magic) {
        return false;
    }
    switch (static_cast<Hello>(r.hello)) {
    case Hello::attach:
        attach(p);
        return true;
    case Hello::waiter:
        give_waiter(p, r.value);
        return true;
    case Hello::fork:
        fork(p); // p may be invalid afterwards
        return true;
    case Hello::drop_waiter:
        ::close(waiter_fds_[static_cast<std::size_t>(r.value)]);
        waiter_fds_[static_cast<std::size_t>(r.value)] = -1;
        view_.waiter(static_cast<std::uint32_t>(r.value)).kind = 0;
        return true;
    default:
        return false;
    }
}

void Netd::attach(Process& p)
{
    p.index = next_process_++;
    AttachReply reply{0, abi_version, view_.layout().bytes, view_.layout().page_bytes, p.index, options_.cpus, 0};
    std::vector<int> fds{segment_fd_, page_fd_};
    fds.insert(fds.end(), doorbells_.begin(), doorbells_.end());
    send_packet(p.fd, &reply, sizeof reply, fds);
}

void Netd::give_waiter(Process& p, std::int32_t kind)
{
    auto it = std::find(waiter_fds_.begin(), waiter_fds_.begin() + options_.waiters, -1);
    auto index = static_cast<std::uint32_t>(it - waiter_fds_.begin());
    if (index == options_.waiters) {
        WaiterReply refused{ENOSPC, 0};
        send_packet(p.fd, &refused, sizeof refused, {});
        return;
    }
    int ends[2];
    INVARIANT(pipe2(ends, O_CLOEXEC) == 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    *it = ends[1];
    view_.waiter(index).kind = static_cast<std::uint32_t>(kind);
    view_.waiter(index).process = p.index;
    view_.waiter(index).sleeping.store(0);
    waiters_given_.fetch_add(1);
    WaiterReply reply{0, index};
    send_packet(p.fd, &reply, sizeof reply, {ends[0]});
    ::close(ends[0]);
}

void Netd::fork(Process& p)
{
    int ends[2];
    INVARIANT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    ForkReply reply{0, next_process_++};
    send_packet(p.fd, &reply, sizeof reply, {ends[1]});
    ::close(ends[1]);
    processes_.push_back({ends[0], reply.process});
}

void Netd::process_gone(std::uint32_t index)
{
    if (index >= max_processes) {
        return;
    }
    for (std::uint32_t s = 0; s < options_.sockets; ++s) {
        SocketSlot& sl = slot(s);
        for (auto* lock : {&sl.share.snd_lock, &sl.share.rcv_lock, &sl.share.ctl_lock}) {
            side_lock_release_dead(*lock, index);
        }
        std::uint64_t bit = std::uint64_t{1} << index;
        std::uint64_t before = sl.share.holders.fetch_and(~bit);
        if (before == bit && sockets_[s].exists) {
            std::uint64_t open = no_offset;
            sl.app.snd_end.compare_exchange_strong(open, sl.app.snd_produced.load());
            close(s);
        }
    }
    for (std::uint32_t w = 0; w < max_waiters; ++w) {
        if (waiter_fds_[w] >= 0 && view_.waiter(w).process == index) {
            ::close(waiter_fds_[w]);
            waiter_fds_[w] = -1;
        }
    }
}

} // namespace fake
