// The functions the files of tcp/ call in each other; nobody outside includes this. All run on the owner CPU of the
// domain (or Tcb) they are given.
#pragma once

#include <netinet/in.h>

#include <cstdint>

#include "protocols/path_mtu.hpp"
#include "protocols/socket/so_dispatch.hpp"
#include "protocols/tcp/tcp_domain.hpp"
#include "protocols/tcp/tcp_segment.hpp"

struct tcp_bbr_info; // <linux/inet_diag.h>

namespace protocols::tcp {

// ---- input: tcp_input_*.cpp, tcp_ack.cpp, tcp_reass.cpp. Each takes a segment, none frees the packet.
void segment_in_closed(Domain& d, const Segment& s);
void segment_in_listen(Domain& d, Listener& l, const Segment& s);
void segment_in_syn_cache(Domain& d, SynEntry& e, Segment& s);
void segment_in_syn_sent(Tcb& t, Segment& s);
void segment_in_connection(Tcb& t, Segment& s); // SYN-RECEIVED and later: the eight steps
void segment_in_time_wait(Domain& d, TimeWaitRecord& r, const Segment& s);
void take_syn(Domain& d, Listener& l, const Segment& s, Seq iss); // in LISTEN; `iss`: ours, unless it is a cookie
void apply_actions(Tcb& t, const Segment& s, Verdict v, const Actions& a);

Verdict check_paws(Tcb& t, Segment& s, Actions& a);
void trim_back(Segment& s, Seq edge);    // to what was offered
bool must_be_answered(const Segment& s); // where it is not acceptable; else:
bool may_spare_ack(base::Instant& last, base::Instant now);
Verdict check_sequence(Tcb& t, Segment& s, Actions& a);
Verdict check_reset(Tcb& t, Segment& s, Actions& a);
Verdict check_security(Tcb& t, Segment& s, Actions& a);
Verdict check_syn(Tcb& t, Segment& s, Actions& a);
Verdict check_ack(Tcb& t, Segment& s, Actions& a);
Verdict check_urgent(Tcb& t, Segment& s, Actions& a);
Verdict take_text(Tcb& t, Segment& s, Actions& a);
void drop_queued(Tcb& t); // ranges below RCV.NXT
Verdict check_fin(Tcb& t, Segment& s, Actions& a);
void update_window(Tcb& t, const Segment& s);
void keep_timestamp(Tcb& t, const Segment& s); // of one that was acceptable, with its ACK
void heard(Tcb& t);                            // a segment of the peer's that is no other's: a sign of life
void take_expected_ack(Tcb& t, const Segment& s, Actions& a); // check_ack() of a predicted segment

// ---- options and sequence numbers: tcp_negotiate.cpp
Seq initial_sequence(const TcpState& s, const base::FourTuple& flow, base::Instant now); // RFC 6528
std::uint32_t timestamp_offset(const TcpState& s, const base::FourTuple& flow);
std::uint32_t timestamp_now(base::Instant now, std::uint32_t offset);
std::uint8_t scale_for(std::uint32_t ring_option_bytes);
std::uint16_t mss_to_announce(const Domain& d, const Route& r, const SocketOptions& o);
Negotiated offer(const Domain& d, const SocketOptions& o); // what we say in a SYN, or take of a peer's
Negotiated negotiate(const wire::TcpOptions& theirs, const Negotiated& ours);
wire::TcpOptions syn_options(const Negotiated& n, std::uint16_t mss, std::uint32_t ts_val, std::uint32_t ts_ecr);
bool routers_may_cut(const Tcb& t);
// IP_MTU_DISCOVER: no DF. What is not narrow, and discovers as by default, is asked no more.
inline bool may_fragment(const Tcb& t)
{
    return (t.mtu_discover != IP_PMTUDISC_WANT || t.route.mtu <= pmtu_min) && routers_may_cut(t);
}
bool believes_routers(const Tcb& t); // ... what they say of the path's MTU
void set_mss(Tcb& t);                // from the route, the peer's MSS, TCP_MAXSEG and the options in use
void fit_way(Tcb& t);                // segments as large as another route than the one before takes them
void renew_way(Tcb& t);              // decides the route again, and fits
inline void look_at_way(Tcb& t)      // ... where what decided it has changed
{
    if (!route_holds(t.domain, t.route)) {
        renew_way(t);
    }
}

// ---- loss recovery: tcp_recovery.cpp
struct AckRound { // one ACK, as recovery sees it
    Delivery d;
    std::uint32_t acked = 0;         // octets of sequence space
    std::uint32_t flight_before = 0; // una to nxt
    std::uint32_t sacked_before = 0;
    bool advanced = false;    // una moved
    bool ece = false;         // the peer saw a mark
    std::uint32_t marked = 0; // of `acked`
    bool duplicate = false;   // RFC 5681 2, or fresh SACKs
    SeqRange dsack;           // RFC 2883; empty when there is none
};
inline std::uint32_t clock_us(const Tcb& t)
{
    return static_cast<std::uint32_t>(t.domain.now().time_since_epoch().count());
}
std::uint32_t min_rtt_us(const Tcb& t); // 0: not known
RackAck rack_ack(const Tcb& t, const Segment& s);
// Nothing is lost, sent again or probed, nothing may be taken back.
inline bool calm(const Tcb& t)
{
    return t.board.plain() && t.board.duplicates == 0 && !t.undo.armed && !t.tlp.in_progress;
}
bool in_order(const Tcb& t, const AckRound& r); // an ACK in calm: the window just grows
void recover(Tcb& t, const Segment& s, AckRound& r, Actions& a);
void grow_window(Tcb& t, const AckRound& r);
void begin_timeout(Tcb& t);   // the retransmission timer has expired: marks losses, reduces
bool reorder_timeout(Tcb& t); // RFC 8985 6.2 step 5; true
bool may_probe(const Tcb& t); // RFC 8985 7.2
void send_tail_probe(Tcb& t); // tcp_output.cpp

// ---- ECN and the choice of algorithm: tcp_ecn.cpp
std::uint8_t algorithm_index(const Domain& d, const SocketOptions& o);
EcnMode ecn_asked(const Domain& d, const SocketOptions& o);                      // by our SYN
EcnMode ecn_accepted(const Domain& d, const SocketOptions& o, const Segment& s); // of the peer's SYN
EcnMode ecn_answered(EcnMode asked, const Segment& syn_ack);
bool accepts_ecn(const Domain& d, const SocketOptions& o); // in any way, where a peer asks
bool accepts_accurate_ecn(const Domain& d);
std::uint16_t ecn_flags_of_syn(EcnMode asked, unsigned retries);
std::uint16_t ecn_flags_of_syn_ack(EcnMode m, EcnHandshake& h, unsigned retries);
bool ecn_syn_again(EcnMode m, EcnHandshake& h, EcnMode asked, const Segment& syn); // false: reset (RFC 9768 3.1.5)
std::uint8_t tos_of(const Tcb& t, bool new_text);
std::uint16_t ecn_flags(Tcb& t, bool new_text); // classic
void take_mark(Tcb& t, const Segment& s);       // classic
void take_echo(Tcb& t, const AckRound& r);
bool reduced_for_mark(const Tcb& t); // as to a loss, of the window that is being acknowledged
void ecn_reduced(Tcb& t);            // for a mark or a loss: marks of the same window ask for no more
void ecn_undo(Tcb& t);               // the loss was none

// ---- accurate ECN: tcp_accecn.cpp. All but the first where that is the mode.
void accecn_start(Tcb& t, const EcnHandshake& h); // the mode is known
void accecn_syn_ack(Tcb& t, const Segment& s);    // the first one that came; answers it
bool accecn_syn_ack_again(Tcb& t, const Segment& s);
void accecn_feedback(Tcb& t, const Segment& s, AckRound& r, bool completes); // of an acceptable ACK
void accecn_received(Tcb& t, const Segment& s, Actions& a);                  // an acceptable segment
bool accecn_expected(const Tcb& t, const Segment& s, std::uint32_t acked);   // it brings no news of marks
// What the next segment says; `room` = for options, behind the timestamps.
void accecn_add_option(Tcb& t, bool pure, std::uint32_t room, wire::TcpOptions& o);
wire::AccEcnOption accecn_first_option(); // of a SYN-ACK

// ---- BBR: tcp_bbr_connection.cpp. The tell_ functions only where t.bbr is there.
void adopt_model(Tcb& t);
void drop_model(Tcb& t);
void tell_sent(Tcb& t, std::uint32_t octets); // new or again, noted on the board already
void tell_lost(Tcb& t, std::uint32_t octets);
void tell_acked(Tcb& t, const AckRound& r);
void tell_idle(Tcb& t);
bool model_info(const Tcb& t, tcp_bbr_info& info);

std::uint64_t pacing_rate(const Tcb& t); // octets per second; 0 = not paced: tcp_output.cpp
inline bool may_be_paced(const Tcb& t)   // few are
{
    return t.bbr != nullptr || (t.so != nullptr && t.so->options.max_pacing_rate != pacing_unlimited);
}

// ---- output: tcp_output.cpp decides, tcp_segment_out.cpp builds
void output(Tcb& t);      // retransmissions, new text, FIN, as far as the windows allow
void output_soon(Tcb& t); // at the roll-up
void ack_now(Tcb& t);     // at the roll-up
// What we could offer ever. RFC 7323 2.3: the header can say no more, however large the ring is (a peer without window
// scaling, a listener whose SO_RCVBUF was small).
inline std::uint64_t window_said_max(const Tcb& t)
{
    return std::uint64_t{window_unscaled_max} << t.agreed.rcv_scale;
}
inline std::uint64_t window_max(const Tcb& t)
{
    return std::min<std::uint64_t>(t.so->rcv_ring.size(), window_said_max(t));
}
// RFC 9293 3.8.6.2.2: by how much its edge moves at least: min(window / 2, segments).
inline std::uint32_t window_step(const Tcb& t, std::uint32_t segments)
{
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(window_max(t) / 2, segments * t.mss));
}
// ... and now.
inline std::uint32_t receive_window(const Tcb& t)
{
    if (t.so == nullptr || t.so->rcv_ring.size() == 0) {
        return t.window_open();
    }
    std::uint64_t held = t.rcv.nxt_offset - t.so->rcv_consumed;
    std::uint64_t size = t.so->rcv_ring.size();
    std::uint64_t room = held < size ? size - held : 0; // never more than the ring
    return static_cast<std::uint32_t>(std::min(room, window_said_max(t)));
}
struct SegmentOut {
    Seq seq;
    std::uint16_t flags = 0;
    std::uint64_t offset = 0; // of the text in the send ring
    std::uint32_t len = 0;
    bool new_text = false;  // sent for the first time
    bool mtu_probe = false; // one packet, whatever its length
    bool plain = false;     // no SACK blocks
    bool handshake = false; // the ACE field in its handshake encoding (RFC 9768 3.2.2.1)
};
bool send_segment(Tcb& t, const SegmentOut& s);
// Urgent text is not acknowledged yet (RFC 9293 3.8.5): it is not held back, and goes segment by segment.
inline bool in_urgent_mode(const Tcb& t)
{
    return t.so != nullptr && t.so->snd_urgent > t.snd.una_offset;
}
// All that was written has been sent and acknowledged, and more may be written, or the FIN with it; nothing was lost.
inline bool at_rest(const Tcb& t)
{
    bool all_text = t.so != nullptr && t.snd.una_offset == t.so->snd_limit && may_send(t.state);
    bool all = t.snd.fin_sent && t.snd.una == t.snd.nxt;
    return (all_text || all) && t.board.phase == Recovery::none && t.bbr == nullptr;
}
enum class AckForm : std::uint8_t {
    full,
    plain,     // no SACK blocks: of ACKs alone (RFC 9768 3.2.2.5.1)
    handshake, // the same, with the ACE field in its handshake encoding
};
bool send_ack(Tcb& t, AckForm form = AckForm::full);
void send_syn(Tcb& t); // SYN, or SYN-ACK in SYN-RECEIVED (simultaneous open)
void send_reset(Tcb& t);
void send_probe(Tcb& t);                 // keepalive and zero window
std::uint32_t window_room(const Tcb& t); // octets that the peer's window lets out beyond nxt
// Without a Tcb. `h` has everything but ports and checksum.
struct Reply {
    base::FourTuple flow;
    Route* route = nullptr; // kept with what is answered for; null = look it up
    std::uint8_t ttl = 64;
    std::uint8_t tos = 0;
    wire::TcpHeader header;
};
void send_reply(Domain& d, Reply& r);
void send_reset_for(Domain& d, const Segment& s); // RFC 9293 3.5.2, 3.10.7.1
bool may_challenge(Domain& d);                    // RFC 5961 7

