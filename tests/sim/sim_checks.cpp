// What must hold: of a CPU's connections after each of its rounds, of everything now and then, and of what is left when
// all is over.
#include <fmt/format.h>

#include <algorithm>

#include "protocols/tcp/tcp_domain.hpp"
#include "tests/sim/sim_world.hpp"

namespace sim {

namespace {

using protocols::Tcb;

constexpr base::Micros call_patience = base::seconds(10);
constexpr base::Micros drain_patience = base::seconds(1500);
constexpr std::uint64_t drain_steps_max = 3'000'000;
constexpr base::Micros after_time_wait = base::seconds(75); // reassembly, TIME-WAIT
constexpr unsigned overdue_rounds_max = 64;

// Null: all is well.
const char* wrong_with_scoreboard(const Tcb& t)
{
    std::uint32_t sacked = 0;
    std::uint32_t lost = 0;
    for (unsigned i = 0; i < t.board.runs(); ++i) {
        const protocols::tcp::SentRun& r = t.board.at(i);
        auto start = t.board.start_of(i);
        if (r.end <= start || start < t.snd.una || r.end > t.snd.nxt) {
            return "a run of the scoreboard is empty or lies outside of the flight";
        }
        auto bytes = static_cast<std::uint32_t>(r.end - start);
        sacked += r.fate() == protocols::tcp::Fate::sacked ? bytes : 0;
        lost += r.fate() == protocols::tcp::Fate::lost ? bytes : 0;
    }
    if (sacked != t.board.sacked_bytes() || lost != t.board.lost_bytes()) {
        return "the scoreboard has lost count";
    }
    return nullptr;
}

const char* wrong_with_sender(const Tcb& t)
{
    std::uint32_t flight = t.flight();
    if (t.snd.nxt < t.snd.una) {
        return "snd.nxt lies before snd.una";
    }
    if (protocols::tcp::synchronized(t.state) && flight > t.snd.wnd_max + 1) {
        return "more is in flight than the largest window ever offered";
    }
    if (const char* wrong = wrong_with_scoreboard(t)) {
        return wrong;
    }
    if (t.so == nullptr || t.joined != nullptr || !protocols::tcp::synchronized(t.state)) {
        return nullptr;
    }
    const protocols::Socket& so = *t.so;
    std::uint64_t sent = t.offset_of(t.snd.nxt) - (t.snd.fin_sent ? 1 : 0);
    if (t.snd.fin_sent && t.snd.una > t.snd.fin_seq) {
        sent = so.snd_limit;
    }
    if (so.snd_acked > so.snd_limit || t.snd.una_offset > so.snd_limit || sent > so.snd_limit) {
        return "offsets of the sender are out of order";
    }
    if (so.snd_end != sockbuf::no_offset && so.snd_end < so.snd_limit) {
        return "more is to be sent than the end allows";
    }
    if (t.snd.fin_sent && so.snd_limit != so.snd_end) {
        return "FIN was sent before the end was known";
    }
    return nullptr;
}

const char* wrong_with_receiver(const Tcb& t)
{
    if (t.so == nullptr || t.joined != nullptr || !protocols::tcp::synchronized(t.state)) {
        return nullptr;
    }
    const protocols::Socket& so = *t.so;
    if (so.rcv_consumed > so.rcv_produced || so.rcv_produced > t.rcv.nxt_offset) {
        return "offsets of the receiver are out of order";
    }
    std::uint64_t ring = so.rcv_ring.size();
    std::uint64_t edge = t.rcv.nxt_offset + t.window_open();
    if (ring != 0 && !protocols::tcp::fin_received(t.state) && edge > so.rcv_consumed + ring) {
        return "the window offered is larger than the ring";
    }
    for (unsigned i = 0; i < t.out_of_order.count(); ++i) {
        const auto& r = t.out_of_order[i];
        if (r.end <= r.start || r.start <= t.rcv.nxt || r.end > t.rcv.nxt + t.window_open() ||
            (i > 0 && r.start <= t.out_of_order[i - 1].end)) {
            return "a range of text out of order lies outside of the window, or in another";
        }
    }
    return nullptr;
}

const char* wrong_with_timers(const Tcb& t)
{
    base::Instant first = *std::min_element(t.deadlines.begin(), t.deadlines.end());
    if (first != base::never && (!t.armed() || static_cast<const lwkt::Timer&>(t).deadline() > first)) {
        return "a deadline is set and the timer is not armed for it";
    }
    auto set = [&](protocols::tcp::Deadline d) { return t.deadlines[static_cast<unsigned>(d)] != base::never; };
    using protocols::tcp::Deadline;
    bool due = t.pending_link.linked() || t.output_due || t.ack_now;
    if (t.joined != nullptr || due) {
        return nullptr;
    }
    bool other = false;
    for (unsigned i = 0; i < t.deadlines.size(); ++i) {
        bool of_sender = i != static_cast<unsigned>(Deadline::keepalive) &&
                         i != static_cast<unsigned>(Deadline::delayed_ack) &&
                         i != static_cast<unsigned>(Deadline::fin_wait_2);
        other |= of_sender && t.deadlines[i] != base::never;
    }
    if (t.flight() != 0 && !other) {
        return "text is in flight and no timer watches over it";
    }
    if (t.so != nullptr && protocols::tcp::synchronized(t.state) && t.flight() == 0 && !other &&
        t.so->snd_limit != t.snd.una_offset) {
        return "text waits and no timer watches over it";
    }
    if (t.ack_soon && !set(Deadline::delayed_ack)) {
        return "an ACK is owed and no timer watches over it";
    }
    return nullptr;
}

// What is half open is counted by its listener.
const char* wrong_with_listeners(protocols::TcpState& tcp)
{
    struct Seen {
        const protocols::Listener* listener;
        std::uint32_t pending;
    } seen[16] = {};
    std::size_t count = 0;
    auto add = [&](const protocols::Listener* l) {
        std::size_t i = 0;
        while (i < count && seen[i].listener != l) {
            ++i;
        }
        if (i == count && count < std::size(seen)) {
            seen[count++] = {l, 0};
        }
        seen[std::min(i, std::size(seen) - 1)].pending += 1;
    };
    for (auto* e = tcp.syn_cache.entries.front(); e != nullptr; e = tcp.syn_cache.entries.next(*e)) {
        add(&e->listener);
    }
    for (Tcb* t = tcp.all.front(); t != nullptr; t = tcp.all.next(*t)) {
        if (t->listener != nullptr) {
            add(t->listener);
        }
    }
    for (std::size_t i = 0; i < count && count < std::size(seen); ++i) {
        if (seen[i].listener->pending != seen[i].pending) {
            return "a listener has lost count of what is half open";
        }
    }
    return nullptr;
}

std::string flow_text(const Tcb& t)
{
    return base::to_string(t.flow.local) + " to " + base::to_string(t.flow.peer) + ", " +
           protocols::tcp::state_name(t.state);
}

} // namespace

void World::check_cpu(CpuRef c)
{
    protocols::Domain& d = c.node->stack->domain(c.id);
    protocols::TcpState& tcp = *d.tcp;
    for (Tcb* t = tcp.all.front(); t != nullptr; t = tcp.all.next(*t)) {
        const char* wrong = wrong_with_sender(*t);
        wrong = wrong != nullptr ? wrong : wrong_with_receiver(*t);
        wrong = wrong != nullptr ? wrong : wrong_with_timers(*t);
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
    if (const char* wrong = wrong_with_listeners(tcp)) {
        violation(fmt::format("node {} CPU {}: {}", c.node->index, c.id, wrong));
    }
    std::size_t nodes =
        tcp.tcbs.in_use() + tcp.syn_cache.slab.in_use() + tcp.time_wait.slab.in_use() + tcp.idle_slab.in_use();
    if (tcp.flows.size() != nodes) {
        violation(
            fmt::format("node {} CPU {}: the flow table holds {} of {}", c.node->index, c.id, tcp.flows.size(), nodes));
    }
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

void World::check_all()
{
    for (CpuRef c : cpus_) {
        check_cpu(c);
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
    note("drained");
    check_nothing_left();
}

void World::check_nothing_left()
{
    run_for(after_time_wait * 4);
    check_all();
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
        if (packets != c.node->packets_at_start[c.id] || large != c.node->large_at_start[c.id]) {
            violation(fmt::format("node {} CPU {}: {} packets and {} large buffers are in use, {} and {} at the start",
                c.node->index, c.id, packets, large, c.node->packets_at_start[c.id], c.node->large_at_start[c.id]));
        }
    }
}

} // namespace sim
