#include "netd/interfaces.hpp"

#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "drivers/loopback.hpp"
#include "drivers/tap.hpp"
#include "drivers/vlan.hpp"
#include "netd/exit_codes.hpp"
#include "netd/start_check.hpp"
#include "netd/unique_fd.hpp"

namespace netd {

namespace {

constexpr const char* tun_path = "/dev/net/tun";

// What every stack's loopback has; the kernel's to programs unless announced.
const protocols::InterfaceAddress own_loopback[] = {
    {base::IpAddr::v4(0x7f000001), 8}, {base::IpAddr::loopback_v6(), 128}};

base::Prefix network_of(const protocols::InterfaceAddress& a)
{
    if (a.addr.is_v4()) {
        std::uint32_t mask = ~std::uint32_t{0} << (32 - a.length);
        return {base::IpAddr::v4(a.addr.v4() & mask), a.length};
    }
    unsigned char b[16];
    std::memcpy(b, a.addr.bytes(), sizeof b);
    for (unsigned i = a.length; i < 128; ++i) {
        b[i / 8] = static_cast<unsigned char>(b[i / 8] & ~(0x80U >> i % 8));
    }
    return {base::IpAddr::v6(b), a.length};
}

bool mentions(const std::string& error, int number)
{
    return error.find(std::strerror(number)) != std::string::npos;
}

// A TAP that is up has a carrier while some program holds a queue of it. The kernel would let us join its queues, and
// half of the packets would go to each. Not IFF_RUNNING, which is up to a second behind.
bool has_user(const std::string& name)
{
    UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ethtool_value link{ETHTOOL_GLINK, 0};
    ifreq r{};
    name.copy(r.ifr_name, sizeof r.ifr_name - 1);
    r.ifr_data = reinterpret_cast<char*>(&link);
    return any && ioctl(any.get(), SIOCETHTOOL, &r) == 0 && link.data != 0;
}

// The kernel closes the descriptors of a program that was killed, and what its io_uring watched, only after its end.
bool keeps_user(const std::string& name)
{
    constexpr std::chrono::milliseconds let_go_max{1000}; // as drivers::Tap waits
    constexpr std::chrono::milliseconds nap{5};
    auto deadline = std::chrono::steady_clock::now() + let_go_max;
    while (has_user(name)) {
        if (std::chrono::steady_clock::now() >= deadline) {
            return true;
        }
        std::this_thread::sleep_for(nap);
    }
    return false;
}

// No namespace and no capability over one opens a file that its mode forbids; that is root's to change.
[[noreturn]] void explain_no_tun(int error)
{
    std::string text = fmt::format("{}: {}; ", tun_path, std::strerror(error));
    struct stat st {};
    bool by_mode = error == EACCES && access(tun_path, R_OK | W_OK) != 0; // else a nodev mount, a security module
    if (by_mode && stat(tun_path, &st) == 0) {
        throw StartFailure{
            fmt::format("{}its mode is {:04o} and its owner user {}, netd runs as user {}: as root, 'chmod "
                        "0666 {}' (interfaces still need CAP_NET_ADMIN)",
                text, st.st_mode & 07777U, st.st_uid, geteuid(), tun_path),
            exit_permission};
    }
    if (error == EACCES || error == EPERM) { // EPERM: a control group's list of devices
        throw StartFailure{text + "this container or sandbox forbids the device; pass it through", exit_permission};
    }
    throw StartFailure{
        "no TUN device: " + text + "load it with 'modprobe tun' (in a container, pass the device through)",
        exit_unavailable};
}

} // namespace

std::unique_ptr<netmsg::Netif> make_netif(
    const InterfaceConfig& config, const protocols::Stack& stack, base::Random& random)
{
    if (config.driver == DriverKind::loopback) {
        drivers::LoopbackOptions options;
        options.name = config.name;
        options.mtu = config.mtu;
        return std::make_unique<drivers::Loopback>(options);
    }
    if (config.driver == DriverKind::vlan) {
        for (const auto& in : stack.interfaces()) {
            if (in->netif->info().name == config.parent) {
                return std::make_unique<drivers::Vlan>(
                    *in->netif, drivers::VlanOptions{config.name, config.vlan, config.mtu});
            }
        }
        throw StartFailure{
            fmt::format("interface {}: there is no interface {} before it", config.name, config.parent), exit_config};
    }
    drivers::TapOptions options;
    options.name = config.name;
    options.mtu = config.mtu;
    options.mac = config.mac ? *config.mac : drivers::random_mac(random);
    options.steering = &stack.steering();
    options.log = [](const std::string& text) { spdlog::warn("{}", text); };
    return std::make_unique<drivers::Tap>(std::move(options));
}

InterfaceConfig loopback_config(const Config& config)
{
    InterfaceConfig lo;
    lo.driver = DriverKind::loopback;
    lo.name = "lo";
    lo.mtu = 65535;
    for (const InterfaceConfig& i : config.interfaces) {
        if (i.driver == DriverKind::loopback) {
            lo = i;
        }
    }
    lo.addresses.insert(lo.addresses.begin(), own_loopback, own_loopback + std::size(own_loopback));
    return lo;
}

void check_tap(const std::string& name)
{
    UniqueFd probe(open(tun_path, O_RDWR | O_CLOEXEC));
    if (probe) {
        if (keeps_user(name)) {
            throw StartFailure{
                fmt::format("interface {} is in use: another program (another netd?) has it open", name), exit_os};
        }
        return;
    }
    explain_no_tun(errno);
}

void explain_refusal(const InterfaceConfig& config, const std::string& error)
{
    std::string text = fmt::format("interface {}: {}", config.name, error);
    if (mentions(error, EPERM) || mentions(error, EACCES)) {
        throw StartFailure{text +
                               "; netd needs CAP_NET_ADMIN in its network namespace: run it as root, or in a user and "
                               "network namespace of its own (unshare -Urn)",
            exit_permission};
    }
    if (mentions(error, EBUSY)) {
        throw StartFailure{text + "; another program (another netd?) has it open", exit_os};
    }
    throw StartFailure{text, exit_os};
}

std::vector<gateway::Announced> announced_prefixes(const Config& config)
{
    std::vector<gateway::Announced> all;
    auto add = [&](const base::Prefix& prefix, bool local) {
        for (gateway::Announced& a : all) {
            if (a.prefix == prefix) {
                a.local |= local;
                return;
            }
        }
        all.push_back({prefix, local});
    };
    InterfaceConfig lo = loopback_config(config);
    if (!lo.announce) {
        lo.addresses.erase(lo.addresses.begin(), lo.addresses.begin() + std::size(own_loopback));
    } else {
        add({base::IpAddr::v4(0x7f000000), 8}, true);
    }
    std::vector<InterfaceConfig> interfaces{lo};
    for (const InterfaceConfig& i : config.interfaces) {
        if (i.driver != DriverKind::loopback) {
            interfaces.push_back(i);
        }
    }
    for (const InterfaceConfig& i : interfaces) {
        for (const protocols::InterfaceAddress& a : i.addresses) {
            add({a.addr, static_cast<std::uint8_t>(a.addr.is_v4() ? 32 : 128)}, true);
        }
        // Which addresses these are only shows later: netd refuses a bind to one that it has not.
        if (i.has_ipv6() && i.driver != DriverKind::loopback) {
            add(*base::parse_prefix("fe80::/10"), true);
        }
        if (i.slaac) {
            add(*base::parse_prefix("::/0"), true);
        }
        if (i.dhcp) {
            add(*base::parse_prefix("0.0.0.0/0"), true);
        }
    }
    for (const InterfaceConfig& i : interfaces) {
        for (const protocols::InterfaceAddress& a : i.addresses) {
            add(network_of(a), false);
        }
    }
    for (const RouteConfig& r : config.routes) {
        add(r.destination, false);
    }
    return all;
}

} // namespace netd
