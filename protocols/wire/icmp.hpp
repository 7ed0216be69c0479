// ICMP for IPv4 (RFC 792, RFC 1191). Pure parse and emit; any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "protocols/wire/ipv4.hpp"

namespace protocols::wire {

inline constexpr std::uint32_t icmp_header_bytes = 8;
inline constexpr std::uint8_t icmp_echo_reply = 0;
inline constexpr std::uint8_t icmp_unreachable = 3;
inline constexpr std::uint8_t icmp_source_quench = 4;
inline constexpr std::uint8_t icmp_redirect = 5;
inline constexpr std::uint8_t icmp_echo = 8;
inline constexpr std::uint8_t icmp_time_exceeded = 11;
inline constexpr std::uint8_t icmp_parameter_problem = 12;
// Codes of icmp_unreachable.
inline constexpr std::uint8_t unreachable_net = 0;
inline constexpr std::uint8_t unreachable_host = 1;
inline constexpr std::uint8_t unreachable_protocol = 2;
inline constexpr std::uint8_t unreachable_port = 3;
inline constexpr std::uint8_t unreachable_needfrag = 4;
inline constexpr std::uint8_t unreachable_filtered = 13; // RFC 1812 5.2.7.1
// Code of icmp_time_exceeded.
inline constexpr std::uint8_t exceeded_reassembly = 1;

// The 8 bytes that every ICMP message starts with; the checksum covers the whole message and is verified by the caller,
// who may hold it in pieces.
struct IcmpHeader {
    std::uint8_t type = 0;
    std::uint8_t code = 0;
    std::uint16_t checksum = 0;
    std::uint32_t rest = 0; // echo: identifier and sequence; needfrag: the low half is the next hop's MTU

    bool error() const
    {
        return type == icmp_unreachable || type == icmp_time_exceeded || type == icmp_parameter_problem ||
               type == icmp_source_quench || type == icmp_redirect;
    }
};
std::optional<IcmpHeader> parse_icmp(const void* bytes, std::uint32_t size);
void emit_icmp(void* to, const IcmpHeader& h);

// What an error quotes: the header of the packet in error and the first bytes of its transport header.
struct IcmpQuote {
    Ipv4Header ip;
    std::uint16_t source_port = 0;
    std::uint16_t destination_port = 0;
    std::uint32_t tcp_seq = 0;
    std::uint32_t mtu = 0; // needfrag: the next hop's, guessed after RFC 1191 7.1 when an old router left it 0
};
// `bytes`: after the ICMP header. Nothing unless it quotes the first fragment of a TCP or UDP datagram with its first 8
// bytes.
std::optional<IcmpQuote> parse_icmp_quote(const IcmpHeader& h, const void* bytes, std::uint32_t size);

} // namespace protocols::wire
