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
#include "netd/seqpacket.hpp"

namespace netd {

namespace {

constexpr std::uint64_t id_listen = 1;
constexpr std::uint64_t id_signal = 2;
constexpr std::uint64_t id_fault = 3;
constexpr base::Micros speak_within = base::seconds(5);
constexpr base::Micros take_within = base::seconds(5);
constexpr int controls_per_uid = 16; // each may hold a text of megabytes for so long
// Every process of a family and every netctl has one connection; far more than a family's worth is a flood.
constexpr std::uint32_t connections_per_uid = 2048;
constexpr base::Micros reap_every = base::millis(200); // while ended families have connections that are not over
constexpr int accepts_per_look = 16;
constexpr std::uint32_t complaints_per_second = 20;

base::Instant now()
{
    return lwkt::RealClock{}.now();
}

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
            spdlog::error("out of descriptors: a process was turned away");
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

// Clients whose memory faulted: dead, with all their processes.
void Admission::close_marked()
{
    for (std::uint32_t client : guard_.take_marked()) {
        std::vector<std::uint64_t> members;
        for (auto& [id, c] : connections_) {
            if (c.role == Role::process && gateway_.id(*c.client) == client) {
                members.push_back(id);
            }
        }
        if (members.empty()) {
            continue;
        }
        spdlog::error("client {}: its memory faulted; its sockets are aborted", client);
        gateway_.poison(*connections_.at(members.front()).client);
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

Admission::Verdict Admission::read_request(Connection& c)
{
    sockbuf::ShareRequest packet{};
    const sockbuf::AdmissionRequest& r = packet.request;
    bool whole = false;
    long n = receive_packet(c.fd.get(), &packet, sizeof packet, MSG_DONTWAIT, whole);
    if (n == -EAGAIN) {
        return Verdict::keep;
    }
    if (n <= 0) {
        return Verdict::close; // the process ended, or its connection broke
    }
    bool share = n >= static_cast<long>(sizeof r) && static_cast<sockbuf::Hello>(r.hello) == sockbuf::Hello::share;
    if (n != static_cast<long>(share ? sizeof packet : sizeof r) || !whole || r.magic != sockbuf::abi_magic) {
        complain(c, fmt::format("sent a packet of {} bytes that is not a request", n));
        return Verdict::close;
    }
    if (share && c.role == Role::fresh && r.version == sockbuf::abi_version) {
        return attach_shared(c, std::string(packet.name, strnlen(packet.name, sockbuf::share_name_max)));
    }
    return handle(c, r);
}

Admission::Verdict Admission::handle(Connection& c, const sockbuf::AdmissionRequest& r)
{
    using sockbuf::Hello;
    auto hello = static_cast<Hello>(r.hello);
    if (r.version != sockbuf::abi_version) {
        complain(c, fmt::format("speaks version {}, netd speaks {}", r.version, sockbuf::abi_version));
        if (hello == Hello::attach || hello == Hello::share) {
            sockbuf::AttachReply answer{};
            answer.error = EPROTO;
            answer.version = sockbuf::abi_version;
            reply(c, answer);
        }
        return Verdict::close;
    }
    if (c.role == Role::fresh) {
        if (hello == Hello::attach) {
            return attach(c);
        }
        if (hello == Hello::control) {
            return start_control(c, r.value);
        }
    } else if (c.role == Role::process) {
        if (hello == Hello::waiter) {
            return make_waiter(c, r.value);
        }
        if (hello == Hello::waker) {
            return give_waker(c, r.value);
        }
        if (hello == Hello::fork) {
            return fork(c);
        }
        if (hello == Hello::drop_waiter) {
            gateway_.drop_waiter(*c.client, c.process, static_cast<std::uint32_t>(r.value));
            return Verdict::keep;
        }
    }
    complain(c, fmt::format("sent request {} where it has no place", r.hello));
    return Verdict::close;
}

template <typename Reply>
Admission::Verdict Admission::reply(Connection& c, const Reply& r, std::span<const int> fds)
{
    int error = send_packet(c.fd.get(), {reinterpret_cast<const char*>(&r), sizeof r}, fds);
    if (error == 0) {
        return Verdict::keep;
    }
    if (error != EPIPE && error != ECONNRESET) {
        complain(c, fmt::format("does not take its replies: {}", std::strerror(error)));
    }
    return Verdict::close;
}

std::size_t Admission::families_of(uid_t uid) const
{
    std::vector<const gateway::Client*> seen;
    for (auto& [id, c] : connections_) {
        if (c.role == Role::process && c.uid == uid && std::find(seen.begin(), seen.end(), c.client) == seen.end()) {
            seen.push_back(c.client);
        }
    }
    return seen.size();
}

gateway::Client* Admission::make_family(const Connection& c, std::string& error)
{
    // The last eighth of the places is root's, so that no user can keep others out altogether.
    if (c.uid != 0 && c.uid != geteuid() && families_of(c.uid) >= std::max(1U, limits_.clients - limits_.clients / 8)) {
        error = "this user has too many clients";
        return nullptr;
    }
    gateway::Client* client = gateway_.attach(static_cast<std::uint32_t>(c.pid), error, c.uid);
    if (client == nullptr) {
        return nullptr;
    }
    Doorbells doorbells(*served_.set);
    if (!doorbells.complete()) {
        error = fmt::format("doorbells: {}", std::strerror(errno));
        gateway_.detach(*client);
        return nullptr;
    }
    doorbells_.emplace(client, std::move(doorbells));
    return client;
}

Admission::Verdict Admission::attach(Connection& c)
{
    sockbuf::AttachReply answer{};
    answer.version = sockbuf::abi_version;
    std::string error;
    gateway::Client* client = make_family(c, error);
    if (client == nullptr) {
        complain(c, fmt::format("cannot attach: {}", error));
        answer.error = ENOMEM;
        reply(c, answer);
        return Verdict::close;
    }
    const gateway::Segment& segment = gateway_.segment(*client);
    std::uint32_t id = gateway_.id(*client);
    if (!guard_.watch(segment.view().base(), segment.bytes(), id)) {
        spdlog::warn("client {}: its memory is not guarded against SIGBUS (table full)", id);
    }
    return attached(c, *client, 0);
}

// Programs of one user that name the same share become processes of one family: they can harm each other from then on,
// which is why the name is their choice (docs/decisions/0010-joined-pairs.md).
Admission::Verdict Admission::attach_shared(Connection& c, const std::string& name)
{
    if (name.empty() || !policy_.share) {
        return attach(c);
    }
    std::pair<uid_t, std::string> key{c.uid, name};
    std::uint32_t process = 0;
    auto it = shares_.find(key);
    if (it == shares_.end()) {
        Verdict v = attach(c);
        if (c.role == Role::process) {
            shares_.emplace(std::move(key), c.client);
        }
        return v;
    }
    if (!gateway_.add_process(*it->second, static_cast<std::uint32_t>(c.pid), process)) {
        complain(c, fmt::format("finds share {} full and gets a family of its own", name));
        return attach(c);
    }
    return attached(c, *it->second, process);
}

Admission::Verdict Admission::attached(Connection& c, gateway::Client& client, std::uint32_t process)
{
    const gateway::Segment& segment = gateway_.segment(client);
    c.role = Role::process;
    c.client = &client;
    c.process = process;
    c.deadline = base::never;
    --timed_;
    sockbuf::AttachReply answer{};
    answer.version = sockbuf::abi_version;
    answer.segment_bytes = segment.bytes();
    answer.page_bytes = served_.sleep_page_bytes;
    answer.process = process;
    const std::vector<int>& doorbells = doorbells_.at(&client).fds();
    answer.cpus = static_cast<std::uint32_t>(doorbells.size());
    std::vector<int> fds{segment.fd(), served_.sleep_page_fd};
    fds.insert(fds.end(), doorbells.begin(), doorbells.end());
    spdlog::debug("client {}: attached, {}", gateway_.id(client), name(c));
    return reply(c, answer, fds);
}

Admission::Verdict Admission::make_waiter(Connection& c, std::int32_t value)
{
    sockbuf::WaiterReply answer{};
    auto kind = static_cast<sockbuf::WaiterKind>(value);
    if (kind != sockbuf::WaiterKind::thread && kind != sockbuf::WaiterKind::set) {
        complain(c, fmt::format("asked for a waiter of kind {}", value));
        return Verdict::close;
    }
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        answer.error = errno;
        return reply(c, answer);
    }
    UniqueFd read_end(ends[0]);
    UniqueFd write_end(ends[1]);
    // Only netd's end: the client's reads block.
    if (fcntl(write_end.get(), F_SETFL, O_NONBLOCK) != 0) {
        answer.error = errno;
        return reply(c, answer);
    }
    if (!gateway_.add_waiter(*c.client, c.process, kind, write_end.get(), answer.waiter)) {
        answer.error = ENOSPC;
        return reply(c, answer);
    }
    write_end.release(); // the gateway's
    int fd = read_end.get();
    return reply(c, answer, {&fd, 1});
}

Admission::Verdict Admission::give_waker(Connection& c, std::int32_t waiter)
{
    sockbuf::WakerReply answer{};
    UniqueFd pipe(gateway_.open_waker(*c.client, static_cast<std::uint32_t>(waiter), answer.generation));
    if (!pipe) {
        answer.error = ENOENT;
        return reply(c, answer);
    }
    int fd = pipe.get();
    return reply(c, answer, {&fd, 1});
}

Admission::Verdict Admission::fork(Connection& c)
{
    sockbuf::ForkReply answer{};
    int ends[2];
    if (by_uid_[c.uid] >= connections_per_uid) {
        answer.error = EAGAIN;
        return reply(c, answer);
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        answer.error = errno;
        return reply(c, answer);
    }
    UniqueFd theirs(ends[0]);
    Connection child;
    child.fd.reset(ends[1]);
    if (!gateway_.add_process(*c.client, static_cast<std::uint32_t>(c.pid), answer.process)) {
        answer.error = ENOSPC;
        return reply(c, answer);
    }
    child.role = Role::process;
    child.pid = c.pid; // of the parent: the kernel tells the child's only for connections it made itself
    child.uid = c.uid;
    child.client = c.client;
    child.process = answer.process;
    add(std::move(child));
    int fd = theirs.get();
    return reply(c, answer, {&fd, 1});
}

// ---- netctl ---------------------------------------------------------------------------------------------------------

std::ptrdiff_t Admission::controls_of(uid_t uid) const
{
    return std::count_if(connections_.begin(), connections_.end(),
        [uid](const auto& entry) { return entry.second.role == Role::control && entry.second.uid == uid; });
}

Admission::Verdict Admission::start_control(Connection& c, std::int32_t kind)
{
    if (controls_of(c.uid) >= controls_per_uid) {
        complain(c, fmt::format("asks while {} of its requests are not over", controls_per_uid));
        return Verdict::close;
    }
    std::vector<std::string> packets = control_(static_cast<sockbuf::ControlKind>(kind));
    if (packets.empty()) {
        complain(c, fmt::format("asked for control text {}", kind));
        return Verdict::close;
    }
    c.role = Role::control;
    c.deadline = now() + take_within;
    c.unsent.assign(std::make_move_iterator(packets.begin()), std::make_move_iterator(packets.end()));
    c.unsent.emplace_back(sockbuf::control_end);
    return send_more(c);
}

Admission::Verdict Admission::send_more(Connection& c)
{
    while (!c.unsent.empty()) {
        int error = send_packet(c.fd.get(), c.unsent.front());
        if (error == EAGAIN) {
            watch(c.fd.get(), c.id, EPOLLIN | EPOLLOUT, false);
            return Verdict::keep;
        }
        if (error != 0) {
            return Verdict::close;
        }
        c.unsent.pop_front();
        c.deadline = now() + take_within;
    }
    watch(c.fd.get(), c.id, EPOLLIN, false);
    return Verdict::keep;
}

// ---- words ----------------------------------------------------------------------------------------------------------

std::string Admission::name(const Connection& c) const
{
    return fmt::format("process {} of user {}", c.pid, c.uid);
}

// What a peer makes netd write is bounded too.
void Admission::complain(const Connection& c, const std::string& what)
{
    base::Instant at = now();
    if (at - complaints_since_ >= base::seconds(1)) {
        complaints_since_ = at;
        if (complaints_ > complaints_per_second) {
            spdlog::warn("{} more complaints about peers were not written", complaints_ - complaints_per_second);
        }
        complaints_ = 0;
    }
    if (++complaints_ <= complaints_per_second) {
        spdlog::warn("{} {}", name(c), what);
    }
}

} // namespace netd
