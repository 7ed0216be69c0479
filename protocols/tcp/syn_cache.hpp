// Half-open connections (RFC 4987 3.4): small entries until the handshake is complete, so that a SYN costs no Tcb and
// no socket. Bounded per CPU; when full, SYN cookies (RFC 4987 3.6), which keep no state at all. The flow table is
// keyed, so a peer cannot crowd one bucket; the bound on the whole is the only one needed. Owner: the domain's CPU.
#pragma once

#include <cstdint>

#include "base/list.hpp"
#include "lwkt/timer_wheel.hpp"
#include "protocols/stack.hpp"
#include "protocols/tcp/flow_table.hpp"
#include "protocols/tcp/slab.hpp"
#include "protocols/tcp/tcb.hpp"

namespace protocols {

struct TcpState;

namespace tcp {

struct SynEntry : FlowNode, lwkt::Timer {
    SynEntry(Domain& d, const base::FourTuple& f, Listener& l);

    Domain& domain;              // c
    Listener* listener;          // o: another of its group takes it over when this one goes
    base::ListLink link;         // o: in SynCache::entries
    Seq iss;                     // c
    Seq irs;                     // c
    Negotiated agreed;           // c
    EcnHandshake ecn;            // o
    std::uint32_t ts_offset = 0; // c
    std::uint32_t ts_recent = 0; // o
    Route route;
    base::Instant sent_at{};  // o: first SYN-ACK, for the round trip
    bool give_cookie = false; // c: of Fast Open, in the SYN-ACK
    bool acked = false;       // o: the handshake is complete, but the listener waits for text (TCP_DEFER_ACCEPT)
    base::Micros rtt{0};      // o: of the SYN-ACK, once acked
    unsigned retries = 0;     // o: SYN-ACKs sent again because nobody acknowledged one
    unsigned timeouts = 0;    // o: of its timer
};

struct SynCache {
    SynCache(base::PageArena& arena, std::size_t limit) : slab(arena, limit) {}
    Slab<SynEntry> slab;
    base::List<SynEntry, &SynEntry::link> entries;
    base::Instant cookies_until{}; // cookies that may still come back were sent before this
};

} // namespace tcp
} // namespace protocols
