#include "tests/sim/sim_timing.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "protocols/neighbor.hpp"
#include "protocols/tcp/tcp_domain.hpp"
#include "protocols/tcp/tcp_var.hpp"
#include "tests/sim/sim_world.hpp"

namespace sim {

namespace {

namespace tcp = protocols::tcp;
namespace wire = protocols::wire;
using protocols::Tcb;
using tcp::State;

constexpr base::Micros slack = base::millis(1);
constexpr base::Micros under_way = base::millis(500); // from a device to the connection, over CPUs that stand still
constexpr base::Micros busy_wait = base::seconds(1);  // keepalive looks again
constexpr double rate_margin = 1.25;                  // of what moves within a round
constexpr base::Micros pace_credit = tcp::Pacer::late_max;

// Before the next one, `tries` having been in vain (RFC 6298 2.1, 2.4 as Linux, 5.5; RFC 9293 3.8.6.1).
base::Micros least_wait(bool opened, unsigned tries)
{
    base::Micros first = opened ? tcp::rto_min : tcp::rto_initial;
    return std::min(first * (std::int64_t{1} << std::min(tries, tcp::rto_shift_max)), tcp::rto_max);
}

// Of all together.
base::Micros least_waits(bool opened, unsigned expiries)
{
    base::Micros all{0};
    for (unsigned i = 0; i < expiries; ++i) {
        all += least_wait(opened, i);
    }
    return all;
}

// Octets per microsecond; 0 = it is not paced. The stack's own: what is looked at is whether it is kept.
double pace_of(const Tcb& t)
{
    return static_cast<double>(tcp::pacing_rate(t)) * 1e-6;
}

double micros_of(base::Instant t)
{
    return static_cast<double>(t.time_since_epoch().count());
}

bool has_work(const Tcb& t)
{
    return t.pending_link.linked() || t.output_due || t.ack_now;
}

} // namespace

void Timing::wrong(const base::FourTuple& flow, const char* what)
{
    world_.violation(fmt::format("{} to {}: {}", base::to_string(flow.local), base::to_string(flow.peer), what));
}

// True also of what never crosses a wire.
bool Timing::came(unsigned node, const base::FourTuple& flow, base::Instant Passed::*what, base::Instant since) const
{
    auto at = passed_.find({node, flow_key(flow.peer, flow.local)});
    return at == passed_.end() || !at->second.some || at->second.*what + under_way >= since;
}

void Timing::taken(const Node& node, const Frame& p, const FlowKey& key)
{
    Passed& passed = passed_[{node.index, key}];
    passed.some = true;
    passed.last = world_.now();
    bool other = p.tcp.has(wire::tcp_syn) || p.tcp.has(wire::tcp_rst);
    if (other) {
        passed.other = world_.now();
    }
    if (other || p.tcp.has(wire::tcp_fin) || p.text() != 0) {
        passed.closing = world_.now();
    }
}

// Until now no more than its rate lets go, with what goes at once. Not what no pace holds up: a tail probe, and what a
// timeout sends; and nothing is known of what waited for a neighbour.
void Timing::sent(const Node& node, const Frame& p, const FlowKey& key)
{
    if (p.tcp.has(wire::tcp_syn) || p.tcp.has(wire::tcp_rst)) {
        FlowKey back = flow_key({p.destination, p.tcp.destination_port}, {p.source, p.tcp.source_port});
        passed_[{node.index, back}].other = world_.now();
    }
    const protocols::Domain& d = node.stack->domain(base::current_cpu);
    OfCpu& c = cpus_[{node.index, base::current_cpu}];
    auto kept = c.kept.find(key);
    if (p.text() == 0 || kept == c.kept.end() || kept->second.rate == 0) {
        return;
    }
    const tcp::FlowNode* found = d.tcp->flows.find(kept->second.flow);
    if (found == nullptr || found->kind != tcp::NodeKind::tcb) {
        return;
    }
    const Tcb& t = *static_cast<const Tcb*>(found);
    Pace& pace = paces_[key];
    double now = micros_of(world_.now());
    double rate = rate_margin * std::max(kept->second.rate, pace_of(t));
    bool fresh = !c.counted.queue && d.neighbors->waiting_count == 0 && d.counters.neighbor_queued == c.counted.queued;
    if (pace.iss != t.snd.iss || !fresh || pace_of(t) == 0) {
        pace = {t.snd.iss, 0};
        return;
    }
    bool held = d.tcp->counters.timeouts == c.counted.timeouts && d.tcp->counters.probes == c.counted.tail_probes;
    std::uint32_t mss = std::max(t.mss, kept->second.mss);
    double at_once = 2 * mss + tcp::Pacer::burst(static_cast<std::uint64_t>(rate * 1e6), mss);
    if (held && pace.due_us > now + at_once / rate + static_cast<double>(slack.count())) {
        wrong(t.flow, "more leaves than its pace lets go");
    }
    pace.due_us = std::max(pace.due_us, now - static_cast<double>(pace_credit.count())) + p.text() / rate;
}

// RFC 6298 5: it counts from when text begins to be under way, and anew from an ACK of some of it, an expiry or the
// probe in its place, and (as on Linux) when it is sent again; not from what goes for the first time.
void Timing::look_at_timeout(const Tcb& t, Kept& k)
{
    base::Instant now = world_.now();
    std::uint64_t probes = t.domain.tcp->counters.probes;
    bool due = now >= k.probe_at || now >= k.retransmit_at; // where the timeout comes first the probe goes in its place
    bool tried = due && probes != k.tail_probes;            // its own, that went or could not be built
    bool probed = tried || (t.tlp.in_progress && (!k.probing || t.tlp.end_seq != k.probe_end));
    bool anew = k.waits != Waits::acknowledgment || t.snd.una != k.una || t.retries != k.tries ||
                t.retransmitted != k.resent || probed;
    if (anew) {
        k.timeout_at = now + std::max(k.timeout, t.rtt.rto());
    }
    k.timeout = t.rtt.rto();
    k.resent = t.retransmitted;
    k.probing = t.tlp.in_progress;
    k.probe_end = t.tlp.end_seq;
    k.probe_at = t.deadlines[static_cast<unsigned>(tcp::Deadline::probe)];
    k.retransmit_at = t.deadlines[static_cast<unsigned>(tcp::Deadline::retransmit)];
    k.tail_probes = probes;
    bool counts = t.flight() != 0 && tcp::synchronized(t.state);
    if (counts && t.deadlines[static_cast<unsigned>(tcp::Deadline::retransmit)] > k.timeout_at + slack) {
        wrong(t.flow, "the timeout of what is under way has been put off");
    }
}

// A SYN was lost, as the peer's answer out of a connection of before says (RFC 9293 3.5.1), or a router of its text.
bool Timing::may_hurry(const Tcb& t, const Kept& k) const
{
    bool answered = t.fast_active || came(k.node, t.flow, &Passed::last, k.began);
    return t.state == State::syn_sent && k.tries == 0 && answered && world_.now() - k.tried >= tcp::syn_again_time;
}

void Timing::look_at_tries(const Tcb& t, Kept& k, bool on_time)
{
    base::Instant now = world_.now();
    bool opened = tcp::synchronized(t.state);
    Waits waits = Waits::nothing;
    if (t.flight() != 0) {
        waits = Waits::acknowledgment;
    } else if (t.so != nullptr && opened) {
        bool text = t.so->snd_limit != t.snd.una_offset;
        waits = text || (!tcp::may_send(t.state) && !t.snd.fin_sent) ? Waits::window : Waits::nothing;
    }
    unsigned tries = waits == Waits::acknowledgment ? t.retries : waits == Waits::window ? t.persist_probes : 0;
    if (waits != k.waits || t.snd.una != k.una || tries < k.tries || tries > k.tries + 1) {
        k.began = k.tried = k.first_tried = now;
    } else if (tries == k.tries + 1) {
        bool lacks_packets = waits == Waits::window && t.snd.wnd != 0; // who closes or uncorks it looks at once
        bool hurried = !opened && k.tries != 0 && k.first_tried - k.began < tcp::rto_initial; // without back-off
        unsigned in_vain = k.tries - (hurried ? 1 : 0);
        if (!lacks_packets && !may_hurry(t, k) && now - k.tried < least_wait(opened, in_vain)) {
            wrong(t.flow, "it is tried again too early");
        }
        k.tried = now;
        k.first_tried = tries == 1 ? now : k.first_tried;
    }
    k.waits = waits;
    k.una = t.snd.una;
    k.tries = tries;
    bool paced = t.deadlines[static_cast<unsigned>(tcp::Deadline::pace)] != base::never; // the timer comes behind it
    bool closed = waits == Waits::window && t.snd.wnd == 0 && !paced;
    k.closed = !closed ? base::Instant{} : k.closed == base::Instant{} || has_work(t) ? now : k.closed;
    if (!on_time || has_work(t)) {
        return;
    }
    if (t.state == State::syn_sent && waits != Waits::nothing && now > k.tried + least_wait(false, tries) + slack) {
        wrong(t.flow, "a SYN is not sent again in time");
    }
    if (closed && now > std::max(k.tried, k.closed) + t.rtt.rto_doubled(tries) + slack) {
        wrong(t.flow, "a closed window is not probed in time");
    }
}

// RFC 5482: counted by the stack from when the first of what is tried again was sent; never longer than from the first
// try on (as Linux). A change of it holds from the next try on.
void Timing::look_at_patience(const Tcb& t, Kept& k, bool on_time)
{
    base::Instant now = world_.now();
    base::Micros wanted = base::millis(t.so != nullptr ? t.so->options.user_timeout_ms : t.user_timeout_ms);
    k.patient = wanted == k.patience ? k.patient : now;
    k.patience = wanted;
    bool counts = wanted.count() != 0 && k.tries != 0 && k.patient < k.first_tried;
    bool shut = k.closed != base::Instant{} && k.closed < k.first_tried;
    bool watched = k.waits == Waits::acknowledgment || shut; // else there may be no timer for a while
    if (counts && watched && on_time && !has_work(t) && now > k.first_tried + wanted + slack) {
        wrong(t.flow, "the user's patience is over, and the connection goes on");
    }
}

// RFC 9293 3.8.4 (MUST-26), tcp(7). Also an answered probe is followed by TCP_KEEPINTVL, as on Linux.
void Timing::look_at_keepalive(const Tcb& t, Kept& k, bool on_time)
{
    base::Instant now = world_.now();
    k.heard = std::max(k.heard, t.last_received); // of one that has slept: known here exactly
    bool asked = t.so != nullptr && t.so->options.keepalive && tcp::synchronized(t.state) && t.joined == nullptr;
    k.asked = asked && !k.keeps_alive ? now : k.asked;
    k.keeps_alive = asked;
    if (!asked) {
        k.busy = now;
        k.probes = 0;
        return;
    }
    const protocols::SocketOptions& o = t.so->options;
    k.keep_count = o.keep_count;
    bool silent = t.flight() == 0 && t.so->snd_limit == t.snd.una_offset;
    k.busy = silent ? k.busy : now;
    unsigned before = k.probes;
    k.probes = t.keepalive_probes;
    if (k.probes == before + 1) {
        bool first = before == 0;
        if (now - k.heard < base::seconds(o.keep_idle_s) || (!first && now - k.probed < k.interval)) {
            wrong(t.flow, "a silent peer is asked too early");
        }
        k.probed = now;
        k.interval = base::seconds(o.keep_interval_s);
    }
    if (!on_time || !silent) {
        return;
    }
    base::Instant due = std::max(k.busy + busy_wait, k.probed + std::max(k.interval, base::seconds(o.keep_interval_s)));
    if (k.probes == 0) {
        due = std::max(due, std::max(k.heard, k.asked) + base::seconds(o.keep_idle_s));
    }
    if (now > due + slack) {
        wrong(t.flow, "a silent peer is not asked in time");
    }
    if (o.user_timeout_ms == 0 && k.probes > o.keep_count) {
        wrong(t.flow, "a silent peer is asked too often");
    }
}

// RFC 9293 3.8.6.3 (MUST-40), as Linux's shortest delay: whatever comes behind it.
void Timing::look_at_ack(const Tcb& t, Kept& k, bool on_time)
{
    base::Instant now = world_.now();
    if (t.rcv.unacked == 0) {
        k.owes = {};
    } else if (k.owes == base::Instant{} || k.acked != t.ts.last_ack_sent) {
        k.owes = now;
    }
    k.acked = t.ts.last_ack_sent;
    bool could = on_time && !has_work(t) && t.domain.tcp->counters.no_packet == 0;
    if (could && k.owes != base::Instant{} && now > k.owes + tcp::delayed_ack_time + slack) {
        wrong(t.flow, "the ACK of text is put off for too long");
    }
}

void Timing::look_at_fin_wait_2(const Tcb& t, Kept& k, bool on_time)
{
    base::Instant now = world_.now();
    if (t.state != State::fin_wait_2 || !t.app_closed) {
        k.half_closed = {};
        return;
    }
    k.half_closed = k.half_closed == base::Instant{} ? now : k.half_closed;
    k.linger = base::seconds(std::max(t.so != nullptr ? t.so->options.linger2_s : t.linger2_s, 1));
    if (on_time && now > k.half_closed + k.linger + slack) {
        wrong(t.flow, "FIN-WAIT-2 of a closed socket lasts too long");
    }
}

void Timing::look(const Tcb& t, Kept& k, bool on_time)
{
    if (k.round == 0 || k.iss != t.snd.iss) {
        k = Kept{};
        k.flow = t.flow;
        k.iss = t.snd.iss;
        k.una = t.snd.una - 1; // nothing is known: what it waits for begins now
        k.probes = t.keepalive_probes;
        k.probed = k.asked = k.busy = world_.now();
    }
    k.asleep = false;
    look_at_timeout(t, k);
    look_at_tries(t, k, on_time);
    look_at_patience(t, k, on_time);
    look_at_keepalive(t, k, on_time);
    look_at_ack(t, k, on_time);
    look_at_fin_wait_2(t, k, on_time);
    k.state = t.state;
    k.orphan = t.so == nullptr;
    k.app_closed = t.app_closed;
    k.syn_count = t.so != nullptr ? t.so->options.syn_count : 0;
    k.rate = pace_of(t);
    k.mss = t.mss;
}

// R2 (RFC 9293 3.8.3), TCP_SYNCNT, the user's patience or TCP_KEEPCNT.
void Timing::check_given_up(const Kept& k)
{
    base::Instant now = world_.now();
    if (k.waits == Waits::nothing) {
        bool over = k.patience.count() != 0 ? k.probes != 0 && now - k.heard >= k.patience : k.probes >= k.keep_count;
        if (!k.keeps_alive || !over || now - k.probed < k.interval) {
            wrong(k.flow, "a silent connection is given up too early");
        }
        return;
    }
    bool opened = tcp::synchronized(k.state);
    base::Micros by_count = opened ? least_waits(true, (k.app_closed ? tcp::retries_orphan : tcp::retries_data) + 1)
                                   : least_waits(false, std::min(k.syn_count, tcp::retries_syn_ack) + 1);
    base::Micros least = k.patience.count() == 0 ? by_count : opened ? k.patience : std::min(k.patience, by_count);
    if (now - k.began < least) {
        wrong(k.flow, "what was not answered is given up too early");
    }
}

// Connections that are there no more, or asleep.
void Timing::look_at_vanished(const protocols::Domain& d, OfCpu& c)
{
    std::uint64_t gave_up = d.tcp->counters.gave_up - c.counted.gave_up;
    std::uint64_t vanished = 0;
    for (auto& [key, k] : c.kept) {
        if (k.round != c.rounds && !k.asleep) {
            const tcp::FlowNode* now = d.tcp->flows.find(k.flow);
            k.asleep = now != nullptr && now->kind == tcp::NodeKind::idle;
            vanished += k.asleep ? 0 : 1;
        }
    }
    for (auto at = c.kept.begin(); at != c.kept.end();) {
        const Kept& k = at->second;
        if (k.round == c.rounds || k.asleep) {
            ++at;
            continue;
        }
        if (gave_up == vanished) {
            check_given_up(k);
        }
        bool early = k.half_closed != base::Instant{} && world_.now() < k.half_closed + k.linger;
        if (early && k.orphan && gave_up == 0 && !came(k.node, k.flow, &Passed::closing, k.half_closed)) {
            wrong(k.flow, "FIN-WAIT-2 of a closed socket ends too early");
        }
        at = c.kept.erase(at);
    }
}

// RFC 9293 3.4.2 (MUST-13), 3.10.7.4: 2 MSL, anew when the FIN comes again. A SYN and a RST end it, and a newer record
// where there is no room.
void Timing::look_at_time_wait(const Node& node, const protocols::Domain& d, OfCpu& c, bool on_time)
{
    base::Instant now = world_.now();
    auto& queue = d.tcp->time_wait;
    const tcp::TimeWaitRecord* oldest = queue.records.front();
    if (on_time && oldest != nullptr && now > oldest->expires + slack) {
        wrong(oldest->flow, "TIME-WAIT lasts too long");
    }
    if (queue.slab.in_use() == c.time_waits_seen && oldest == c.oldest_time_wait) {
        return;
    }
    c.time_waits_seen = queue.slab.in_use();
    c.oldest_time_wait = oldest;
    std::map<FlowKey, Resting> there;
    for (tcp::TimeWaitRecord* r = queue.records.front(); r != nullptr; r = queue.records.next(*r)) {
        if (r->expires > now + tcp::two_msl) {
            wrong(r->flow, "TIME-WAIT lasts too long");
        }
        if (!r->joined) {
            there[flow_key(r->flow.local, r->flow.peer)] = {r->flow, r->expires};
        }
    }
    for (const auto& [key, rest] : c.time_waits) {
        bool pushed_out = d.tcp->counters.time_wait_overflow != c.counted.overflows;
        if (rest.until <= now || there.contains(key) || pushed_out) {
            continue;
        }
        bool reused = d.tcp->flows.find(rest.flow) != nullptr ||
                      came(node.index, rest.flow, &Passed::other, rest.until - tcp::two_msl);
        if (!reused) {
            wrong(rest.flow, "TIME-WAIT ends too early");
        }
    }
    c.time_waits = std::move(there);
}

void Timing::round_over(const Node& node, base::CpuId cpu)
{
    const protocols::Domain& d = node.stack->domain(cpu);
    protocols::TcpState& tcp = *d.tcp;
    OfCpu& c = cpus_[{node.index, cpu}];
    ++c.rounds;
    bool on_time = d.wheel.armed_count() == 0 || d.wheel.next_deadline() > world_.now();
    for (Tcb* t = tcp.all.front(); t != nullptr; t = tcp.all.next(*t)) {
        if (t->joined != nullptr) {
            continue;
        }
        Kept& k = c.kept[flow_key(t->flow.local, t->flow.peer)];
        look(*t, k, on_time);
        k.round = c.rounds;
        k.node = node.index;
    }
    look_at_vanished(d, c);
    look_at_time_wait(node, d, c, on_time);
    c.counted = {tcp.counters.gave_up, tcp.counters.timeouts, tcp.counters.probes, tcp.counters.time_wait_overflow,
        d.counters.neighbor_queued, d.neighbors->waiting_count != 0};
}

} // namespace sim
