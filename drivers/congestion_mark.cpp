#include "drivers/congestion_mark.hpp"

#include "base/endian.hpp"

namespace drivers {

namespace {

constexpr std::uint32_t ip_header_least = 20;
constexpr std::uint32_t checksum_at = 10; // IPv4
constexpr unsigned ce = 3;

// 4, 6, or 0 when the header is not there. Frames that are no IP have another type; ARP's first octet is 0.
unsigned version(const netmsg::Packet& p, std::uint32_t at)
{
    unsigned v = p.size >= at + ip_header_least ? std::to_integer<unsigned>(p.data[at]) >> 4 : 0;
    return v == 4 || v == 6 ? v : 0;
}

// How far to the left of the header's first two octets ECN stands.
unsigned shift_of(unsigned version)
{
    return version == 6 ? 4 : 0;
}

} // namespace

std::uint8_t ecn_of(const netmsg::Packet& p, std::uint32_t at)
{
    unsigned v = version(p, at);
    return v == 0 ? std::uint8_t{0} : static_cast<std::uint8_t>(base::load_be16(p.data + at) >> shift_of(v) & ce);
}

bool mark_congestion(netmsg::Packet& p, std::uint32_t at)
{
    if (ecn_of(p, at) == 0) {
        return false;
    }
    unsigned v = version(p, at);
    std::uint32_t before = base::load_be16(p.data + at);
    std::uint32_t after = before | ce << shift_of(v);
    base::store_be16(p.data + at, static_cast<std::uint16_t>(after));
    if (v == 4) { // RFC 1624 3: HC' = ~(~HC + ~m + m')
        std::uint32_t sum = (~base::load_be16(p.data + at + checksum_at) & 0xffffU) + (~before & 0xffffU) + after;
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        base::store_be16(p.data + at + checksum_at, static_cast<std::uint16_t>(~sum));
    }
    return true;
}

} // namespace drivers
