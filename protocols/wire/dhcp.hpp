// DHCP messages (RFC 2131 2, RFC 2132): the fixed part and the options that a client sends or uses. Pure parse and
// emit; any thread. Addresses in host order; 0 = not there, for every field where 0 means nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/net_addr.hpp"

namespace protocols::wire {

inline constexpr std::uint16_t dhcp_server_port = 67;
inline constexpr std::uint16_t dhcp_client_port = 68;
inline constexpr std::uint32_t dhcp_fixed_bytes = 240; // with the magic cookie
inline constexpr std::uint32_t dhcp_emit_max = 576;    // what every client takes (RFC 2131 2)
inline constexpr unsigned dhcp_addresses_max = 4;      // of a list; more are left out
inline constexpr unsigned dhcp_routes_max = 16;        // likewise
inline constexpr std::uint32_t dhcp_forever = 0xffffffff;

enum class DhcpType : std::uint8_t { none, discover, offer, request, decline, ack, nak, release, inform };

struct DhcpAddresses {
    std::uint32_t at[dhcp_addresses_max] = {};
    unsigned count = 0;
};

// RFC 3442. The host's bits of a destination are 0.
struct DhcpRoute {
    std::uint32_t destination = 0;
    std::uint32_t router = 0; // 0 = on the link
    std::uint8_t length = 0;
};
struct DhcpRoutes {
    DhcpRoute at[dhcp_routes_max] = {};
    unsigned count = 0;
    bool given = false; // the option is there, if only with what cannot be used
};

struct DhcpMessage {
    bool from_server = false; // BOOTREPLY
    DhcpType type = DhcpType::none;
    std::uint32_t xid = 0;
    std::uint16_t seconds = 0; // since the client began
    bool broadcast = false;    // the answer is to be broadcast
    std::uint32_t client = 0;  // ciaddr
    std::uint32_t yours = 0;   // yiaddr
    base::MacAddr mac;         // chaddr

    std::uint32_t requested = 0;         // option 50
    std::uint32_t server = 0;            // 54
    std::uint32_t lease_s = 0;           // 51
    std::uint32_t renew_s = 0;           // 58: T1
    std::uint32_t rebind_s = 0;          // 59: T2
    std::uint32_t mask = 0;              // 1
    std::uint32_t broadcast_address = 0; // 28
    std::uint16_t mtu = 0;               // 26
    DhcpAddresses routers;               // 3, the preferred one first
    DhcpAddresses dns;                   // 6
    DhcpRoutes routes;                   // 121
    bool asks = false; // the parameter request list (55) and the client's identifier (61), which parsing passes over
};

// Nothing for what is no DHCP message over Ethernet, or has an option of a length that its kind cannot have. Options in
// the fields for file and server name are read where option 52 says so.
std::optional<DhcpMessage> parse_dhcp(const void* bytes, std::uint32_t size);
// At most dhcp_emit_max bytes; returns how many.
std::uint32_t emit_dhcp(void* to, const DhcpMessage& m);

} // namespace protocols::wire
