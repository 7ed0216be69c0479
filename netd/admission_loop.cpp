#include "netd/admission_loop.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/check.hpp"
#include "lwkt/clock.hpp"

namespace netd {

namespace {

constexpr std::uint64_t id_listen = 1;
constexpr std::uint64_t id_signal = 2;
constexpr std::uint64_t id_fault = 3;
constexpr base::Micros speak_within = base::seconds(5);
constexpr base::Micros reap_every = base::millis(200); // while ended families have connections that are not over
constexpr int accepts_per_look = 16;
constexpr std::uint32_t complaints_per_second = 20;

// All that the peer had when it connected.
std::vector<gid_t> groups_of(int fd, gid_t first)
{
    std::vector<gid_t> groups(32);
    for (bool again = true; again;) {
        auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
        bool known = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) == 0;
        again = !known && errno == ERANGE && size / sizeof(gid_t) > groups.size(); // then it says how many there are
        groups.resize(known || again ? size / sizeof(gid_t) : 0);
    }
    groups.push_back(first);
    return groups;
}

} // namespace

base::Instant Admission::now()
{
    return lwkt::RealClock{}.now();
}

Admission::Admission(
    gateway::Gateway& gateway, BusGuard& guard, const Served& served, const Config& config, ControlText control)
    : gateway_(gateway), guard_(guard), served_(served), policy_(config.admission), limits_(config.limits),
      control_(std::move(control)), epoll_(epoll_create1(EPOLL_CLOEXEC)),
      spare_(open("/dev/null", O_RDONLY | O_CLOEXEC))
{
    INVARIANT(epoll_ && spare_);
}

Admission::~Admission() = default;

void Admission::watch(int fd, std::uint64_t id, std::uint32_t events, bool added)
{
    epoll_event e{};
    e.events = events;
    e.data.u64 = id;
    INVARIANT(epoll_ctl(epoll_.get(), added ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &e) == 0);
}

int Admission::run(int listen_fd, int signal_fd)
{
    start(listen_fd, signal_fd);
    int signal = 0;
    while (signal == 0) {
        signal = look(-1);
    }
    return signal;
}

void Admission::start(int listen_fd, int signal_fd)
{
    listen_fd_ = listen_fd;
    signal_fd_ = signal_fd;
    watch(listen_fd, id_listen, EPOLLIN);
    watch(signal_fd, id_signal, EPOLLIN);
    watch(guard_.event_fd(), id_fault, EPOLLIN);
}

int Admission::look(int timeout_ms)
{
    epoll_event events[64];
    int n = epoll_wait(epoll_.get(), events, 64, next_timeout_ms(now(), timeout_ms));
    for (int i = 0; i < n; ++i) {
        if (events[i].data.u64 == id_signal) {
            signalfd_siginfo info{};
            if (read(signal_fd_, &info, sizeof info) == sizeof info) {
                return static_cast<int>(info.ssi_signo);
            }
        } else if (events[i].data.u64 == id_listen) {
            accept_some(listen_fd_);
        } else if (events[i].data.u64 == id_fault) {
            close_marked();
        } else {
            serve(events[i].data.u64, events[i].events);
        }
    }
    close_silent(now());
    families_linger_ = gateway_.reap();
    return 0;
}

void Admission::close_all()
{
    if (!gateway_.part()) {
        spdlog::warn("programs find their sockets closed: {}", std::strerror(errno));
    }
    while (!connections_.empty()) {
        close_connection(connections_.begin()->first);
    }
}

// ---- who comes in ---------------------------------------------------------------------------------------------------

void Admission::accept_some(int listen_fd)
{
    for (int i = 0; i < accepts_per_look; ++i) {
        UniqueFd fd(accept4(listen_fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!fd && (errno == EMFILE || errno == ENFILE)) {
            spare_.reset(); // its number serves to take the peer from the queue and turn it away
            UniqueFd refused(accept4(listen_fd, nullptr, nullptr, SOCK_CLOEXEC));
            refused.reset();
            spare_.reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
            if (may_complain()) {
                spdlog::error("out of descriptors: a process was turned away");
            }
            return;
        }
        if (!fd) {
            return;
        }
        Connection c;
        if (!admitted(fd.get(), c)) {
            continue;
        }
        c.fd = std::move(fd);
        c.deadline = now() + speak_within;
        ++timed_;
        add(std::move(c));
    }
}

bool Admission::admitted(int fd, Connection& c)
{
    ucred peer{};
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
        return false;
    }
    c.pid = peer.pid;
    c.uid = peer.uid;
    auto in = [](const auto& list, auto id) { return std::find(list.begin(), list.end(), id) != list.end(); };
    auto in_group = [&] {
        std::vector<gid_t> groups = groups_of(fd, peer.gid);
        return std::any_of(groups.begin(), groups.end(), [&](gid_t gid) { return in(policy_.gids, gid); });
    };
    if (peer.uid != 0 && peer.uid != geteuid() && !in(policy_.uids, peer.uid) && !in_group()) {
        complain(c, "is not allowed to attach ([admission] uids, gids)");
        return false;
    }
    if (auto it = by_uid_.find(c.uid); it != by_uid_.end() && it->second >= connections_per_uid) {
        complain(c, fmt::format("has {} connections already", connections_per_uid));
        return false;
    }
    return true;
}

