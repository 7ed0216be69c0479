// Multicast listener discovery, version 2 (RFC 3810): the query a host hears and the report it sends. Pure; any thread.
// Addresses without zones.
#pragma once

#include <cstdint>
#include <optional>

#include "base/net_addr.hpp"

namespace protocols::wire {

inline constexpr std::uint8_t mld_query = 130;
inline constexpr std::uint8_t mld2_report = 143;
// Record types of a report (RFC 3810 5.2.5).
inline constexpr std::uint8_t mld_is_exclude = 2;
inline constexpr std::uint8_t mld_to_include = 3;
inline constexpr std::uint8_t mld_to_exclude = 4;
inline constexpr std::uint32_t mld_report_bytes = 8; // without records
inline constexpr std::uint32_t mld_record_bytes = 20;

struct MldQuery {
    base::IpAddr group; // "::" = all groups
    std::uint32_t response_ms = 0;
};
// `bytes`: from the ICMPv6 header on, the checksum verified. Versions 1 (24 bytes) and 2 (28 and more, RFC 3810 8.1).
std::optional<MldQuery> parse_mld_query(const void* bytes, std::uint32_t size);

// The head of a report with `records` records, the checksum zero; and one record without sources.
void emit_mld2_report(void* to, std::uint16_t records);
void emit_mld2_record(void* to, std::uint8_t type, const base::IpAddr& group);

// A hop-by-hop header with nothing but the router alert for MLD (RFC 3810 5, RFC 2711): 8 bytes.
inline constexpr std::uint32_t router_alert_bytes = 8;
void emit_router_alert(void* to, std::uint8_t next_header);

} // namespace protocols::wire
