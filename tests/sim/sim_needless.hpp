// What a stack sends without need, as it leaves, held against what its sender knows: text that is acknowledged or was
// SACKed; text that left less than the shortest round trip ago, of whose fate nothing can have told; an ACK that says
// what the last segment said while nothing has come; a probe of a window that is open. One OS thread.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "base/seq.hpp"
#include "base/units.hpp"
#include "tests/sim/sim_accecn.hpp"

namespace protocols {
struct Domain;
}

namespace sim {

class Needless {
public:
    explicit Needless(World& world) : world_(world) {}

    // By the CPU that runs.
    void sent(const Node& node, const Frame& p, const FlowKey& key);
    // A round of a CPU is over: what it knows.
    void round_over(const Node& node, base::CpuId cpu);

private:
    struct Piece { // of text, and when it left last
        base::Seq start;
        base::Seq end;
        base::Instant at{};
    };
    struct Said { // by the last segment
        std::uint32_t ack = 0;
        std::uint16_t window = 0;
        std::uint16_t flags = 0;     // marks that it tells of, too
        std::uint32_t sack_edge = 0; // of the first block
        std::uint32_t heard = 0;     // segments until then
    };
    struct Flow {
        base::Seq iss;
        base::Instant opened_at{};
        std::vector<Piece> pieces; // of what is not acknowledged, in no order
        Said said;
        bool known = false; // said means something
    };
    struct Sacked {
        base::Seq iss;
        FlowKey key;
        base::Seq start;
        base::Seq end;
    };
    struct Known { // by a CPU, when its last round was over
        std::uint64_t tail_probes = 0;
        std::uint64_t queued = 0; // packets for neighbours, ever
        bool queue = false;       // some wait
        std::vector<Sacked> sacked;
    };

    // Whether all that leaves now was sent just now: nothing has waited for its neighbour.
    static bool fresh(const protocols::Domain& d, const Known& k);
    void check_text(const protocols::Tcb& t, const Frame& p, const Flow& f, const Known& k, const FlowKey& key);
    void check_bare(const protocols::Tcb& t, const Frame& p, const Flow& f);
    static void note_text(const protocols::Tcb& t, const Frame& p, bool sure, Flow& f, base::Instant now);
    [[noreturn]] void wrong(const protocols::Tcb& t, const Frame& p, const char* what);

    World& world_;
    std::map<FlowKey, Flow> flows_;
    std::map<std::pair<unsigned, base::CpuId>, Known> known_;
};

} // namespace sim
