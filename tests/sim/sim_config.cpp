#include "tests/sim/sim_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "protocols/tcp/tcp_cc.hpp"

namespace sim {

namespace {

constexpr std::uint32_t ipv6_mtu_min = 1280; // RFC 8200 5
constexpr std::uint32_t packets_left_min = 512;
constexpr std::uint32_t large_left_min = 16;

template <typename T>
T pick(base::Random& r, std::initializer_list<T> choices)
{
    return choices.begin()[r.below(static_cast<std::uint32_t>(choices.size()))];
}

drivers::Impairments draw_impairments(base::Random& r, bool rough)
{
    drivers::Impairments im;
    im.delay = base::Micros{pick<std::int64_t>(r, {0, 0, 20, 100, 1000, 5000, 20000, 60000})};
    if (r.chance(0.3)) {
        im.rate_bits_per_s = pick<std::uint64_t>(r, {2'000'000, 20'000'000, 200'000'000});
        im.queue_bytes_max = pick<std::uint32_t>(r, {8192, 65536, 1U << 20});
    }
    if (r.chance(0.3)) {
        im.reorder = pick(r, {0.01, 0.1, 0.3});
        im.reorder_hold = base::Micros{pick<std::int64_t>(r, {10, 300, 3000})};
    }
    if (r.chance(0.3)) {
        im.duplicate = pick(r, {0.01, 0.1});
    }
    if (rough && r.chance(0.7)) {
        im.loss = pick(r, {0.002, 0.01, 0.05, 0.1});
    }
    if (rough && r.chance(0.3)) {
        im.corrupt = pick(r, {0.002, 0.03});
    }
    return im;
}

LinkConfig draw_link(base::Random& r, unsigned a, unsigned b, unsigned number, bool rough, bool many_cpus)
{
    LinkConfig l;
    l.ends[0] = a;
    l.ends[1] = b;
    drivers::SimLinkOptions& w = l.wire;
    w.a.name = fmt::format("sim{}a", number);
    w.b.name = fmt::format("sim{}b", number);
    w.a.mac.bytes[4] = w.b.mac.bytes[4] = static_cast<unsigned char>(number + 1);
    w.a.send = draw_impairments(r, rough);
    w.b.send = draw_impairments(r, rough);
    w.mtu = pick<std::uint32_t>(r, {1500, 1500, 1500, 576, 9000});
    w.ethernet = r.chance(0.8);
    w.tso = r.chance(0.7);
    w.split = many_cpus || r.chance(0.7);
    w.csum_offload = r.chance(0.6);
    w.mtu = w.mtu > 1500 && many_cpus ? 1500 : w.mtu;
    w.posted_small = pick<std::uint32_t>(r, {32, 128, 512});
    w.posted_large = 16;
    w.held_frames_max = pick<std::uint32_t>(r, {64, 1024});
    w.seed = r.next();
    w.gso = (w.seed & 1) != 0; // of its bits, so that what is drawn otherwise stays
    w.gro = (w.seed & 2) != 0;
    l.steered[0] = r.chance(0.7);
    l.steered[1] = r.chance(0.7);
    return l;
}

void draw_families(base::Random& r, Config& c)
{
    c.families = pick(r, {Families::v4, Families::v4, Families::v6, Families::both, Families::both});
    for (NodeConfig& n : c.nodes) {
        n.protocols.duplicate_probes = r.below(2);
    }
    for (LinkConfig& l : c.links) {
        l.wire.mtu = c.families == Families::v4 ? l.wire.mtu : std::max(l.wire.mtu, ipv6_mtu_min);
    }
}

void draw_marks(base::Random& r, Config& c)
{
    using protocols::Ecn;
    c.marks = r.chance(0.5);
    if (!c.marks) {
        return;
    }
    for (NodeConfig& n : c.nodes) {
        n.protocols.ecn = pick(r, {Ecn::on, Ecn::on, Ecn::on, Ecn::accept, Ecn::off});
    }
    for (LinkConfig& l : c.links) {
        l.wire.a.send.mark = pick(r, {0.0, 0.01, 0.2, 1.0});
        l.wire.b.send.mark = pick(r, {0.0, 0.01, 0.2, 1.0});
    }
}

// RFC 9768, at ends that have not switched ECN off.
void draw_accurate_marks(base::Random& r, Config& c)
{
    using protocols::Ecn;
    bool some = r.chance(0.5);
    for (NodeConfig& n : c.nodes) {
        Ecn drawn = pick(r, {Ecn::accurate, Ecn::accurate, Ecn::accurate, Ecn::accept_accurate,
                                Ecn::accept_accurate_ask_classic, n.protocols.ecn});
        n.protocols.ecn = some && c.marks && n.protocols.ecn != Ecn::off ? drawn : n.protocols.ecn;
    }
}

void draw_congestion(base::Random& r, Config& c)
{
    for (NodeConfig& n : c.nodes) {
        bool other = r.chance(0.5);
        std::uint8_t drawn = draw_algorithm(r, n);
        n.protocols.congestion = other ? drawn : n.protocols.congestion;
    }
}

// Hosts that do without an option, in one world of seven, which is none of seeds.txt.
void draw_bare(base::Random& r, Config& c)
{
    for (NodeConfig& n : c.nodes) {
        n.protocols.tcp_timestamps = r.chance(0.5);
        n.protocols.tcp_sack = r.chance(0.5);
        n.protocols.tcp_window_scaling = r.chance(0.5);
    }
}

const char* families_name(Families f)
{
    static constexpr const char* names[] = {"IPv4", "IPv6", "IPv4 and IPv6"};
    return names[static_cast<unsigned>(f)];
}

NodeConfig draw_node(base::Random& r, std::uint64_t seed)
{
    NodeConfig n;
    n.cpus.pin.assign(pick<std::size_t>(r, {1, 1, 2, 2, 3, 4, 7, 16}), -1);
    n.cpus.ring_slots = pick<std::uint32_t>(r, {2, 8, 64, 1024});
    n.cpus.packets_queued_max = pick<std::uint32_t>(r, {64, 4096, 4096});
    n.cpus.class_items = pick<std::uint32_t>(r, {16, 64, 64});
    protocols::StackOptions& p = n.protocols;
    p.seed = seed;
    p.packets.packets_per_cpu = pick<std::uint32_t>(r, {2048, 4096});
    p.packets.large_per_cpu = 64;
    p.connections_per_cpu = pick<std::uint32_t>(r, {12, 4096, 4096});
    p.syn_cache_per_cpu = pick<std::uint32_t>(r, {2, 16, 4096});
    p.syn_cookies = r.chance(0.8);
    p.ephemeral_high = static_cast<std::uint16_t>(p.ephemeral_low + pick<unsigned>(r, {255, 4095, 28000}));
    gateway::GatewayOptions& g = n.gateway;
    g.segment.sockets = pick<std::uint32_t>(r, {128, 256, 512});
    g.send_ring_shift = pick<unsigned>(r, {12, 13, 14, 16, 18});
    g.receive_ring_shift = pick<unsigned>(r, {12, 13, 14, 16, 18});
    g.datagram_ring_shift = pick<unsigned>(r, {14, 16});
    // Shares of CPUs are multiples of the largest ring.
    g.segment.ring_memory = (std::uint64_t{n.cpus.pin.size()} << 24) * 2;
    g.idle_after = base::Micros{pick<std::int64_t>(r, {0, 5'000, 50'000, 2'000'000})};
    g.join_pairs = r.chance(0.5);
    n.loopback_checksums = r.chance(0.3);
    n.loopback_super_segments = r.chance(0.7);
    n.families = 1 + r.below(3);
    n.clients = 1 + r.below(6);
    n.listeners = 1 + r.below(3);
    n.datagram_servers = r.below(2);
    n.datagram_clients = r.below(3);
    return n;
}

void draw_routers(base::Random& r, Config& c)
{
    c.advertisements = c.families == Families::v4 ? 0.0 : pick(r, {0.0, 0.001, 0.01});
    for (LinkConfig& l : c.links) {
        l.advertises = c.advertisements > 0 && l.wire.ethernet;
        l.router = r.below(2);
    }
}

// The packets that links keep posted are of the receiving stack's pools, which must hold more than these: as
// drivers::SimLinkOptions shares them out.
void make_room_for_posted(Config& c)
{
    for (NodeConfig& n : c.nodes) {
        std::uint32_t small = 0;
        std::uint32_t large = 0;
        for (const LinkConfig& l : c.links) {
            for (unsigned end = 0; end < 2; ++end) {
                if (&c.nodes[l.ends[end]] == &n) {
                    auto senders = static_cast<std::uint32_t>(c.nodes[l.ends[1 - end]].cpus.pin.size());
                    small += std::max(l.wire.posted_small, 32 * senders);
                    large += std::max(l.wire.posted_large, 4 * senders);
                }
            }
        }
        netmsg::PacketPoolOptions& p = n.protocols.packets;
        p.packets_per_cpu = std::max(p.packets_per_cpu, small + packets_left_min);
        p.large_per_cpu = std::max(p.large_per_cpu, large + large_left_min);
    }
}

} // namespace

Config draw_config(std::uint64_t seed)
{
    base::Random r(seed ^ 0x73696d);
    Config c;
    unsigned nodes = r.chance(0.8) ? 2 : 3;
    bool many_cpus = false;
    for (unsigned i = 0; i < nodes; ++i) {
        c.nodes.push_back(draw_node(r, r.next()));
        many_cpus |= c.nodes.back().cpus.pin.size() > 4;
    }
    bool rough = r.chance(0.7);
    unsigned links = 0;
    for (unsigned i = 0; i + 1 < nodes; ++i) {
        for (unsigned n = r.chance(0.3) ? 2 : 1; n != 0; --n) {
            c.links.push_back(draw_link(r, i, i + 1, links++, rough, many_cpus));
        }
    }
    c.bytes_max = pick<std::uint32_t>(r, {300, 5'000, 50'000, 300'000});
    c.cpu_pauses = pick(r, {0.0, 0.001, 0.01});
    c.deaths = pick(r, {0.0, 0.0, 0.0002, 0.001});
    c.outages = rough ? pick(r, {0.0, 0.0, 0.0005}) : 0.0;
    c.memory_shortages = rough ? pick(r, {0.0, 0.0, 0.001}) : 0.0;
    c.time_jitter = pick(r, {0.0, 0.02, 0.3});
    c.spurious_wakes = pick(r, {0.0, 0.05});
    c.couriers = pick(r, {0.0, 0.01});
    c.direct_wakes = r.chance(0.5);
    c.think_time_us = pick<std::int64_t>(r, {0, 500, 20'000});
    c.silence_us = pick<std::int64_t>(r, {0, 0, 2'000, 6'000'000});
    c.loses_nothing = !rough;
    base::Random breadth(seed ^ 0x6970);
    draw_families(breadth, c);
    draw_marks(breadth, c);
    draw_routers(breadth, c);
    base::Random changes(seed ^ 0x697634);
    c.ipv4_changes = c.families == Families::v6 ? 0.0 : pick(changes, {0.0, 0.001, 0.01});
    draw_accurate_marks(changes, c);
    base::Random algorithms(seed ^ 0x6363);
    draw_congestion(algorithms, c);
    if (seed % 7 == 1) {
        base::Random options(seed ^ 0x6f7074);
        draw_bare(options, c);
    }
    if (seed % 6 == 0) { // none of the seeds that were named before
        c.limits = true;
        c.outages = rough ? 0.001 : 0.0;
    }
    make_room_for_posted(c);
    return c;
}

std::uint8_t draw_algorithm(base::Random& r, const NodeConfig& node)
{
    auto drawn =
        static_cast<std::uint8_t>(r.below(static_cast<std::uint32_t>(protocols::tcp::congestion_names().size())));
    bool asks = drawn == protocols::tcp::congestion_by_name("dctcp");
    return asks && node.protocols.ecn == protocols::Ecn::off ? node.protocols.congestion : drawn;
}

bool Config::corrupts() const
{
    return std::any_of(links.begin(), links.end(),
        [](const LinkConfig& l) { return l.wire.a.send.corrupt > 0 || l.wire.b.send.corrupt > 0; });
}

bool Config::duplicates() const
{
    return std::any_of(links.begin(), links.end(),
        [](const LinkConfig& l) { return l.wire.a.send.duplicate > 0 || l.wire.b.send.duplicate > 0; });
}

std::string Config::text() const
{
    std::string s = fmt::format("  {}\n", families_name(families));
    for (const NodeConfig& n : nodes) {
        s += fmt::format(
            "  node: {} cpus, ring slots {}, {} families, {} clients, {} listeners, {}+{} datagram, rings 2^{}/2^{}, "
            "idle after {} us, joined pairs {}, connections {}, SYN cache {}, ecn {}, {}{}{}{}\n",
            n.cpus.pin.size(), n.cpus.ring_slots, n.families, n.clients, n.listeners, n.datagram_servers,
            n.datagram_clients, n.gateway.send_ring_shift, n.gateway.receive_ring_shift, n.gateway.idle_after.count(),
            n.gateway.join_pairs, n.protocols.connections_per_cpu, n.protocols.syn_cache_per_cpu,
            static_cast<unsigned>(n.protocols.ecn), protocols::tcp::congestion_algorithm(n.protocols.congestion).name,
            n.protocols.tcp_timestamps ? "" : ", no timestamps", n.protocols.tcp_sack ? "" : ", no SACK",
            n.protocols.tcp_window_scaling ? "" : ", no scaling");
    }
    for (const LinkConfig& l : links) {
        s += fmt::format("  link {}-{}: {}mtu {}, ethernet {}, tso {}, gso {}, gro {}, split {}, csum offload {}",
            l.ends[0], l.ends[1], l.advertises ? fmt::format("router {}, ", l.ends[l.router]) : "", l.wire.mtu,
            l.wire.ethernet, l.wire.tso, l.wire.gso, l.wire.gro, l.wire.split, l.wire.csum_offload);
        for (const auto* im : {&l.wire.a.send, &l.wire.b.send}) {
            s += fmt::format("; delay {} us, mark {}, loss {}, corrupt {}, duplicate {}, reorder {}, rate {}",
                im->delay.count(), im->mark, im->loss, im->corrupt, im->duplicate, im->reorder, im->rate_bits_per_s);
        }
        s += "\n";
    }
    return s + fmt::format("  bytes to {}, pauses {}, deaths {}, outages {}, advertisements {}, IPv4 changes {}, "
                           "shortages {}, jitter "
                           "{}, think {} us, "
                           "silence {} us{}\n",
                   bytes_max, cpu_pauses, deaths, outages, advertisements, ipv4_changes, memory_shortages, time_jitter,
                   think_time_us, silence_us, limits ? ", limits of sockets" : "");
}

} // namespace sim
