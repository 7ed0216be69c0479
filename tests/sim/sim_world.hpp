// The world of one seed: stacks, links, applications and the scheduler that decides at every step what happens next:
// one round of one CPU, a turn of one application, time, or a misfortune. Everything is drawn from the seed, so a seed
// and a number of steps give the same run to the bit; hash() proves it. A violation is printed with the command that
// replays it and ends the process. One OS thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/random.hpp"
#include "lwkt/clock.hpp"
#include "protocols/ipv4.hpp"
#include "tests/sim/fiber.hpp"
#include "tests/sim/ledger.hpp"
#include "tests/sim/sim_app.hpp"
#include "tests/sim/sim_config.hpp"
#include "tests/sim/sim_marks.hpp"
#include "tests/sim/sim_needless.hpp"
#include "tests/sim/sim_node.hpp"
#include "tests/sim/sim_timing.hpp"
#include "tests/sim/sim_watch.hpp"

namespace sim {

// A port that is served, now and then.
struct Service {
    std::uint32_t number = 0;
    Node* node = nullptr;
    std::uint16_t port = 0;
    bool datagrams = false;
    bool listening = false;
    std::uint64_t epoch = 0; // grows when it starts and when it ends
};

// What a router says of itself and of one prefix (RFC 4861 4.2).
struct Advertisement {
    base::IpAddr prefix;
    std::uint16_t router_life_s = 0; // 0 = no default router
    std::uint32_t valid_s = 0;
    std::uint32_t preferred_s = 0;
};
inline constexpr unsigned prefixes_advertised = 2; // on a link
base::IpAddr router_address(std::size_t link, unsigned number);
base::IpAddr address_behind(unsigned node);

// What an end of a link has of IPv4 where that changes (sim_ipv4.cpp).
inline constexpr unsigned ipv4_addresses = 2;
struct Ipv4End {
    protocols::Interface* in = nullptr;
    protocols::RouteEntry route; // to what is behind the other end
    bool has_address[ipv4_addresses] = {true, true};
    bool has_route = true;
    std::uint8_t length = 24;
    std::uint32_t mtu = 0;                    // 0 = the link's
    base::Instant until = base::never;        // then what is away comes back
    std::deque<protocols::Ipv4Change> untold; // to be said, in order
};
base::IpAddr link_address_v4(std::size_t link, unsigned side, unsigned number);
base::IpAddr address_behind_v4(unsigned node);

struct RunOptions {
    std::uint64_t seed = 1;
    std::uint64_t steps = 20000; // before the drain
    std::string plant;           // for the replay command
    bool trace = false;          // at a violation, events and applications
    bool events = false;         // every event as it happens
};

struct RunResult {
    std::uint64_t hash = 0;
    std::uint64_t steps = 0;       // with the drain
    std::uint64_t connections = 0; // that were established
    std::uint64_t bytes = 0;       // that were received and compared
    std::uint64_t datagrams = 0;
    std::uint64_t deaths = 0;
    std::uint64_t timeouts = 0; // of connects
    base::Micros time{0};
};

class World {
public:
    explicit World(const RunOptions& options);
    ~World();
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    RunResult run();

    // ---- for applications, hosts and checks ----
    const Config& config() const { return config_; }
    lwkt::VirtualClock& clock() { return clock_; }
    base::Instant now() const { return clock_.now(); }
    std::uint64_t step() const { return step_; }
    bool draining() const { return draining_; }
    // Some are a router's, which may fall silent, or go and come back.
    bool addresses_expire() const
    {
        return config_.ipv4_changes > 0 ||
               std::any_of(links_.begin(), links_.end(), [](const auto& l) { return l->config.advertises; });
    }
    base::Instant drain_began() const { return drain_began_; }
    // Of an end whose other one closed: may that be one of those whose stack gave up, silently, since nothing had come
    // back before the drain? Each is believed once, and only where a way can be gone for that long.
    bool peer_gave_up();
    // Of the drain: clients are done, so servers stop.
    bool closing() const { return closing_; }
    Ledger& ledger() { return ledger_; }
    Marks& marks() { return marks_; }
    Needless& needless() { return needless_; }
    Timing& timing() { return timing_; }
    // Nothing comes back sooner, whichever way it goes.
    base::Micros shortest_round_trip() const { return shortest_round_trip_; }
    bool sent_cookies() const
    {
        return std::any_of(nodes_.begin(), nodes_.end(), [](const auto& n) { return n->sent_cookies(); });
    }
    RunResult& result() { return result_; }
    std::vector<std::unique_ptr<Node>>& nodes() { return nodes_; }
    std::deque<Service>& services() { return services_; }
    // An address of `to` that `from` can reach; false: there is none.
    bool address_of(const Node& from, const Node& to, base::Random& r, base::IpAddr& out) const;
    // Of a socket that talks to `to`: AF_INET6 reaches IPv4 addresses too, where there is IPv6.
    int socket_family(const base::IpAddr& to, base::Random& r) const;
    // Of a socket that serves whoever comes.
    int service_family() const { return config_.families == Families::v4 ? AF_INET : AF_INET6; }
    App& spawn(Family& f, const char* role, std::function<void(App&)> body, bool client);
    App& running() { return *running_; }
    void sleep_app(std::uint32_t waiter, base::Instant deadline);
    unsigned& blocked_apps() { return blocked_apps_; }

