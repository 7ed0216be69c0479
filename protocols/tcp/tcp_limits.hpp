// The constants of TCP, each with its source. Times are Micros, sizes bytes.
#pragma once

#include <cstdint>

#include "base/net_addr.hpp"
#include "base/units.hpp"

namespace protocols::tcp {

inline constexpr base::Micros rto_initial = base::seconds(1);        // RFC 6298 2.1
inline constexpr base::Micros rto_min = base::millis(200);           // as Linux; RFC 6298 2.4 wants 1 s
inline constexpr base::Micros rto_max = base::seconds(120);          // as Linux; RFC 6298 2.5 wants >= 60 s
inline constexpr base::Micros syn_again_time = base::millis(2);      // as Linux TCP_TIMEOUT_MIN
inline constexpr base::Micros rto_after_syn_loss = base::seconds(3); // RFC 6298 5.7
inline constexpr unsigned rto_shift_max = 10;
inline constexpr base::Micros delayed_ack_time = base::millis(40);    // as Linux's minimum; RFC 9293 3.8.6.3: < 0.5 s
inline constexpr base::Micros cork_time = base::millis(200);          // man 7 tcp, TCP_CORK
inline constexpr base::Micros two_msl = base::seconds(60);            // as Linux; RFC 9293 3.4.2 says 4 min
inline constexpr std::uint32_t reopen_distance = 65537;               // as Linux: a window and more (RFC 9293 3.6.1)
inline constexpr base::Micros paws_idle = base::seconds(24L * 86400); // RFC 7323 5.5
inline constexpr base::Micros cookie_period = base::seconds(64);
inline constexpr base::Micros cookie_life = base::seconds(128);
inline constexpr unsigned retries_data = 15;                      // as Linux tcp_retries2 (R2, RFC 9293 3.8.3)
inline constexpr unsigned retries_advice = 3;                     // as Linux tcp_retries1 (R1, RFC 9293 3.8.3)
inline constexpr unsigned retries_orphan = 8;                     // as Linux tcp_orphan_retries
inline constexpr unsigned retries_syn_ack = 5;                    // as Linux tcp_synack_retries
inline constexpr unsigned challenge_acks_per_second = 1000;       // RFC 5961 7; per CPU
inline constexpr base::Micros spare_ack_time = base::millis(500); // as Linux tcp_invalid_ratelimit; per connection
inline constexpr unsigned resets_per_second = 1000;               // per CPU, for segments that belong to nothing
inline constexpr unsigned duplicate_threshold = 3;                // RFC 5681 3.2
inline constexpr unsigned quick_acks_max = 16;                    // as Linux TCP_MAX_QUICKACKS
inline constexpr std::uint32_t mss_default = 536;                 // RFC 9293 3.7.1 (MUST-15), IPv4
inline constexpr std::uint32_t mss_default_v6 = 1220;             // ... and IPv6
inline constexpr std::uint32_t mss_floor = 48; // as Linux tcp_min_snd_mss: tiny segments amplify (CVE-2019-11479)
inline constexpr std::uint32_t timestamp_bytes = 12;
inline constexpr std::uint32_t initial_window_segments = 10; // RFC 6928
inline constexpr std::size_t listeners_max = 65536;          // per CPU
inline constexpr std::uint8_t default_rcv_scale = 8; // and of every cookie: nothing remembers what the SYN-ACK said
inline constexpr std::uint16_t window_unscaled_max = 65535;
// What is in front of the TCP header in a flow of this address.
inline std::uint32_t ip_header_bytes(const base::IpAddr& a)
{
    return a.is_v4() ? 20 : 40;
}

} // namespace protocols::tcp
