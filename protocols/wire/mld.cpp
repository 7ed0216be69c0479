// See mld.hpp.
#include "protocols/wire/mld.hpp"

#include <cstring>

#include "base/endian.hpp"

namespace protocols::wire {

namespace {

// RFC 3810 5.1.3: from 32768 on a floating point number.
std::uint32_t response_delay(std::uint16_t code)
{
    if (code < 32768) {
        return code;
    }
    unsigned exponent = (code >> 12) & 7;
    return (std::uint32_t{0x1000U} | (code & 0xfffU)) << (exponent + 3);
}

} // namespace

std::optional<MldQuery> parse_mld_query(const void* bytes, std::uint32_t size)
{
    const auto* b = static_cast<const unsigned char*>(bytes);
    if (size < 24 || (size > 24 && size < 28) || b[0] != mld_query || b[1] != 0) {
        return std::nullopt;
    }
    MldQuery q;
    std::uint16_t code = base::load_be16(b + 4);
    q.response_ms = size == 24 ? code : response_delay(code);
    q.group = base::IpAddr::v6(b + 8);
    bool names_no_group = !q.group.is_any() && !q.group.is_multicast_v6();
    return names_no_group ? std::nullopt : std::optional{q};
}

void emit_mld2_report(void* to, std::uint16_t records)
{
    auto* b = static_cast<unsigned char*>(to);
    std::memset(b, 0, mld_report_bytes);
    b[0] = mld2_report;
    base::store_be16(b + 6, records);
}

void emit_mld2_record(void* to, std::uint8_t type, const base::IpAddr& group)
{
    auto* b = static_cast<unsigned char*>(to);
    std::memset(b, 0, 4);
    b[0] = type;
    std::memcpy(b + 4, group.bytes(), 16);
}

void emit_router_alert(void* to, std::uint8_t next_header)
{
    static constexpr unsigned char header[router_alert_bytes] = {0, 0, 5, 2, 0, 0, 1, 0}; // alert 0 (MLD), PadN
    std::memcpy(to, header, sizeof header);
    *static_cast<unsigned char*>(to) = next_header;
}

} // namespace protocols::wire
