// The kernel's flows of a cell: one thread, all senders in one namespace, all receivers in the other.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "benchmarks/goodput/goodput_relay.hpp"

namespace bench {
namespace {

constexpr std::size_t piece = 1U << 18;
constexpr int unsent_max = 1 << 18;               // of a socket: the rest of its buffer is for what is under way
constexpr std::uint32_t far_address = 0x0a4d0002; // 10.77.0.2

class KernelFlows {
public:
    KernelFlows(const GoodputCell& cell, const std::string& near, const std::string& far);
    ~KernelFlows();
    std::uint64_t run();
    std::string counters(std::uint32_t& mss) const;

private:
    int open_one() const;
    void set(int s, int level, int name, int value, const char* what) const;
    void watch(int s, std::uint32_t events) const;
    void connect_all();
    void happened(const epoll_event& e);
    void verify() const;

    const GoodputCell& cell_;
    lwkt::RealClock clock_;
    int set_ = epoll_create1(EPOLL_CLOEXEC);
    int listener_ = -1;
    std::vector<int> senders_;
    std::vector<int> receivers_;
    std::vector<char> bytes_ = std::vector<char>(piece);
    std::uint64_t received_ = 0;
    base::Instant begin_{};
};

[[noreturn]] void failed(const char* what)
{
    goodput_failed(std::string(what) + ": " + std::strerror(errno));
}

sockaddr_in server()
{
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(goodput_port);
    a.sin_addr.s_addr = htonl(far_address);
    return a;
}

void KernelFlows::set(int s, int level, int name, int value, const char* what) const
{
    if (setsockopt(s, level, name, &value, sizeof value) != 0) {
        failed(what);
    }
}

// The kernel doubles what a buffer is set to, for its own overhead.
int KernelFlows::open_one() const
{
    int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s < 0) {
        failed("socket");
    }
    set(s, SOL_SOCKET, SO_SNDBUFFORCE, 1 << buffer_shift(cell_), "SO_SNDBUFFORCE");
    set(s, SOL_SOCKET, SO_RCVBUFFORCE, 1 << buffer_shift(cell_), "SO_RCVBUFFORCE");
    return s;
}

void KernelFlows::watch(int s, std::uint32_t events) const
{
    epoll_event e{};
    e.events = events;
    e.data.fd = s;
    if (epoll_ctl(set_, EPOLL_CTL_ADD, s, &e) != 0) {
        failed("epoll_ctl");
    }
}

KernelFlows::KernelFlows(const GoodputCell& cell, const std::string& near, const std::string& far) : cell_(cell)
{
    {
        InNamespace there(far);
        listener_ = open_one();
    }
    sockaddr_in at = server();
    set(listener_, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
    if (bind(listener_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0 || listen(listener_, 1024) != 0) {
        failed("listen");
    }
    watch(listener_, EPOLLIN);
    InNamespace here(near);
    for (std::uint32_t i = 0; i < cell.flows; ++i) {
        int s = open_one();
        set(s, IPPROTO_TCP, TCP_NOTSENT_LOWAT, unsent_max, "TCP_NOTSENT_LOWAT");
        if (cell.congestion != "cubic" && setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, cell.congestion.data(),
                                              static_cast<socklen_t>(cell.congestion.size())) != 0) {
            failed("TCP_CONGESTION");
        }
        senders_.push_back(s);
    }
}

KernelFlows::~KernelFlows()
{
    for (auto* sockets : {&senders_, &receivers_}) {
        for (int s : *sockets) {
            linger now{1, 0}; // a reset: nothing of this cell goes on into the next
            setsockopt(s, SOL_SOCKET, SO_LINGER, &now, sizeof now);
            close(s);
        }
    }
    close(listener_);
    close(set_);
}

void KernelFlows::happened(const epoll_event& e)
{
    int s = e.data.fd;
    if (s == listener_) {
        for (int child = 0; (child = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
            receivers_.push_back(child);
            watch(child, EPOLLIN);
        }
        return;
    }
    if ((e.events & (EPOLLERR | EPOLLHUP)) != 0) {
        goodput_failed("a connection of the kernel broke");
    }
    if ((e.events & EPOLLIN) != 0) {
        for (ssize_t n = 0; (n = recv(s, bytes_.data(), bytes_.size(), MSG_TRUNC)) > 0;) {
            received_ += static_cast<std::uint64_t>(n);
        }
    }
    if ((e.events & EPOLLOUT) != 0) {
        while (send(s, bytes_.data(), bytes_.size(), MSG_NOSIGNAL) > 0) {
        }
    }
}

void KernelFlows::connect_all()
{
    sockaddr_in to = server();
    begin_ = clock_.now();
    for (int s : senders_) {
        if (connect(s, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS) {
            failed("connect");
        }
        watch(s, EPOLLOUT);
    }
}

std::uint64_t KernelFlows::run()
{
    connect_all();
    base::Instant end = begin_ + base::Micros{static_cast<std::int64_t>(cell_.seconds * 1e6)};
    epoll_event events[128];
    for (base::Instant now = begin_; now < end; now = clock_.now()) {
        auto left_ms = static_cast<int>((end - now).count() / 1000);
        int n = epoll_wait(set_, events, 128, std::min(left_ms, 100));
        for (int i = 0; i < n && clock_.now() < end; ++i) {
            happened(events[i]);
        }
    }
    verify();
    return received_;
}

// The namespace's default may be another one; routes say CUBIC.
void KernelFlows::verify() const
{
    for (int s : senders_) {
        char name[16] = {};
        socklen_t size = sizeof name;
        if (getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, name, &size) != 0 || cell_.congestion != name) {
            goodput_failed(std::string("the kernel's congestion control is ") + name + ", not " + cell_.congestion);
        }
    }
}

std::string KernelFlows::counters(std::uint32_t& mss) const
{
    std::uint64_t resent = 0;
    std::uint32_t least_us = UINT32_MAX;
    for (int s : senders_) {
        tcp_info i{};
        socklen_t size = sizeof i;
        if (getsockopt(s, IPPROTO_TCP, TCP_INFO, &i, &size) != 0) {
            failed("TCP_INFO");
        }
        resent += i.tcpi_total_retrans;
        least_us = std::min(least_us, i.tcpi_rtt);
        mss = i.tcpi_snd_mss;
    }
    return "\"retransmits\": " + std::to_string(resent) + ", \"srtt_us_least\": " + std::to_string(least_us);
}

} // namespace

GoodputResult goodput_kernel(const GoodputCell& cell, const std::string& near, const std::string& far)
{
    GoodputRelay relay(cell, near, far);
    GoodputResult r;
    KernelFlows flows(cell, near, far);
    r.bytes = flows.run();
    r.counters = flows.counters(r.mss) + ", " + relay.counters();
    r.refused = relay.refused();
    return r;
}

} // namespace bench
