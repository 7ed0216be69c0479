// Accurate ECN feedback (RFC 9768) as the wires see it: the ACE field of what a receiver sends never tells of more
// marked segments than have reached it, and of no fewer than were in the text that it acknowledges; and between two
// stacks at rest the sender has counted what the receiver has. One OS thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "tests/sim/sim_frame.hpp"

namespace protocols {
struct Tcb;
}

namespace sim {

class World;
struct Node;

using FlowKey = std::array<unsigned char, 36>; // source, destination, ports
FlowKey flow_key(const base::Endpoint& from, const base::Endpoint& to);

class AccurateMarks {
public:
    explicit AccurateMarks(World& world) : world_(world) {}

    // A segment on a wire, as class Marks is told of it. False: its feedback is none that RFC 3168 knows.
    bool sent(const Frame& p, const FlowKey& key, const FlowKey& reverse);
    bool taken(const Frame& p, const FlowKey& key, const FlowKey& reverse);

    // Of a connection's end, between rounds.
    void check_counted(const Node& node, const protocols::Tcb& t);

private:
    struct Handshake { // by the client's direction
        std::uint32_t iss = 0;
        unsigned answers = 0;  // SYN-ACKs that reached the client
        unsigned told = 0;     // ACKs that told how those came
        unsigned asked = 0;    // kinds of feedback that its SYNs asked for, as bits
        unsigned answered = 0; // likewise
        bool over = false;     // a reset was sent: nothing is known any more
    };
    struct Text { // marked, under way to be acknowledged
        std::uint32_t begin = 0;
        std::uint32_t end = 0;
        std::uint32_t segments = 0;
    };
    struct Flow { // of text that one end sends
        bool delivered = false;
        std::uint32_t delivered_end = 0;
        std::uint32_t arrived = 0; // marked segments
        std::uint32_t bare = 0;    // marked ones without text, whatever is known of the handshake
        std::vector<Text> marked;
        std::uint32_t acknowledged = 0; // marked segments
        bool known = false;             // sent_end means something
        std::uint32_t sent_end = 0;
        bool repeated = false;          // repeated_end means something
        std::uint32_t repeated_end = 0; // of text that was sent again
        std::uint32_t full = 0;         // octets of the largest segment
        std::uint32_t segments = 0;     // all that were sent
        std::uint32_t small = 0;        // those with less text than the largest
        std::uint32_t told = 0;         // marked segments, at least
        bool heard = false;             // ack and ts mean something
        std::uint32_t ack = 0;
        std::uint32_t ts = 0;
        bool untold = false; // much was acknowledged, or SACKed, without the octets that had marks
    };
    enum class Feedback : std::uint8_t { classic, accurate, unknown };

    Feedback feedback(const Handshake* h) const;
    Handshake* handshake(const FlowKey& key, const FlowKey& reverse, bool& client);
    void opens(const Frame& p, const FlowKey& key, const FlowKey& reverse);
    static void send_again(Flow& f, std::uint32_t begin, std::uint32_t end);
    void text_sent(const Frame& p, Flow& f);
    void counter_sent(const Frame& p, Flow& f);
    void counter_taken(const Frame& p, Flow& f);

    World& world_;
    std::map<FlowKey, Handshake> handshakes_;
    std::map<FlowKey, Flow> flows_;
};

} // namespace sim
