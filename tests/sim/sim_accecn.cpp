#include "tests/sim/sim_accecn.hpp"

#include <fmt/format.h>

#include <cstring>

#include "protocols/tcp/tcp_domain.hpp"
#include "tests/sim/sim_world.hpp"

namespace sim {

namespace {

namespace wire = protocols::wire;

constexpr std::uint32_t counted_first = 5; // RFC 9768 3.2: of r.cep
constexpr std::uint32_t ace_values = 8;
constexpr unsigned asks_accurate = 7; // AE, CWR, ECE
constexpr unsigned kind_accurate = 1;
constexpr unsigned kind_other = 2;

std::int32_t after(std::uint32_t a, std::uint32_t b)
{
    return static_cast<std::int32_t>(a - b);
}

// RFC 9768 3.1.2 table 2: 2, 3, 4 and 6 tell how the SYN arrived.
unsigned kind_of_answer(unsigned ace)
{
    return ace == 2 || ace == 3 || ace == 4 || ace == 6 ? kind_accurate : kind_other;
}

const protocols::Tcb* end_of(const Node& n, const base::FourTuple& flow)
{
    const protocols::tcp::FlowNode* found = n.stack->domain(n.stack->steering().cpu_of(flow)).tcp->flows.find(flow);
    bool open = found != nullptr && found->kind == protocols::tcp::NodeKind::tcb;
    return open ? static_cast<const protocols::Tcb*>(found) : nullptr;
}

// The other end of the connection; null: it has none any more.
const protocols::Tcb* other_end(World& world, const Node& node, const protocols::Tcb& t)
{
    base::FourTuple flow{t.flow.peer, t.flow.local};
    for (auto& n : world.nodes()) {
        protocols::TcpState& tcp = *n->stack->domain(n->stack->steering().cpu_of(flow)).tcp;
        for (protocols::Tcb* o = n.get() == &node ? nullptr : tcp.all.front(); o != nullptr; o = tcp.all.next(*o)) {
            if (o->flow == flow && o->rcv.irs == t.snd.iss && o->snd.iss == t.rcv.irs) {
                return o;
            }
        }
    }
    return nullptr;
}

} // namespace

FlowKey flow_key(const base::Endpoint& from, const base::Endpoint& to)
{
    FlowKey key{};
    std::uint32_t ports = std::uint32_t{from.port} << 16 | to.port;
    std::memcpy(key.data(), from.addr.on_wire().bytes(), 16);
    std::memcpy(key.data() + 16, to.addr.on_wire().bytes(), 16);
    std::memcpy(key.data() + 32, &ports, sizeof ports);
    return key;
}

// Of a sender all of whose text is acknowledged: marks on text are counted before it is (RFC 9768 3.2.2.5.1), so it
// knows all that its peer has counted. Where the field may have come round it may think more, by whole turns (A.2.1:
// the safest likely case); and less, where an ACK that came alone told of more small segments than as many octets make
// full ones (A.2.1 reckons in those): by a turn for each small one, and no more. Of its marked ACKs (DCTCP's are
// ECN-capable) it need not have heard: those that tell of them may be lost, or not due yet; and each may have been the
// one with which an ACK that came alone went round. From a receiver whose ACKs are of many segments as a rule it takes
// none without the option for more than one turn: then it may know any turns less.
void AccurateMarks::check_counted(const Node& node, const protocols::Tcb& t)
{
    const protocols::tcp::AccEcn& e = t.accecn;
    bool accurate = t.agreed.ecn == protocols::tcp::EcnMode::accurate && e.heard && !e.deaf;
    if (!accurate || t.flight() != 0 || t.data_segments_out == 0) {
        return;
    }
    auto h = handshakes_.find(flow_key(t.flow.peer, t.flow.local));
    if (h != handshakes_.end() && h->second.answers > 1) {
        return; // 3.2.2.2: what answers the later ones may be taken for a count
    }
    const protocols::Tcb* o = other_end(world_, node, t);
    bool same = o != nullptr && o->rcv.nxt == t.snd.nxt && o->agreed.ecn == t.agreed.ecn;
    std::int32_t more = same ? after(e.s_cep, o->accecn.r_cep) : 0;
    auto f = flows_.find(flow_key(t.flow.local, t.flow.peer));
    auto small = static_cast<std::int32_t>(f != flows_.end() ? f->second.small : t.data_segments_out);
    auto bare = static_cast<std::int32_t>(f != flows_.end() ? f->second.bare : 0);
    constexpr auto turn = static_cast<std::int32_t>(ace_values);
    std::int32_t most = more + bare; // had it heard of all marked ACKs
    std::int32_t whole = most - (most % turn + turn) % turn;
    bool untold = f != flows_.end() && f->second.untold;
    if (whole < more || (!untold && whole < -(small + bare) * turn)) {
        world_.violation(fmt::format(
            "{} has counted {} marks, its peer {}", base::to_string(t.flow.local), e.s_cep, o->accecn.r_cep));
    }
}

AccurateMarks::Feedback AccurateMarks::feedback(const Handshake* h) const
{
    if (h == nullptr || (h->answered & kind_accurate) == 0) {
        return Feedback::classic;
    }
    // A connection that a SYN cookie opens a second time counts from the beginning.
    bool sure = h->asked == kind_accurate && h->answered == kind_accurate && !h->over && !world_.sent_cookies();
    return sure ? Feedback::accurate : Feedback::unknown;
}

AccurateMarks::Handshake* AccurateMarks::handshake(const FlowKey& key, const FlowKey& reverse, bool& client)
{
    auto at = handshakes_.find(key);
    client = at != handshakes_.end();
    at = client ? at : handshakes_.find(reverse);
    return at != handshakes_.end() ? &at->second : nullptr;
}

void AccurateMarks::opens(const Frame& p, const FlowKey& key, const FlowKey& reverse)
{
    std::uint32_t seq = p.tcp.seq.raw();
    if (p.tcp.has(wire::tcp_ack)) {
        if (auto at = handshakes_.find(reverse); at != handshakes_.end()) {
            at->second.answered |= kind_of_answer(p.tcp.ace());
        }
        return;
    }
    auto [at, fresh] = handshakes_.try_emplace(key);
    Handshake& h = at->second;
    if (fresh || h.iss != seq) {
        handshakes_.erase(reverse);
        flows_.erase(key);
        flows_.erase(reverse);
        h = Handshake{};
        h.iss = seq;
    }
    h.asked |= p.tcp.ace() == asks_accurate ? kind_accurate : kind_other;
}

// Marked text that is sent again may have been dropped behind the wire; the new segments may be fewer.
void AccurateMarks::send_again(Flow& f, std::uint32_t begin, std::uint32_t end)
{
    std::erase_if(f.marked, [&](const Text& t) { return after(t.end, begin) > 0 && after(t.begin, end) < 0; });
    f.repeated_end = f.repeated && after(f.repeated_end, end) > 0 ? f.repeated_end : end;
    f.repeated = true;
}

void AccurateMarks::text_sent(const Frame& p, Flow& f)
{
    std::uint32_t largest = (p.text() + p.segments - 1) / p.segments;
    if (largest > f.full) {
        f.full = largest;
        f.small = f.segments; // all that were sent until now
    }
    f.segments += p.segments;
    f.small += largest < f.full ? p.segments : 0;
    std::uint32_t end = p.tcp.seq.raw() + p.text();
    if (f.known && after(p.tcp.seq.raw(), f.sent_end) < 0) {
        send_again(f, p.tcp.seq.raw(), end);
    }
    f.sent_end = f.known && after(end, f.sent_end) < 0 ? f.sent_end : end;
    f.known = true;
}

// `f`: of the text that this segment acknowledges.
void AccurateMarks::counter_sent(const Frame& p, Flow& f)
{
    std::uint32_t ack = p.tcp.ack.raw();
    bool old = f.heard && (after(ack, f.ack) < 0 || after(p.tcp.options.ts_val, f.ts) < 0);
    if (old) {
        return; // it waited for a neighbour while others went another way
    }
    f.heard = true;
    f.ack = ack;
    f.ts = p.tcp.options.ts_val;
    f.told += (p.tcp.ace() - (counted_first + f.told)) % ace_values;
    if (f.told > f.arrived) {
        world_.violation(fmt::format(
            "{} tells of {} marked segments and {} have reached it", base::to_string(p.source), f.told, f.arrived));
    }
    std::erase_if(f.marked, [&](const Text& t) {
        bool covered = after(ack, t.end) >= 0;
        f.acknowledged += covered ? t.segments : 0;
        return covered;
    });
    std::uint32_t most = f.told + (f.arrived - f.told) / ace_values * ace_values;
    if (f.acknowledged > most) {
        world_.violation(fmt::format("{} acknowledges {} marked segments and tells of {} at most",
            base::to_string(p.source), f.acknowledged, most));
    }
}

bool AccurateMarks::sent(const Frame& p, const FlowKey& key, const FlowKey& reverse)
{
    if (p.tcp.has(wire::tcp_syn)) {
        opens(p, key, reverse);
        return true;
    }
    bool client = false;
    Handshake* h = handshake(key, reverse, client);
    Feedback kind = feedback(h);
    if (h != nullptr && p.tcp.has(wire::tcp_rst)) {
        h->over = true;
    } else if (kind == Feedback::accurate) {
        if (p.text() != 0) {
            text_sent(p, flows_[key]);
        }
        // RFC 9768 3.2.2.1: each SYN-ACK is answered by a pure ACK that tells how it came, however late it is.
        bool shakes = client && p.text() == 0 && h->told < h->answers && kind_of_answer(p.tcp.ace()) == kind_accurate;
        h->told += shakes ? 1 : 0;
        if (p.tcp.has(wire::tcp_ack) && !shakes) {
            counter_sent(p, flows_[reverse]);
        }
    }
    return kind == Feedback::classic;
}

// `f`: of the text that it acknowledges. What its sender knows is asked of it: ACKs may be dropped behind the wire.
void AccurateMarks::counter_taken(const Frame& p, Flow& f)
{
    bool counts = p.tcp.has(wire::tcp_syn) || p.tcp.options.accecn.kind != 0;
    if (counts || f.full == 0) {
        return;
    }
    f.untold |= p.tcp.options.sack_count != 0;
    base::FourTuple flow{{p.destination, p.tcp.destination_port}, {p.source, p.tcp.source_port}};
    for (auto& n : world_.nodes()) {
        const protocols::Tcb* t = end_of(*n, flow);
        std::int32_t covered = t != nullptr ? after(p.tcp.ack.raw(), t->snd.una.raw()) : 0;
        f.untold |= covered >= static_cast<std::int32_t>(ace_values * f.full);
    }
}

bool AccurateMarks::taken(const Frame& p, const FlowKey& key, const FlowKey& reverse)
{
    bool client = false;
    Handshake* h = handshake(key, reverse, client);
    if (h != nullptr && p.tcp.has(wire::tcp_syn) && p.tcp.has(wire::tcp_ack)) {
        ++h->answers;
    }
    Feedback kind = feedback(h);
    if (p.ecn == ecn_ce && p.text() == 0) {
        ++flows_[key].bare;
    }
    if (p.tcp.has(wire::tcp_ack) && !p.tcp.has(wire::tcp_rst)) {
        counter_taken(p, flows_[reverse]);
    }
    if (kind == Feedback::accurate && p.ecn == ecn_ce && !p.tcp.has(wire::tcp_rst)) {
        Flow& f = flows_[key];
        f.arrived += p.segments;
        std::uint32_t end = p.tcp.seq.raw() + p.text();
        // A damaged one is dropped, and looks acknowledged where the damage is in its number.
        bool sound = !world_.config().corrupts();
        bool fresh = !f.delivered || after(end, f.delivered_end) > 0;
        bool once = !f.repeated || after(p.tcp.seq.raw(), f.repeated_end) >= 0;
        if (sound && p.text() != 0 && fresh && once) {
            f.marked.push_back({p.tcp.seq.raw(), end, p.segments});
        }
    }
    if (kind == Feedback::accurate && p.text() != 0) {
        Flow& f = flows_[key];
        std::uint32_t end = p.tcp.seq.raw() + p.text();
        f.delivered_end = f.delivered && after(end, f.delivered_end) < 0 ? f.delivered_end : end;
        f.delivered = true;
    }
    return kind == Feedback::classic;
}

} // namespace sim
