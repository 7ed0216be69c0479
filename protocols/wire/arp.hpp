// ARP for IPv4 over Ethernet (RFC 826): 28 bytes. Pure parse and emit; any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "base/net_addr.hpp"

namespace protocols::wire {

inline constexpr std::uint32_t arp_bytes = 28;
inline constexpr std::uint16_t arp_request = 1;
inline constexpr std::uint16_t arp_reply = 2;

// A validated ARP packet: hardware type, protocol type and lengths are Ethernet and IPv4, the operation is a request
// or a reply. IPv4 addresses in host order.
struct Arp {
    std::uint16_t operation = 0;
    base::MacAddr sender_mac;
    std::uint32_t sender_v4 = 0;
    base::MacAddr target_mac;
    std::uint32_t target_v4 = 0;
};

std::optional<Arp> parse_arp(const void* bytes, std::uint32_t size);
void emit_arp(void* to, const Arp& a);

} // namespace protocols::wire
