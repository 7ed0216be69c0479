// The timers of a connection: one wheel entry for all of its deadlines, armed for the earliest and re-armed lazily (a
// deadline that moves back costs nothing until the entry fires early). Owner: the Tcb's.
#include "base/plant.hpp"
#include "protocols/neighbor.hpp"
#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

base::Instant& deadline(Tcb& t, Deadline which)
{
    return t.deadlines[static_cast<unsigned>(which)];
}

// TCP_USER_TIMEOUT (RFC 5482): how long text may stay unacknowledged; 0 = not set.
base::Micros patience(const Tcb& t)
{
    return base::millis(t.so != nullptr ? t.so->options.user_timeout_ms : t.user_timeout_ms);
}

bool out_of_patience(const Tcb& t)
{
    return patience(t).count() != 0 && t.domain.now() - t.first_retry >= patience(t);
}

// `wait` of a series that began at first_retry, cut so that the user's patience ends on time.
base::Micros within_patience(const Tcb& t, base::Micros wait)
{
    base::Micros left = t.first_retry + patience(t) - t.domain.now();
    bool all = patience(t).count() == 0 || base::planted(base::Plant::patience_overrun);
    return all ? wait : std::clamp(left, base::Micros{0}, wait);
}

// The user's patience, else R2 as a count of retransmissions (RFC 9293 3.8.3, MUST-20).
bool given_up(const Tcb& t)
{
    if (patience(t).count() != 0) {
        return out_of_patience(t);
    }
    if (t.app_closed) {
        return t.retries > retries_orphan;
    }
    // RFC 9293 3.8.6 (SHLD-17): text beyond a window that was taken back ends nothing while the peer answers
    return (t.snd.wnd == 0 ? t.unanswered : t.retries) > retries_data;
}

base::Error why(const Tcb& t)
{
    return t.soft_error != base::Error::none ? t.soft_error : base::Error::timed_out;
}

// The peer hears nothing: it did not answer (as Linux; BSD sends a reset). False: the connection is gone.
bool give_up(Tcb& t, base::Error error)
{
    count(t.domain.tcp->counters.gave_up);
    kill(t, error);
    return false;
}

// RFC 9293 3.8.3 (MUST-20), RFC 1122 3.3.1.4: R1 retransmissions make the network layer look after its next hop.
void advise(Tcb& t)
{
    if (t.retries == retries_advice) {
        neighbor_doubt(t.domain, t.route.interface->index, t.route.next_hop);
    }
}

// SYN or SYN-ACK unanswered. False: the connection is gone.
bool retry_handshake(Tcb& t)
{
    unsigned most = t.listener != nullptr || t.fast_passive ? retries_syn_ack : t.so->options.syn_count;
    bool hurried = t.domain.now() - t.timed_at < t.rtt.rto(); // hurry_syn()
    if (t.retries++ == 0) {
        t.first_retry = hurried ? t.timed_at : t.domain.now() - t.rtt.rto();
        if (!hurried) {
            fastopen_unanswered(t);
        }
    }
    advise(t);
    if (t.retries > most || out_of_patience(t)) {
        return give_up(t, why(t));
    }
    if (!hurried && !base::planted(base::Plant::syn_not_spread)) {
        t.rtt.back_off();
    }
    send_syn(t);
    restart_retransmit(t);
    return true;
}

// RFC 8985 7.3; the retransmission timer then runs from the probe on.
bool probe_timeout(Tcb& t)
{
    if (may_probe(t)) {
        send_tail_probe(t);
        restart_retransmit(t);
    }
    return true;
}

bool pace_timeout(Tcb& t)
{
    output(t);
    return true;
}

// RFC 6298 5.4 - 5.6. False: the connection is gone.
bool retransmit_timeout(Tcb& t)
{
    if (may_probe(t) && t.retries == 0) { // no probe was due before (RFC 8985 7.2: PTO no later than RTO)
        return probe_timeout(t);
    }
    count(t.domain.tcp->counters.timeouts);
    if (!synchronized(t.state)) {
        return retry_handshake(t);
    }
    // Without the back-off of earlier losses, or it might have lasted too long before it began.
    if (t.retries++ == 0 && !base::planted(base::Plant::patience_of_before)) {
        t.first_retry = t.domain.now() - t.rtt.rto_of_path();
    }
    advise(t);
    ++t.unanswered;
    if (given_up(t)) {
        return give_up(t, why(t));
    }
    look_at_way(t);
    plpmtu_timeout(t);
    begin_timeout(t);
    if (!base::planted(base::Plant::timeout_not_doubled)) {
        t.rtt.back_off();
    }
    output(t);
    restart_retransmit(t);
    return true;
}

