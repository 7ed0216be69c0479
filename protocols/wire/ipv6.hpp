// The IPv6 header and its extension headers (RFC 8200). Pure parse and emit; any thread. Parsing validates what the
// headers can say about themselves; whether the addresses make sense here is the input path's business. Addresses are
// as on the wire: without zones.
#pragma once

#include <cstdint>
#include <optional>

#include "base/net_addr.hpp"

namespace protocols::wire {

inline constexpr std::uint32_t ipv6_header_bytes = 40;
inline constexpr std::uint32_t ipv6_mtu_min = 1280;      // RFC 8200 5
inline constexpr std::uint32_t ipv6_payload_max = 65535; // jumbograms (RFC 2675) are refused
inline constexpr std::uint32_t ipv6_fragment_bytes = 8;  // the fragment header
inline constexpr std::uint32_t ipv6_chain_max = 1024; // all headers before the payload; longer ones only evade filters
inline constexpr unsigned ipv6_extensions_max = 8;    // headers in a chain
inline constexpr unsigned ipv6_options_max = 8;       // in one header, padding apart; as Linux

inline constexpr std::uint8_t next_hop_by_hop = 0;
inline constexpr std::uint8_t next_routing = 43;
inline constexpr std::uint8_t next_fragment = 44;
inline constexpr std::uint8_t next_none = 59;
inline constexpr std::uint8_t next_destination = 60;
inline constexpr std::uint8_t protocol_icmp6 = 58;

struct Ipv6Header {
    std::uint8_t traffic_class = 0;
    std::uint32_t flow_label = 0;
    std::uint16_t payload_bytes = 0; // extension headers included
    std::uint8_t next_header = next_none;
    std::uint8_t hop_limit = 0;
    base::IpAddr source;
    base::IpAddr destination;

    std::uint32_t total_bytes() const { return ipv6_header_bytes + payload_bytes; }
};

enum class Ipv6Fault : std::uint8_t { none, truncated, version, length };

// `size`: contiguous bytes at `bytes`; `available`: bytes of the packet in all, of which the header must not promise
// more. `fault` says why there is nothing.
std::optional<Ipv6Header> parse_ipv6(const void* bytes, std::uint32_t size, std::uint32_t available, Ipv6Fault& fault);
// The quote in an ICMPv6 error: as parse_ipv6, but the payload may be cut off.
std::optional<Ipv6Header> parse_ipv6_quote(const void* bytes, std::uint32_t size);
// Writes 40 bytes.
void emit_ipv6(void* to, const Ipv6Header& h);

// A fragment header (RFC 8200 4.5). `offset` in bytes.
struct Ipv6Fragment {
    std::uint8_t next_header = next_none;
    std::uint16_t offset = 0;
    bool more = false;
    std::uint32_t id = 0;

    bool atomic() const { return offset == 0 && !more; } // RFC 6946: a whole datagram after all
};
// The 8 bytes are there.
Ipv6Fragment read_ipv6_fragment(const void* bytes);
void emit_ipv6_fragment(void* to, const Ipv6Fragment& f);

// What the extension headers came to.
struct Ipv6Chain {
    std::uint8_t protocol = next_none; // of what follows: a transport, or with `fragment` whatever the fragment says
    std::uint32_t bytes = ipv6_header_bytes; // of all headers before it
    std::uint32_t next_at = 6;               // offset of the octet that names `protocol`, the fragment header's apart
    bool fragment = false;                   // a fragment that is not atomic ends the chain; its header is the last
    Ipv6Fragment part;                       // ... of it
    bool atomic = false;                     // there was a fragment header, and it was (RFC 6946)
    bool router_alert = false;               // RFC 2711
};

enum class ChainFault : std::uint8_t {
    none,
    truncated, // the headers go on behind `size`
    problem,   // tell the sender: ICMPv6 parameter problem `code` about the octet at `pointer`
    discard,   // an option that wants silence, or a chain longer than we follow
};
struct ChainResult {
    ChainFault fault = ChainFault::none;
    std::uint8_t code = 0;
    std::uint32_t pointer = 0;
};
// `bytes`: the packet from its IPv6 header on, of which `size` are contiguous. A transport that we do not know is no
// fault of the chain.
ChainResult walk_ipv6_chain(const void* bytes, std::uint32_t size, const Ipv6Header& h, Ipv6Chain& out);
// Where what follows the headers begins, whatever is wrong in them, and what it is; 0 = it is not in the packet, or not
// within `size`.
std::uint32_t find_ipv6_payload(const void* bytes, std::uint32_t size, const Ipv6Header& h, std::uint8_t& protocol);

} // namespace protocols::wire
