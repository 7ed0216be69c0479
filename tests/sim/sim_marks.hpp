// Congestion marks (RFC 3168) as the wires see them, and what must come of them: a receiver echoes the mark of text
// that it acknowledges, a sender that is told reduces its window and says so, a datagram is marked when one of its
// fragments was, and who has ECN switched off shows nothing of it. Only of what the wires delivered; one OS thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "tests/sim/sim_accecn.hpp"
#include "tests/sim/sim_frame.hpp"

namespace sim {

class World;

class Marks {
public:
    explicit Marks(World& world) : world_(world), accurate_(world) {}

    // A wire's frames; `off` says by side whose stack has ECN switched off.
    void sent(const Frame& frame, bool off);
    void taken(const Frame& frame);
    // Of a datagram (its first 16 bytes, and whether it is a request): was one of its fragments marked? Nothing when
    // its fragments had the identification of an earlier datagram.
    std::optional<bool> marked(std::uint64_t sender, std::uint64_t number, bool request) const
    {
        Name name{sender, number, std::uint64_t{request}};
        return unsure_.contains(name) ? std::nullopt : std::optional{marked_datagrams_.contains(name)};
    }
    std::uint64_t echoes() const { return echoes_; }
    AccurateMarks& accurate() { return accurate_; }

private:
    struct Flow {                     // of text that one end sends
        bool marked = false;          // text to marked_end was, and no acknowledgement has covered it
        std::uint32_t marked_end = 0; //
        unsigned unechoed = 0;        // acknowledgements in a row that covered such text and did not say so
        bool told = false;            // an echo reached its sender, which has not said CWR since
        bool known = false;           // sent_end means something
        std::uint32_t sent_end = 0;   //
        unsigned unanswered = 0;      // segments of new text since then
        unsigned windows = 0;         // windows of text that were acknowledged since then, each with an echo
        std::uint32_t window_end = 0; // of the one under way
    };
    using Name = std::array<std::uint64_t, 3>;
    struct Datagram { // in fragments
        bool marked = false;
        bool named = false;
        Name name{};
    };

    static FlowKey key_of(const Frame& p, bool reverse);
    void segment_sent(const Frame& p, bool off);
    void segment_taken(const Frame& p);
    void fragment_taken(const Frame& p);
    static void take_echo(Flow& f, const Frame& p);

    World& world_;
    AccurateMarks accurate_;
    std::map<FlowKey, Flow> flows_;
    std::map<FlowKey, Datagram> datagrams_;
    std::set<Name> marked_datagrams_;
    std::set<Name> unsure_;
    std::uint64_t echoes_ = 0;
};

} // namespace sim
