#include "protocols/wire/group_report.hpp"

#include <cstring>

#include "base/endian.hpp"

namespace protocols::wire {

namespace {

unsigned char* put_address(unsigned char* to, const base::IpAddr& a)
{
    std::uint32_t skip = a.is_v4() ? 12 : 0;
    std::memcpy(to, a.bytes() + skip, 16 - skip);
    return to + (16 - skip);
}

} // namespace

std::uint32_t record_bytes(const GroupRecord& r)
{
    auto addresses = static_cast<std::uint32_t>(1 + r.sources.size());
    return 4 + addresses * (r.group.is_v4() ? 4U : 16U);
}

void emit_group_report(void* to, std::uint8_t type, std::uint16_t records)
{
    auto* b = static_cast<unsigned char*>(to);
    std::memset(b, 0, group_report_bytes);
    b[0] = type;
    base::store_be16(b + 6, records);
}

void emit_group_record(void* to, const GroupRecord& r)
{
    auto* b = static_cast<unsigned char*>(to);
    b[0] = static_cast<unsigned char>(r.type);
    b[1] = 0;
    base::store_be16(b + 2, static_cast<std::uint16_t>(r.sources.size()));
    b = put_address(b + 4, r.group);
    for (const base::IpAddr& s : r.sources) {
        b = put_address(b, s);
    }
}

std::uint32_t decode_interval(std::uint32_t code, unsigned mantissa_bits)
{
    std::uint32_t mantissa_end = 1U << mantissa_bits;
    if (code < mantissa_end << 3) {
        return code;
    }
    std::uint32_t exponent = (code >> mantissa_bits) & 7;
    return (mantissa_end | (code & (mantissa_end - 1))) << (exponent + 3);
}

} // namespace protocols::wire
