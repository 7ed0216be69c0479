// The TCP of one domain: every table, list and pool. Made by the domain, which hands itself over; destroyed with it
// (what is still there then is freed silently, sockets included in nothing). Owner: the domain's CPU; all fields o
// unless marked.
#pragma once

#include <array>
#include <cstdint>

#include "base/list.hpp"
#include "base/page_memory.hpp"
#include "base/siphash.hpp"
#include "lwkt/poller.hpp"
#include "protocols/domain.hpp"
#include "protocols/stack_counters.hpp"
#include "protocols/tcp/fastopen.hpp"
#include "protocols/tcp/flow_table.hpp"
#include "protocols/tcp/idle_connection.hpp"
#include "protocols/tcp/joined_end.hpp"
#include "protocols/tcp/listener.hpp"
#include "protocols/tcp/long_lists.hpp"
#include "protocols/tcp/slab.hpp"
#include "protocols/tcp/syn_cache.hpp"
#include "protocols/tcp/tcb.hpp"
#include "protocols/tcp/tcp_bbr.hpp"
#include "protocols/tcp/tcp_counters.hpp"
#include "protocols/tcp/time_wait.hpp"

namespace protocols {

struct alignas(base::apart) TcpState final : lwkt::Rollup {
    explicit TcpState(Domain& d);
    ~TcpState() override;

    // Output and ACKs of what is in `pending`, until that has taken its time; then the rest in the next round
    // (tcp_output.cpp).
    void rollup() override;

    Domain& domain;             // c
    base::SipKey isn_key;       // c: RFC 6528
    base::SipKey timestamp_key; // c: RFC 7323 7.1
    base::SipKey cookie_key;    // c

    base::PageArena memory; // of what follows
    tcp::FlowTable flows;
    tcp::Slab<Tcb> tcbs;
    tcp::Slab<tcp::Bbr> bbrs;
    tcp::Slab<tcp::LongRuns> long_runs{memory, tcp::long_lists_max};
    tcp::Slab<tcp::LongRanges> long_ranges{memory, tcp::long_lists_max};
    tcp::Slab<tcp::JoinedEnd> joined_ends;
    base::List<Tcb, &Tcb::pending_link> pending;
    lwkt::Message another_round; // m: sent to this CPU itself, so that it does not sleep on what is pending
    bool another_sent = false;   // another_round is on its way
    base::List<Tcb, &Tcb::all_link> all;
    tcp::Slab<Listener> listener_slab;
    tcp::ListenerTable listeners;
    tcp::SynCache syn_cache;
    tcp::TimeWaitQueue time_wait;
    tcp::Slab<IdleConnection> idle_slab;
    tcp::Slab<tcp::SharedOptions> shared_options_slab;
    tcp::Slab<tcp::IdleTimer> idle_timer_slab;
    base::List<tcp::SharedOptions, &tcp::SharedOptions::link> shared_options;
    base::List<tcp::IdleTimer, &tcp::IdleTimer::link> idle_timers;

    tcp::FastOpenCache fastopen; // cookies that servers gave us

    std::uint16_t ephemeral_next = 0; // RFC 6056: moving start of the port search
    base::Instant limit_second{};     // start of the second that the two budgets below belong to
    unsigned challenge_left = 0;
    unsigned resets_left = 0;
    TcpCounters counters; // s
};

} // namespace protocols
