// What must hold: of a CPU's connections after each of its rounds, of everything now and then, and of what is left when
// all is over.
#include <fmt/format.h>

#include <algorithm>

#include "protocols/tcp/tcp_domain.hpp"
#include "tests/sim/sim_world.hpp"
#include "tests/tcp/tcb_checks.hpp"

namespace sim {

namespace {

using protocols::Tcb;

constexpr base::Micros call_patience = base::seconds(10);
constexpr base::Micros drain_patience = base::seconds(1500);
constexpr std::uint64_t drain_steps_max = 3'000'000;
constexpr base::Micros after_time_wait = base::seconds(75); // reassembly, TIME-WAIT
constexpr unsigned overdue_rounds_max = 64;

std::string flow_text(const Tcb& t)
{
    return base::to_string(t.flow.local) + " to " + base::to_string(t.flow.peer) + ", " +
           protocols::tcp::state_name(t.state);
}

} // namespace

// For a trace: what every connection of every stack waits for.
void World::print_connections() const
{
    for (CpuRef c : cpus_) {
        protocols::TcpState& tcp = *c.node->stack->domain(c.id).tcp;
        for (Tcb* t = tcp.all.front(); t != nullptr; t = tcp.all.next(*t)) {
            base::Instant next = *std::min_element(t->deadlines.begin(), t->deadlines.end());
            std::fprintf(stderr, "%s",
                fmt::format("  node {} CPU {}: {}{}: {} under way of window {}, cwnd {}, mss {}, {} expiries in a row, "
                            "next deadline {:.6f}\n",
                    c.node->index, c.id, flow_text(*t), t->so == nullptr ? ", closed" : "", t->flight(), t->snd.wnd,
                    t->cc.cwnd, t->mss, t->retries,
                    next == base::never ? -1.0 : static_cast<double>(next.time_since_epoch().count()) * 1e-6)
                    .c_str());
        }
    }
}

void World::check_cpu(CpuRef c)
{
    protocols::Domain& d = c.node->stack->domain(c.id);
    protocols::TcpState& tcp = *d.tcp;
    for (Tcb* t = tcp.all.front(); t != nullptr; t = tcp.all.next(*t)) {
        const char* wrong = tcp_test::wrong_with_connection(*t);
        if (wrong == nullptr && tcp.counters.no_packet == 0) {
            wrong = tcp_test::waits_needlessly(*t);
        }
        if (wrong == nullptr && c.node->stack->steering().cpu_of(t->flow) != c.id) {
            wrong = "the flow belongs to another CPU";
        }
        if (wrong == nullptr && t->so != nullptr && (t->so->tcb != t || t->so->domain != &d)) {
            wrong = "socket and connection do not know each other";
        }
        if (wrong != nullptr) {
            violation(fmt::format("node {} CPU {}, {}: {}", c.node->index, c.id, flow_text(*t), wrong));
        }
    }
    for (auto* e = tcp.syn_cache.entries.front(); e != nullptr; e = tcp.syn_cache.entries.next(*e)) {
        if (c.node->stack->steering().cpu_of(e->flow) != c.id) {
            violation(fmt::format("node {} CPU {}: a half-open flow belongs to another CPU", c.node->index, c.id));
        }
    }
    if (const char* wrong = tcp_test::wrong_with_listeners(tcp)) {
        violation(fmt::format("node {} CPU {}: {}", c.node->index, c.id, wrong));
    }
    std::size_t nodes =
        tcp.tcbs.in_use() + tcp.syn_cache.slab.in_use() + tcp.time_wait.slab.in_use() + tcp.idle_slab.in_use();
    if (tcp.flows.size() != nodes) {
        violation(
            fmt::format("node {} CPU {}: the flow table holds {} of {}", c.node->index, c.id, tcp.flows.size(), nodes));
    }
    needless_.round_over(*c.node, c.id);
}

// After a round: what was due has fired, but for what did not fit into the clock's budget.
void World::check_timers(CpuRef c)
{
    const lwkt::TimerWheel& wheel = c.node->stack->domain(c.id).wheel;
    bool overdue = wheel.armed_count() != 0 && wheel.next_deadline() <= now();
    CpuState& state = c.node->cpus[c.id];
    state.overdue_rounds = overdue ? state.overdue_rounds + 1 : 0;
    if (state.overdue_rounds > overdue_rounds_max) {
        violation(fmt::format("node {} CPU {}: a timer that is due does not fire", c.node->index, c.id));
    }
}

// Before time moves: CPUs have rounds in calls of control threads as well.
void World::look_at_rounds()
{
    for (CpuRef c : cpus_) {
        std::uint64_t rounds = c.node->set->cpu(c.id).counters().rounds.load();
        if (rounds != c.node->cpus[c.id].rounds_seen) {
            c.node->cpus[c.id].rounds_seen = rounds;
            timing_.round_over(*c.node, c.id);
        }
    }
}

// A CPU that sleeps has heard of the room that its readers made, and told their peers where these see little of it (RFC
// 9293 3.8.6.2.2).
void World::check_readers(CpuRef c)
{
    protocols::TcpState& tcp = *c.node->stack->domain(c.id).tcp;
    bool sleeps = c.node->cpus[c.id].asleep && c.node->sleep_word(c.id).load() != 0 && tcp.counters.no_packet == 0;
    for (Tcb* t = sleeps ? tcp.all.front() : nullptr; t != nullptr; t = tcp.all.next(*t)) {
        if (t->so == nullptr || t->joined != nullptr || t->app_closed || t->ack_soon || t->so->rcv_ring.size() == 0 ||
            !protocols::tcp::synchronized(t->state) || protocols::tcp::fin_received(t->state)) {
            continue;
        }
        std::uint64_t ring = t->so->rcv_ring.size();
        std::uint64_t held = t->rcv.nxt_offset - t->so->slot->app.rcv_consumed.load();
        std::uint64_t said_max = std::uint64_t{protocols::tcp::window_unscaled_max} << t->agreed.rcv_scale;
        std::uint64_t could = std::min(ring - std::min(ring, held), said_max);
        std::uint64_t half = std::min(ring, said_max) / 2;
        std::uint64_t step = std::min<std::uint64_t>(half, 2 * t->mss);
        if (t->window_open() < std::min<std::uint64_t>(t->mss, half) && could >= t->window_open() + step) {
            violation(fmt::format("node {} CPU {}, {}: the reader has made room, and the peer sees {} of {}",
                c.node->index, c.id, flow_text(*t), t->window_open(), could));
        }
    }
}

void World::check_all()
{
    for (CpuRef c : cpus_) {
        check_cpu(c);
        check_readers(c);
        protocols::TcpState& tcp = *c.node->stack->domain(c.id).tcp;
        for (Tcb* t = config_.marks ? tcp.all.front() : nullptr; t != nullptr; t = tcp.all.next(*t)) {
            marks_.accurate().check_counted(*c.node, *t);
        }
    }
}

// A CPU that sleeps has nothing to do, or somebody has rung it.
void World::check_sleepers()
{
    for (CpuRef c : cpus_) {
        const CpuState& state = c.node->cpus[c.id];
        if (state.asleep && c.node->sleep_word(c.id).load() != 0 && c.node->set->work_waits(c.id)) {
            violation(fmt::format("node {} CPU {} sleeps though work waits for it", c.node->index, c.id));
        }
    }
}

// Control operations need no packet, so only the CPUs' pauses may hold them up.
void World::check_calls()
{
    for (auto& a : apps_) {
        if (a->call != nullptr && now() - a->call_began > call_patience) {
            violation(fmt::format("application {}: {} is not answered", a->number, a->call));
        }
    }
}

std::uint64_t World::have_given_up() const
{
    std::uint64_t all = 0;
    for (const auto& n : nodes_) {
        all += n->gave_up();
    }
    return all;
}

bool World::peer_gave_up()
{
    std::uint64_t may_have = draining_ ? gave_up_ : have_given_up();
    if (!addresses_expire() || believed_ >= may_have) {
        return false;
    }
    ++believed_;
    return true;
}

// Closed connections that have ended for want of an answer, or had their last retransmission before the drain.
void World::count_given_up()
{
    gave_up_ = have_given_up();
    for (CpuRef c : cpus_) {
        protocols::TcpState& tcp = *c.node->stack->domain(c.id).tcp;
        for (Tcb* t = tcp.all.front(); t != nullptr; t = tcp.all.next(*t)) {
            bool last =
                t->retries >= protocols::tcp::retries_orphan || t->persist_probes >= protocols::tcp::retries_orphan;
            gave_up_ += t->app_closed && last ? 1U : 0U;
        }
    }
}

// The misfortunes are over; what was begun must come to its end, and nothing may be left.
void World::drain()
{
    draining_ = true;
    drain_began_ = now();
    note("drain");
    mend_links(true);
    give_memory_back(true);
    for (CpuRef c : cpus_) {
        c.node->cpus[c.id].paused_until = base::Instant{};
    }
    revive_families(true);
    give_back_ipv4(true);
    count_given_up();
    promise_at_ = config_.advertisements > 0 ? now() : base::never;
    std::uint64_t steps_max = step_ + drain_steps_max;
    while (!apps_.empty()) {
        closing_ = clients_ == 0;
        if (!one_step() && !apps_.empty()) {
            violation(fmt::format("nothing can happen any more, and {} applications are not done", apps_.size()));
        }
        if (step_ > steps_max || now() - drain_began_ > drain_patience) {
            violation(fmt::format("{} applications are not done long after the last misfortune, {} of them clients",
                apps_.size(), clients_));
        }
    }
    promise_at_ = base::never;
    note("drained");
    check_nothing_left();
}

void World::check_nothing_left()
{
    advertise_all();
    tell_ipv4_again();
    run_for(after_time_wait * 4);
    check_all();
    check_agreement();
    check_ipv4();
    for (auto& n : nodes_) {
        if (std::size_t held = n->gateway->sockets_held(); held != 0) {
            for (const auto& s : n->gateway->sockets()) {
                std::fprintf(stderr, "sim: node %u: left: %s %s to %s, receive queue %llu, send queue %llu\n", n->index,
                    s.state.c_str(), base::to_string(s.flow.local).c_str(), base::to_string(s.flow.peer).c_str(),
                    static_cast<unsigned long long>(s.recv_queue), static_cast<unsigned long long>(s.send_queue));
            }
            violation(fmt::format("node {}: {} sockets are left", n->index, held));
        }
        if (std::uint64_t bytes = n->gateway->ring_bytes_in_use(); bytes != 0) {
            violation(fmt::format("node {}: {} bytes of rings are left", n->index, bytes));
        }
        n->wake_all();
    }
    run_for(base::seconds(1));
    for (CpuRef c : cpus_) {
        protocols::TcpState& tcp = *c.node->stack->domain(c.id).tcp;
        std::size_t left[] = {tcp.tcbs.in_use(), tcp.joined_ends.in_use(), tcp.listener_slab.in_use(),
            tcp.syn_cache.slab.in_use(), tcp.time_wait.slab.in_use(), tcp.idle_slab.in_use(),
            tcp.shared_options_slab.in_use(), tcp.idle_timer_slab.in_use()};
        static constexpr const char* names[] = {"connections", "joined ends", "listeners", "half-open connections",
            "TIME-WAIT records", "sleeping connections", "sets of options", "timers of sleeping connections"};
        for (std::size_t i = 0; i < std::size(left); ++i) {
            if (left[i] != 0) {
                violation(fmt::format("node {} CPU {}: {} {} are left", c.node->index, c.id, left[i], names[i]));
            }
        }
        std::size_t packets = c.node->stack->pool().in_use(c.id);
        std::size_t large = c.node->stack->pool().large_in_use(c.id);
        // Fewer is no leak: of a seed in thousands something was under way when the start was looked at (63000878).
        if (packets > c.node->packets_at_start[c.id] || large > c.node->large_at_start[c.id]) {
            violation(fmt::format("node {} CPU {}: {} packets and {} large buffers are in use, {} and {} at the start",
                c.node->index, c.id, packets, large, c.node->packets_at_start[c.id], c.node->large_at_start[c.id]));
        }
    }
}

} // namespace sim