// ---- life: tcp_life.cpp
void adopt_tcb(Tcb& t, Socket* so);
void give_back_runs(Tcb& t); // nothing looks at the borrowed list any more
void give_back_ranges(Tcb& t);
Tcb* make_tcb(Domain& d, const base::FourTuple& flow, Socket* so, NodeKind kind = NodeKind::tcb,
    std::uint64_t flow_hash = 0); // of the flow table, where it is known
void free_tcb(Tcb& t);
void publish_over(Socket& so, base::Error why);
void kill(Tcb& t, base::Error why);    // the connection is over: publishes, frees the Tcb
void abort(Tcb& t, base::Error why);   // the same with a RST
void release_socket(Tcb& t);           // rings are not needed any more: the socket goes back to its user
void release_if_done(Tcb& t);          // ... when closed and everything is acknowledged
void enter_time_wait(Tcb& t);          // frees the Tcb
void begin_sending(Tcb& t, Seq first); // the peer's options are known: mss, congestion control, scoreboard
void connection_opened(Tcb& t);        // handshake complete: mss, cc, timers, state for the application

// ---- joined pairs: tcp_joined.cpp. After disconnect and abort the socket may be gone.
void joined_look(Tcb& t); // a mark: the application sent something while nobody is joined to it any more
void joined_shutdown(Tcb& t, bool read, bool write);
void joined_disconnect(Tcb& t);
void joined_abort(Tcb& t);
void joined_bytes(const Tcb& t, std::uint64_t& sent, std::uint64_t& received);

