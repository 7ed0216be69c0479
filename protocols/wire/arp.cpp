// See arp.hpp.
#include "protocols/wire/arp.hpp"

#include <cstring>

#include "base/endian.hpp"
#include "protocols/wire/ethernet.hpp"

namespace protocols::wire {

std::optional<Arp> parse_arp(const void* bytes, std::uint32_t size)
{
    if (size < arp_bytes) {
        return std::nullopt;
    }
    const auto* b = static_cast<const unsigned char*>(bytes);
    bool ethernet_and_ipv4 =
        base::load_be16(b) == 1 && base::load_be16(b + 2) == ethertype_ipv4 && b[4] == 6 && b[5] == 4;
    Arp a;
    a.operation = base::load_be16(b + 6);
    if (!ethernet_and_ipv4 || (a.operation != arp_request && a.operation != arp_reply)) {
        return std::nullopt;
    }
    std::memcpy(a.sender_mac.bytes.data(), b + 8, 6);
    a.sender_v4 = base::load_be32(b + 14);
    std::memcpy(a.target_mac.bytes.data(), b + 18, 6);
    a.target_v4 = base::load_be32(b + 24);
    if (a.sender_mac.is_multicast()) {
        return std::nullopt; // no host has a group's address
    }
    return a;
}

void emit_arp(void* to, const Arp& a)
{
    auto* b = static_cast<unsigned char*>(to);
    base::store_be16(b, 1);
    base::store_be16(b + 2, ethertype_ipv4);
    b[4] = 6;
    b[5] = 4;
    base::store_be16(b + 6, a.operation);
    std::memcpy(b + 8, a.sender_mac.bytes.data(), 6);
    base::store_be32(b + 14, a.sender_v4);
    std::memcpy(b + 18, a.target_mac.bytes.data(), 6);
    base::store_be32(b + 24, a.target_v4);
}

} // namespace protocols::wire
