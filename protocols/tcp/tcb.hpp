// The transmission control block: one connection that is (or was) established, or opens actively. Sequence numbers are
// Seq; ring offsets are 64 bit and derived from one anchor per direction (una_offset, nxt_offset), so a wrap of the
// sequence space is no case of its own. SYN has no offset; FIN stands at so.snd_end (sending) and fin_seq (receiving).
//
// Tcb: owner = the CPU of `domain`, fixed at connect or SYN. All fields o; local, peer (flow): c.
#pragma once

#include <array>
#include <cstdint>

#include "base/list.hpp"
#include "lwkt/timer_wheel.hpp"
#include "protocols/socket/socket.hpp"
#include "protocols/stack.hpp"
#include "protocols/tcp/accecn.hpp"
#include "protocols/tcp/flow_table.hpp"
#include "protocols/tcp/pacer.hpp"
#include "protocols/tcp/plpmtu.hpp"
#include "protocols/tcp/prr.hpp"
#include "protocols/tcp/rack.hpp"
#include "protocols/tcp/seq_ranges.hpp"
#include "protocols/tcp/tcp_cc.hpp"
#include "protocols/tcp/tcp_rtt.hpp"
#include "protocols/tcp/tcp_scoreboard.hpp"
#include "protocols/tcp/tcp_state.hpp"
#include "protocols/tcp/tlp.hpp"
#include "protocols/tcp/undo.hpp"
#include "protocols/tcp/window_use.hpp"
#include "protocols/wire/tcp_wire.hpp"

namespace protocols {

struct Listener;

namespace tcp {

struct JoinedEnd;
class Bbr;
struct LongRanges;
struct LongRuns;

inline constexpr unsigned reassembly_ranges_max = 64;

// What the one timer of a connection may be waiting for.
enum class Deadline : std::uint8_t { reorder, probe, pace, retransmit, persist, keepalive, delayed_ack, fin_wait_2 };
inline constexpr unsigned deadline_count = 8;

// What both sides agreed on in the SYNs.
struct Negotiated {
    std::uint16_t peer_mss = 0; // as announced, 0 = not
    std::uint8_t snd_scale = 0; // shift of windows we receive
    std::uint8_t rcv_scale = 0; // shift of windows we send
    bool scale = false;
    bool sack = false;
    bool timestamps = false;
    EcnMode ecn = EcnMode::none;
};

struct EcnState {         // RFC 3168 6.1
    bool echo = false;    // ECE goes with every segment
    bool cwr_due = false; // the next new text says CWR
    bool reduced = false; // once a window: not again until more than `high` is acknowledged
    Seq high;
};

struct SendState { // RFC 9293 3.3.1
    Seq iss;
    Seq una;
    Seq nxt;
    Seq wl1;
    Seq wl2;
    Seq small_end;                // end of the last segment below one MSS (Minshall's Nagle)
    Seq fin_seq;                  // of our FIN, once fin_sent
    std::uint64_t una_offset = 0; // ring offset of una
    std::uint32_t wnd = 0;        // bytes
    std::uint32_t wnd_max = 0;    // largest ever offered
    bool fin_sent = false;
};

struct RecvState {
    Seq irs;
    Seq nxt;
    Seq adv;                       // right edge of the window as last advertised
    Seq fin_seq;                   // of the peer's FIN, once fin_known
    std::uint64_t nxt_offset = 0;  // ring offset of nxt
    std::uint64_t urgent_mark = 0; // ring offset one past the last urgent octet announced; 0: none was
    std::uint32_t unacked = 0;     // text octets received since the last ACK
    std::uint32_t mss_seen = 536;  // of the peer's full segments: what "every second segment" means
    Seq text_end_late;             // of the last out-of-order segment
    std::uint8_t sack_news = 0;    // SACK blocks that changed since the last ACK
    std::uint8_t quick_acks = 0;   // ACKs still sent at once (start, after a pause, after a hole)
    std::uint16_t last_full = 0;   // the last segment, where it may have been a full one below mss_seen
    base::Instant last_text{};     // when text last came
    bool fin_known = false;
    bool interactive = false; // we answer what we receive: delay ACKs to piggyback them
};

struct TimestampState {       // RFC 7323
    std::uint32_t offset = 0; // added to our clock, per connection
    std::uint32_t recent = 0;
    base::Instant recent_at{};
    Seq last_ack_sent;
};

} // namespace tcp

struct Tcb : tcp::FlowNode, lwkt::Timer {
    Tcb(Domain& d, const base::FourTuple& f);

    // What a segment of an established connection looks at comes first, in as few cache lines as it needs.
    Domain& domain;       // c
    Socket* so = nullptr; // null once the socket is released (orphan)
    tcp::StateCell state;
    tcp::Bbr* bbr = nullptr;     // where the algorithm is BBR
    base::ListLink pending_link; // in TcpState::pending while roll-up work is due

    tcp::Negotiated agreed;
    tcp::SendState snd;
    tcp::RecvState rcv;
    tcp::TimestampState ts;

