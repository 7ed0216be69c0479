// IGMP of a host (RFC 1112, RFC 2236, RFC 3376): the query it hears, the messages of the older versions, and the IPv4
// header with router alert in front. Reports of version 3 are group_report.hpp's. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "protocols/wire/group_report.hpp"

namespace protocols::wire {

inline constexpr std::uint8_t protocol_igmp = 2;
inline constexpr std::uint8_t igmp_query = 0x11;
inline constexpr std::uint8_t igmp1_report = 0x12;
inline constexpr std::uint8_t igmp2_report = 0x16;
inline constexpr std::uint8_t igmp2_leave = 0x17;
inline constexpr std::uint32_t igmp_bytes = 8;         // of messages before version 3
inline constexpr std::uint32_t igmp_header_bytes = 24; // IPv4 with router alert

inline constexpr std::uint32_t all_hosts_v4 = 0xe0000001;     // 224.0.0.1
inline constexpr std::uint32_t all_routers_v4 = 0xe0000002;   // 224.0.0.2
inline constexpr std::uint32_t igmp3_routers_v4 = 0xe0000016; // 224.0.0.22

// `bytes`: from the IGMP header on, the checksum verified. Nothing for what is no query.
std::optional<GroupQuery> parse_igmp_query(const void* bytes, std::uint32_t size);
void emit_igmp(void* to, std::uint8_t type, std::uint32_t group); // the checksum zero
// RFC 3376 4: TTL 1, precedence internetwork control, router alert (RFC 2113).
void emit_igmp_ipv4(
    void* to, std::uint32_t source, std::uint32_t destination, std::uint16_t id, std::uint32_t message_bytes);
// Is the router alert among the options of a header that was validated?
bool has_router_alert_v4(const void* header);

} // namespace protocols::wire
