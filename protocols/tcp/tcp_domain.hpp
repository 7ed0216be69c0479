// The TCP of one domain: every table, list and pool. Made by the domain, which hands itself over; destroyed with it
// (what is still there then is freed silently, sockets included in nothing). Owner: the domain's CPU; all fields o
// unless marked.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "base/list.hpp"
#include "base/siphash.hpp"
#include "lwkt/poller.hpp"
#include "protocols/domain.hpp"
#include "protocols/stack_counters.hpp"
#include "protocols/tcp/flow_table.hpp"
#include "protocols/tcp/listener.hpp"
#include "protocols/tcp/slab.hpp"
#include "protocols/tcp/syn_cache.hpp"
#include "protocols/tcp/tcb.hpp"
#include "protocols/tcp/time_wait.hpp"

namespace protocols {

struct TcpCounters { // s
    std::atomic<std::uint64_t> segments_in{0};
    std::atomic<std::uint64_t> segments_out{0};
    std::atomic<std::uint64_t> bad_header{0};
    std::atomic<std::uint64_t> bad_checksum{0};
    std::atomic<std::uint64_t> no_connection{0}; // segments answered by RST
    std::atomic<std::uint64_t> resets_out{0};
    std::atomic<std::uint64_t> resets_in{0};
    std::atomic<std::uint64_t> challenge_acks{0};
    std::atomic<std::uint64_t> paws_drops{0};
    std::atomic<std::uint64_t> out_of_window{0};
    std::atomic<std::uint64_t> retransmits{0};
    std::atomic<std::uint64_t> timeouts{0};
    std::atomic<std::uint64_t> fast_recoveries{0};
    std::atomic<std::uint64_t> out_of_order{0};
    std::atomic<std::uint64_t> reassembly_full{0};
    std::atomic<std::uint64_t> syn_cache_full{0};
    std::atomic<std::uint64_t> cookies_sent{0};
    std::atomic<std::uint64_t> cookies_valid{0};
    std::atomic<std::uint64_t> cookies_bad{0};
    std::atomic<std::uint64_t> accept_refused{0};
    std::atomic<std::uint64_t> accepts{0};
    std::atomic<std::uint64_t> connects{0};
    std::atomic<std::uint64_t> drops{0};     // connections that ended by an error
    std::atomic<std::uint64_t> no_packet{0}; // nothing to send with
    std::atomic<std::uint64_t> no_memory{0}; // no Tcb
    std::atomic<std::uint64_t> persist_probes{0};
    std::atomic<std::uint64_t> keepalive_probes{0};
    std::atomic<std::uint64_t> icmp_ignored{0};
};

struct TcpState final : lwkt::Rollup {
    explicit TcpState(Domain& d);
    ~TcpState() override;

    void rollup() override; // output and ACKs of everything in `pending` (tcp_output.cpp)

    Domain& domain;             // c
    base::SipKey isn_key;       // c: RFC 6528
    base::SipKey timestamp_key; // c: RFC 7323 7.1
    base::SipKey cookie_key;    // c

    tcp::FlowTable flows;
    tcp::Slab<Tcb> tcbs;
    base::List<Tcb, &Tcb::pending_link> pending;
    base::List<Tcb, &Tcb::all_link> all;
    tcp::Slab<Listener> listener_slab;
    tcp::ListenerTable listeners;
    tcp::SynCache syn_cache;
    tcp::TimeWaitQueue time_wait;

    std::uint16_t ephemeral_next = 0; // RFC 6056: moving start of the port search
    base::Instant limit_second{};     // start of the second that the two budgets below belong to
    unsigned challenge_left = 0;
    unsigned resets_left = 0;
    TcpCounters counters; // s
};

} // namespace protocols
