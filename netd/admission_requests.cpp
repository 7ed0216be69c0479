// What a peer asks for in the conversation of sockbuf/admission.hpp, and what it gets: families, waiters, a share of
// one by name, netctl's texts. Main thread, called by the loop (admission_loop.cpp); a verdict says whether the peer
// stays.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "netd/admission_loop.hpp"
#include "netd/seqpacket.hpp"

namespace netd {

namespace {

constexpr base::Micros take_within = base::seconds(5);
constexpr int controls_per_uid = 16; // each may hold a text of megabytes for so long

// For the log, into which a peer's text writes nothing but itself.
std::string shown(std::string text)
{
    std::replace_if(
        text.begin(), text.end(), [](unsigned char c) { return c < 0x21 || c > 0x7e; }, '?');
    return text;
}

} // namespace

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
        complain(c, fmt::format("finds share {} full and gets a family of its own", shown(name)));
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

} // namespace netd