    std::uint32_t mss = tcp::mss_default; // payload of a full segment, options deducted
    std::uint8_t ttl = 64;                // c: kept for when the socket is gone
    std::uint8_t tos = 0;
    std::uint16_t pseudo_sum;      // c: wire::pseudo_header_part() of `flow`, which each segment begins with
    std::uint8_t congestion = 0;   // index of the algorithm
    std::int8_t linger2_s = 60;    // TCP_LINGER2, kept for when the socket is gone
    std::uint8_t mtu_discover = 1; // IP_MTU_DISCOVER, likewise
    std::uint16_t predicted_flags = wire::tcp_ack; // of the next segment, PSH aside; 0: of none (decision 0020)
    bool app_closed = false;                       // nobody will read any more: text that arrives is answered by RST
    bool read_shut = false;                        // shutdown(SHUT_RD)
    bool ack_now = false;                          // an ACK is due at the roll-up
    bool ack_soon = false;                         // an ACK is due when the delayed-ACK timer fires
    bool output_due = false;
    bool push_small = false;    // send a partial segment although Nagle or cork holds it
    bool cwnd_limited = false;  // the last output was stopped by cwnd
    bool timing = false;        // a round trip is being measured
    bool window_unused = false; // congestion control knows that the application leaves cwnd unused
    bool deferred = false;      // CLOSED: the SYN waits for text to carry (RFC 7413)
    bool fast_active = false;   // our SYN had the Fast Open option
    bool fast_passive = false;  // SYN-RECEIVED, and the application has it already
    bool fast_cookie = false;   // our SYN-ACK has a cookie
    bool fast_done = false;     // the SYN's text was taken
    bool probe_due = false;     // new text or an ACK: the probe timer starts again (RFC 8985 7.2)
    tcp::Seq timed_end;         // ... by the ACK that covers this
    base::Instant timed_at{};

    tcp::RttEstimator rtt;
    tcp::CongestionState cc;
    tcp::EcnState ecn;
    tcp::Rack rack;
    tcp::Tlp tlp;
    tcp::Prr prr;
    tcp::WindowUse use;
    tcp::Pacer pacer;
    tcp::Undo undo;
    tcp::Plpmtu plpmtu;
    base::Instant opened_at{};                                // established; before that, made
    base::Instant last_sent{};                                // text
    base::Instant last_received{};                            // a segment that was acceptable, with its ACK
    std::array<base::Instant, tcp::deadline_count> deadlines; // never = not set

    unsigned retries = 0;          // expiries of the retransmission timer in a row
    unsigned persist_probes = 0;   // zero-window probes in a row
    unsigned keepalive_probes = 0; // unanswered
    unsigned unanswered = 0;       // expiries of retransmission and persist timer since the peer was heard
    base::Error soft_error =
        base::Error::none; // ICMP: reported only if the connection then times out (RFC 1122 4.2.3.9)

    std::uint64_t bytes_acked = 0; // statistics of TCP_INFO
    std::uint64_t bytes_received = 0;
    std::uint32_t segments_out = 0;
    std::uint32_t data_segments_out = 0; // of these, with text
    std::uint32_t segments_in = 0;

    Route route;
    tcp::LongRuns* long_runs = nullptr;     // that `board` has borrowed
    tcp::LongRanges* long_ranges = nullptr; // that `out_of_order` has borrowed
    tcp::SeqRange duplicate;                // reported as D-SACK in the next ACK when not empty (RFC 2883)
    tcp::SeqRanges<tcp::reassembly_ranges_max> out_of_order;
    tcp::Scoreboard board;

    // What few segments look at.
    Listener* listener = nullptr;     // passive, until the handshake is complete
    base::ListLink all_link;          // in TcpState::all
    tcp::AccEcn accecn;               // with EcnMode::accurate
    tcp::JoinedEnd* joined = nullptr; // c after connect or accept: no segments, see joined_end.hpp
    base::Instant first_retry{};      // when the first of `retries` happened
    base::Instant spare_ack_at{};     // the last ACK that a segment without text forced; challenges too
    std::uint64_t bytes_retransmitted = 0;
    std::uint32_t retransmitted = 0;   // segments
    std::uint32_t dsacks = 0;          // received
    std::uint32_t user_timeout_ms = 0; // TCP_USER_TIMEOUT, kept for when the socket is gone
    tcp::CongestionState cc_before;    // the reduction that `undo` may take back
    tcp::EcnState ecn_before;          // ... and what it said of marks

    // Ring offset of a sequence number of ours (near una).
    std::uint64_t offset_of(tcp::Seq s) const
    {
        return snd.una_offset + static_cast<std::uint64_t>(static_cast<std::int64_t>(s - snd.una));
    }
    std::uint32_t flight() const { return static_cast<std::uint32_t>(snd.nxt - snd.una); }
    std::uint32_t window_open() const { return rcv.adv > rcv.nxt ? static_cast<std::uint32_t>(rcv.adv - rcv.nxt) : 0; }
    const tcp::CongestionAlgorithm& algorithm() const { return tcp::congestion_algorithm(congestion); }
};

namespace tcp {

// One of many connections is in no near cache: what a segment looks at comes side by side, not line after line.
inline void fetch(const Tcb& t)
{
    const auto* line = reinterpret_cast<const std::byte*>(&t);
    const auto* end = reinterpret_cast<const std::byte*>(&t.out_of_order);
    for (; line < end; line += 64) {
        __builtin_prefetch(line, 1);
    }
    __builtin_prefetch(&t.board, 1);
}

} // namespace tcp

} // namespace protocols
