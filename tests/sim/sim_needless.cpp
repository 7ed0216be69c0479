#include "tests/sim/sim_needless.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "protocols/neighbor.hpp"
#include "protocols/tcp/tcp_domain.hpp"
#include "tests/sim/sim_world.hpp"

namespace sim {

namespace {

namespace wire = protocols::wire;
using protocols::Tcb;
using protocols::tcp::Recovery;

constexpr base::Micros rounding{300}; // of times in the scoreboard, and of the wheel

// Null: it has none (any more).
const Tcb* sender_of(const protocols::Domain& d, const Frame& p)
{
    Tcb* t = d.tcp->all.front();
    while (
        t != nullptr && (t->flow.local.port != p.tcp.source_port || t->flow.peer.port != p.tcp.destination_port ||
                            t->flow.local.addr.on_wire() != p.source || t->flow.peer.addr.on_wire() != p.destination)) {
        t = d.tcp->all.next(*t);
    }
    return t;
}

std::uint16_t flags_of(const Frame& p)
{
    return static_cast<std::uint16_t>(p.tcp.flags & ~wire::tcp_psh);
}

std::uint32_t sack_edge(const Frame& p)
{
    return p.tcp.options.sack_count != 0 ? p.tcp.options.sack[0].end.raw() : 0;
}

} // namespace

void Needless::wrong(const Tcb& t, const Frame& p, const char* what)
{
    world_.violation(fmt::format("{} to {}: {}: octet {}, {} of text, ack {}", base::to_string(t.flow.local),
        base::to_string(t.flow.peer), what, p.tcp.seq - t.snd.iss, p.text(), p.tcp.ack - t.rcv.irs));
}

bool Needless::fresh(const protocols::Domain& d, const Known& k)
{
    return !k.queue && d.neighbors->waiting_count == 0 && d.counters.neighbor_queued == k.queued;
}

void Needless::round_over(const Node& node, base::CpuId cpu)
{
    const protocols::Domain& d = node.stack->domain(cpu);
    protocols::TcpState& tcp = *d.tcp;
    Known& k = known_[{node.index, cpu}];
    k.tail_probes = tcp.counters.probes;
    k.queued = d.counters.neighbor_queued;
    k.queue = d.neighbors->waiting_count != 0;
    k.sacked.clear();
    for (Tcb* t = tcp.all.front(); t != nullptr; t = tcp.all.next(*t)) {
        for (unsigned i = 0; t->board.sacked_bytes() != 0 && i < t->board.runs(); ++i) {
            if (t->board.at(i).fate() == protocols::tcp::Fate::sacked) {
                k.sacked.push_back(
                    {t->snd.iss, flow_key(t->flow.local, t->flow.peer), t->board.start_of(i), t->board.at(i).end});
            }
        }
    }
}

// A tail probe asks whatever is known (RFC 8985 7.3), a timeout trusts no SACK (RFC 2018 8), and without SACK an ACK of
// a part sends again what follows, however young that is (RFC 6582 3.2).
void Needless::check_text(const Tcb& t, const Frame& p, const Flow& f, const Known& k, const FlowKey& key)
{
    base::Seq start = p.tcp.seq;
    base::Seq end = start + p.text();
    if (end <= t.snd.una) {
        wrong(t, p, "text that is acknowledged leaves again");
    }
    if (!t.agreed.sack || t.domain.tcp->counters.probes != k.tail_probes) {
        return;
    }
    for (const Sacked& s : k.sacked) {
        bool this_one = s.iss == t.snd.iss && s.key == key && s.start <= start && end <= s.end;
        if (this_one && t.board.phase != Recovery::timeout) {
            wrong(t, p, "text that was SACKed leaves again");
        }
    }
    for (const Piece& o : f.pieces) {
        bool again = start < o.end && o.start < end;
        if (again && world_.now() - o.at + rounding < world_.shortest_round_trip()) {
            wrong(t, p, "text leaves again before anything can have told of it");
        }
    }
}

void Needless::check_bare(const Tcb& t, const Frame& p, const Flow& f)
{
    bool says_nothing = f.known && f.said.ack == p.tcp.ack.raw() && f.said.window == p.tcp.window &&
                        f.said.flags == flags_of(p) && f.said.sack_edge == sack_edge(p);
    bool asked = f.said.heard != t.segments_in;
    if (p.tcp.seq == t.snd.nxt && says_nothing && !asked) {
        wrong(t, p, "an ACK says what was said before, and nothing has come since");
    }
    bool probes = p.tcp.seq + 1 == t.snd.una && t.flight() == 0 && t.so != nullptr;
    if (probes && t.so->snd_limit > t.snd.una_offset && t.snd.wnd != 0) {
        wrong(t, p, "a window that is open is probed, and text waits for it");
    }
}

// What has waited for its neighbour its sender sent long ago: of that nothing is noted.
void Needless::note_text(const Tcb& t, const Frame& p, bool sure, Flow& f, base::Instant now)
{
    base::Seq start = p.tcp.seq;
    base::Seq end = start + p.text();
    std::vector<Piece> left;
    if (sure) {
        left.push_back({start, end, now});
    }
    for (const Piece& o : f.pieces) {
        if (o.end <= t.snd.una) {
            continue;
        }
        if (o.start < start) {
            left.push_back({o.start, base::min(o.end, start), o.at});
        }
        if (end < o.end) {
            left.push_back({base::max(o.start, end), o.end, o.at});
        }
    }
    f.pieces = std::move(left);
}

void Needless::sent(const Node& node, const Frame& p, const FlowKey& key)
{
    const protocols::Domain& d = node.stack->domain(base::current_cpu);
    const Tcb* t = sender_of(d, p);
    bool plain = p.tcp.has(wire::tcp_ack) && !p.tcp.has(wire::tcp_syn) && !p.tcp.has(wire::tcp_rst);
    if (t == nullptr || !plain || !protocols::tcp::synchronized(t->state)) {
        return;
    }
    Flow& f = flows_[key];
    if (f.iss != t->snd.iss || f.opened_at != t->opened_at) { // the same SYN cookie opens one twice
        f = Flow{};
        f.iss = t->snd.iss;
        f.opened_at = t->opened_at;
    }
    const Known& k = known_[{node.index, base::current_cpu}];
    bool sure = fresh(d, k);
    if (sure && p.text() != 0) {
        check_text(*t, p, f, k, key);
    } else if (sure && !p.tcp.has(wire::tcp_fin)) {
        check_bare(*t, p, f);
    }
    if (p.text() != 0) {
        bool probe =
            d.tcp->counters.probes != k.tail_probes; // over the ends of what was sent: only a part may go again
        note_text(*t, p, sure && !probe, f, world_.now());
    }
    f.said = {p.tcp.ack.raw(), p.tcp.window, flags_of(p), sack_edge(p), t->segments_in};
    f.known = sure;
}

} // namespace sim
