// TIME-WAIT (RFC 9293 3.6.1) as small records: what is needed to answer a late segment, and no more. All last 2 MSL, so
// a FIFO and one timer serve all of them. Owner: the domain's CPU.
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

struct TimeWaitRecord : FlowNode {
    explicit TimeWaitRecord(const base::FourTuple& f) : FlowNode(NodeKind::time_wait, f) {}
    base::ListLink link;
    base::Instant expires{};
    base::Instant recent_at{};
    base::Instant spare_ack_at{}; // as that of a Tcb
    Seq snd_nxt;
    Seq rcv_nxt;
    std::uint32_t ts_recent = 0;
    std::uint32_t ts_offset = 0;
    std::uint32_t window = 0; // bytes, as last advertised
    std::uint8_t rcv_scale = 0;
    std::uint16_t ace_flags = 0; // of accurate ECN
    bool timestamps = false;
    std::uint8_t ttl = 64;
    bool joined = false; // of a joined pair, which exchanged no segments: it only keeps the port and the flow
};

struct TimeWaitQueue : lwkt::Timer {
    TimeWaitQueue(Domain& d, base::PageArena& arena, std::size_t limit);
    Domain& domain; // c
    Slab<TimeWaitRecord> slab;
    base::List<TimeWaitRecord, &TimeWaitRecord::link> records; // in order of expiry
};

} // namespace tcp
} // namespace protocols
