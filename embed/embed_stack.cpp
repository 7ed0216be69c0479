// See embed/stack.hpp: construction and the ends of a stack in this process. Control calls come from one thread that is
// no protocol thread.
#include "embed/stack.hpp"

#include <sys/random.h>

#include <algorithm>
#include <atomic>

#include "base/check.hpp"
#include "drivers/loopback.hpp"
#include "embed/host.hpp"
#include "protocols/tcp/tcp_limits.hpp"
#include "protocols/wire/ipv4.hpp"
#include "protocols/wire/ipv6.hpp"
#include "protocols/wire/tcp_wire.hpp"

namespace embed {

namespace {

constexpr const char* loopback_address = "127.0.0.1/8";
constexpr const char* loopback_address6 = "::1/128";
constexpr std::uint64_t ring_memory_per_shard = std::uint64_t{256} << 20; // of address space

std::uint64_t random_seed()
{
    std::uint64_t seed = 0;
    INVARIANT(getrandom(&seed, sizeof seed, 0) == sizeof seed);
    return seed;
}

// Why the protocols cannot run over the interface; empty = they can.
std::string refuse_mtu(const netmsg::NetifInfo& info, bool ipv6)
{
    constexpr std::uint32_t least_v4 = // of TCP, whose segments have no less; RFC 791 asks 68 of a link
        protocols::tcp::mss_floor + protocols::wire::ipv4_header_bytes + protocols::wire::tcp_header_min_bytes;
    std::uint32_t least = ipv6 ? protocols::wire::ipv6_mtu_min : least_v4; // RFC 8200 5
    return info.mtu >= least ? ""
                             : "interface " + info.name + ": an MTU of " + std::to_string(info.mtu) + ", and IPv" +
                                   (ipv6 ? "6" : "4") + " needs " + std::to_string(least);
}

// What the shared memory's layout has no place for; empty = nothing.
std::string refuse_size(std::size_t cpus, std::uint32_t sockets)
{
    if (cpus > sockbuf::max_cpus) {
        return std::to_string(cpus) + " CPUs, and a stack has " + std::to_string(sockbuf::max_cpus) + " at most";
    }
    if (sockets == 0 || sockets % 64 != 0 || sockets > sockbuf::max_sockets) {
        return std::to_string(sockets) + " sockets: must be a multiple of 64, and " +
               std::to_string(sockbuf::max_sockets) + " at most";
    }
    return "";
}

} // namespace

struct alignas(64) Stack::SleepLine {
    std::atomic<std::uint32_t> word{0};
};

// What exists once the stack runs. The gateway wakes through the host until it is gone.
struct Stack::Impl {
    std::unique_ptr<Host> host;
    std::unique_ptr<gateway::Gateway> gateway; // goes first
    gateway::Client* family = nullptr;
    client::Session session;
    std::uint32_t lane_turn = 0; // simulations
};

Stack::Stack(const StackConfig& config) : config_(config)
{
    lwkt::CpuSetOptions options;
    options.pin = config.pin;
    options.discipline = config.discipline;
    options.lock = config.lock;
    options.locks_per_operation = config.locks_per_operation;
    options.shards = config.shards;
    sleep_lines_.reset(new SleepLine[options.cpus()]);
    options.sleep_words = &sleep_lines_[0].word;
    options.spin_max = config.spin_max;
    options.waiter = config.waiter;
    options.thread_name = config.name;
    lwkt::Clock& clock =
        config.simulation != nullptr ? static_cast<lwkt::Clock&>(config.simulation->clock()) : real_clock_;
    set_ = std::make_unique<lwkt::CpuSet>(clock, options);
    protocols::StackOptions protocol_options = config.protocols;
    protocol_options.seed = config.seed != 0 || config.simulation != nullptr ? config.seed : random_seed();
    stack_ = std::make_unique<protocols::Stack>(*set_, protocol_options);
}

Stack::~Stack()
{
    if (impl_ != nullptr) {
        impl_->host->leave();
        impl_->gateway.reset();
    }
    if (config_.simulation != nullptr) {
        config_.simulation->remove(*set_);
    }
    if (set_->running()) {
        set_->stop();
    }
}

bool Stack::add_interface(std::unique_ptr<netmsg::Netif> netif, const std::vector<std::string>& addresses,
    std::string& error, bool slaac, bool dhcp)
{
    INVARIANT(impl_ == nullptr);
    if (lwkt::uses_locks(config_.discipline) && !netif->info().in_memory) {
        error = "interface " + netif->info().name + " makes system calls, which must not happen under a lock";
        return false;
    }
    bool ipv6 = slaac;
    std::vector<protocols::InterfaceAddress> parsed;
    for (const std::string& text : addresses) {
        auto slash = text.find('/');
        auto prefix = base::parse_prefix(text); // the host's own bits are kept
        if (!prefix || slash == std::string::npos) {
            error = "\"" + text + "\" is not an address with prefix length";
            return false;
        }
        parsed.push_back({prefix->addr, prefix->length});
        ipv6 |= !prefix->addr.is_v4();
    }
    if (std::string refused = refuse_mtu(netif->info(), ipv6); !refused.empty()) {
        error = refused;
        return false;
    }
    if (dhcp && !netif->info().ethernet) {
        error = "interface " + netif->info().name + " has no link layer to ask for an address";
        return false;
    }
    protocols::Interface* interface = stack_->add_interface(std::move(netif), std::move(parsed), error, slaac);
    if (interface != nullptr && dhcp) {
        stack_->start_dhcp(*interface);
    }
    return interface != nullptr;
}

bool Stack::add_route(std::string_view destination, std::string_view gateway, std::string& error)
{
    INVARIANT(impl_ == nullptr);
    auto to = base::parse_prefix(destination);
    auto via = base::parse_ip(gateway);
    if (!to || !via) {
        error = "\"" + std::string(!to ? destination : gateway) + "\" is not an address";
        return false;
    }
    return stack_->add_route(*to, *via, error);
}

bool Stack::start(std::string& error)
{
    INVARIANT(impl_ == nullptr);
    if (std::string refused = refuse_size(set_->size(), config_.gateway.segment.sockets); !refused.empty()) {
        error = refused;
        return false;
    }
    if (stack_->loopback() == nullptr &&
        !add_interface(std::make_unique<drivers::Loopback>(), {loopback_address, loopback_address6}, error)) {
        return false;
    }
    auto impl = std::make_unique<Impl>();
    if (lwkt::uses_locks(config_.discipline)) { // each shard has its share, however small
        auto& bytes = config_.gateway.segment.ring_memory;
        bytes = std::max(bytes, set_->size() * ring_memory_per_shard);
    }
    impl->gateway = std::make_unique<gateway::Gateway>(*stack_, config_.gateway);
    if (config_.simulation != nullptr) {
        impl->host = std::make_unique<SimulationHost>(*impl->gateway, *set_, *config_.simulation);
    } else if (config_.discipline == lwkt::Discipline::inline_) {
        impl->host = std::make_unique<InlineHost>(*impl->gateway, *set_);
    } else if (config_.discipline == lwkt::Discipline::striped && config_.near_shards) {
        impl->host = std::make_unique<StripedHost>(*impl->gateway, *set_, config_.pin);
    } else {
        impl->host = std::make_unique<ThreadHost>(*impl->gateway, *set_);
    }
    impl->gateway->set_wake([host = impl->host.get()](std::uint32_t, std::uint32_t waiter) { host->wake(waiter); });
    impl->family = impl->gateway->attach(static_cast<std::uint32_t>(getpid()), error);
    if (impl->family == nullptr) {
        return false;
    }
    impl->host->join(*impl->family);
    impl->session.view = impl->gateway->segment(*impl->family).view();
    impl->session.sleep_words = &sleep_lines_[0].word;
    impl->session.host = impl->host.get();
    impl->session.direct = lwkt::uses_locks(config_.discipline);
    if (config_.simulation != nullptr) {
        impl->session.lane_turn = &impl->lane_turn;
    } else {
        bool inlined = config_.discipline == lwkt::Discipline::inline_;
        impl->session.near = client::cpus_near(impl->session.view.layout());
        if (!inlined) { // there waiting runs the CPU, which polls itself
            impl->session.look_max = config_.application_spin;
        }
        impl->session.direct = impl->session.direct || inlined;
        impl->session.homes = inlined || (config_.discipline == lwkt::Discipline::striped && config_.near_shards);
    }
    impl_ = std::move(impl);
    if (config_.simulation != nullptr) {
        config_.simulation->add(*set_);
    } else {
        set_->start();
    }
    return true;
}

client::Session& Stack::session()
{
    INVARIANT(impl_ != nullptr);
    return impl_->session;
}

std::unique_ptr<lwkt::Adopted> Stack::adopt(base::CpuId cpu)
{
    return std::make_unique<lwkt::Adopted>(set_->cpu(cpu));
}

lwkt::Snapshot Stack::counters() const
{
    return set_->snapshot();
}

std::vector<gateway::SocketReport> Stack::sockets()
{
    INVARIANT(impl_ != nullptr);
    auto lock = impl_->host->control();
    return impl_->gateway->sockets();
}

} // namespace embed
