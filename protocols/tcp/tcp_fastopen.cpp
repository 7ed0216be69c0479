// TCP Fast Open on connections (RFC 7413): which SYNs with text a listener takes, and the connection that begins with
// one; what goes with our own SYN, and what its answer says of the server. Owner: the domain's CPU.
#include "protocols/tcp/fastopen.hpp"

#include <algorithm>

#include "protocols/tcp/tcp_var.hpp"

namespace protocols::tcp {

namespace {

// RFC 7413 5.1: PendingFastOpenRequests of a listener, this CPU's share. 0: it takes none.
std::uint32_t pending_max(const Domain& d, const Listener& l)
{
    unsigned mode = d.stack.options().fastopen;
    if ((mode & fastopen_server) == 0) {
        return 0;
    }
    if (l.options.fastopen_queue == 0) {
        return (mode & fastopen_server_all) != 0 ? l.half_open_max : 0;
    }
    auto cpus = static_cast<std::uint32_t>(d.stack.cpus());
    return (l.options.fastopen_queue + cpus - 1) / cpus;
}

bool bare_is_enough(const Domain& d, const SocketOptions& o, unsigned bit)
{
    return (d.stack.options().fastopen & bit) != 0 || o.fastopen_no_cookie;
}

} // namespace

FastOpenVerdict judge_fastopen(Domain& d, Listener& l, const Segment& syn)
{
    const wire::TcpOptions& o = syn.header.options;
    std::uint32_t most = pending_max(d, l);
    if (most == 0 || (o.cookie == nullptr && syn.len == 0)) {
        return {};
    }
    TcpCounters& counters = d.tcp->counters;
    if (l.fast_pending + l.fast_resets.recent(d.now()) >= most) { // RFC 7413 4.2.2 step 1: as if it could not
        count(counters.fastopen_overflow);
        return {};
    }
    if (syn.len != 0 && bare_is_enough(d, l.options, fastopen_server_bare)) {
        return {true, false};
    }
    if (o.cookie == nullptr) {
        return {};
    }
    if (o.cookie_bytes == 0) {
        count(counters.fastopen_requests);
        return {false, true};
    }
    switch (check_fastopen_cookie(
        d.stack.fastopen_secret(), l.options, syn.flow.local.addr, syn.flow.peer.addr, d.now(), o)) {
    case FastOpenCheck::good:
        return {true, false};
    case FastOpenCheck::old:
        return {true, true};
    case FastOpenCheck::bad:
        break;
    }
    count(counters.fastopen_passive_fail);
    return {false, true}; // RFC 7413 4.2.2: the SYN alone is acknowledged, with a cookie for the next time
}

FastOpenCookie cookie_for(const Domain& d, const SocketOptions& o, const base::FourTuple& flow)
{
    return make_fastopen_cookie(d.stack.fastopen_secret(), o, flow.local.addr, flow.peer.addr, d.now());
}

bool open_fast(Domain& d, const Segment& syn, const Opening& o, bool give_cookie)
{
    Tcb* t = open_passive(d, syn.flow, o);
    if (t == nullptr) {
        return false;
    }
    Listener& l = *o.listener;
    count(d.tcp->counters.fastopen_passive);
    count(d.tcp->counters.accepts);
    ++l.fast_pending;
    t->fast_passive = true;
    t->fast_cookie = give_cookie;
    t->snd.wnd = t->snd.wnd_max = syn.header.window;
    t->snd.wl1 = syn.seq;
    t->snd.wl2 = t->snd.una;
    t->timed_at = d.now();
    t->timing = true; // the SYN-ACK, until the handshake is complete
    t->timed_end = t->snd.nxt;
    begin_sending(*t, t->snd.nxt);
    so_publish_addresses(*t->so);
    so_publish_state(*t->so, sockbuf::SlotState::connected);
    Segment text = syn;
    text.seq += 1; // behind the SYN
    text.len = std::min(text.len, t->window_open());
    Actions a;
    Verdict v = take_text(*t, text, a);
    a.ack_now = false; // the SYN-ACK does that
    t->fast_done = a.received;
    send_syn(*t);
    restart_retransmit(*t);
    t->so->user->socket_ready(l, *t->so);
    apply_actions(*t, text, v, a);
    return true;
}

void fastopen_ended(Tcb& t)
{
    if (t.fast_passive && t.listener != nullptr) {
        --t.listener->fast_pending;
    }
    t.fast_passive = false;
}

// RFC 7413 4.2.2: text goes with a SYN to a server whose cookie we have, unless it failed lately.
bool may_open_fast(Domain& d, const Socket& so, const base::IpAddr& peer)
{
    const FastOpenPeer* p = d.tcp->fastopen.find(peer, d.now());
    if (p != nullptr && d.now() < p->paused_until) {
        return false;
    }
    return (p != nullptr && p->cookie.bytes != 0) || bare_is_enough(d, so.options, fastopen_client_bare);
}

bool wants_cookie(Domain& d, const base::IpAddr& peer)
{
    const FastOpenPeer* p = d.tcp->fastopen.find(peer, d.now());
    return p == nullptr || d.now() >= p->paused_until;
}

// As much as the segment holds with the longest options, and as the server said last time that it takes.
std::uint32_t fastopen_text(const Tcb& t, const FastOpenPeer* p)
{
    std::uint32_t mss = p != nullptr && p->mss != 0 ? p->mss : fastopen_bare_mss;
    std::uint32_t path = std::min(t.route.mtu, 65535U) - ip_header_bytes(t.flow.peer.addr) - wire::tcp_header_min_bytes;
    mss = std::min({mss, path, t.so->options.max_segment != 0 ? t.so->options.max_segment : path});
    constexpr std::uint32_t options = wire::tcp_header_max_bytes - wire::tcp_header_min_bytes;
    std::uint64_t waiting = t.so->snd_limit - t.so->snd_acked;
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(waiting, mss > options ? mss - options : 0));
}

