#include "netd/daemon.hpp"

#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <latch>
#include <thread>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/check.hpp"
#include "base/siphash.hpp"
#include "lwkt/topology.hpp"
#include "netd/address_secret.hpp"
#include "netd/admission_loop.hpp"
#include "netd/bus_guard.hpp"
#include "netd/exit_codes.hpp"
#include "netd/interfaces.hpp"
#include "netd/report.hpp"
#include "netd/seqpacket.hpp"
#include "protocols/dhcp/dhcp_client.hpp"

namespace netd {

namespace {

constexpr base::Micros farewell = base::seconds(1); // for data and FINs of the last programs to be acknowledged

std::uint64_t random_seed()
{
    std::uint64_t seed = 0;
    INVARIANT(getrandom(&seed, sizeof seed, 0) == sizeof seed);
    return seed;
}

std::size_t numa_nodes()
{
    std::error_code ignored;
    std::size_t nodes = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/sys/devices/system/node", ignored)) {
        std::string name = entry.path().filename();
        nodes += name.starts_with("node") && name.size() > 4 && name[4] >= '0' && name[4] <= '9' ? 1 : 0;
    }
    return std::max<std::size_t>(nodes, 1);
}

// Likewise (RFC 7217 5) an interface's Ethernet address, by which a DHCP server knows its client (RFC 2131 4.2). Two
// daemons of a machine differ by their sockets.
base::Random mac_source(const Config& config, const protocols::Stack& stack, const std::string& interface)
{
    const auto& secret = stack.options().address_secret;
    if (secret[0] == 0 && secret[1] == 0) {
        return base::Random(random_seed());
    }
    std::string text = fmt::format("mac {} {}", config.socket, interface);
    return base::Random(base::siphash({secret[0], secret[1]}, text.data(), text.size()));
}
} // namespace

SocketFile::SocketFile(const std::string& path, unsigned mode) : path_(path)
{
    std::string error;
    int exit_code = exit_software;
    fd_ = listen_on(path, mode, error, exit_code);
    if (!fd_) {
        throw StartFailure{error, exit_code};
    }
    struct stat st {};
    inode_ = stat(path.c_str(), &st) == 0 ? st.st_ino : 0;
}

SocketFile::~SocketFile()
{
    struct stat st {};
    if (stat(path_.c_str(), &st) == 0 && st.st_ino == inode_) {
        unlink(path_.c_str());
    }
}

// The socket before the system is asked for anything else: a netd that is running already is the better explanation of
// whatever would fail.
Daemon::Daemon(const Config& config)
    : config_(config), pins_(check_start(config)),
      socket_(config.socket, config.admission.uids.empty() && config.admission.gids.empty() ? 0600 : 0666)
{
    std::string error;
    if (!sleep_page_.create(static_cast<std::uint32_t>(pins_.size()), error)) {
        throw StartFailure{error, exit_software};
    }
    lwkt::CpuSetOptions options;
    options.pin = pins_;
    options.sleep_words = sleep_page_.words();
    set_ = std::make_unique<lwkt::CpuSet>(clock_, options);
    protocols::StackOptions stack_options;
    stack_options.seed = random_seed();
    stack_options.congestion = config_.tcp.congestion;
    stack_options.ecn = config_.tcp.ecn;
    stack_options.fastopen = config_.tcp.fastopen;
    stack_options.mtu_probing = config_.tcp.mtu_probing;
    address_secret(config_.address_secret, machine_id_path, stack_options.address_secret);
    stack_ = std::make_unique<protocols::Stack>(*set_, stack_options);
    add_interfaces();
    add_routes();
    make_gateway();
}

Daemon::~Daemon()
{
    gateway_.reset();
    if (set_ && set_->running()) {
        set_->stop();
    }
    stack_.reset(); // detaches the drivers
}

void Daemon::add_interfaces()
{
    std::vector<InterfaceConfig> all{loopback_config(config_)};
    for (const InterfaceConfig& i : config_.interfaces) {
        if (i.driver != DriverKind::loopback) {
            all.push_back(i);
        }
    }
    for (const InterfaceConfig& i : all) {
        if (i.driver == DriverKind::tap) {
            check_tap(i.name);
        }
        std::string error;
        base::Random random = mac_source(config_, *stack_, i.name);
        auto netif = make_netif(i, *stack_, random);
        protocols::Interface* interface = stack_->add_interface(std::move(netif), i.addresses, error, i.slaac);
        if (interface == nullptr) {
            explain_refusal(i, error);
        }
        if (i.dhcp) {
            stack_->start_dhcp(*interface);
            remember_lease(*interface);
        }
    }
}

// A netd that did not end in order still has its lease; the next one asks for the same address.
void Daemon::remember_lease(protocols::Interface& in)
{
    LeaseFile& file = lease_files_.emplace_back(lease_path(config_.socket, in.netif->info().name));
    protocols::Domain& owner = stack_->domain(protocols::dhcp_owner(stack_->domain(0), in));
    protocols::dhcp_remember(owner, in, file.found(), [&file](std::uint32_t address) { file.put(address); });
}

