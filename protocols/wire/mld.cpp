// See mld.hpp.
#include "protocols/wire/mld.hpp"

#include <algorithm>
#include <cstring>

#include "base/endian.hpp"

namespace protocols::wire {

std::optional<GroupQuery> parse_mld_query(const void* bytes, std::uint32_t size)
{
    constexpr std::uint32_t query2_bytes = 28; // without sources
    const auto* b = static_cast<const unsigned char*>(bytes);
    if (size < mld1_bytes || (size > mld1_bytes && size < query2_bytes) || b[0] != mld_query || b[1] != 0) {
        return std::nullopt;
    }
    GroupQuery q;
    std::uint16_t code = base::load_be16(b + 4);
    q.version = size == mld1_bytes ? 1 : 2;
    q.response_ms = q.version == 1 ? code : decode_interval(code, 12);
    q.group = base::IpAddr::v6(b + 8);
    std::uint32_t sources = q.version == 1 ? 0 : base::load_be16(b + 26);
    bool names_no_group = !q.group.is_any() && !q.group.is_multicast_v6();
    if (names_no_group || sources * 16 > size - (q.version == 1 ? mld1_bytes : query2_bytes)) {
        return std::nullopt;
    }
    for (std::uint32_t i = 0; i < sources; ++i) {
        q.sources.push_back(base::IpAddr::v6(b + query2_bytes + i * 16));
    }
    std::sort(q.sources.begin(), q.sources.end());
    return q;
}

void emit_mld1(void* to, std::uint8_t type, const base::IpAddr& group)
{
    auto* b = static_cast<unsigned char*>(to);
    std::memset(b, 0, mld1_bytes);
    b[0] = type;
    std::memcpy(b + 8, group.on_wire().bytes(), 16);
}

void emit_router_alert(void* to, std::uint8_t next_header)
{
    static constexpr unsigned char header[router_alert_bytes] = {0, 0, 5, 2, 0, 0, 1, 0}; // alert 0 (MLD), PadN
    std::memcpy(to, header, sizeof header);
    *static_cast<unsigned char*>(to) = next_header;
}

} // namespace protocols::wire
