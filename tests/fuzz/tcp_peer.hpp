// The other hosts of fuzz_tcp: what they remember of each of a few flows, segments with fields near those that would be
// valid, and what they check of every packet that the stack sends. Content is a function of the sequence number, in
// either direction, so that any octet in a wrong place shows, whatever was sent again, overlapping or out of order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/net_addr.hpp"
#include "protocols/tcp/tcb.hpp"
#include "protocols/wire/tcp_wire.hpp"
#include "tests/fuzz/choices.hpp"
#include "tests/tcp/script_wire.hpp"

namespace fuzz {

inline constexpr unsigned peer_flows = 4; // by port of the peer, 7000 and up
inline constexpr std::uint16_t peer_port = 7000;
inline constexpr std::uint16_t stack_port = 8080;

// The octet at a sequence number; a zero-based direction each.
inline std::uint8_t content(std::uint32_t seq, unsigned direction)
{
    return static_cast<std::uint8_t>((seq * 2654435761U + direction * 97) >> 24);
}
inline constexpr unsigned from_peer = 0;
inline constexpr unsigned from_stack = 1;

base::IpAddr stack_address(bool v6);
base::IpAddr peer_address(bool v6);

// A packet in words.
std::string describe(const std::vector<unsigned char>& packet);

struct PeerFlow {
    bool v6 = false;
    std::uint16_t local = stack_port; // the stack's port
    std::uint32_t next = 0x7fffff00;  // the peer's next sequence number, as the stack has acknowledged it
    std::uint32_t edge = 0x7fffff00;  // end of the stack's window
    std::uint32_t stack_una = 0;      // what the peer has acknowledged
    std::uint32_t stack_next = 0;     // end of what the stack sent
    std::uint32_t stack_ts = 0;       // its last timestamp
    std::uint32_t ts = 1000;          // the peer's own
    std::uint16_t last_flags = 0;     // of the stack's last segment
    bool timestamps = false;
    bool moved = false; // the stack sent something that asks for an answer
};

class Peer {
public:
    explicit Peer(bool v6)
    {
        for (auto& f : flows) {
            f.v6 = v6;
        }
    }

    // A packet from the IP header on. `t`: the stack's end, where there is one, whose numbers are the ones to be near.
    std::vector<unsigned char> segment(Choices& c, unsigned flow, const protocols::Tcb* t);
    // What an honest peer would answer to all it has received; empty when there is nothing to answer. A SYN's answer
    // has `syn_text` octets of text.
    std::vector<unsigned char> answer(unsigned flow, std::uint32_t syn_text);
    // `size` octets of text in order, and nothing strange.
    std::vector<unsigned char> text(unsigned flow, std::uint32_t size, bool fin);
    // Everything the stack sent passes here.
    void observe(const tcp_test::Captured& packet);

    PeerFlow flows[peer_flows];

private:
    std::vector<unsigned char> build(PeerFlow& f, unsigned flow, protocols::wire::TcpHeader& h, std::uint32_t size,
        std::span<const std::uint8_t> raw_options, std::uint8_t tos);
};

} // namespace fuzz
