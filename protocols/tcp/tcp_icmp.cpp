// ICMP errors about our segments (RFC 1122 4.2.3.9, RFC 5927, RFC 1191). An error is believed only when it quotes a
// sequence number that is in flight (RFC 5927 4.1); hard errors abort a connection only while it opens (RFC 5927 5.2),
// otherwise they are remembered as soft ones, or told where IP_RECVERR asks. Owner: the CPU of the flow.
#include "protocols/tcp/tcp_var.hpp"

namespace protocols {

namespace tcp {
namespace {

constexpr std::uint8_t icmp_unreachable = 3;
constexpr std::uint8_t icmp_time_exceeded = 11;
constexpr std::uint8_t icmp_parameter_problem = 12;
constexpr std::uint8_t code_fragmentation_needed = 4;

// As Linux has it.
base::Error error_of(const IcmpError& e)
{
    if (e.type == icmp_time_exceeded) {
        return base::Error::host_unreachable;
    }
    if (e.type == icmp_parameter_problem) {
        return base::Error::protocol;
    }
    switch (e.code) {
    case 0: // net
    case 6:
    case 9:
    case 11:
        return base::Error::network_unreachable;
    case 2: // protocol
        return base::Error::no_protocol_option;
    case 3: // port
        return base::Error::connection_refused;
    case 5: // source route
        return base::Error::not_supported;
    case 7: // host unknown
        return base::Error::host_down;
    case 8: // isolated
        return base::Error::host_isolated;
    case 13:                                                                                   // prohibited
        return e.flow.peer.addr.is_v4() ? base::Error::host_unreachable : base::Error::access; // as Linux
    default:
        return base::Error::host_unreachable;
    }
}

// RFC 1191 6.4: smaller segments from now on, and what was too large goes again at once, without a congestion response;
// also what has gone again already, as on Linux: by another router's word, after a loss or a timeout. What was sent
// together is judged together: small segments among large ones go again.
void fragmentation_needed(Tcb& t, const IcmpError& e)
{
    if (!believes_routers(t)) {
        return;
    }
    std::uint32_t mtu = e.mtu != 0 ? e.mtu : t.route.mtu / 2; // a router older than RFC 1191 names none
    if (mtu >= t.route.mtu) {
        return;
    }
    pmtu_learn(t.domain, t.flow.peer.addr, mtu);
    route_set_mtu(t.domain, t.flow.peer.addr, t.route);
    t.plpmtu.limit(t.route.mtu);
    if (t.state == State::syn_sent && t.snd.nxt != t.snd.iss + 1) {
        hurry_syn(t); // without its text
    }
    if (!synchronized(t.state) && !t.fast_passive) {
        return;
    }
    std::uint32_t before = t.mss;
    set_mss(t);
    if (t.mss < before && t.board.mark_larger_lost(t.mss)) {
        if (t.board.phase != Recovery::none) {
            t.undo.end(); // whether that was late or lost, what follows no longer tells
        }
        t.board.resend_quietly();
        t.timing = t.tlp.in_progress = false;
        output_soon(t);
    }
}

// An active open that is not complete, whether the peer's SYN has crossed ours or not.
bool connects(const Tcb& t)
{
    bool crossed = t.state == State::syn_received && t.listener == nullptr && !t.fast_passive;
    return t.state == State::syn_sent || crossed;
}

// tcp(7), error handling: with IP_RECVERR the application hears of it now.
bool wants_errors(const Tcb& t)
{
    bool its_own = t.so != nullptr && !t.app_closed && (t.listener == nullptr || t.fast_passive);
    return its_own && (t.flow.peer.addr.is_v4() ? t.so->options.recv_error : t.so->options.recv_error6);
}

} // namespace
} // namespace tcp

void tcp_icmp_error(Domain& d, const IcmpError& e)
{
    base::assert_on(d.cpu.owner());
    tcp::FlowNode* n = d.tcp->flows.find(e.flow);
    if (n == nullptr || n->kind != tcp::NodeKind::tcb) {
        return; // half-open: the SYN-ACK timer decides
    }
    auto& t = static_cast<Tcb&>(*n);
    tcp::Seq quoted{e.tcp_seq};
    if (quoted < t.snd.una || quoted >= t.snd.nxt) {
        count(d.tcp->counters.icmp_ignored);
        return;
    }
    if (e.type == tcp::icmp_unreachable && e.code == tcp::code_fragmentation_needed) {
        tcp::fragmentation_needed(t, e);
        return;
    }
    bool told =
        e.type == tcp::icmp_unreachable || e.type == tcp::icmp_time_exceeded || e.type == tcp::icmp_parameter_problem;
    if (!told) {
        count(d.tcp->counters.icmp_ignored);
        return;
    }
    if (t.state == tcp::State::syn_sent) {
        tcp::fastopen_unanswered(t);
    }
    if (tcp::connects(t)) {
        tcp::kill(t, tcp::error_of(e)); // as Linux: a connect hears of it at once
    } else if (tcp::wants_errors(t)) {
        so_publish_error(*t.so, tcp::error_of(e));
    } else {
        t.soft_error = tcp::error_of(e);
    }
}

} // namespace protocols
