// A received segment as the state machine sees it, and what the input steps ask for. The steps
// may trim the segment and change the Tcb; they never send, wake or free: the parent applies Actions once at the end.
#pragma once

#include <cstdint>

#include "base/net_addr.hpp"
#include "protocols/stack.hpp"
#include "protocols/tcp/tcb.hpp"
#include "protocols/wire/tcp_wire.hpp"

namespace protocols::tcp {

struct Segment {
    wire::TcpHeader header;
    base::FourTuple flow;        // as this host sees it
    std::uint64_t flow_hash = 0; // in the flow table, once it was looked up there
    Seq seq;                     // of the first octet after trimming; a SYN stands before the text
    std::uint32_t len = 0;       // text octets
    std::uint32_t text_at = 0;   // offset of the text in the packet
    bool fin = false;            // cleared when trimmed away
    bool was_syn = false;        // the SYN was trimmed away: the window is not scaled (RFC 7323 2.2)
    const IpIn* ip = nullptr;
    netmsg::Packet* packet = nullptr;

    Seq ack() const { return header.ack; }
    bool has(std::uint16_t flag) const { return header.has(flag); }
    // Octets of sequence space (RFC 9293 SEG.LEN).
    std::uint32_t space() const { return len + (fin ? 1U : 0U) + (has(wire::tcp_syn) ? 1U : 0U); }
    Seq text_end() const { return seq + len; }
    // How many came as this one (GRO), before trimming.
    std::uint32_t on_wire() const
    {
        std::uint32_t text = packet->total() - header.header_bytes;
        return packet->gso_size != 0 && text > packet->gso_size ? (text + packet->gso_size - 1) / packet->gso_size : 1;
    }
};

// RFC 7323 5.3: a timestamp before the one that was kept. A kept 0 says nothing, as on Linux: there are hosts whose SYN
// has it, whatever their clock.
inline bool is_older(std::uint32_t ts_val, std::uint32_t kept)
{
    return kept != 0 && static_cast<std::int32_t>(ts_val - kept) < 0;
}

enum class Verdict : std::uint8_t {
    next,           // go on with the next step
    drop,           // done, whatever actions were asked for apply
    drop_and_ack,   // done; acknowledge at once
    challenge,      // done; challenge ACK within the rate limit (RFC 5961)
    drop_and_reset, // <SEQ=SEG.ACK><CTL=RST>, the connection stays as it is
    abort,          // RST to the peer and the connection is over
    closed,         // the connection is over, without a segment of ours
};

struct Actions {
    bool ack_now = false;
    bool ack_full = false;                 // an ACK can say no more than it would now: it goes before the roll-up
    bool output = false;                   // run output: the window or cwnd moved, or an ACK is due with data
    bool acked = false;                    // snd_acked moved: publish
    bool received = false;                 // rcv_produced moved: publish
    bool eof = false;                      // the peer's FIN is in order: publish
    bool connected = false;                // the handshake is complete
    bool fin_acked = false;                // our FIN is acknowledged
    bool time_wait = false;                // enter TIME-WAIT
    base::Error error = base::Error::none; // why, with Verdict::closed or abort
};

} // namespace protocols::tcp
