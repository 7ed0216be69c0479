// TCP Fast Open (RFC 7413), the parts that are no segments: cookies as a server makes and checks them, and what a
// client remembers of servers. The key of cookies follows from one secret of the stack and the time, so every CPU makes
// the same ones and changes them without hearing of it from another. What servers gave is remembered per CPU, as path
// MTUs are (decision 0022). FastOpenCache, FastOpenResets: owner = the CPU of their domain; all fields o.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/net_addr.hpp"
#include "base/siphash.hpp"
#include "base/units.hpp"
#include "protocols/socket/socket.hpp"
#include "protocols/wire/tcp_wire.hpp"

namespace protocols::tcp {

// StackOptions::fastopen, as net.ipv4.tcp_fastopen of Linux.
inline constexpr unsigned fastopen_client = 0x1;
inline constexpr unsigned fastopen_server = 0x2;
inline constexpr unsigned fastopen_client_bare = 0x4;   // text in a SYN without a cookie, too
inline constexpr unsigned fastopen_server_bare = 0x200; // ... taken
inline constexpr unsigned fastopen_server_all = 0x400;  // every listener, TCP_FASTOPEN or not
inline constexpr unsigned fastopen_bits = 0x607;

inline constexpr base::Micros fastopen_key_life = base::seconds(6L * 3600); // a cookie is good for one to two of these
inline constexpr base::Micros fastopen_pause = base::seconds(60);           // after the first failure, then doubled
inline constexpr unsigned fastopen_pause_shift_max = 8;
inline constexpr std::uint32_t fastopen_bare_mss = 536; // of a server that was never seen

struct FastOpenCookie {
    std::uint8_t bytes = 0; // 0 = none
    std::array<unsigned char, wire::tcp_cookie_max_bytes> value{};
};

// For the SYN-ACK to `peer`. The listener's own key (TCP_FASTOPEN_KEY) comes before the stack's.
FastOpenCookie make_fastopen_cookie(base::SipKey secret, const SocketOptions& o, const base::IpAddr& local,
    const base::IpAddr& peer, base::Instant now);
enum class FastOpenCheck : std::uint8_t { bad, old, good }; // old: of the key before, or the backup key
FastOpenCheck check_fastopen_cookie(base::SipKey secret, const SocketOptions& o, const base::IpAddr& local,
    const base::IpAddr& peer, base::Instant now, const wire::TcpOptions& got);

struct FastOpenPeer {
    base::IpAddr addr;
    base::Instant used = base::never; // never = no entry
    base::Instant paused_until{};     // after failures (RFC 7413 4.1.3.1)
    FastOpenCookie cookie;
    std::uint16_t mss = 0; // as its SYN-ACK announced it
    std::uint8_t failures = 0;
};

// A bounded memory of servers; of a full row the one that was not used for longest goes.
class FastOpenCache {
public:
    explicit FastOpenCache(bool wanted);
    FastOpenPeer* find(const base::IpAddr& peer, base::Instant now);
    FastOpenPeer* make(const base::IpAddr& peer, base::Instant now); // found or new; null when not wanted
    // A SYN with text was not answered as hoped: pauses, longer each time.
    void failed(const base::IpAddr& peer, base::Instant now);

private:
    static constexpr std::size_t rows = 256;
    static constexpr std::size_t row_entries = 4;
    FastOpenPeer* row(const base::IpAddr& peer);
    std::vector<FastOpenPeer> entries_;
};

// Connections that a reset ended before their handshake was complete. They count as pending for a minute or two more:
// else one valid cookie and forged addresses would buy as many as one can send (RFC 7413 5.1).
class FastOpenResets {
public:
    void add(base::Instant now);
    std::uint32_t recent(base::Instant now);

private:
    void turn(base::Instant now);
    std::array<std::uint32_t, 2> counts_{};
    base::Instant since_{};
};

} // namespace protocols::tcp
