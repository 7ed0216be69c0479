// Neighbour discovery messages (RFC 4861 4) over Ethernet. Pure parse and emit; any thread. Addresses are as on the
// wire: without zones. What a message may say is checked here; how it must have come (hop limit 255, source,
// destination: RFC 4861 6.1, 7.1, 8.1) is the receiver's to check.
#pragma once

#include <cstdint>
#include <optional>

#include "base/net_addr.hpp"

namespace protocols::wire {

inline constexpr std::uint8_t nd_router_solicitation = 133;
inline constexpr std::uint8_t nd_router_advertisement = 134;
inline constexpr std::uint8_t nd_neighbor_solicitation = 135;
inline constexpr std::uint8_t nd_neighbor_advertisement = 136;
inline constexpr std::uint8_t nd_redirect = 137;
inline constexpr unsigned nd_prefixes_max = 64; // of one advertisement: as many as are kept at all; more are ignored
inline constexpr unsigned nd_routes_max = 64;   // likewise
inline constexpr std::uint32_t nd_forever = 0xffffffff;

struct NdPrefix {
    base::IpAddr addr; // bits behind `length` cleared
    std::uint8_t length = 0;
    bool on_link = false;
    bool autonomous = false;
    std::uint32_t valid_s = 0;
    std::uint32_t preferred_s = 0;
};

// What a router says of a way through it (RFC 4191 2.3).
struct NdRoute {
    base::Prefix destination;   // bits behind its length cleared
    std::int8_t preference = 0; // 1 high, 0 medium, -1 low
    std::uint32_t life_s = 0;
};

struct NdMessage {
    std::uint8_t type = 0;
    base::IpAddr target;              // solicitation, advertisement, redirect
    base::IpAddr destination;         // redirect
    bool router = false;              // neighbour advertisement: its flags
    bool solicited = false;           // ...
    bool override_known = false;      // ...
    std::uint8_t hop_limit = 0;       // router advertisement; 0 = unspecified
    std::uint16_t router_life_s = 0;  // ... 0 = no default router
    std::int8_t preference = 0;       // ... of it, as of a route
    std::uint32_t reachable_ms = 0;   // ... 0 = unspecified
    std::uint32_t retransmit_ms = 0;  // ... 0 = unspecified
    std::optional<base::MacAddr> mac; // source's (solicitations, router advertisement) or target's
    std::uint32_t mtu = 0;            // option; 0 = none
    NdPrefix prefixes[nd_prefixes_max];
    unsigned prefix_count = 0;
    NdRoute routes[nd_routes_max];
    unsigned route_count = 0;
};

// `bytes`: from the ICMPv6 header on, the checksum verified. Nothing when the code is not 0, it is too short, or an
// option has length 0 or runs out of the message (RFC 4861 6.1, 7.1, 8.1); unknown options are skipped.
std::optional<NdMessage> parse_nd(const void* bytes, std::uint32_t size);

inline constexpr std::uint32_t nd_emit_max = 32;
// Writes a router or neighbour solicitation or a neighbour advertisement, with a link-layer option if `mac` is set, the
// checksum field zero. Returns the bytes written.
std::uint32_t emit_nd(void* to, const NdMessage& m);

// RFC 4291 2.7.1: the group that solicitations for `a` go to.
base::IpAddr solicited_node(const base::IpAddr& a);
// RFC 2464 7: where frames to an IPv6 group go.
base::MacAddr multicast_mac_v6(const base::IpAddr& group);
base::IpAddr all_nodes();   // ff02::1
base::IpAddr all_routers(); // ff02::2

} // namespace protocols::wire