void fastopen_unanswered(Tcb& t)
{
    if (t.fast_active && t.snd.nxt != t.snd.iss + 1) {
        count(t.domain.tcp->counters.fastopen_active_fail);
        t.domain.tcp->fastopen.failed(t.flow.peer.addr, t.domain.now());
    }
}

// RFC 7413 4.1.3: the cookie is kept with the server's MSS, which is news by itself (4.2.2). Text that was sent and not
// taken is a failure where no new cookie says why.
void fastopen_answered(Tcb& t, const Segment& syn_ack, std::uint32_t text_acked)
{
    FastOpenCache& cache = t.domain.tcp->fastopen;
    base::Instant now = t.domain.now();
    const wire::TcpOptions& o = syn_ack.header.options;
    bool sent_text = t.snd.nxt != t.snd.iss + 1;
    bool takes_part = o.cookie_bytes != 0 || text_acked != 0;
    FastOpenPeer* p = takes_part ? cache.make(t.flow.peer.addr, now) : cache.find(t.flow.peer.addr, now);
    if (p != nullptr && o.cookie_bytes != 0) {
        p->cookie.bytes = o.cookie_bytes;
        std::copy_n(o.cookie, o.cookie_bytes, p->cookie.value.begin());
    }
    if (p != nullptr && o.mss != 0) {
        p->mss = o.mss;
    }
    if (text_acked != 0) {
        t.fast_done = syn_ack.ack() == t.snd.nxt; // all of it
        count(t.domain.tcp->counters.fastopen_active);
        if (p != nullptr) {
            p->failures = 0;
            p->paused_until = {};
        }
    } else if (sent_text && t.retries == 0) { // else the lost SYN was counted
        count(t.domain.tcp->counters.fastopen_active_fail);
        if (o.cookie_bytes == 0) {
            cache.failed(t.flow.peer.addr, now);
        }
    }
}

} // namespace protocols::tcp