// ---- timers: tcp_timers.cpp
void set_deadline(Tcb& t, Deadline which, base::Instant when);
void clear_deadline(Tcb& t, Deadline which);
inline bool is_set(const Tcb& t, Deadline which)
{
    return t.deadlines[static_cast<unsigned>(which)] != base::never;
}
void timer_fired(lwkt::Timer& timer);
void restart_retransmit(Tcb& t);
void hurry_syn(Tcb& t);
void restart_keepalive(Tcb& t, base::Instant since);
void arm_wheel(Tcb& t);

// ---- SYN cache and cookies: tcp_syn_cache.cpp, tcp_syn_cookie.cpp
void syn_cache_timer(lwkt::Timer& timer);
void syn_cache_remove(SynEntry& e);
void send_syn_ack(SynEntry& e);
std::uint16_t first_window(const Listener& l); // of a SYN-ACK
// TCP_DEFER_ACCEPT counts in timeouts of the SYN-ACK, as Linux has it; seconds are what these take together.
unsigned timeouts_in(std::uint32_t seconds);
std::uint32_t seconds_of_timeouts(unsigned timeouts);
struct Cookie {
    Seq iss;
    std::uint32_t ts_val = 0;
};
Cookie make_cookie(TcpState& s, const Segment& syn, const Negotiated& n);
// False when the ACK does not return a cookie of ours; else what the SYN said.
bool open_cookie(TcpState& s, const SocketOptions& listener, const Segment& ack, Negotiated& n);
// A completed handshake: socket, Tcb in SYN-RECEIVED; null when refused.
struct Opening {
    Listener* listener = nullptr;
    Seq iss;
    Seq irs;
    Negotiated agreed;
    EcnHandshake ecn;
    std::uint32_t ts_offset = 0;
    std::uint32_t ts_recent = 0;
    Route route;
    std::uint64_t flow_hash = 0; // in the flow table; 0 = not computed yet
};
Tcb* open_passive(Domain& d, const base::FourTuple& flow, const Opening& o);
// The segment that completes the handshake of a Tcb that open_passive() just made; the Tcb may be gone afterwards. None
// of the steps should refuse it; one that did would leave a connection half open for ever, so that ends.
void complete_handshake(Tcb& t, Segment& s);

