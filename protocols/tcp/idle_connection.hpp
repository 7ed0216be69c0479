// An established connection in which nothing happens, put to sleep: what a Tcb, its Socket and the user's record have
// to say once everything is acknowledged and read, in a fifteenth of the bytes. It stands in the flow table in the
// Tcb's place; a segment, a request of the application or its keepalive timer turns it into a Tcb and a Socket again
// (decision 0011). Both directions are empty, so one number each says all: una = nxt = what the application wrote,
// and the ring offsets of both. Owner: its domain's CPU; all fields c while it sleeps.
#pragma once

#include "base/list.hpp"
#include "lwkt/timer_wheel.hpp"
#include "protocols/socket/socket.hpp"
#include "protocols/tcp/flow_table.hpp"
#include "protocols/tcp/tcb.hpp"

namespace protocols {

namespace tcp {

// User and options that sleeping sockets share while they are equal (most programs know one set of options, or two).
struct SharedOptions {
    SharedOptions(SocketUser* u, const SocketOptions& o) : user(u), value(o) {}
    SocketUser* user;
    SocketOptions value;
    std::uint32_t uses = 0;
    base::ListLink link; // in TcpState::shared_options, the last ones used in front
};

// Of connections with SO_KEEPALIVE only.
struct IdleTimer : lwkt::Timer {
    IdleTimer(Domain& d, IdleConnection& i, SharedOptions& o);
    Domain* domain; // c
    IdleConnection& idle;
    SharedOptions* options;
    base::Instant heard{}; // the peer, to the microsecond: what its silence is counted from
    base::ListLink link;   // in TcpState::idle_timers
};

} // namespace tcp

struct IdleConnection : tcp::FlowNode {
    IdleConnection(const Tcb& t, void* ref);

    void* user_ref; // what the user knows the socket by, with slot_id
    union {         // by `keepalive`
        tcp::SharedOptions* options = nullptr;
        tcp::IdleTimer* timer; // which has the options
    };
    std::uint64_t snd_offset; // ring offsets of snd_nxt and rcv_nxt
    std::uint64_t rcv_offset;
    tcp::Seq snd_nxt;
    tcp::Seq rcv_nxt;
    tcp::Seq rcv_adv;
    std::uint32_t snd_wnd; // bytes
    std::uint32_t snd_wnd_max;
    std::uint32_t ts_recent;
    std::uint32_t ts_offset;
    std::uint32_t cwnd;
    std::uint32_t ssthresh;
    float w_max; // of CUBIC, in segments
    std::uint32_t srtt_us;
    std::uint32_t rttvar_us;
    std::uint32_t rtt_min_us;
    std::uint32_t ts_recent_at_s; // seconds of the stack's clock, rounded down
    std::uint32_t last_received_s;
    std::uint32_t last_sent_s; // rounded up; 0 = never
    std::uint32_t bytes_retransmitted;
    std::uint32_t segments_out;
    std::uint32_t data_segments_out;
    std::uint32_t segments_in;
    std::uint32_t retransmitted;
    std::uint32_t slot_id;
    std::uint16_t mss;
    std::uint16_t mss_seen;
    std::uint16_t peer_mss;
    std::uint8_t snd_ring_shift; // log2 of the rings' sizes: what was promised holds
    std::uint8_t rcv_ring_shift;
    std::uint8_t snd_scale : 4;
    std::uint8_t rcv_scale : 4;
    std::uint8_t family; // AF_INET, AF_INET6
    bool scale : 1;
    bool sack : 1;
    bool timestamps : 1;
    bool ecn : 1;
    bool fast_done : 1;
    bool interactive : 1;
    bool keepalive : 1 = false;
    std::uint8_t quick_acks;
};
static_assert(sizeof(IdleConnection) <= 192, "what an idle connection costs beside its slot: bytes.idle_connection");
static_assert(alignof(IdleConnection) >= 4, "the gateway keeps two bits beside its address");

} // namespace protocols
