#include "protocols/wire/igmp.hpp"

#include <algorithm>
#include <cstring>

#include "base/endian.hpp"
#include "protocols/wire/checksum.hpp"
#include "protocols/wire/ipv4.hpp"

namespace protocols::wire {

namespace {

constexpr std::uint32_t query3_bytes = 12; // without sources
constexpr unsigned char router_alert[4] = {0x94, 4, 0, 0};
constexpr std::uint8_t internetwork_control = 0xc0;

} // namespace

std::optional<GroupQuery> parse_igmp_query(const void* bytes, std::uint32_t size)
{
    const auto* b = static_cast<const unsigned char*>(bytes);
    if (size < igmp_bytes || (size > igmp_bytes && size < query3_bytes) || b[0] != igmp_query) {
        return std::nullopt; // RFC 3376 7.1: of another length, no version's
    }
    GroupQuery q;
    q.group = base::IpAddr::v4(base::load_be32(b + 4));
    if (!q.group.is_any() && !q.group.is_multicast_v4()) {
        return std::nullopt;
    }
    if (size == igmp_bytes) {
        q.version = b[1] == 0 ? 1 : 2;
        q.response_ms = b[1] == 0 ? 10'000U : b[1] * 100U; // RFC 3376 7.2.1
        return q;
    }
    q.version = 3;
    q.response_ms = decode_interval(b[1], 4) * 100;
    std::uint32_t sources = base::load_be16(b + 10);
    if (sources * 4 > size - query3_bytes) {
        return std::nullopt;
    }
    for (std::uint32_t i = 0; i < sources; ++i) {
        q.sources.push_back(base::IpAddr::v4(base::load_be32(b + query3_bytes + i * 4)));
    }
    std::sort(q.sources.begin(), q.sources.end());
    return q;
}

void emit_igmp(void* to, std::uint8_t type, std::uint32_t group)
{
    auto* b = static_cast<unsigned char*>(to);
    std::memset(b, 0, igmp_bytes);
    b[0] = type;
    base::store_be32(b + 4, group);
}

void emit_igmp_ipv4(
    void* to, std::uint32_t source, std::uint32_t destination, std::uint16_t id, std::uint32_t message_bytes)
{
    Ipv4Header h;
    h.tos = internetwork_control;
    h.total_bytes = static_cast<std::uint16_t>(igmp_header_bytes + message_bytes);
    h.id = id;
    h.dont_fragment = true;
    h.ttl = 1;
    h.protocol = protocol_igmp;
    h.source = source;
    h.destination = destination;
    auto* b = static_cast<unsigned char*>(to);
    emit_ipv4(b, h);
    b[0] = 0x40 | igmp_header_bytes / 4;
    std::memcpy(b + ipv4_header_bytes, router_alert, sizeof router_alert);
    base::store_be16(b + 10, 0);
    base::store_be16(b + 10, checksum(b, igmp_header_bytes));
}

bool has_router_alert_v4(const void* header)
{
    const auto* b = static_cast<const unsigned char*>(header);
    std::uint32_t end = (b[0] & 0xfU) * 4;
    for (std::uint32_t at = ipv4_header_bytes; at < end && b[at] != 0;
         at += b[at] == 1 ? 1U : std::max(b[at + 1U], std::uint8_t{2})) {
        if (b[at] == router_alert[0]) {
            return true;
        }
    }
    return false;
}

} // namespace protocols::wire