// ---- Fast Open: tcp_fastopen.cpp
struct FastOpenVerdict {
    bool take = false;        // the SYN's text, and the connection begins with it
    bool give_cookie = false; // in the SYN-ACK
};
FastOpenVerdict judge_fastopen(Domain& d, Listener& l, const Segment& syn);
FastOpenCookie cookie_for(const Domain& d, const SocketOptions& o, const base::FourTuple& flow); // server's side
bool open_fast(Domain& d, const Segment& syn, const Opening& o, bool give_cookie);               // false: refused
void fastopen_ended(Tcb& t); // the handshake is complete, or the connection over
bool may_open_fast(Domain& d, const Socket& so, const base::IpAddr& peer);
bool wants_cookie(Domain& d, const base::IpAddr& peer);
std::uint32_t fastopen_text(const Tcb& t, const FastOpenPeer* p); // octets to go with our SYN
void fastopen_unanswered(Tcb& t);
void fastopen_answered(Tcb& t, const Segment& syn_ack, std::uint32_t text_acked);
void start_connect(Domain& d, Tcb& t); // tcp_usrreq.cpp: the SYN

// ---- path MTU by probing: tcp_plpmtu.cpp
void plpmtu_start(Tcb& t);
void plpmtu_resume(Tcb& t);
void plpmtu_timeout(Tcb& t); // the retransmission timer has expired
std::uint32_t plpmtu_probe_text(Tcb& t, std::uint64_t available, std::uint32_t room);
void plpmtu_sent(Tcb& t, std::uint32_t text); // at snd.nxt
void plpmtu_acked(Tcb& t);                    // una moved while a probe was in flight
bool plpmtu_lost(Tcb& t);

// ---- TIME-WAIT: tcp_time_wait.cpp
void time_wait_timer(lwkt::Timer& timer);
TimeWaitRecord& time_wait_make(Domain& d, const base::FourTuple& flow); // to be filled and inserted at once
void time_wait_insert(Domain& d, TimeWaitRecord& r);                    // for 2 MSL; its flow must be free
void time_wait_remove(Domain& d, TimeWaitRecord& r);
Seq number_behind(const Domain& d, const TimeWaitRecord& r); // where another connection takes its place
// May a new connection take the place of what the flow table holds (null: nothing)? tcp_usrreq.cpp
bool yields(const Domain& d, const FlowNode* n);
void time_wait_yield(Domain& d, FlowNode* held); // it did: once there is a connection in its place, not before

} // namespace protocols::tcp
