// Options of level IPPROTO_TCP (man 7 tcp) and what of SOL_SOCKET changes a connection's timers. Values are ints unless
// said otherwise, as in Linux. Owner: the socket's.
#include <linux/inet_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <string_view>

#include "protocols/tcp/tcp_var.hpp"

namespace protocols {

namespace tcp {
namespace {

using base::Error;

Error take_int(const void* value, std::uint32_t size, int& out)
{
    if (size < sizeof(int)) {
        return Error::invalid;
    }
    std::memcpy(&out, value, sizeof out);
    return Error::none;
}

// `v` into `to` when low <= v <= high.
template <typename T>
Error store_in(T& to, int v, int low, int high)
{
    if (v < low || v > high) {
        return Error::invalid;
    }
    to = static_cast<T>(v);
    return Error::none;
}

Error set_congestion(SocketOptions& o, const void* value, std::uint32_t size)
{
    const auto* name = static_cast<const char*>(value);
    int index = congestion_by_name(std::string_view(name, strnlen(name, size)));
    if (index < 0) {
        return Error{ENOENT};
    }
    o.congestion = static_cast<std::uint8_t>(index + 1);
    return Error::none;
}

Error set_linger2(SocketOptions& o, int v)
{
    o.linger2_s = v < 0 ? -1 : v == 0 ? 60 : std::min(v, 120); // as Linux: at most TCP_FIN_TIMEOUT_MAX
    return Error::none;
}

// Before there is a connection; 16 octets a key, of which a second still opens old cookies (as Linux).
Error set_fastopen_key(Socket& so, const void* value, std::uint32_t size)
{
    if (so.tcb != nullptr || (size != 16 && size != 32)) {
        return Error::invalid;
    }
    std::memcpy(so.options.fastopen_key.data(), value, size);
    so.options.fastopen_keys = static_cast<std::uint8_t>(size / 16);
    return Error::none;
}

bool is_fastopen(int name)
{
    return name == TCP_FASTOPEN || name == TCP_FASTOPEN_CONNECT || name == TCP_FASTOPEN_NO_COOKIE;
}

Error set_fastopen(const Domain& d, Socket& so, int name, int v)
{
    SocketOptions& o = so.options;
    bool is_queue = name == TCP_FASTOPEN;
    if (name == TCP_FASTOPEN_CONNECT && (d.stack.options().fastopen & fastopen_client) == 0) {
        return Error::not_supported;
    }
    if (so.tcb != nullptr || v < 0 || (!is_queue && v > 1)) {
        return Error::invalid;
    }
    if (is_queue) {
        o.fastopen_queue = std::min(static_cast<std::uint32_t>(v), listen_backlog_max);
    } else {
        (name == TCP_FASTOPEN_CONNECT ? o.fastopen_connect : o.fastopen_no_cookie) = v != 0;
    }
    return Error::none;
}

Error set_by_name(SocketOptions& o, int name, int v)
{
    switch (name) {
    case TCP_NODELAY:
        o.no_delay = v != 0;
        return Error::none;
    case TCP_CORK:
        o.cork = v != 0;
        return Error::none;
    case TCP_QUICKACK:
        o.quick_ack = v != 0;
        return Error::none;
    case TCP_MAXSEG:
        return v == 0 ? store_in(o.max_segment, v, 0, 0) : store_in(o.max_segment, v, 88, 32767);
    case TCP_KEEPIDLE:
        return store_in(o.keep_idle_s, v, 1, 32767);
    case TCP_KEEPINTVL:
        return store_in(o.keep_interval_s, v, 1, 32767);
    case TCP_KEEPCNT:
        return store_in(o.keep_count, v, 1, 127);
    case TCP_SYNCNT:
        return store_in(o.syn_count, v, 1, 127);
    case TCP_LINGER2:
        return set_linger2(o, v);
    case TCP_USER_TIMEOUT:
        return store_in(o.user_timeout_ms, v, 0, INT32_MAX);
    case TCP_DEFER_ACCEPT:
        o.defer_accept_s = seconds_of_timeouts(timeouts_in(static_cast<std::uint32_t>(std::max(v, 0))));
        return Error::none;
    case TCP_NOTSENT_LOWAT:
        o.not_sent_lowat = static_cast<std::uint32_t>(v);
        return Error::none;
    default:
        return Error::no_protocol_option;
    }
}

// tcp(7): TCP_NODELAY flushes what waits even if TCP_CORK is set; once, and not into a window that is too small.
void flush_held(Tcb& t)
{
    t.push_small = t.so->snd_limit - t.offset_of(t.snd.nxt) <= window_room(t);
    output(t);
    t.push_small = false;
}

// What a changed option makes possible now.
void act_on(Socket& so, int name)
{
    Tcb* t = so.tcb;
    if (t == nullptr || !synchronized(t->state) || t->joined != nullptr) {
        return;
    }
    switch (name) {
    case TCP_NODELAY: // held text may go
        if (so.options.no_delay && !t->snd.fin_sent) {
            flush_held(*t);
            break;
        }
        [[fallthrough]];
    case TCP_CORK:
        output_soon(*t);
        break;
    case TCP_QUICKACK:
        t->rcv.interactive = !so.options.quick_ack; // as Linux: cleared, ACKs wait for an answer to carry them
        if (so.options.quick_ack && t->ack_soon) {
            ack_now(*t);
        }
        break;
    case TCP_MAXSEG:
        set_mss(*t);
        output_soon(*t); // what was less than a segment may be one
        break;
    case TCP_KEEPIDLE:
        restart_keepalive(*t, t->last_received);
        break;
    default:
        break;
    }
}

std::uint8_t linux_state(State s)
{
    // enum of linux/tcp_states.h, in the order of our State
    constexpr std::uint8_t numbers[state_count] = {7, 10, 2, 3, 1, 4, 5, 8, 11, 9, 6};
    return numbers[static_cast<unsigned>(s)];
}

std::uint32_t milliseconds(base::Micros d)
{
    return static_cast<std::uint32_t>(d.count() / 1000);
}

// Linux counts from the beginning of the connection before there was any.
std::uint32_t since(const Tcb& t, base::Instant at)
{
    return milliseconds(t.domain.now() - (at != base::Instant{} ? at : t.opened_at));
}

std::uint32_t microseconds(base::Micros d)
{
    return static_cast<std::uint32_t>(d.count());
}

std::uint32_t least_rtt(const Tcb& t)
{
    return t.rtt.min() == base::Micros::max() ? ~0U : microseconds(t.rtt.min());
}

// What was sent and arrived, in octets and segments. Nothing counts deliveries: of what was sent for the first time all
// has arrived but what is in flight and not SACKed, whose segments are full ones but for the last.
void sent_figures(const Tcb& t, tcp_info& i)
{
    bool fin_in_flight = t.snd.fin_sent && t.snd.una <= t.snd.fin_seq;
    bool syn_in_flight = !synchronized(t.state);
    std::uint32_t in_flight = t.flight() - (fin_in_flight || (syn_in_flight && t.flight() != 0) ? 1U : 0U);
    std::uint32_t missing = in_flight - std::min(in_flight, t.board.sacked_bytes());
    std::uint32_t fresh = t.data_segments_out - std::min(t.data_segments_out, t.retransmitted);
    std::uint32_t late = std::min(fresh, (missing + t.mss - 1) / t.mss);
    i.tcpi_bytes_sent = t.bytes_acked + in_flight + t.bytes_retransmitted;
    i.tcpi_bytes_retrans = t.bytes_retransmitted;
    i.tcpi_data_segs_out = t.data_segments_out;
    i.tcpi_delivered = fresh - late + (syn_in_flight ? 0U : 1U) + (t.snd.fin_sent && !fin_in_flight ? 1U : 0U);
}

tcp_info info_of(const Socket& so)
{
    tcp_info i{};
    const Tcb* t = so.tcb;
    i.tcpi_state = linux_state(so.listening ? State::listen : State::closed);
    if (t == nullptr) {
        return i;
    }
    base::Instant now = t->domain.now();
    i.tcpi_state = linux_state(t->state);
    i.tcpi_ca_state = t->board.phase == Recovery::timeout ? 4 : t->board.phase == Recovery::fast ? 3 : 0;
    i.tcpi_retransmits = static_cast<std::uint8_t>(std::min(t->retries, 255U));
    i.tcpi_probes = static_cast<std::uint8_t>(std::min(t->keepalive_probes + t->persist_probes, 255U));
    i.tcpi_backoff = static_cast<std::uint8_t>(std::min(t->rtt.shift() + t->persist_probes, 255U));
    i.tcpi_options = static_cast<std::uint8_t>(
        (t->agreed.timestamps ? TCPI_OPT_TIMESTAMPS : 0) | (t->agreed.sack ? TCPI_OPT_SACK : 0) |
        (t->agreed.scale ? TCPI_OPT_WSCALE : 0) | (t->agreed.ecn != EcnMode::none ? TCPI_OPT_ECN : 0) |
        (t->fast_done ? TCPI_OPT_SYN_DATA : 0));
    i.tcpi_snd_wscale = t->agreed.snd_scale & 15;
    i.tcpi_rcv_wscale = t->agreed.rcv_scale & 15;
    i.tcpi_rto = microseconds(t->rtt.rto());
    i.tcpi_ato = microseconds(delayed_ack_time);
    i.tcpi_snd_mss = t->mss;
    i.tcpi_rcv_mss = t->rcv.mss_seen;
    i.tcpi_unacked = (t->flight() + t->mss - 1) / t->mss;
    i.tcpi_sacked = (t->board.sacked_bytes() + t->mss - 1) / t->mss;
    i.tcpi_lost = (t->board.lost_bytes() + t->mss - 1) / t->mss;
    i.tcpi_retrans = (t->board.resent_bytes() + t->mss - 1) / t->mss;
    i.tcpi_reord_seen = t->rack.reordering_seen ? 1 : 0;
    i.tcpi_dsack_dups = t->dsacks;
    i.tcpi_last_data_sent = since(*t, t->last_sent);
    i.tcpi_last_data_recv = since(*t, t->rcv.last_text);
    i.tcpi_last_ack_recv = milliseconds(now - t->last_received);
    i.tcpi_pmtu = t->route.mtu;
    i.tcpi_rtt = microseconds(t->rtt.srtt());
    i.tcpi_rttvar = microseconds(t->rtt.rttvar());
    bool unlimited = t->cc.ssthresh == CongestionState{}.ssthresh; // Linux shows the same number for "none yet"
    i.tcpi_snd_ssthresh = unlimited ? t->cc.ssthresh : t->cc.ssthresh / t->mss;
    i.tcpi_snd_cwnd = t->cc.cwnd / t->mss;
    i.tcpi_advmss = mss_to_announce(t->domain, t->route, so.options);
    i.tcpi_rcv_space = t->window_open();
    i.tcpi_total_retrans = t->retransmitted;
    i.tcpi_bytes_acked = t->bytes_acked;
    i.tcpi_bytes_received = t->bytes_received;
    i.tcpi_segs_out = t->segments_out;
    sent_figures(*t, i);
    i.tcpi_segs_in = t->segments_in;
    i.tcpi_notsent_bytes = static_cast<std::uint32_t>(so.snd_limit - std::min(so.snd_limit, t->offset_of(t->snd.nxt)));
    if (t->joined != nullptr) {
        std::uint64_t sent = 0;
        std::uint64_t received = 0;
        joined_bytes(*t, sent, received);
        i.tcpi_bytes_acked = i.tcpi_bytes_sent = sent;
        i.tcpi_bytes_received = received;
    }
    i.tcpi_min_rtt = least_rtt(*t);
    i.tcpi_snd_wnd = t->snd.wnd;
    i.tcpi_max_pacing_rate = so.options.max_pacing_rate;
    if (t->bbr != nullptr) {
        i.tcpi_delivery_rate = t->bbr->delivery_rate();
        i.tcpi_delivery_rate_app_limited = t->bbr->is_app_limited();
        i.tcpi_delivered = t->bbr->delivered() / t->mss;
    }
    std::uint64_t rate = pacing_rate(*t);
    i.tcpi_pacing_rate = rate != 0 ? rate : pacing_unlimited;
    return i;
}

// TCP_CC_INFO, a union by algorithm: how many of its octets are told.
std::size_t algorithm_info(const Tcb& t, tcp_cc_info& i)
{
    if (&t.algorithm() == &westwood_algorithm) { // as Linux, in the form of another algorithm
        i.vegas.tcpv_enabled = 1;
        i.vegas.tcpv_rtt = microseconds(t.rtt.srtt());
        i.vegas.tcpv_minrtt = least_rtt(t);
        return sizeof i.vegas;
    }
    return model_info(t, i.bbr) ? sizeof i.bbr : 0;
}

int int_option(const Socket& so, int name, Error& error)
{
    const SocketOptions& o = so.options;
    switch (name) {
    case TCP_NODELAY:
        return o.no_delay;
    case TCP_CORK:
        return o.cork;
    case TCP_QUICKACK:
        return o.quick_ack || (so.tcb != nullptr && !so.tcb->rcv.interactive);
    case TCP_MAXSEG:
        return static_cast<int>(so.tcb != nullptr ? so.tcb->mss : o.max_segment != 0 ? o.max_segment : mss_default);
    case TCP_KEEPIDLE:
        return static_cast<int>(o.keep_idle_s);
    case TCP_KEEPINTVL:
        return static_cast<int>(o.keep_interval_s);
    case TCP_KEEPCNT:
        return o.keep_count;
    case TCP_SYNCNT:
        return o.syn_count;
    case TCP_LINGER2:
        return o.linger2_s;
    case TCP_USER_TIMEOUT:
        return static_cast<int>(o.user_timeout_ms);
    case TCP_DEFER_ACCEPT:
        return static_cast<int>(o.defer_accept_s);
    case TCP_NOTSENT_LOWAT:
        return static_cast<int>(o.not_sent_lowat);
    case TCP_FASTOPEN:
        return static_cast<int>(o.fastopen_queue);
    case TCP_FASTOPEN_CONNECT:
        return o.fastopen_connect;
    case TCP_FASTOPEN_NO_COOKIE:
        return o.fastopen_no_cookie;
    default:
        error = Error::no_protocol_option;
        return 0;
    }
}

void give(const void* from, std::size_t bytes, void* value, std::uint32_t& size)
{
    size = std::min(size, static_cast<std::uint32_t>(bytes));
    std::memcpy(value, from, size);
}

} // namespace
} // namespace tcp

base::Error tcp_set_option(Domain& d, Socket& so, int level, int name, const void* value, std::uint32_t size)
{
    base::assert_on(d.cpu.owner());
    if (level == SOL_SOCKET && name == SO_KEEPALIVE) { // so.options.keepalive is the socket layer's; the timer is ours
        bool on = so.tcb != nullptr && is_set(*so.tcb, tcp::Deadline::keepalive);
        if (so.tcb != nullptr && so.tcb->joined == nullptr && on != so.options.keepalive) {
            tcp::restart_keepalive(*so.tcb, d.now()); // as Linux: not from what was heard last
        }
        return base::Error::none;
    }
    if (level == IPPROTO_IP || level == IPPROTO_IPV6) { // RFC 9293 3.9.1.9 (SHLD-21): also while the connection lives
        if (so.tcb != nullptr) {
            so.tcb->ttl = so.options.ttl_towards(so.tcb->flow.peer.addr);
            so.tcb->tos = so.options.tos;
            so.tcb->mtu_discover = so.options.mtu_discover;
        }
        return base::Error::none;
    }
    if (level != IPPROTO_TCP) {
        return base::Error::no_protocol_option;
    }
    if (name == TCP_CONGESTION) {
        base::Error e = tcp::set_congestion(so.options, value, size);
        if (e == base::Error::none && so.tcb != nullptr && so.tcb->congestion != so.options.congestion - 1) {
            so.tcb->congestion = static_cast<std::uint8_t>(so.options.congestion - 1);
            tcp::congestion_change(so.tcb->algorithm(), so.tcb->cc);
            tcp::adopt_model(*so.tcb);
            so.tcb->undo.end(); // what it remembers is the other algorithm's
        }
        return e;
    }
    if (name == TCP_FASTOPEN_KEY) {
        return tcp::set_fastopen_key(so, value, size);
    }
    int v = 0;
    base::Error e = tcp::take_int(value, size, v);
    if (e == base::Error::none) {
        e = tcp::is_fastopen(name) ? tcp::set_fastopen(d, so, name, v) : tcp::set_by_name(so.options, name, v);
    }
    if (e == base::Error::none) {
        tcp::act_on(so, name);
    }
    return e;
}

base::Error tcp_get_option(Domain& d, Socket& so, int level, int name, void* value, std::uint32_t& size)
{
    base::assert_on(d.cpu.owner());
    if (level != IPPROTO_TCP) {
        return base::Error::no_protocol_option;
    }
    if (name == TCP_INFO) {
        tcp_info i = tcp::info_of(so);
        tcp::give(&i, sizeof i, value, size);
        return base::Error::none;
    }
    if (name == TCP_FASTOPEN_KEY) {
        tcp::give(so.options.fastopen_key.data(), so.options.fastopen_keys * 16U, value, size);
        return base::Error::none;
    }
    if (name == TCP_CC_INFO) {
        tcp_cc_info i{};
        std::size_t known = so.tcb != nullptr ? tcp::algorithm_info(*so.tcb, i) : 0;
        tcp::give(&i, known, value, size);
        return base::Error::none;
    }
    if (name == TCP_CONGESTION) {
        char text[16] = {};
        std::string_view algorithm = tcp::congestion_algorithm(tcp::algorithm_index(d, so.options)).name;
        std::memcpy(text, algorithm.data(), algorithm.size());
        tcp::give(text, sizeof text, value, size);
        return base::Error::none;
    }
    base::Error error = base::Error::none;
    int v = tcp::int_option(so, name, error);
    if (error == base::Error::none) {
        tcp::give(&v, sizeof v, value, size);
    }
    return error;
}

} // namespace protocols
