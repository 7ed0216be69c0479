// netd's configuration: the TOML file, checked completely, and the defaults without one. Main thread, before anything
// runs. Every mistake is one line "FILE:LINE: key: what is wrong".
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/net_addr.hpp"
#include "protocols/stack.hpp"

namespace netd {

enum class DriverKind : std::uint8_t { tap, loopback, vlan };

struct InterfaceConfig {
    DriverKind driver = DriverKind::tap;
    std::string name;
    std::vector<protocols::InterfaceAddress> addresses;
    std::uint32_t mtu = 1500;
    std::uint32_t queues = 0; // 0 = one per CPU
    std::optional<base::MacAddr> mac;
    std::string parent;     // vlan: the interface that carries it
    std::uint16_t vlan = 0; // vlan: its number
    bool announce = false;  // loopback: 127.0.0.0/8 and ::1 are netd's, not the kernel's
    bool slaac = false;     // IPv6 addresses and routers as the link's routers advertise them
    bool dhcp = false;      // IPv4 address and routers as a DHCP server gives them
    bool has_ipv6() const;
};

struct RouteConfig {
    base::Prefix destination;
    base::IpAddr gateway;
    std::string gateway_zone; // the interface of a link-local gateway, "fe80::1%nd0"
    std::string where;        // "FILE:LINE: route", for what only shows when the route is added
};

struct LimitsConfig {
    std::uint32_t clients = 64;
    std::uint32_t sockets_per_client = 16384;
    std::uint64_t ring_bytes = std::uint64_t{64} << 30; // address space per client; pages are taken when touched
};

// Who may attach besides root and the user netd runs as.
struct AdmissionConfig {
    std::vector<uid_t> uids;
    std::vector<gid_t> gids;
    bool share = true; // netrun --share: programs of one user may ask to be one family
};

// As the sysctls of Linux below net.ipv4 mean them.
struct TcpConfig {
    std::uint8_t congestion = 0; // tcp_congestion_control: index of protocols::tcp::congestion_by_name
    protocols::Ecn ecn = protocols::Ecn::accept;
    unsigned fastopen = 1;
    protocols::MtuProbing mtu_probing = protocols::MtuProbing::off;
};

struct Config {
    std::string socket; // empty = default_socket_path()
    std::string cpus;   // empty = every second CPU we may use
    std::string log_level = "info";
    std::string address_secret; // what stable IPv6 addresses are made from (RFC 7217); empty = /etc/machine-id
    bool join_pairs = true;     // loopback connections inside a family bypass netd
    LimitsConfig limits;
    AdmissionConfig admission;
    TcpConfig tcp;
    std::vector<InterfaceConfig> interfaces;
    std::vector<RouteConfig> routes;
};

// Nothing with `error` set.
std::optional<Config> load_config(const std::string& path, std::string& error);
// `name` is for the messages.
std::optional<Config> parse_config(std::string_view text, const std::string& name, std::string& error);

// Where netd listens: $NETD_SOCKET, or /run/netd.sock, or $XDG_RUNTIME_DIR/netd.sock without root. Who looks for it
// falls back from the last to the second: sockbuf/socket_path.hpp.
std::string default_socket_path();

bool is_log_level(const std::string& text);

// Whether the limits do for so many protocol threads, which is known only when netd starts. Empty = yes.
std::string check_limits(const LimitsConfig& limits, std::size_t threads);

} // namespace netd
