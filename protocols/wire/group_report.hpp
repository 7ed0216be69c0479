// Reports of IGMPv3 (RFC 3376 4.2) and MLDv2 (RFC 3810 5.2), which differ in a number and in the length of addresses,
// and what a host takes from a query of either protocol. Pure; any thread. Addresses without zones.
#pragma once

#include <cstdint>
#include <vector>

#include "base/net_addr.hpp"

namespace protocols::wire {

// Record types (RFC 3376 4.2.12, RFC 3810 5.2.12).
enum class RecordType : std::uint8_t {
    is_include = 1,
    is_exclude = 2,
    to_include = 3,
    to_exclude = 4,
    allow = 5,
    block = 6,
};

inline constexpr std::uint8_t igmp3_report = 0x22;
inline constexpr std::uint8_t mld2_report = 143;
inline constexpr std::uint32_t group_report_bytes = 8; // without records

struct GroupQuery {
    base::IpAddr group; // unspecified = all groups
    std::uint32_t response_ms = 0;
    unsigned version = 0;              // of IGMP: 1, 2, 3; of MLD: 1, 2
    std::vector<base::IpAddr> sources; // sorted; empty = of any source
};

struct GroupRecord {
    RecordType type{};
    base::IpAddr group;
    std::vector<base::IpAddr> sources;
};

// Bytes of a record.
std::uint32_t record_bytes(const GroupRecord& r);
// The head of a report, the checksum zero; and one record.
void emit_group_report(void* to, std::uint8_t type, std::uint16_t records);
void emit_group_record(void* to, const GroupRecord& r);

// Codes of response times and intervals: a number below 2^(bits - 1), else a floating point number (RFC 3376 4.1.1, RFC
// 3810 5.1.3). `mantissa_bits`: 4 or 12.
std::uint32_t decode_interval(std::uint32_t code, unsigned mantissa_bits);

} // namespace protocols::wire
