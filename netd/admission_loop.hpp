// Who may use netd, and the conversation with those who do (sockbuf/admission.hpp): one epoll loop on the main thread,
// which is the gateway's control thread. Nothing in it blocks on a peer: packets are taken one per look and connection,
// replies are sent or the peer is closed, a peer that says nothing, or does not read what it asked for, has a few
// seconds.
#pragma once

#include <csignal>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/units.hpp"
#include "gateway/gateway.hpp"
#include "netd/bus_guard.hpp"
#include "netd/config.hpp"
#include "netd/doorbells.hpp"
#include "netd/unique_fd.hpp"
#include "sockbuf/admission.hpp"

namespace netd {

// What an attaching process is given beside its segment.
struct Served {
    int sleep_page_fd = -1;
    std::uint32_t sleep_page_bytes = 0;
    lwkt::CpuSet* set = nullptr; // of which each family gets doorbells
};

class Admission {
public:
    // The text of a control request, in packets of at most control_packet_max bytes; empty = not known.
    using ControlText = std::function<std::vector<std::string>(sockbuf::ControlKind)>;

    Admission(
        gateway::Gateway& gateway, BusGuard& guard, const Served& served, const Config& config, ControlText control);
    ~Admission();
    Admission(const Admission&) = delete;
    Admission& operator=(const Admission&) = delete;

    // Serves until a signal arrives at `signal_fd` (a signalfd); returns its number.
    int run(int listen_fd, int signal_fd);
    // The same in pieces: start() once, then any number of looks at what is there; a look returns a signal's number, or
    // 0. timeout_ms: as epoll_wait's, but no longer than until the next deadline of a peer.
    void start(int listen_fd, int signal_fd);
    int look(int timeout_ms);
    // Says good-bye to every process, for netd's end: to peers their sockets are closed as exit(2) would, to them it
    // looks like a crash.
    void close_all();

private:
    // Every process of a family and every netctl has one connection; far more than a family's worth is a flood.
    static constexpr std::uint32_t connections_per_uid = 2048;

    enum class Role : std::uint8_t { fresh, process, control };
    struct Connection {
        std::uint64_t id = 0;
        UniqueFd fd;
        Role role = Role::fresh;
        pid_t pid = 0;
        uid_t uid = 0;
        gateway::Client* client = nullptr; // role process
        std::uint32_t process = 0;
        base::Instant deadline = base::never; // roles fresh and control: to speak, to take the next packet and to go
        std::deque<std::string> unsent;       // role control
    };
    enum class Verdict : std::uint8_t { keep, close };

    void accept_some(int listen_fd);
    bool admitted(int fd, Connection& c);
    Connection& add(Connection c);
    void close_connection(std::uint64_t id);
    void leave_family(Connection& c);
    void close_silent(base::Instant now);
    int next_timeout_ms(base::Instant now, int otherwise_ms) const;
    void close_marked();

    void serve(std::uint64_t id, std::uint32_t events);
    Verdict read_request(Connection& c);
    Verdict handle(Connection& c, const sockbuf::AdmissionRequest& r);
    Verdict attach(Connection& c);
    gateway::Client* make_family(const Connection& c, std::string& error);
    Verdict attach_shared(Connection& c, const std::string& name);
    Verdict attached(Connection& c, gateway::Client& client, std::uint32_t process);
    Verdict make_waiter(Connection& c, std::int32_t kind);
    Verdict give_waker(Connection& c, std::int32_t waiter);
    Verdict fork(Connection& c);
    Verdict start_control(Connection& c, std::int32_t kind);
    Verdict send_more(Connection& c);
    template <typename Reply>
    Verdict reply(Connection& c, const Reply& r, std::span<const int> fds = {});
    void watch(int fd, std::uint64_t id, std::uint32_t events, bool added = true);
    static base::Instant now();
    std::string name(const Connection& c) const;
    bool may_complain();
    void complain(const Connection& c, const std::string& what);
    std::size_t families_of(uid_t uid) const;
    std::ptrdiff_t controls_of(uid_t uid) const;

    gateway::Gateway& gateway_;
    BusGuard& guard_;
    Served served_;
    int listen_fd_ = -1;
    int signal_fd_ = -1;
    AdmissionConfig policy_;
    LimitsConfig limits_;
    ControlText control_;
    UniqueFd epoll_;
    UniqueFd spare_; // given up to refuse a peer when descriptors run out
    std::unordered_map<std::uint64_t, Connection> connections_;
    std::unordered_map<uid_t, std::uint32_t> by_uid_;                  // connections
    std::map<std::pair<uid_t, std::string>, gateway::Client*> shares_; // families with a name
    std::unordered_map<const gateway::Client*, Doorbells> doorbells_;  // of each family
    std::uint64_t next_id_ = 16;                                       // ids below are the loop's own descriptors
    std::size_t timed_ = 0;                                            // connections with a deadline
    bool families_linger_ = false;
    base::Instant complaints_since_{};
    std::uint32_t complaints_ = 0;
};

inline constexpr std::size_t control_packet_max = 32768;

} // namespace netd