    void note(const char* what, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0)
    {
        Event& e = events_[event_count_++ % events_.size()];
        e = {step_, now(), what, a, b, c};
        if (options_.events) {
            print_event(e);
        }
        for (std::uint64_t v : {static_cast<std::uint64_t>(now().time_since_epoch().count()), a, b, c}) {
            hash_ = (hash_ ^ v) * 0x100000001b3ULL;
        }
    }
    [[noreturn]] void violation(const std::string& what);
    // What violation() prints, also when an assertion of the stack ends the process.
    void print_report(const char* what);
    void print_connections() const;
    static World* current();

private:
    struct Event {
        std::uint64_t step = 0;
        base::Instant at{};
        const char* what = "";
        std::uint64_t a = 0, b = 0, c = 0;
    };
    struct CpuRef {
        Node* node;
        base::CpuId id;
    };
    struct Link {
        LinkConfig config;
        drivers::SimLink wire;
        LinkWatch watch;
        base::Instant cut_until{};
        unsigned number = 0;
        std::uint32_t index_at[2] = {}; // of its interfaces
        Ipv4End ipv4[2];                // where that changes
    };

    static void print_event(const Event& e);
    void build();
    void add_applications();
    void start_roles(Family& f);

    // sim_world.cpp: the scheduler
    bool one_step();
    void run_cpu(CpuRef c);
    void run_app(App& a);
    bool advance_time();
    void reap_apps();
    bool cpu_can_run(CpuRef c) const;
    bool app_can_run(const App& a) const;
    void redraw_weights();
    bool pick_and_run();
    void run_for(base::Micros time);

    // sim_misfortune.cpp
    void misfortune();
    void pause_cpu();
    void cut_link();
    void mend_links(bool all);
    void take_memory();
    void give_memory_back(bool all);
    void kill_family();
    void send_couriers();
    void kill_apps_of(Family& f);
    void revive_families(bool all);

    // sim_router.cpp
    void advertise(const Link& l, const Advertisement& a);
    void advertise_something();
    void advertise_all();
    void keep_promises();
    void check_agreement();
    std::uint64_t have_given_up() const;
    void count_given_up();
    bool only_router(unsigned router, unsigned host) const;
    void advertised_addresses(const Link& l, unsigned side, std::vector<base::IpAddr>& out) const;

    // sim_ipv4.cpp
    void begin_ipv4(std::size_t link, unsigned side);
    protocols::Ipv4Address ipv4_of(const Link& l, unsigned side, unsigned number) const;
    void post_ipv4(Link& l, unsigned side);
    void say_ipv4(Link& l, unsigned side, const protocols::Ipv4Change& c);
    void set_ipv4_address(Link& l, unsigned side, unsigned number, bool there);
    void set_ipv4_route(Link& l, unsigned side, bool there);
    void set_ipv4_properties(Link& l, unsigned side, std::uint8_t length, std::uint32_t mtu);
    void change_ipv4();
    void give_back_ipv4(bool all);
    void tell_ipv4_again();
    void check_ipv4();
    void changing_addresses(const Link& l, unsigned side, std::vector<base::IpAddr>& out) const;

    base::Instant next_mending() const;

    // sim_checks.cpp
    void check_cpu(CpuRef c);
    void check_timers(CpuRef c);
    void look_at_rounds();
    void check_readers(CpuRef c);
    void check_all();
    void check_calls();
    void check_sleepers();
    void check_nothing_left();
    void drain();

    RunOptions options_;
    Config config_;
    base::Random random_;
    lwkt::VirtualClock clock_;
    Ledger ledger_;
    Marks marks_{*this};
    Needless needless_{*this};
    Timing timing_{*this};
    base::Micros shortest_round_trip_{0};
    RunResult result_;
    std::vector<std::unique_ptr<Link>> links_; // their interfaces belong to the stacks
    std::vector<std::unique_ptr<Node>> nodes_;
    std::deque<Service> services_;
    std::vector<CpuRef> cpus_;
    std::vector<std::unique_ptr<App>> apps_;
    std::vector<std::pair<Family*, std::function<void()>>> roles_; // started when their family starts
    std::vector<std::uint32_t> can_run_;                           // scratch: CPUs, then applications
    App* running_ = nullptr;
    unsigned blocked_apps_ = 0;
    unsigned clients_ = 0; // applications that open connections and live
    std::uint32_t next_app_ = 0;
    std::uint64_t step_ = 0;
    std::uint64_t redraw_at_ = 0;
    bool draining_ = false;
    bool closing_ = false;
    base::Instant drain_began_{};
    std::uint64_t gave_up_ = 0;              // connections of which the drain comes too late
    std::uint64_t believed_ = 0;             // that their peer gave up
    base::Instant promise_at_ = base::never; // in the drain: the routers' next advertisements
    std::uint64_t hash_ = 0xcbf29ce484222325ULL;
    std::vector<Event> events_;
    std::uint64_t event_count_ = 0;
};

} // namespace sim
