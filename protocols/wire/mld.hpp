// Multicast listener discovery, version 2 (RFC 3810): the query a host hears, and the messages of version 1. Reports of
// version 2 are group_report.hpp's. Pure; any thread. Addresses without zones.
#pragma once

#include <cstdint>
#include <optional>

#include "base/net_addr.hpp"
#include "protocols/wire/group_report.hpp"

namespace protocols::wire {

inline constexpr std::uint8_t mld_query = 130;
inline constexpr std::uint8_t mld1_report = 131;
inline constexpr std::uint8_t mld1_done = 132;
inline constexpr std::uint32_t mld1_bytes = 24;

// `bytes`: from the ICMPv6 header on, the checksum verified. Versions 1 (24 bytes) and 2 (28 and more, RFC 3810 8.1).
std::optional<GroupQuery> parse_mld_query(const void* bytes, std::uint32_t size);
void emit_mld1(void* to, std::uint8_t type, const base::IpAddr& group); // the checksum zero

// A hop-by-hop header with nothing but the router alert for MLD (RFC 3810 5, RFC 2711): 8 bytes.
inline constexpr std::uint32_t router_alert_bytes = 8;
void emit_router_alert(void* to, std::uint8_t next_header);

} // namespace protocols::wire
