// See world.hpp.
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "tests/packetdrill/world.hpp"

namespace packetdrill {

namespace {

constexpr std::int64_t receive_patience_us = 8'000'000; // the tool itself would wait for ever
constexpr std::chrono::milliseconds look_again{100};

// As the sysctl numbers them.
protocols::Ecn ecn_of(long number)
{
    constexpr long most = static_cast<long>(protocols::Ecn::accept_accurate);
    return number < 0 || number > most ? protocols::Ecn::accept : static_cast<protocols::Ecn>(number);
}

// The tool locks all its memory, so nothing may be larger than scripts need.
embed::StackConfig config_of(const Settings& settings, embed::Simulation* simulation)
{
    embed::StackConfig c;
    c.simulation = simulation;
    c.name = "packetdrill";
    c.seed = simulation != nullptr ? 1 : 0;
    c.application_spin = base::Micros{0};
    c.spin_max = base::Micros{0};
    c.gateway.segment.sockets = 256;
    c.gateway.segment.ring_memory = std::uint64_t{64} << 20;
    c.gateway.clients_max = 1;
    c.gateway.idle_after = base::Micros{0}; // a sleeping connection keeps its keepalive time in whole seconds
    c.protocols.packets = {.packets_per_cpu = 1024, .large_per_cpu = 8};
    c.protocols.connections_per_cpu = 1024;
    c.protocols.syn_cache_per_cpu = 256;
    c.protocols.tcp_timestamps = settings.on("net.ipv4.tcp_timestamps", true);
    c.protocols.tcp_sack = settings.on("net.ipv4.tcp_sack", true);
    c.protocols.tcp_window_scaling = settings.on("net.ipv4.tcp_window_scaling", true);
    c.protocols.tcp_tail_probes = settings.on("net.ipv4.tcp_early_retrans", true);
    c.protocols.ecn = ecn_of(settings.number("net.ipv4.tcp_ecn").value_or(2));
    c.protocols.fastopen = static_cast<unsigned>(settings.number("net.ipv4.tcp_fastopen").value_or(1));
    c.protocols.mtu_probing =
        static_cast<protocols::MtuProbing>(std::clamp(settings.number("net.ipv4.tcp_mtu_probing").value_or(0), 0L, 2L));
    c.protocols.syn_cookies = settings.on("net.ipv4.tcp_syncookies", true);
    return c;
}

// The tool runs with a real-time policy, which threads would inherit.
class OrdinaryThreads {
public:
    OrdinaryThreads()
    {
        pthread_getschedparam(pthread_self(), &policy_, &parameters_);
        sched_param ordinary{};
        pthread_setschedparam(pthread_self(), SCHED_OTHER, &ordinary);
    }
    ~OrdinaryThreads() { pthread_setschedparam(pthread_self(), policy_, &parameters_); }
    OrdinaryThreads(const OrdinaryThreads&) = delete;
    OrdinaryThreads& operator=(const OrdinaryThreads&) = delete;

private:
    int policy_ = SCHED_OTHER;
    sched_param parameters_{};
};

} // namespace

World::World(Flags flags) : flags_(std::move(flags))
{
    if (flags_.virtual_time) {
        pace_ = std::make_unique<VirtualPace>();
    } else {
        pace_ = std::make_unique<RealPace>();
    }
}

World::~World()
{
    InStack here(*pace_);
    stack_.reset();
}

void World::start()
{
    const char* pid = std::getenv("PACKETDRILL_PID");
    settings_ = Settings::of_process(pid != nullptr ? pid : std::to_string(getpid()));
    OrdinaryThreads ordinary;
    auto stack = std::make_unique<embed::Stack>(config_of(settings_, pace_->simulation()));
    auto netif = std::make_unique<PacketNetif>(flags_.mtu, [this] { return pace_->stamp(); });
    netif_ = netif.get();
    std::string error;
    bool made = stack->add_interface(std::move(netif), flags_.local, error);
    for (std::size_t i = 0; made && i < flags_.remote.size(); ++i) {
        // Without a link any neighbour will do: an address of our own stands for "beyond this interface".
        std::string via = i < flags_.gateway.size() ? base::to_string(flags_.gateway[i])
                                                    : flags_.local[i].substr(0, flags_.local[i].find('/'));
        made = stack->add_route(flags_.remote[i].is_v4() ? "0.0.0.0/0" : "::/0", via, error);
    }
    if (!made || !stack->start(error)) {
        std::fprintf(stderr, "libnetd-packetdrill: %s\n", error.c_str());
        std::exit(2);
    }
    stack_ = std::move(stack);
}

embed::Stack& World::stack()
{
    std::call_once(started_, [this] { start(); });
    return *stack_;
}

void World::send(const void* packet, std::size_t bytes)
{
    InStack here(*pace_);
    stack();
    netif_->inject(packet, bytes);
    // As a packet that is written to a tun device, it has been received when we return: the CPU finds it in the round
    // that serves the first call at the latest, and that round is over when it serves the second.
    for (int round = 0; !flags_.virtual_time && round < 2; ++round) {
        stack_->cpus().call(0, [](lwkt::Cpu&) {});
    }
}

bool World::receive(Emitted& out)
{
    {
        InStack here(*pace_);
        stack();
    }
    std::chrono::milliseconds patience = flags_.virtual_time ? std::chrono::milliseconds{0} : look_again;
    return pace_->wait_until([&] { return netif_->take(out, patience); }, receive_patience_us);
}

} // namespace packetdrill