// RFC 9293 3.8.6.1 (MUST-35 - 37): a closed window is probed for ever, with growing distance, while the peer answers
// and unless the user's patience ends.
bool persist_timeout(Tcb& t)
{
    if (t.persist_probes++ == 0) {
        t.first_retry = t.domain.now();
    }
    bool orphan_limit = t.app_closed && t.persist_probes > retries_orphan;
    bool asks = window_room(t) == 0; // else what holds it back is here (a lack of packets), not a silent peer
    if (out_of_patience(t) || orphan_limit || (asks && ++t.unanswered > retries_data)) {
        return give_up(t, base::Error::timed_out);
    }
    t.push_small = true; // a silly window or a cork is overridden here (RFC 9293 3.8.6.2.1 (3))
    output(t);
    t.push_small = false;
    if (is_set(t, Deadline::persist)) { // output found nothing it could send
        count(t.domain.tcp->counters.persist_probes);
        send_probe(t);
        base::Micros wait = // not the timeout of the text that will follow
            t.rtt.rto_doubled(base::planted(base::Plant::probes_not_spread) ? 0 : t.persist_probes);
        set_deadline(t, Deadline::persist, t.domain.now() + within_patience(t, wait));
    }
    return true;
}

// RFC 9293 3.8.4 (MUST-24 - 29, SHLD-12): only when asked for, and a lost probe alone proves nothing.
bool keepalive_timeout(Tcb& t)
{
    if (t.so == nullptr || !t.so->options.keepalive || !synchronized(t.state)) {
        return true;
    }
    const SocketOptions& o = t.so->options;
    base::Instant now = t.domain.now();
    base::Instant due =
        base::planted(base::Plant::keepalive_unheard) ? now : t.last_received + base::seconds(o.keep_idle_s);
    // What is unacknowledged, or waits for a window, has a timer that proves more than a probe would.
    bool silent = t.flight() == 0 && t.so->snd_limit == t.snd.una_offset;
    if (now < due || !silent) {
        set_deadline(t, Deadline::keepalive, silent ? due : std::max(due, now + base::seconds(1)));
        return true;
    }
    bool impatient = o.user_timeout_ms != 0 && now - t.last_received >= base::millis(o.user_timeout_ms);
    if ((o.user_timeout_ms == 0 && t.keepalive_probes >= o.keep_count) || (impatient && t.keepalive_probes != 0)) {
        count(t.domain.tcp->counters.gave_up);
        abort(t, base::Error::timed_out);
        return false;
    }
    ++t.keepalive_probes;
    count(t.domain.tcp->counters.keepalive_probes);
    send_probe(t);
    set_deadline(t, Deadline::keepalive, now + base::seconds(o.keep_interval_s));
    return true;
}

bool delayed_ack_timeout(Tcb& t)
{
    t.ack_soon = false;
    t.rcv.interactive = false; // no answer came in time to carry it
    ack_now(t);
    return true;
}

bool fin_wait_2_timeout(Tcb& t)
{
    kill(t, base::Error::none); // as Linux: the peer of a closed socket may stay silent for TCP_LINGER2 at most
    return false;
}

using Handler = bool (*)(Tcb&); // false: the Tcb is gone
constexpr Handler handlers[deadline_count] = {reorder_timeout, probe_timeout, pace_timeout, retransmit_timeout,
    persist_timeout, keepalive_timeout, delayed_ack_timeout, fin_wait_2_timeout};

} // namespace

void arm_wheel(Tcb& t)
{
    base::Instant first = *std::min_element(t.deadlines.begin(), t.deadlines.end());
    if (first != base::never) {
        t.domain.wheel.arm(t, first);
    }
}

void set_deadline(Tcb& t, Deadline which, base::Instant when)
{
    deadline(t, which) = when;
    if (!t.armed() ||
        (when < static_cast<lwkt::Timer&>(t).deadline() && !base::planted(base::Plant::timer_lost_at_rearm))) {
        t.domain.wheel.arm(t, when);
    }
}

void clear_deadline(Tcb& t, Deadline which)
{
    deadline(t, which) = base::never;
}

void timer_fired(lwkt::Timer& timer)
{
    auto& t = static_cast<Tcb&>(timer);
    base::Instant now = t.domain.now();
    for (unsigned i = 0; i < deadline_count; ++i) {
        if (t.deadlines[i] <= now) {
            t.deadlines[i] = base::never;
            if (i == static_cast<unsigned>(Deadline::persist)) {
                t.deadlines[i] = now; // stays set while it is handled: output clears it when it can send
            }
            if (!handlers[i](t)) {
                return;
            }
        }
    }
    arm_wheel(t);
}

void restart_retransmit(Tcb& t)
{
    base::Micros wait = t.rtt.rto();
    set_deadline(t, Deadline::retransmit, t.domain.now() + (t.retries == 0 ? wait : within_patience(t, wait)));
}

// Our SYN was lost, as the answer to it says: the peer still had a connection of before, which our reset ends (RFC 9293
// 3.5.1, figure 9), or the SYN was too large with its text. Once, as Linux.
void hurry_syn(Tcb& t)
{
    base::Instant soon = t.domain.now() + syn_again_time;
    if (t.retries == 0 && soon < deadline(t, Deadline::retransmit)) {
        set_deadline(t, Deadline::retransmit, soon);
    }
}

void restart_keepalive(Tcb& t, base::Instant since)
{
    if (t.so != nullptr && t.so->options.keepalive && synchronized(t.state)) {
        set_deadline(t, Deadline::keepalive, since + base::seconds(t.so->options.keep_idle_s));
    } else {
        clear_deadline(t, Deadline::keepalive);
    }
}

} // namespace protocols::tcp
