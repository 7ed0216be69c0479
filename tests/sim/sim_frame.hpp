// A frame on a wire of the simulation as the checks look at it: addresses, congestion field, fragment, and the first
// bytes of what IP carries. Read by code of the stack that is pure (protocols/wire). Any thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/net_addr.hpp"
#include "netmsg/packet.hpp"
#include "protocols/wire/tcp_wire.hpp"
#include "protocols/wire/udp.hpp"

namespace sim {

inline constexpr unsigned ecn_field = 3; // RFC 3168 5
inline constexpr unsigned ecn_ce = 3;

struct Frame {
    static constexpr std::uint32_t udp_header = protocols::wire::udp_header_bytes;

    base::IpAddr source;
    base::IpAddr destination;
    unsigned ecn = 0;
    unsigned protocol = 0;
    bool fragment = false;
    std::uint32_t id = 0;
    std::uint32_t offset = 0;
    std::uint32_t payload = 0;  // bytes behind the IP headers
    std::uint32_t segments = 1; // that a super-segment stands for
    protocols::wire::TcpHeader tcp;
    unsigned char start[udp_header + 16] = {}; // of the payload

    // False: it is no IP packet that makes sense. Of a fresh one.
    bool parse(const netmsg::Packet& frame, std::uint32_t link_header);
    bool is_tcp() const;
    bool is_datagram() const;
    std::uint32_t text() const { return payload - std::min<std::uint32_t>(payload, tcp.header_bytes); }

private:
    bool parse_v4(const unsigned char* h, std::uint32_t n, std::uint32_t& headers);
    bool parse_v6(const unsigned char* h, std::uint32_t n, std::uint32_t& headers);
};

} // namespace sim
