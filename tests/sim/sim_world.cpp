// The scheduler: see sim_world.hpp.
#include "tests/sim/sim_world.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/check.hpp"

namespace sim {

namespace {

constexpr std::size_t events_kept = 4096;
constexpr std::size_t events_shown = 250;
constexpr std::uint64_t check_all_every = 64;
constexpr base::Micros warm_up = base::millis(5);
constexpr base::Micros warm_up_v6 = base::seconds(3); // duplicate detection (RFC 4862 5.4)

constexpr std::uint32_t ethernet_header = 14;

World* the_world = nullptr;

// Of a link's end.
std::vector<protocols::InterfaceAddress> addresses_of(Families families, std::size_t link, unsigned side)
{
    std::vector<protocols::InterfaceAddress> all;
    if (families != Families::v6) {
        all.push_back({link_address_v4(link, side, 0), 24});
    }
    if (families != Families::v4) {
        unsigned char bytes[16] = {0xfd}; // fd00:LINK::1 and ::2
        bytes[3] = static_cast<unsigned char>(link + 1);
        bytes[15] = static_cast<unsigned char>(side + 1);
        all.push_back({base::IpAddr::v6(bytes), 64});
    }
    return all;
}

// One link: there and back; several: an answer may take another.
base::Micros round_trip_of(const std::vector<LinkConfig>& links)
{
    base::Micros there = base::Micros::max();
    base::Micros back = base::Micros::max();
    for (const LinkConfig& l : links) {
        there = std::min(there, l.wire.a.send.delay);
        back = std::min(back, l.wire.b.send.delay);
    }
    return links.size() == 1 ? there + back : 2 * std::min(there, back);
}

double seconds_of(base::Instant t)
{
    return static_cast<double>(t.time_since_epoch().count()) * 1e-6;
}

} // namespace

World* World::current()
{
    return the_world;
}

World::World(const RunOptions& options)
    : options_(options), config_(draw_config(options.seed)), random_(options.seed), ledger_(options.seed),
      events_(events_kept)
{
    the_world = this;
    build();
}

World::~World()
{
    for (auto& a : apps_) {
        a->fiber.reset();
    }
    apps_.clear();
    nodes_.clear();
    the_world = nullptr;
}

void World::build()
{
    for (const NodeConfig& n : config_.nodes) {
        nodes_.push_back(std::make_unique<Node>(*this, n, static_cast<unsigned>(nodes_.size())));
    }
    shortest_round_trip_ = round_trip_of(config_.links);
    std::string error;
    for (const LinkConfig& l : config_.links) {
        auto link = std::make_unique<Link>();
        link->config = l;
        link->number = static_cast<unsigned>(links_.size());
        drivers::SimLinkOptions wire = l.wire;
        Node& a = *nodes_[l.ends[0]];
        Node& b = *nodes_[l.ends[1]];
        wire.a.steering = l.steered[0] ? &a.stack->steering() : nullptr;
        wire.b.steering = l.steered[1] ? &b.stack->steering() : nullptr;
        LinkWatch& watch = link->watch;
        watch.world = this;
        watch.marks = config_.marks;
        watch.link_header = wire.ethernet ? ethernet_header : 0;
        for (unsigned side = 0; side < 2; ++side) {
            watch.node[side] = nodes_[l.ends[side]].get();
            watch.off[side] = watch.node[side]->config.protocols.ecn == protocols::Ecn::off;
        }
        wire.watch = &watch;
        link->wire = drivers::make_sim_link(wire);
        for (unsigned side = 0; side < 2; ++side) {
            Node& node = side == 0 ? a : b;
            auto& netif = side == 0 ? link->wire.a : link->wire.b;
            std::vector<protocols::InterfaceAddress> addresses = addresses_of(config_.families, links_.size(), side);
            bool router = l.advertises && l.router == side;
            for (unsigned number = 0; router && number < prefixes_advertised; ++number) {
                addresses.push_back({router_address(links_.size(), number), 64});
            }
            protocols::Interface* in =
                node.stack->add_interface(std::move(netif), addresses, error, l.advertises && !router);
            INVARIANT(in != nullptr);
            in->router = router;
            link->index_at[side] = watch.interface[side] = in->index;
            for (const protocols::InterfaceAddress& own : addresses) {
                node.addresses.push_back(own.addr);
            }
        }
        links_.push_back(std::move(link));
        for (unsigned side = 0; config_.ipv4_changes > 0 && side < 2; ++side) {
            begin_ipv4(links_.size() - 1, side);
        }
    }
    for (auto& n : nodes_) {
        n->start(error);
        INVARIANT(n->gateway != nullptr);
        for (std::size_t i = 0; i < n->size(); ++i) {
            cpus_.push_back({n.get(), static_cast<base::CpuId>(i)});
        }
    }
    run_for(config_.families == Families::v4 ? warm_up : warm_up_v6);
    for (auto& n : nodes_) {
        for (std::size_t i = 0; i < n->size(); ++i) {
            n->packets_at_start.push_back(n->stack->pool().in_use(static_cast<base::CpuId>(i)));
            n->large_at_start.push_back(n->stack->pool().large_in_use(static_cast<base::CpuId>(i)));
        }
    }
    add_applications();
}

void World::add_applications()
{
    for (auto& n : nodes_) {
        unsigned turn = 0;
        auto next_family = [&]() -> Family& { return *n->families[turn++ % n->families.size()]; };
        for (unsigned i = 0; i < n->config.listeners + n->config.datagram_servers; ++i) {
            Service& s = services_.emplace_back();
            s.number = static_cast<std::uint32_t>(services_.size());
            s.node = n.get();
            s.datagrams = i >= n->config.listeners;
            s.port = static_cast<std::uint16_t>(7000 + services_.size());
            Family& f = next_family();
            roles_.emplace_back(&f, [this, &f, &s] {
                spawn(
                    f, s.datagrams ? "datagram service" : "service",
                    [&s](App& a) { s.datagrams ? datagram_service(a, s) : stream_service(a, s); }, false);
            });
        }
        for (unsigned i = 0; i < n->config.clients + n->config.datagram_clients; ++i) {
            Family& f = next_family();
            bool datagrams = i >= n->config.clients;
            roles_.emplace_back(&f, [this, &f, datagrams] {
                spawn(f, datagrams ? "datagram client" : "client", datagrams ? datagram_client : stream_client, true);
            });
        }
    }
    for (auto& n : nodes_) {
        for (auto& f : n->families) {
            start_roles(*f);
        }
    }
}

void World::start_roles(Family& f)
{
    for (auto& [family, role] : roles_) {
        if (family == &f) {
            role();
        }
    }
}

bool World::address_of(const Node& from, const Node& to, base::Random& r, base::IpAddr& out) const
{
    if (&from == &to) {
        base::IpAddr loopback =
            config_.families == Families::v4 || (config_.families == Families::both && r.chance(0.5))
                ? base::IpAddr::v4(0x7f000001)
                : base::IpAddr::loopback_v6();
        out = r.chance(0.5) || to.addresses.empty()
                  ? loopback
                  : to.addresses[r.below(static_cast<std::uint32_t>(to.addresses.size()))];
        return true;
    }
    unsigned found = 0;
    for (std::size_t i = 0; i < links_.size(); ++i) {
        const unsigned* ends = links_[i]->config.ends;
        for (unsigned side = 0; side < 2; ++side) {
            if (ends[1 - side] != from.index || ends[side] != to.index) {
                continue;
            }
            std::vector<base::IpAddr> all;
            for (const protocols::InterfaceAddress& a : addresses_of(config_.families, i, side)) {
                all.push_back(a.addr);
            }
            advertised_addresses(*links_[i], side, all);
            changing_addresses(*links_[i], side, all);
            for (const base::IpAddr& a : all) {
                if (r.below(++found) == 0) {
                    out = a;
                }
            }
        }
    }
    return found != 0;
}

int World::socket_family(const base::IpAddr& to, base::Random& r) const
{
    if (!to.is_v4()) {
        return AF_INET6;
    }
    return config_.families == Families::both && r.chance(0.3) ? AF_INET6 : AF_INET;
}

App& World::spawn(Family& f, const char* role, std::function<void(App&)> body, bool client)
{
    auto app = std::make_unique<App>(*this, f, mix(options_.seed) + ++next_app_);
    App& a = *app;
    a.number = next_app_;
    a.role = role;
    a.client = client;
    clients_ += client ? 1 : 0;
    a.fiber = std::make_unique<Fiber>([&a, body = std::move(body)] { body(a); });
    apps_.push_back(std::move(app));
    return a;
}

void World::sleep_app(std::uint32_t waiter, base::Instant deadline)
{
    App& a = *running_;
    a.sleeping = true;
    a.waiter = waiter;
    a.wake_at = deadline;
    if (config_.spurious_wakes > 0 && a.random.chance(config_.spurious_wakes)) {
        a.wake_at = std::min(deadline, now() + base::Micros{a.random.below(2000)});
    }
    Fiber::pause();
    a.sleeping = false;
}

// ---- what can happen next ----

bool World::cpu_can_run(CpuRef c) const
{
    const CpuState& state = c.node->cpus[c.id];
    return state.paused_until <= now() && (c.node->awake(c.id) || state.until <= now());
}

bool World::app_can_run(const App& a) const
{
    return !a.sleeping || a.wake_at <= now() || (a.waiter != no_waiter && a.family.host->woken(a.waiter));
}

void World::run_cpu(CpuRef c)
{
    CpuState& state = c.node->cpus[c.id];
    note("cpu", c.node->index, c.id);
    state.asleep = false;
    c.node->sleep_word(c.id).store(0);
    bool worked = c.node->set->step_one(c.id);
    if (!worked && !random_.chance(0.1)) {
        state.asleep = c.node->set->sleep_one(c.id, state.until);
    }
    check_cpu(c);
    check_timers(c);
}

void World::run_app(App& a)
{
    note("app", a.number);
    running_ = &a;
    a.fiber->resume();
    running_ = nullptr;
    if (a.fiber->ended()) {
        reap_apps();
    }
}

void World::reap_apps()
{
    std::erase_if(apps_, [this](std::unique_ptr<App>& a) {
        if (a->fiber != nullptr && !a->fiber->ended()) {
            return false;
        }
        clients_ -= a->client ? 1 : 0;
        blocked_apps_ -= a->blocking ? 1 : 0;
        if (a->has_waiter && a->family.alive()) {
            a->family.spare_waiters.push_back(a->own_waiter);
        }
        return true;
    });
}

void World::redraw_weights()
{
    static constexpr std::uint32_t weights[] = {1, 1, 1, 2, 4, 16, 64};
    for (CpuRef c : cpus_) {
        c.node->cpus[c.id].weight = weights[random_.below(7)];
    }
    for (auto& a : apps_) {
        a->weight = weights[random_.below(7)];
    }
    redraw_at_ = step_ + 50 + random_.below(1000);
}

bool World::pick_and_run()
{
    can_run_.clear();
    std::uint32_t sum = 0;
    for (std::uint32_t i = 0; i < cpus_.size(); ++i) {
        if (cpu_can_run(cpus_[i])) {
            can_run_.push_back(i);
            sum += cpus_[i].node->cpus[cpus_[i].id].weight;
        }
    }
    std::size_t cpus = can_run_.size();
    for (std::uint32_t i = 0; i < apps_.size(); ++i) {
        if (app_can_run(*apps_[i])) {
            can_run_.push_back(i);
            sum += apps_[i]->weight;
        }
    }
    if (sum == 0) {
        return false;
    }
    std::uint32_t at = random_.below(sum);
    for (std::size_t i = 0; i < can_run_.size(); ++i) {
        std::uint32_t weight =
            i < cpus ? cpus_[can_run_[i]].node->cpus[cpus_[can_run_[i]].id].weight : apps_[can_run_[i]]->weight;
        if (at >= weight) {
            at -= weight;
            continue;
        }
        if (i < cpus) {
            run_cpu(cpus_[can_run_[i]]);
        } else {
            run_app(*apps_[can_run_[i]]);
        }
        return true;
    }
    return false;
}

// To the next moment at which something can happen; false: there is none.
bool World::advance_time()
{
    base::Instant next = next_mending();
    for (CpuRef c : cpus_) {
        const CpuState& state = c.node->cpus[c.id];
        if (c.node->awake(c.id)) {
            next = std::min(next, state.paused_until);
        } else if (state.until != base::never) {
            next = std::min(next, std::max(state.until, state.paused_until));
        }
    }
    for (auto& a : apps_) {
        next = std::min(next, a->wake_at);
    }
    if (next == base::never) {
        return false;
    }
    clock_.advance_to(std::max(next, now()));
    return true;
}

// False: nothing can ever happen again.
bool World::one_step()
{
    ++step_;
    if (step_ >= redraw_at_) {
        redraw_weights();
    }
    misfortune();
    look_at_rounds();
    if (config_.time_jitter > 0 && random_.chance(config_.time_jitter)) {
        clock_.advance_to(now() + base::Micros{random_.below(random_.chance(0.1) ? 3000 : 100)});
    }
    bool possible = pick_and_run();
    look_at_rounds();
    check_sleepers();
    if (step_ % check_all_every == 0) {
        check_all();
    }
    if (!possible) {
        check_calls();
        possible = advance_time();
    }
    return possible;
}

void World::run_for(base::Micros time)
{
    base::Instant until = now() + time;
    while (now() < until) {
        ++step_;
        if (pick_and_run()) {
            look_at_rounds();
            check_sleepers();
        } else if (base::Instant before = now(); !advance_time() || before >= until) {
            break;
        }
    }
    clock_.advance_to(std::max(until, now()));
}

RunResult World::run()
{
    while (step_ < options_.steps && one_step()) {
    }
    drain();
    result_.steps = step_;
    result_.hash = hash_;
    result_.time = now() - base::Instant{};
    return result_;
}

void World::print_event(const Event& e)
{
    std::fprintf(stderr, "  %8llu %12.6f %s %lld %lld %lld\n", static_cast<unsigned long long>(e.step),
        seconds_of(e.at), e.what, static_cast<long long>(e.a), static_cast<long long>(e.b),
        static_cast<long long>(e.c));
}

void World::print_report(const char* what)
{
    std::fflush(stdout);
    std::fprintf(stderr, "sim: violation in seed %llu at step %llu (%.6f s)%s: %s\n",
        static_cast<unsigned long long>(options_.seed), static_cast<unsigned long long>(step_), seconds_of(now()),
        draining_ ? ", draining" : "", what);
    if (options_.trace) {
        std::fprintf(stderr, "%s", config_.text().c_str());
        std::uint64_t first = event_count_ > events_shown ? event_count_ - events_shown : 0;
        for (std::uint64_t i = first; i < event_count_; ++i) {
            print_event(events_[i % events_.size()]);
        }
        for (auto& a : apps_) {
            std::fprintf(stderr, "  application %u, %s, node %u family %u: %s%s, wakes at %.6f, connection %llu\n",
                a->number, a->role, a->family.node->index, a->family.index, a->sleeping ? "sleeps" : "runs",
                a->call != nullptr ? a->call : "", a->wake_at == base::never ? -1.0 : seconds_of(a->wake_at),
                a->connection != nullptr ? static_cast<unsigned long long>(a->connection->id) : 0ULL);
        }
        print_connections();
    }
    std::fprintf(stderr, "sim: replay: tools/sim --seed %llu --steps %llu%s%s --trace\n",
        static_cast<unsigned long long>(options_.seed), static_cast<unsigned long long>(options_.steps),
        options_.plant.empty() ? "" : " --plant ", options_.plant.c_str());
    std::fflush(stderr);
}

void World::violation(const std::string& what)
{
    print_report(what.c_str());
    std::_Exit(1);
}

} // namespace sim