void Daemon::add_routes()
{
    for (const RouteConfig& r : config_.routes) {
        std::string error;
        base::IpAddr gateway = r.gateway;
        for (const auto& interface : stack_->interfaces()) {
            if (interface->netif->info().name == r.gateway_zone) {
                gateway = gateway.in_zone(interface->index);
            }
        }
        if (!stack_->add_route(r.destination, gateway, error)) {
            throw StartFailure{fmt::format("{}: {}", r.where, error), exit_config};
        }
    }
}

void Daemon::make_gateway()
{
    gateway::GatewayOptions options;
    options.segment.sockets = config_.limits.sockets_per_client;
    options.segment.ring_memory = config_.limits.ring_bytes;
    options.clients_max = config_.limits.clients;
    options.join_pairs = config_.join_pairs;
    gateway_ = std::make_unique<gateway::Gateway>(*stack_, options);
    gateway_->set_announced(announced_prefixes(config_));
}

void Daemon::log_start() const
{
    spdlog::info("{} protocol thread{} on CPU {}, sleeping in {}", pins_.size(), pins_.size() == 1 ? "" : "s",
        fmt::join(pins_, ","), set_->waiter_name());
    if (config_.cpus.empty() && lwkt::usable_cpus().size() > pins_.size()) {
        spdlog::info("every second of {} CPUs, the others are the programs'; --cpus all takes them too",
            lwkt::usable_cpus().size());
    }
    if (set_->waiter_name() == "epoll") {
        spdlog::info("io_uring is not to be had here (sysctl kernel.io_uring_disabled, a sandbox, locked memory)");
    }
    for (base::CpuId id : set_->unbound()) {
        spdlog::warn("protocol thread {} could not be pinned to CPU {} and runs anywhere", id, pins_[id]);
    }
    if (std::size_t nodes = numa_nodes(); nodes > 1) {
        spdlog::info("{} NUMA nodes; packet memory is taken where its CPU is", nodes);
    }
    for (const auto& interface : stack_->interfaces()) {
        std::vector<std::string> addresses;
        for (const auto& a : interface->addresses) {
            addresses.push_back(base::to_string(base::Prefix{a.addr, a.length}));
        }
        for (const auto& a : interface->addresses6) {
            addresses.push_back(base::to_string(base::Prefix{a.addr, a.length}));
        }
        if (interface->slaac) {
            addresses.emplace_back("slaac");
        }
        if (interface->dhcp) {
            addresses.emplace_back("dhcp");
        }
        spdlog::info("interface {}: {}, mtu {}; {}", interface->netif->info().name, fmt::join(addresses, " "),
            interface->netif->info().mtu, interface->netif->describe());
    }
    for (const RouteConfig& r : config_.routes) {
        spdlog::info("route {} via {}", base::to_string(r.destination), base::to_string(r.gateway));
    }
}

void Daemon::run(int signal_fd)
{
    BusGuard guard(std::size_t{2} * config_.limits.clients);
    set_->start();
    log_start();
    Served served{sleep_page_.fd(), sleep_page_.bytes(), set_.get()};
    Report report(*gateway_, *stack_, control_packet_max);
    Admission admission(
        *gateway_, guard, served, config_, [&report](sockbuf::ControlKind kind) { return report.text(kind); });
    spdlog::info("netd ready on {}", config_.socket);
    int signal = admission.run(socket_.fd(), signal_fd);
    spdlog::info("{}: closing down with {} client{}", sigabbrev_np(signal), gateway_->clients(),
        gateway_->clients() == 1 ? "" : "s");
    admission.close_all();
    close_down();
}

// What the programs wrote is sent and their connections are closed; what takes too long is reset.
void Daemon::close_down()
{
    base::Instant until = clock_.now() + farewell;
    while (gateway_->sockets_held() != 0 && clock_.now() < until) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    if (std::size_t left = gateway_->sockets_held(); left != 0) {
        spdlog::info(
            "{} socket{} did not finish in time and {} reset", left, left == 1 ? "" : "s", left == 1 ? "is" : "are");
    }
    gateway_.reset();
    release_leases();
    set_->stop(); // a last round after this sends what the roll-ups hold
    spdlog::info("netd ends");
}

// Servers hear that our addresses are free. What they are told may have to wait for their link-layer addresses.
void Daemon::release_leases()
{
    const auto& all = stack_->interfaces();
    auto asking = std::count_if(all.begin(), all.end(), [](const auto& i) { return i->dhcp; });
    auto left = std::make_shared<std::latch>(asking); // its last user is a CPU that wakes this thread
    for (const auto& interface : all) {
        if (interface->dhcp) {
            base::CpuId owner = protocols::dhcp_owner(stack_->domain(0), *interface);
            stack_->set().call(owner, [&](lwkt::Cpu&) {
                protocols::dhcp_release(stack_->domain(owner), *interface, [left] { left->count_down(); });
            });
        }
    }
    left->wait();
}

} // namespace netd
