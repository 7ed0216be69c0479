#include "netd/report.hpp"

#include <algorithm>
#include <bit>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "protocols/dead_gateways.hpp"
#include "protocols/dhcp/dhcp_client.hpp"
#include "protocols/domain.hpp"
#include "protocols/ipv4.hpp"
#include "protocols/ipv6.hpp"
#include "protocols/stack_counters.hpp"
#include "protocols/tcp/tcp_domain.hpp"

namespace netd {

namespace {

using nlohmann::json;

std::uint64_t relaxed(const std::atomic<std::uint64_t>& counter)
{
    return counter.load(std::memory_order_relaxed);
}

// Gathers values under one name per line.
class Counters {
public:
    explicit Counters(std::vector<std::string>& lines) : lines_(lines) {}
    void add(const std::string& name, std::uint64_t value)
    {
        lines_.push_back(json{{"name", name}, {"value", value}}.dump());
    }
    void add(const std::string& name, std::size_t cpu, std::uint64_t value)
    {
        lines_.push_back(json{{"name", name}, {"cpu", cpu}, {"value", value}}.dump());
    }

    // A highest value: over several CPUs the maximum counts, not the sum.
    void add_highest(const std::string& name, std::size_t cpu, std::uint64_t value)
    {
        lines_.push_back(json{{"name", name}, {"cpu", cpu}, {"value", value}, {"highest", true}}.dump());
    }

private:
    std::vector<std::string>& lines_;
};

void add_cpu(Counters& to, const lwkt::Cpu& cpu)
{
    static constexpr const char* classes[] = {"clock", "net", "serial", "bio", "gen"};
    static_assert(std::size(classes) == lwkt::class_count);
    const lwkt::CpuCounters& c = cpu.counters();
    std::size_t id = cpu.id();
    to.add("cpu.rounds", id, relaxed(c.rounds));
    to.add("cpu.sleeps", id, relaxed(c.sleeps));
    to.add("cpu.messages_in", id, relaxed(c.messages_in));
    to.add("cpu.messages_out", id, relaxed(c.messages_out));
    to.add("cpu.passive_out", id, relaxed(c.passive_out));
    to.add("cpu.doorbells_sent", id, relaxed(c.doorbells_sent));
    to.add("cpu.doorbells_suppressed", id, relaxed(c.doorbells_suppressed));
    to.add("cpu.spills", id, relaxed(c.spills));
    to.add("cpu.shed", id, relaxed(c.shed));
    for (unsigned i = 0; i < lwkt::class_count; ++i) {
        to.add(fmt::format("cpu.busy_us.{}", classes[i]), id, relaxed(c.busy_us[i]));
    }
    to.add_highest("cpu.longest_handler_us", id, relaxed(c.longest_handler_us));
    to.add_highest("cpu.timer_late_max_us", id, relaxed(c.timer_late_max_us));
    for (unsigned i = 0; i < lwkt::late_classes; ++i) {
        bool bounded = i < std::size(lwkt::late_bounds_us);
        std::string by = bounded ? fmt::format("to_{}_us", lwkt::late_bounds_us[i]) : "more";
        to.add(fmt::format("cpu.timer_late.{}", by), id, relaxed(c.timer_late[i]));
    }
}

void add_netif(Counters& to, const netmsg::Netif& netif, std::size_t cpu)
{
    const netmsg::NetifCounters& c = netif.counters(static_cast<base::CpuId>(cpu));
    const std::string& name = netif.info().name;
    to.add(name + ".in_packets", cpu, relaxed(c.in_packets));
    to.add(name + ".in_bytes", cpu, relaxed(c.in_bytes));
    to.add(name + ".in_dropped", cpu, relaxed(c.in_dropped));
    to.add(name + ".out_packets", cpu, relaxed(c.out_packets));
    to.add(name + ".out_bytes", cpu, relaxed(c.out_bytes));
    to.add(name + ".out_dropped", cpu, relaxed(c.out_dropped));
    to.add(name + ".errors", cpu, relaxed(c.errors));
}

// What is in use of everything that has a limit. TCP's are the protocol thread's own, so it is asked.
void add_pools(Counters& to, protocols::Stack& stack, base::CpuId id)
{
    struct Tcp {
        std::size_t tcbs = 0;
        std::size_t half_open = 0;
        std::size_t time_wait = 0;
        std::size_t listeners = 0;
        std::size_t timers = 0;
    } tcp;
    stack.set().call(id, [&](lwkt::Cpu&) {
        const protocols::Domain& d = stack.domain(id);
        tcp = {d.tcp->tcbs.in_use(), d.tcp->syn_cache.slab.in_use(), d.tcp->time_wait.slab.in_use(),
            d.tcp->listener_slab.in_use(), d.wheel.armed_count()};
    });
    to.add("packets.in_use", id, stack.pool().in_use(id));
    to.add("packets.large_in_use", id, stack.pool().large_in_use(id));
    to.add("packets.exhausted", id, stack.pool().exhausted(id));
    to.add("tcp.tcbs", id, tcp.tcbs);
    to.add("tcp.half_open", id, tcp.half_open);
    to.add("tcp.time_wait", id, tcp.time_wait);
    to.add("tcp.listeners", id, tcp.listeners);
    to.add("timers.armed", id, tcp.timers);
}

json address_line(const protocols::Interface& in, const std::string& address, const char* state)
{
    return json{{"interface", in.netif->info().name}, {"index", in.index}, {"address", address}, {"state", state}};
}

// Of who has no peer yet: in the family of its own address.
base::Endpoint shown_peer(const base::FourTuple& f)
{
    return f.peer.addr.is_any() && f.local.addr.is_v4() ? base::Endpoint{base::IpAddr::any_v4(), f.peer.port} : f.peer;
}

json socket_line(const gateway::SocketReport& s)
{
    return json{{"type", s.stream ? "tcp" : "udp"}, {"state", s.state}, {"recv_q", s.recv_queue},
        {"send_q", s.send_queue}, {"local", base::to_string(s.flow.local)},
        {"peer", base::to_string(shown_peer(s.flow))}, {"cpu", s.cpu}, {"client", s.client}, {"slot", s.slot},
        {"holders", std::popcount(s.holders)}, {"closed_by_program", s.app_closed}, {"joined", s.joined}};
}

} // namespace

void Report::line(std::vector<std::string>& packets, const std::string& text) const
{
    if (packets.empty() || packets.back().size() + text.size() + 1 > packet_max_) {
        packets.emplace_back();
    }
    packets.back() += text;
    packets.back() += '\n';
}

std::vector<std::string> Report::sockets()
{
    std::vector<std::string> lines;
    for (const gateway::SocketReport& s : gateway_.sockets()) {
        lines.push_back(socket_line(s).dump());
    }
    return lines;
}

std::vector<std::string> Report::counters()
{
    std::vector<std::string> lines;
    Counters to(lines);
    to.add("clients", gateway_.clients());
    to.add("sockets", gateway_.sockets_held());
    to.add("ring_bytes", gateway_.ring_bytes_in_use());
    for (std::size_t cpu = 0; cpu < stack_.cpus(); ++cpu) {
        auto id = static_cast<base::CpuId>(cpu);
        add_cpu(to, stack_.set().cpu(id));
        add_pools(to, stack_, id);
        to.add("gateway.faults", cpu, relaxed(gateway_.counters(id).faults));
        to.add("gateway.refused", cpu, relaxed(gateway_.counters(id).refused));
        for (const auto& interface : stack_.interfaces()) {
            add_netif(to, *interface->netif, cpu);
        }
        const protocols::StackCounters& values = stack_.domain(id).counters;
        for (const protocols::StackCounterName& c : protocols::stack_counter_names()) {
            to.add(c.name, cpu, relaxed(values.*c.field));
        }
        const protocols::TcpCounters& tcp = stack_.domain(id).tcp->counters;
        for (const protocols::TcpCounterName& c : protocols::tcp_counter_names()) {
            to.add(c.name, cpu, relaxed(tcp.*c.field));
        }
    }
    return lines;
}

// As the first CPU has them: each hears the same.
std::vector<std::string> Report::addresses()
{
    std::vector<std::string> lines;
    // What a lease gives beside the same of the configuration is shown once.
    auto show = [&](const std::string& text) {
        if (std::find(lines.begin(), lines.end(), text) == lines.end()) {
            lines.push_back(text);
        }
    };
    stack_.set().call(0, [&](lwkt::Cpu& cpu) {
        const protocols::Ipv4State& v4 = *stack_.domain(0).ipv4;
        for (const protocols::Ipv4Address& a : v4.addresses) {
            show(address_line(stack_.interface(a.interface),
                base::to_string(base::Prefix{base::IpAddr::v4(a.addr), a.length}), a.tentative ? "tentative" : "valid")
                     .dump());
        }
        for (const protocols::RouteEntry& r : v4.routes) {
            if (!r.gateway.is_any()) {
                std::string to = r.destination.length == 0 ? "default" : base::to_string(r.destination);
                bool dead = protocols::gateway_dead(stack_.domain(0), r.interface->index, r.gateway);
                show(address_line(*r.interface, to + " via " + base::to_string(r.gateway), dead ? "dead" : "gateway")
                         .dump());
            }
        }
        const protocols::Ipv6State& v6 = *stack_.domain(0).ipv6;
        for (const protocols::Ipv6Address& a : v6.addresses) {
            const char* state = a.duplicate                      ? "duplicate"
                                : a.tentative(cpu.now())         ? "tentative"
                                : a.valid_until <= cpu.now()     ? "expired"
                                : a.preferred_until <= cpu.now() ? "deprecated"
                                                                 : "valid";
            lines.push_back(address_line(
                stack_.interface(a.interface), base::to_string(base::Prefix{a.addr.on_wire(), a.length}), state)
                                .dump());
        }
        for (const protocols::AdvertisedRoute& r : v6.advertised) {
            if (r.until > cpu.now()) {
                std::string to = r.destination.length == 0 ? "default" : base::to_string(r.destination);
                lines.push_back(address_line(
                    stack_.interface(r.interface), to + " via " + base::to_string(r.addr.on_wire()), "router")
                                    .dump());
            }
        }
    });
    return lines;
}

// As the CPU that asks for the interface has it.
void Report::leases(std::vector<std::string>& lines)
{
    static constexpr const char* phases[] = {"waiting", "rebooting", "selecting", "requesting", "probing", "bound",
        "renewing", "rebinding", "releasing", "released"};
    static_assert(std::size(phases) == static_cast<unsigned>(protocols::DhcpPhase::released) + 1);
    for (const auto& interface : stack_.interfaces()) {
        if (!interface->dhcp) {
            continue;
        }
        base::CpuId owner = protocols::dhcp_owner(stack_.domain(0), *interface);
        stack_.set().call(owner, [&](lwkt::Cpu& cpu) {
            const protocols::DhcpClient& c = *protocols::dhcp_client(stack_.domain(owner), *interface);
            const protocols::DhcpLease& l = c.lease;
            std::string text = "dhcp";
            if (l.own.addr != 0) {
                text += fmt::format(" {} from {}", base::to_string(base::IpAddr::v4(l.own.addr)),
                    base::to_string(base::IpAddr::v4(l.server)));
                auto left = (l.ends_at - cpu.now()) / base::seconds(1);
                text += l.ends_at == base::never ? ", for ever" : fmt::format(", {} s left", left);
            }
            for (unsigned i = 0; i < l.dns.count; ++i) {
                text += fmt::format("{}{}", i == 0 ? ", dns " : " ", base::to_string(base::IpAddr::v4(l.dns.at[i])));
            }
            lines.push_back(address_line(*interface, text, phases[static_cast<unsigned>(c.phase)]).dump());
        });
    }
}

std::vector<std::string> Report::text(sockbuf::ControlKind kind)
{
    std::vector<std::string> lines;
    if (kind == sockbuf::ControlKind::ss) {
        lines = sockets();
    } else if (kind == sockbuf::ControlKind::stat) {
        lines = counters();
    } else if (kind == sockbuf::ControlKind::addr) {
        lines = addresses();
        leases(lines);
    } else {
        return {};
    }
    std::vector<std::string> packets;
    for (const std::string& l : lines) {
        line(packets, l);
    }
    if (packets.empty()) {
        packets.emplace_back("\n"); // known, but there is nothing
    }
    return packets;
}

} // namespace netd
