// Joining of received TCP segments (generic receive offload): what follows one another in a flow, and differs in
// nothing but sequence number and PSH, goes up as one packet with gso_size, as a device would give it. Segments are
// held until the roll-up of the round, so a segment that nothing follows costs a comparison; small ones and those with
// PSH are not held at all. Decision 0031. GroState: owner = its domain's CPU; everything o.
#pragma once

#include <array>

#include "lwkt/poller.hpp"
#include "protocols/stack.hpp"
#include "protocols/wire/checksum.hpp"

namespace protocols {

inline constexpr unsigned gro_flows = 8;           // held at once; of two that meet in a place the first goes up
inline constexpr std::uint32_t gro_text_min = 512; // octets; with less nobody waits for company

struct alignas(base::apart) GroState final : lwkt::Rollup {
    explicit GroState(Domain& d);
    ~GroState() override;

    // `p` from the link layer, data at the IP header. True: taken, joined or held; false: what it had to wait for has
    // gone up, it is the caller's.
    bool receive(Interface& in, netmsg::Packet& p, bool v6);
    void rollup() override; // everything that is held goes up

private:
    struct Place { // of a TCP segment in a packet
        bool v6 = false;
        std::uint32_t tcp = 0;   // offset
        std::uint32_t text = 0;  // offset
        std::uint32_t len = 0;   // octets of text
        std::uint32_t flags = 0; // data offset and flags, 16 bits
        bool joinable = false;
    };
    struct Held {
        netmsg::Packet* packet = nullptr;
        Interface* in = nullptr;
        Place at;
        std::uint32_t next = 0; // sequence number of what may be joined
        std::uint32_t segments = 0;
        wire::Checksum sum{}; // of what is the same in each header, once a second one has come
    };

    static bool find(const netmsg::Packet& p, bool v6, Place& at);
    static bool same_flow(const Held& h, const Interface& in, const netmsg::Packet& p, const Place& at);
    static bool follows(const Held& h, const netmsg::Packet& p, const Place& at);
    static bool start(Held& h);
    bool join(Held& h, netmsg::Packet& p, const Place& at);
    void hold(Held& h, Interface& in, netmsg::Packet& p, const Place& at);
    void flush(Held& h);

    Domain& domain_; // c
    std::array<Held, gro_flows> held_;
    unsigned count_ = 0; // of held_ in use
};

} // namespace protocols
