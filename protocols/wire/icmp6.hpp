// ICMPv6 errors and echo (RFC 4443): numbers, and the quote in an error. The 8 bytes that a message starts with are
// those of ICMP (IcmpHeader in icmp.hpp), but the checksum covers the pseudo-header too. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "protocols/wire/icmp.hpp"
#include "protocols/wire/ipv6.hpp"

namespace protocols::wire {

inline constexpr std::uint8_t icmp6_unreachable = 1;
inline constexpr std::uint8_t icmp6_too_big = 2;
inline constexpr std::uint8_t icmp6_time_exceeded = 3;
inline constexpr std::uint8_t icmp6_parameter_problem = 4;
inline constexpr std::uint8_t icmp6_echo = 128;
inline constexpr std::uint8_t icmp6_echo_reply = 129;
// Codes of icmp6_unreachable.
inline constexpr std::uint8_t unreachable6_no_route = 0;
inline constexpr std::uint8_t unreachable6_prohibited = 1;
inline constexpr std::uint8_t unreachable6_address = 3;
inline constexpr std::uint8_t unreachable6_port = 4;
inline constexpr std::uint8_t unreachable6_policy = 5;
inline constexpr std::uint8_t unreachable6_reject = 6;
// Codes of icmp6_parameter_problem.
inline constexpr std::uint8_t parameter_bad_field = 0;
inline constexpr std::uint8_t parameter_unknown_header = 1;
inline constexpr std::uint8_t parameter_unknown_option = 2;
inline constexpr std::uint8_t parameter_incomplete_chain = 3; // RFC 7112

// RFC 4443 2.1: the high bit tells messages that inform from errors.
inline bool icmp6_is_error(std::uint8_t type)
{
    return type < 128;
}

// What an error quotes of a TCP, UDP or ICMPv6 packet of ours. Addresses without zones.
struct Icmp6Quote {
    base::IpAddr source;
    base::IpAddr destination;
    std::uint8_t protocol = 0;
    std::uint8_t icmp_type = 0;
    std::uint16_t source_port = 0; // of TCP and UDP
    std::uint16_t destination_port = 0;
    std::uint32_t tcp_seq = 0;
    std::uint32_t mtu = 0;          // too_big: the next hop's
    std::uint32_t header_bytes = 0; // in front of the transport header
    std::uint32_t total_bytes = 0;  // of the quoted packet, as it was
};
// `bytes`: after the 8 bytes. Nothing unless it quotes the first fragment of such a datagram with its first 8 bytes.
std::optional<Icmp6Quote> parse_icmp6_quote(const IcmpHeader& h, const void* bytes, std::uint32_t size);

} // namespace protocols::wire
