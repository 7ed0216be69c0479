// Accurate ECN feedback (RFC 9768): what a connection counts of the marks that it receives (r_), what it has learned of
// those that its own segments met (s_), and how three bits of the header and an option carry the one to the other. The
// pure part, tcp_accecn.cpp has the rest. Owner: the Tcb's.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/seq.hpp"
#include "protocols/wire/tcp_wire.hpp"

namespace protocols::tcp {

// The ECN field of IP (RFC 3168 5)
inline constexpr std::uint8_t ecn_field = 3;
inline constexpr std::uint8_t ecn_ect1 = 1;
inline constexpr std::uint8_t ecn_ect0 = 2;
inline constexpr std::uint8_t ecn_ce = 3;

// How marks are fed back: what the SYNs agreed on (RFC 9768 3.1.2 table 2).
enum class EcnMode : std::uint8_t { none, classic, accurate };

// RFC 9768 3.1.2 table 2, 3.2.2.1 table 3: the ECN field that a SYN or SYN-ACK arrived with, as its answer says it.
constexpr std::uint16_t handshake_ace(std::uint8_t field)
{
    constexpr std::uint16_t codes[] = {2, 3, 4, 6};
    return codes[field & ecn_field];
}
inline constexpr unsigned ace_not_ect = 2; // what we send our SYNs with (RFC 3168 6.1.1)
inline constexpr unsigned ace_ce = 6;
inline constexpr unsigned ace_values = 8;
inline constexpr std::uint32_t ack_weight = 64;  // as Linux
inline constexpr std::uint32_t acks_of_many = 4; // segments each, likewise

// What a handshake remembers for the connection.
struct EcnHandshake {
    std::uint8_t peer_field = 0; // of the peer's latest SYN or SYN-ACK
    bool plain = false;          // one without the flags came or went: no ECT from the server (3.1.5)
    bool no_option = false;      // the SYN-ACK, or its option, seems to have been lost (3.2.3.2.2)
};

struct AccEcn {
    EcnHandshake handshake;
    // 3.2, 3.2.1: as receiver
    std::uint32_t r_cep = 5; // packets with CE
    std::uint32_t r_ceb = 0; // octets of text, by mark
    std::uint32_t r_e0b = 1;
    std::uint32_t r_e1b = 1;
    std::uint32_t told_cep = 5; // as our last segment said it
    std::uint32_t told_ceb = 0; // as our last option said it
    std::uint32_t told_e0b = 1;
    std::uint32_t told_e1b = 1;
    // as sender
    std::uint32_t s_cep = 5;
    std::uint32_t s_ceb = 0;
    std::uint32_t marked = 0; // octets that congestion control has not heard of
    std::uint32_t cep_at_option = 5;
    std::uint32_t segments_at_rest = 0; // that we had sent when an option came last with nothing in flight
    std::uint32_t came_round = 0;       // times in a row that the field seems to have
    base::Seq una_noted;
    std::uint64_t octets_an_ack = 0; // that it acknowledges: the moving average, times ack_weight
    std::uint32_t ts_seen = 0;       // of the segment whose feedback was taken last
    bool marked_last = false;        // the packet that arrived last had CE
    bool syn_ack_marked = false;
    bool option_due = false;      // with the next ACK, whatever the counters say (3.2.3.2.1)
    bool text_option_due = false; // ... with the next text
    bool heard = false;           // the first feedback has come
    bool mangled = false;         // what we send arrives otherwise: no ECT (3.2.2.3, 3.2.3.2.5)
    bool deaf = false;            // the peer's ACE field says nothing (3.2.2.1 note 1, 3.2.2.4)
    bool options_zeroed = false;

    // 3.2.2.5.2: under the prevailing conditions an ACK of many segments is no sign of ACKs that were lost: the peer,
    // or what is on its side of the path, merges segments or ACKs.
    bool acks_cover_many(std::uint32_t mss) const
    {
        return octets_an_ack > std::uint64_t{ack_weight} * acks_of_many * mss;
    }
    bool may_set_ect() const { return !handshake.plain && !mangled && !deaf; }
    std::uint16_t ace_flags() const { return static_cast<std::uint16_t>(r_cep % ace_values << wire::tcp_ace_shift); }
};

// 3.2.2.5.2 with A.2: by how much the peer's count of CE packets has risen, from what three bits show. `packets`: how
// many full ones the ACK covers; could the field have come round, the safest likely case is taken, which octets that
// the peer counted (`marked`, where `counted`) may show to be no case.
constexpr std::uint32_t marks_risen(
    unsigned ace, std::uint32_t known, std::uint32_t packets, bool counted, std::uint32_t marked, std::uint32_t mss)
{
    std::uint32_t least = (ace - known) % ace_values;
    if (packets < least + ace_values) {
        return least;
    }
    std::uint32_t most = packets - (packets - least) % ace_values;
    if (!counted) {
        return most;
    }
    std::uint32_t full = (marked + mss - 1) / mss;
    std::uint32_t rounds = full > least ? (full - least + ace_values - 1) / ace_values : 0;
    return std::min(most, least + rounds * ace_values);
}

} // namespace protocols::tcp