Admission::Connection& Admission::add(Connection c)
{
    c.id = next_id_++;
    ++by_uid_[c.uid];
    Connection& added = connections_.emplace(c.id, std::move(c)).first->second;
    watch(added.fd.get(), added.id, EPOLLIN);
    return added;
}

void Admission::close_connection(std::uint64_t id)
{
    auto it = connections_.find(id);
    INVARIANT(it != connections_.end());
    Connection c = std::move(it->second);
    connections_.erase(it);
    timed_ -= c.deadline != base::never ? 1 : 0;
    if (--by_uid_[c.uid] == 0) {
        by_uid_.erase(c.uid);
    }
    leave_family(c);
}

void Admission::leave_family(Connection& c)
{
    if (c.role != Role::process) {
        return;
    }
    std::uint32_t id = gateway_.id(*c.client);
    bool last = gateway_.process_gone(*c.client, c.process);
    spdlog::debug("client {}: process {} ({}) is gone{}", id, c.process, name(c), last ? ", the last one" : "");
    if (last) {
        guard_.unwatch(id);
        std::erase_if(shares_, [&](const auto& share) { return share.second == c.client; });
        doorbells_.erase(c.client);
        gateway_.detach(*c.client);
    }
}

void Admission::close_silent(base::Instant at)
{
    if (timed_ == 0) {
        return;
    }
    std::vector<std::uint64_t> silent;
    for (auto& [id, c] : connections_) {
        if (c.deadline <= at) {
            silent.push_back(id);
        }
    }
    for (std::uint64_t id : silent) {
        const Connection& c = connections_.at(id);
        complain(c,
            c.role == Role::fresh ? "connected and said nothing" : "does not read what it asked for, or does not go");
        close_connection(id);
    }
}

int Admission::next_timeout_ms(base::Instant at, int otherwise_ms) const
{
    if ((timed_ == 0 && !families_linger_) || otherwise_ms == 0) {
        return otherwise_ms;
    }
    base::Instant next = families_linger_ ? at + reap_every : base::never;
    for (auto& [id, c] : connections_) {
        next = std::min(next, c.deadline);
    }
    auto left = static_cast<int>(std::max<std::int64_t>((next - at).count(), 0) / 1000 + 1);
    return otherwise_ms < 0 ? left : std::min(left, otherwise_ms);
}

// Clients whose memory faulted: dead, with all their processes, if there are any left; else what they sent last is
// lost.
void Admission::close_marked()
{
    for (std::uint32_t client : guard_.take_marked()) {
        if (!gateway_.poison(client)) {
            continue;
        }
        spdlog::error("client {}: its memory faulted; its sockets are aborted", client);
        std::vector<std::uint64_t> members;
        for (auto& [id, c] : connections_) {
            if (c.role == Role::process && gateway_.id(*c.client) == client) {
                members.push_back(id);
            }
        }
        for (std::uint64_t id : members) {
            close_connection(id);
        }
    }
}

// ---- what they say --------------------------------------------------------------------------------------------------

void Admission::serve(std::uint64_t id, std::uint32_t events)
{
    auto it = connections_.find(id);
    if (it == connections_.end()) {
        return; // closed earlier in this batch of events
    }
    Connection& c = it->second;
    Verdict v = Verdict::keep;
    if ((events & EPOLLOUT) != 0) {
        v = send_more(c);
    }
    if (v == Verdict::keep && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        v = read_request(c);
    }
    if (v == Verdict::close) {
        close_connection(id);
    }
}

// ---- words ----------------------------------------------------------------------------------------------------------

std::string Admission::name(const Connection& c) const
{
    return fmt::format("process {} of user {}", c.pid, c.uid);
}

// What peers make netd write is bounded too.
bool Admission::may_complain()
{
    base::Instant at = now();
    if (at - complaints_since_ >= base::seconds(1)) {
        complaints_since_ = at;
        if (complaints_ > complaints_per_second) {
            spdlog::warn("{} more complaints about peers were not written", complaints_ - complaints_per_second);
        }
        complaints_ = 0;
    }
    return ++complaints_ <= complaints_per_second;
}

void Admission::complain(const Connection& c, const std::string& what)
{
    if (may_complain()) {
        spdlog::warn("{} {}", name(c), what);
    }
}

} // namespace netd
