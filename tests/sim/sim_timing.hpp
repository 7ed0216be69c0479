// What a stack does because time has passed, held against the RFCs and the options of the sockets: tries of what is not
// answered (SYN, text, a closed window, a silent peer) come neither early nor late, each further from the one before,
// and are given up no earlier than they should; patience, FIN-WAIT-2, TIME-WAIT and a delayed ACK last as long as they
// should, and what is paced keeps its rate. Of connections between hosts, as they are after each round of their CPU.
// One OS thread.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "base/seq.hpp"
#include "base/units.hpp"
#include "protocols/tcp/tcp_state.hpp"
#include "tests/sim/sim_accecn.hpp"

namespace protocols {
struct Domain;
}

namespace sim {

class Timing {
public:
    explicit Timing(World& world) : world_(world) {}

    // A segment leaves, by the CPU that runs; or reaches a stack's device.
    void sent(const Node& node, const Frame& p, const FlowKey& key);
    void taken(const Node& node, const Frame& p, const FlowKey& key);
    // A CPU has run: all that is due by now has been done.
    void round_over(const Node& node, base::CpuId cpu);

private:
    enum class Waits : std::uint8_t { nothing, acknowledgment, window }; // what for
    struct Kept {                                                        // of a connection, when its CPU ran last
        base::FourTuple flow;
        base::Seq iss;
        base::Seq una;
        base::Seq acked; // the last ACK sent
        std::uint64_t round = 0;
        protocols::tcp::State state{};
        Waits waits = Waits::nothing;
        bool asleep = false;
        bool orphan = false; // its socket is gone
        bool app_closed = false;
        bool keeps_alive = false;
        unsigned tries = 0; // of what it waits for, in a row
        unsigned probes = 0;
        unsigned node = 0;
        unsigned syn_count = 0;
        unsigned keep_count = 0;
        std::uint32_t resent = 0;      // segments, ever
        std::uint64_t tail_probes = 0; // of its CPU, ever
        base::Instant probe_at = base::never;
        base::Instant retransmit_at{};
        bool probing = false; // a tail probe is under way ...
        base::Seq probe_end;  // ... that ends there
        base::Micros timeout{0};
        base::Micros patience{0};
        base::Micros interval{0}; // of keepalive, when it probed last
        base::Micros linger{0};
        double rate = 0;       // octets per microsecond; 0 = not paced
        std::uint32_t mss = 0; // one segment of this may be cut into many where the way becomes narrower
        // When ...
        base::Instant began{};       // it began to wait
        base::Instant tried{};       // last; before the first one: began to wait
        base::Instant first_tried{}; // it tried for the first time
        base::Instant timeout_at{};  // its timer expires at the latest
        base::Instant closed{};      // the window closed while something waits; none: the epoch
        base::Instant patient{};     // its patience was changed
        base::Instant heard{};       // of the peer
        base::Instant busy{};        // it was not silent
        base::Instant asked{};       // it began to be kept alive
        base::Instant probed{};      // by keepalive
        base::Instant owes{};        // it began to owe an ACK; none: the epoch
        base::Instant half_closed{}; // it came to FIN-WAIT-2 without an application
    };
    struct Counted { // by a CPU, until its last round
        std::uint64_t gave_up = 0;
        std::uint64_t timeouts = 0;
        std::uint64_t tail_probes = 0;
        std::uint64_t overflows = 0;
        std::uint64_t queued = 0; // packets for neighbours
        bool queue = false;       // some wait
    };
    struct Resting { // in TIME-WAIT
        base::FourTuple flow;
        base::Instant until{};
    };
    struct OfCpu {
        std::uint64_t rounds = 0;
        Counted counted;
        std::map<FlowKey, Kept> kept;
        std::map<FlowKey, Resting> time_waits;
        std::size_t time_waits_seen = 0;
        const void* oldest_time_wait = nullptr;
    };
    struct Passed { // of a peer's segments, on the wires to a node
        bool some = false;
        base::Instant closing{}; // the last one that ends a connection, begins one or has text
        base::Instant other{};   // SYN or RST
        base::Instant last{};
    };

    void look(const protocols::Tcb& t, Kept& k, bool on_time);
    void look_at_timeout(const protocols::Tcb& t, Kept& k);
    bool may_hurry(const protocols::Tcb& t, const Kept& k) const;
    void look_at_tries(const protocols::Tcb& t, Kept& k, bool on_time);
    void look_at_patience(const protocols::Tcb& t, Kept& k, bool on_time);
    void look_at_keepalive(const protocols::Tcb& t, Kept& k, bool on_time);
    void look_at_ack(const protocols::Tcb& t, Kept& k, bool on_time);
    void look_at_fin_wait_2(const protocols::Tcb& t, Kept& k, bool on_time);
    void look_at_vanished(const protocols::Domain& d, OfCpu& c);
    void check_given_up(const Kept& k);
    void look_at_time_wait(const Node& node, const protocols::Domain& d, OfCpu& c, bool on_time);
    bool came(unsigned node, const base::FourTuple& flow, base::Instant Passed::*what, base::Instant since) const;
    [[noreturn]] void wrong(const base::FourTuple& flow, const char* what);

    struct Pace {
        base::Seq iss;
        double due_us = 0; // not before, but for what may go at once
    };

    World& world_;
    std::map<std::pair<unsigned, base::CpuId>, OfCpu> cpus_;
    std::map<FlowKey, Pace> paces_;
    std::map<std::pair<unsigned, FlowKey>, Passed> passed_;
};

} // namespace sim
