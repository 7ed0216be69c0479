// Packets as text and back, and a bare-IP interface that records what the stack sends. For packet_script.cpp.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "netmsg/netif.hpp"
#include "protocols/wire/tcp_wire.hpp"

namespace tcp_test {

struct Captured {
    base::Instant at{};
    std::vector<unsigned char> bytes; // from the IP header
};

class ScriptNetif final : public netmsg::Netif {
public:
    ScriptNetif(std::uint32_t mtu, std::uint32_t tso_max_bytes, std::uint32_t gso_max_bytes, bool gro);
    bool attach(
        lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error) override;
    void detach() override {}
    void transmit(netmsg::Packet& p) override;
    std::string describe() const override { return "script"; }

    // On the CPU: the bytes of an IP packet arrive.
    void inject(const std::vector<unsigned char>& bytes);
    std::deque<Captured> sent;

private:
    netmsg::PacketPool* pool_ = nullptr;
    netmsg::InputFn input_ = nullptr;
    void* context_ = nullptr;
};

// A segment as a script writes it: numbers relative.
struct ScriptSegment {
    std::string flags;
    std::uint32_t seq = 0;
    std::uint32_t len = 0;
    std::optional<std::uint32_t> ack;
    std::optional<std::uint32_t> win;
    std::optional<std::uint16_t> urg;
    std::optional<std::uint8_t> tos;
    std::optional<std::string> options;
};

// Both ISNs; what relative numbers mean.
struct Numbering {
    std::uint32_t ours = 0;
    std::uint32_t theirs = 0;
    std::uint32_t our_clock = 0; // first timestamp value we sent
    bool ours_known = false;
    bool clock_known = false;
    std::string cookie; // of Fast Open, the one that we gave last, in hex
};

bool parse_segment(const std::string& text, ScriptSegment& out, std::string& error);
// The peer's packet with IP header and correct checksum.
std::vector<unsigned char> build_packet(const ScriptSegment& s, const Numbering& n, std::string& error);
// Empty if the captured packet is what the script says. Learns our ISN from a SYN.
std::string compare_packet(const Captured& got, const ScriptSegment& want, Numbering& n);
std::string describe_packet(const Captured& c, const Numbering& n);

// 192.168.0.1 and 192.168.0.2, or the same over IPv6 (tests/family.hpp).
base::IpAddr script_local();
base::IpAddr script_peer();
// Of the IP header in front of a segment. Over IPv6 the scripts run at an MTU larger by the difference, so that a
// segment is as long as over IPv4.
std::uint32_t script_ip_bytes();
inline constexpr std::uint16_t script_local_port = 8080;
inline constexpr std::uint16_t script_peer_port = 40000;

} // namespace tcp_test
