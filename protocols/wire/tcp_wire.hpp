// TCP headers as bytes (RFC 9293 3.1, options of RFC 7323, 2018, 7413, 9768). Pure: no state, no clock, no allocation;
// any thread. Parsing refuses only what has no meaning at all (a header that does not fit its bytes); a malformed
// option ends the option list (RFC 9293 3.2, MUST-7), because what stands before it is still usable.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/seq.hpp"

namespace protocols::wire {

inline constexpr std::uint16_t tcp_fin = 0x01;
inline constexpr std::uint16_t tcp_syn = 0x02;
inline constexpr std::uint16_t tcp_rst = 0x04;
inline constexpr std::uint16_t tcp_psh = 0x08;
inline constexpr std::uint16_t tcp_ack = 0x10;
inline constexpr std::uint16_t tcp_urg = 0x20;
inline constexpr std::uint16_t tcp_ece = 0x40;
inline constexpr std::uint16_t tcp_cwr = 0x80;
inline constexpr std::uint16_t tcp_ae = 0x100; // RFC 9768 3.1.1
inline constexpr std::uint16_t tcp_ace = tcp_ae | tcp_cwr | tcp_ece;
inline constexpr unsigned tcp_ace_shift = 6; // the three as one number: RFC 9768 3.2.2

inline constexpr std::uint32_t tcp_header_min_bytes = 20;
inline constexpr std::uint32_t tcp_header_max_bytes = 60;
inline constexpr std::uint32_t tcp_checksum_at = 16; // offset of the checksum field
inline constexpr unsigned tcp_sack_blocks_max = 4;
inline constexpr unsigned tcp_cookie_min_bytes = 4; // RFC 7413 4.1.1
inline constexpr unsigned tcp_cookie_max_bytes = 16;
inline constexpr std::uint8_t tcp_scale_max = 14;     // RFC 7323 2.3
inline constexpr std::uint8_t tcp_kind_accecn0 = 172; // RFC 9768 3.2.3: ECT(0), CE, ECT(1)
inline constexpr std::uint8_t tcp_kind_accecn1 = 174; // ECT(1), CE, ECT(0)
inline constexpr unsigned tcp_accecn_fields_max = 3;

struct SackBlock {
    base::Seq start;
    base::Seq end; // one past the last octet
    friend bool operator==(const SackBlock&, const SackBlock&) = default;
};

// Octets received with each mark, modulo 2^24, in the order of the kind.
struct AccEcnOption {
    std::uint8_t kind = 0; // 0 = absent
    std::uint8_t fields = 0;
    std::uint32_t value[tcp_accecn_fields_max] = {};

    std::uint32_t bytes() const { return kind == 0 ? 0U : (2U + 3U * fields + 3U) / 4U * 4U; } // with padding
};

struct TcpOptions {
    std::uint16_t mss = 0; // 0 = absent
    std::uint8_t scale = 0;
    bool has_scale = false;
    bool sack_permitted = false;
    bool has_timestamp = false;
    std::uint32_t ts_val = 0;
    std::uint32_t ts_ecr = 0;
    const unsigned char* cookie = nullptr; // Fast Open; in the segment, or where its writer has it; null = no option
    std::uint8_t cookie_bytes = 0;         // 0: asks for one
    std::uint8_t sack_count = 0;
    AccEcnOption accecn;
    union { // not initialised: sack_count tells what is there, and each segment has options
        SackBlock sack[tcp_sack_blocks_max];
    };

    TcpOptions() {}
};

struct TcpHeader {
    std::uint16_t source_port = 0;
    std::uint16_t destination_port = 0;
    base::Seq seq;
    base::Seq ack;
    std::uint8_t header_bytes = 0; // parse: data offset; emit: computed
    std::uint16_t flags = 0;
    std::uint16_t window = 0; // unscaled
    std::uint16_t urgent = 0;
    TcpOptions options;

    bool has(std::uint16_t flag) const { return (flags & flag) != 0; }
    unsigned ace() const { return (flags & tcp_ace) >> tcp_ace_shift; }
};

// False when `size` bytes hold no whole header. The checksum is not looked at.
bool tcp_parse(const void* data, std::size_t size, TcpHeader& out);

// Bytes that tcp_emit will write, a multiple of 4 and at most tcp_header_max_bytes.
std::uint32_t tcp_emit_bytes(const TcpHeader& h);
// Writes header and options in Linux's order (a SYN: mss, sackOK, TS, nop, wscale, cookie; without TS: mss, nop, nop,
// sackOK, nop, wscale, cookie; else nop, nop, TS and nop, nop, SACK), AccECN padded behind the cookie, or before SACK,
// the checksum field zero. Returns the bytes written.
std::uint32_t tcp_emit(const TcpHeader& h, void* to);
// The same where tcp_emit_bytes() was asked before.
void tcp_emit(const TcpHeader& h, void* to, std::uint32_t bytes);

} // namespace protocols::wire
