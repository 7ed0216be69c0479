// TIME-WAIT records (RFC 9293 3.6.1, 3.10.7.4; a RST with exactly the next number ends them, as on Linux; RFC 6191: a
// newer SYN does). Owner: the domain's CPU.
#include "base/plant.hpp"
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

TimeWaitQueue::TimeWaitQueue(Domain& d, base::PageArena& arena, std::size_t limit)
    : lwkt::Timer(time_wait_timer), domain(d), slab(arena, limit)
{
}

namespace {

// The oldest record, which was not looked at for minutes, goes with the next connection that ends: the lines of its
// table are under way until then, and the record behind it.
void fetch_oldest(Domain& d)
{
    TimeWaitQueue& q = d.tcp->time_wait;
    if (TimeWaitRecord* oldest = q.records.front(); oldest != nullptr) {
        d.tcp->flows.fetch_resting(oldest->hash);
        if (TimeWaitRecord* next = q.records.next(*oldest); next != nullptr) {
            const auto* at = reinterpret_cast<const std::byte*>(next);
            __builtin_prefetch(at, 1);
            __builtin_prefetch(at + 64, 1);
        }
    }
}

} // namespace

// Of too many the oldest goes: it has waited longest, so it has the least left to protect. Linux lets the newest go
// without any wait; RFC 9293 3.6.1 lets none go, but memory ends.
TimeWaitRecord& time_wait_make(Domain& d, const base::FourTuple& flow)
{
    TimeWaitQueue& q = d.tcp->time_wait;
    TimeWaitRecord* r = q.slab.make(flow);
    if (r == nullptr) {
        INVARIANT(!q.records.empty());
        count(d.tcp->counters.time_wait_overflow);
        time_wait_remove(d, *q.records.front());
        fetch_oldest(d);
        r = q.slab.make(flow);
    }
    return *r;
}

void time_wait_insert(Domain& d, TimeWaitRecord& r)
{
    r.expires = d.now() + two_msl;
    d.tcp->flows.insert(r);
    d.tcp->time_wait.records.push_back(r);
    if (!d.tcp->time_wait.armed()) {
        d.wheel.arm(d.tcp->time_wait, r.expires);
    }
}

void time_wait_remove(Domain& d, TimeWaitRecord& r)
{
    d.tcp->flows.remove(r);
    r.link.unlink();
    d.tcp->time_wait.slab.destroy(r);
}

void time_wait_yield(Domain& d, FlowNode* held)
{
    if (held != nullptr) {
        time_wait_remove(d, static_cast<TimeWaitRecord&>(*held));
    }
}

// RFC 9293 3.6.1 (MAY-2): our numbers lie above all of the connection before. Of a joined pair there were none.
Seq number_behind(const Domain& d, const TimeWaitRecord& r)
{
    Seq fresh = initial_sequence(*d.tcp, r.flow, d.now());
    return r.joined ? fresh : base::max(fresh, r.snd_nxt + reopen_distance);
}

void time_wait_timer(lwkt::Timer& timer)
{
    auto& q = static_cast<TimeWaitQueue&>(timer);
    unsigned budget = 64; // the rest at the next tick: a burst of closes must not become a burst of work
    TimeWaitRecord* r = q.records.front();
    base::Instant until = base::planted(base::Plant::time_wait_at_once) ? base::never : q.domain.now();
    for (; r != nullptr && r->expires <= until && budget != 0; r = q.records.front(), --budget) {
        time_wait_remove(q.domain, *r);
    }
    if (r != nullptr) {
        q.domain.wheel.arm(q, r->expires);
    }
}

namespace {

void acknowledge(Domain& d, const TimeWaitRecord& r)
{
    Reply reply;
    reply.flow = r.flow;
    reply.ttl = r.ttl;
    reply.header.seq = r.snd_nxt;
    reply.header.ack = r.rcv_nxt;
    reply.header.flags = wire::tcp_ack | r.ace_flags;
    reply.header.window =
        static_cast<std::uint16_t>(std::min<std::uint32_t>(r.window >> r.rcv_scale, window_unscaled_max));
    if (r.timestamps) {
        reply.header.options.has_timestamp = true;
        reply.header.options.ts_val = timestamp_now(d.now(), r.ts_offset);
        reply.header.options.ts_ecr = r.ts_recent;
    }
    send_reply(d, reply);
}

// RFC 6191 2 with RFC 9293 3.6.1 (MAY-2): surely a new connection, because its timestamp or its sequence number is
// newer.
bool is_new_connection(const TimeWaitRecord& r, const Segment& s)
{
    const wire::TcpOptions& o = s.header.options;
    if (!s.has(wire::tcp_syn) || s.has(wire::tcp_ack) || s.fin) {
        return false;
    }
    if (r.joined) {
        return true;
    }
    if (r.timestamps && o.has_timestamp && r.ts_recent != 0 && o.ts_val != r.ts_recent) {
        return !is_older(o.ts_val, r.ts_recent);
    }
    return s.seq > r.rcv_nxt;
}

// False: nobody listens, so nothing opens, and the record waits on, as in Linux.
bool opens_again(Domain& d, TimeWaitRecord& r, const Segment& s)
{
    Listener* l = d.tcp->listeners.find(s.flow.local, s.flow_hash);
    if (l == nullptr && !r.joined) {
        return false;
    }
    Seq iss = number_behind(d, r);
    time_wait_remove(d, r);
    if (l != nullptr) {
        take_syn(d, *l, s, iss);
    } else { // the record has nothing that it could acknowledge
        segment_in_closed(d, s);
    }
    return true;
}

// RFC 9293 3.10.7.4, with the exact number of RFC 5961. RFC 1337 would ignore it, and a peer that comes from the same
// port with lower numbers, or to a port where nobody listens any more, would hear ACKs that it resets for a minute.
void reset_in_time_wait(Domain& d, TimeWaitRecord& r, const Segment& s)
{
    const wire::TcpOptions& o = s.header.options;
    bool old = r.timestamps && o.has_timestamp && is_older(o.ts_val, r.ts_recent); // PAWS
    if (s.seq == r.rcv_nxt && !old) {
        time_wait_remove(d, r);
    }
}

} // namespace

void segment_in_time_wait(Domain& d, TimeWaitRecord& r, const Segment& s)
{
    if (s.has(wire::tcp_rst)) {
        reset_in_time_wait(d, r, s);
        return;
    }
    if (is_new_connection(r, s) && opens_again(d, r, s)) {
        return;
    }
    if (s.fin && s.seq + s.space() == r.rcv_nxt) { // our last ACK was lost: 2 MSL begin again
        r.expires = d.now() + two_msl;
        r.link.unlink();
        d.tcp->time_wait.records.push_back(r);
    }
    bool asks = s.space() != 0 || s.seq != r.rcv_nxt;
    if (asks && (must_be_answered(s) || may_spare_ack(r.spare_ack_at, d.now()))) {
        acknowledge(d, r);
    }
}

} // namespace protocols::tcp
