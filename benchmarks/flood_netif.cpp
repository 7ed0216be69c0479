// See flood_netif.hpp.
#include "benchmarks/flood_netif.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/ownership.hpp"
#include "protocols/wire/ipv4.hpp"
#include "protocols/wire/tcp_wire.hpp"
#include "protocols/wire/udp.hpp"

namespace bench {
namespace {

namespace wire = protocols::wire;
using base::count;

constexpr double queue_packets_max = 1024;
constexpr std::uint32_t frame_bytes_max = 128;
constexpr std::uint32_t payload_bytes = 64;
constexpr unsigned kind_count = 6;
constexpr std::size_t frames_each = 64;
constexpr std::size_t frames_syn = 8192; // twice the SYN cache
constexpr std::size_t frames_established = 8;
constexpr std::uint32_t peer_seq = 1'000'000;
constexpr std::uint16_t first_source_port = 1024;

struct Frame {
    std::uint32_t size = 0;
    std::array<std::byte, frame_bytes_max> bytes{};
};

Frame ip_frame(const base::FourTuple& flow, std::uint8_t protocol, const void* header, std::uint32_t header_bytes,
    std::uint32_t payload)
{
    wire::Ipv4Header ip;
    ip.total_bytes = static_cast<std::uint16_t>(wire::ipv4_header_bytes + header_bytes + payload);
    ip.ttl = 64;
    ip.protocol = protocol;
    ip.source = flow.peer.addr.v4();
    ip.destination = flow.local.addr.v4();
    Frame f;
    f.size = ip.total_bytes;
    wire::emit_ipv4(f.bytes.data(), ip);
    std::memcpy(f.bytes.data() + wire::ipv4_header_bytes, header, header_bytes);
    return f;
}

Frame udp_frame(const base::FourTuple& flow)
{
    std::byte header[wire::udp_header_bytes];
    wire::emit_udp(
        header, {flow.peer.port, flow.local.port, static_cast<std::uint16_t>(sizeof header + payload_bytes), 0});
    return ip_frame(flow, wire::protocol_udp, header, sizeof header, payload_bytes);
}

Frame tcp_frame(const base::FourTuple& flow, std::uint8_t flags, base::Seq seq, base::Seq ack, std::uint32_t payload)
{
    wire::TcpHeader h;
    h.source_port = flow.peer.port;
    h.destination_port = flow.local.port;
    h.seq = seq;
    h.ack = ack;
    h.flags = flags;
    h.window = 65535;
    if ((flags & wire::tcp_syn) != 0) {
        h.options.mss = 1460;
    }
    std::byte header[wire::tcp_header_max_bytes];
    std::uint32_t bytes = wire::tcp_emit(h, header);
    return ip_frame(flow, wire::protocol_tcp, header, bytes, payload);
}

Frame make_frame(unsigned kind, const base::FourTuple& flow)
{
    switch (1U << kind) {
    case flood_syn:
        return tcp_frame(flow, wire::tcp_syn, base::Seq{peer_seq}, base::Seq{0}, 0);
    case flood_no_connection:
        return tcp_frame(flow, wire::tcp_ack, base::Seq{peer_seq}, base::Seq{1}, payload_bytes);
    default:
        return udp_frame(flow);
    }
}

std::uint16_t port_of(unsigned kind)
{
    switch (1U << kind) {
    case flood_udp_unread:
        return flood_unread_port;
    case flood_syn:
        return flood_listen_port;
    case flood_udp_read:
        return flood_read_port;
    default:
        return flood_closed_port;
    }
}

} // namespace

struct alignas(64) FloodNetif::Queue final : lwkt::Poller { // everything: o, except where marked
    std::uint32_t poll(std::uint32_t budget) override;
    bool pending() const override { return waiting >= 1 || !answers.empty(); }
    base::Instant deadline() const override;
    void arrive();
    void make_frames(const netmsg::Steering& steering);
    void answer(const netmsg::Packet& p);
    void receive(const Frame& f);

    netmsg::Netif* netif = nullptr; // c
    lwkt::Cpu* cpu = nullptr;       // c
    netmsg::PacketPool* pool = nullptr;
    netmsg::InputFn input = nullptr;
    void* context = nullptr;
    netmsg::NetifCounters* counters = nullptr; // s

    std::vector<Frame> frames[kind_count];
    std::vector<Frame> answers;          // to SYNs of the stack
    double waiting = 0;                  // packets in the queue, and the fraction that is arriving
    base::Instant looked_at{};           //
    std::uint64_t next = 0;              // packets given so far: chooses kind and frame
    std::uint32_t kinds_in_use = 0;      //
    unsigned turn[kind_count] = {};      // the kinds in use
    unsigned turns = 0;                  //
    std::atomic<bool> connected{false};  // s
    std::atomic<std::uint32_t> kinds{0}; // any thread
    std::atomic<double> rate_per_us{0};  // any thread
    std::atomic<std::uint64_t> lost{0};  // s
    std::atomic<std::uint64_t> taken{0}; // s
};

// What has come since the last look.
void FloodNetif::Queue::arrive()
{
    double rate = rate_per_us.load(std::memory_order_relaxed);
    std::uint32_t wanted = kinds.load(std::memory_order_acquire);
    if (wanted != kinds_in_use) {
        kinds_in_use = wanted;
        turns = 0;
        for (unsigned k = 0; k < kind_count; ++k) {
            if ((wanted & (1U << k)) != 0 && !frames[k].empty()) {
                turn[turns++] = k;
            }
        }
        waiting = 0;
        looked_at = cpu->now();
    }
    if (turns == 0) {
        waiting = 0;
        return;
    }
    base::Instant now = cpu->now();
    waiting += rate * static_cast<double>((now - looked_at).count());
    looked_at = now;
    if (waiting > queue_packets_max) {
        auto over = std::floor(waiting - queue_packets_max);
        count(lost, static_cast<std::uint64_t>(over));
        waiting -= over;
    }
}

base::Instant FloodNetif::Queue::deadline() const
{
    double rate = rate_per_us.load(std::memory_order_relaxed);
    if (waiting >= 1 || !answers.empty()) {
        return cpu->now();
    }
    if (turns == 0 || rate <= 0) {
        return base::never;
    }
    return looked_at + base::Micros{static_cast<std::int64_t>(std::ceil((1 - waiting) / rate))};
}

void FloodNetif::Queue::receive(const Frame& f)
{
    netmsg::Packet* p = pool->allocate();
    if (p == nullptr) {
        count(counters->in_dropped);
        return;
    }
    std::memcpy(p->put(f.size), f.bytes.data(), f.size);
    p->csum = netmsg::Csum::valid;
    p->netif = netif;
    p->stamp = cpu->now();
    count(counters->in_packets);
    count(counters->in_bytes, f.size);
    input(context, *p);
}

std::uint32_t FloodNetif::Queue::poll(std::uint32_t budget)
{
    arrive();
    std::uint32_t done = 0;
    for (; !answers.empty() && done < budget; ++done) {
        Frame f = answers.back();
        answers.pop_back();
        receive(f);
    }
    std::uint32_t given = 0;
    for (; waiting >= 1 && done < budget; ++done, ++given, ++next) {
        const std::vector<Frame>& of_kind = frames[turn[next % turns]];
        waiting -= 1;
        receive(of_kind[next / turns % of_kind.size()]);
    }
    count(taken, given);
    return done;
}

void FloodNetif::Queue::make_frames(const netmsg::Steering& steering)
{
    std::uint32_t peer = flood_peer.v4() + 1;
    std::uint16_t port = first_source_port;
    for (unsigned k = 0; k < kind_count; ++k) {
        std::size_t wanted = 1U << k == flood_syn ? frames_syn : 1U << k == flood_established ? 0 : frames_each;
        while (frames[k].size() < wanted) {
            base::FourTuple flow{{flood_local, port_of(k)}, {base::IpAddr::v4(peer), port}};
            if (steering.cpu_of(flow) == cpu->id()) {
                frames[k].push_back(make_frame(k, flow));
            }
            port = static_cast<std::uint16_t>(port + 7);
            if (port < first_source_port) {
                port = first_source_port;
                ++peer;
            }
        }
    }
}

// The stack's SYN gets its SYN-ACK; what comes after it is acknowledged by nobody, which an idle connection does not
// need.
void FloodNetif::Queue::answer(const netmsg::Packet& p)
{
    std::byte bytes[frame_bytes_max];
    std::uint32_t size = std::min(p.total(), frame_bytes_max);
    p.copy_out(0, bytes, size);
    auto fault = wire::Ipv4Fault::none;
    auto ip = wire::parse_ipv4(bytes, size, p.total(), false, fault);
    wire::TcpHeader tcp;
    if (!ip || ip->protocol != wire::protocol_tcp ||
        !wire::tcp_parse(bytes + ip->header_bytes, size - ip->header_bytes, tcp) || tcp.flags != wire::tcp_syn) {
        return;
    }
    base::FourTuple flow{
        {base::IpAddr::v4(ip->source), tcp.source_port}, {base::IpAddr::v4(ip->destination), tcp.destination_port}};
    base::Seq ack = tcp.seq + 1;
    answers.push_back(tcp_frame(flow, wire::tcp_syn | wire::tcp_ack, base::Seq{peer_seq}, ack, 0));
    std::vector<Frame>& data = frames[std::countr_zero(unsigned{flood_established})];
    while (data.size() < frames_established) {
        auto sent = static_cast<std::uint32_t>(data.size()) * payload_bytes;
        data.push_back(tcp_frame(flow, wire::tcp_ack, base::Seq{peer_seq + 1 + sent}, ack, payload_bytes));
    }
    connected.store(true, std::memory_order_release);
}

FloodNetif::FloodNetif(const netmsg::Steering& steering)
    : Netif([] {
          netmsg::NetifInfo info;
          info.name = "flood0";
          info.ethernet = false;
          info.tx_csum = true;
          info.tso_max_bytes = 65535;
          return info;
      }()),
      steering_(steering)
{
}

FloodNetif::~FloodNetif()
{
    detach();
}

bool FloodNetif::attach(lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string&)
{
    set_ = &set;
    counters_ = std::make_unique<netmsg::NetifCounters[]>(set.size());
    queues_ = std::make_unique<Queue[]>(set.size());
    set.configure([&](lwkt::Cpu& cpu) {
        Queue& q = queues_[cpu.id()];
        q.netif = this;
        q.cpu = &cpu;
        q.pool = &pool;
        q.input = input;
        q.context = context;
        q.counters = &counters_[cpu.id()];
        q.make_frames(steering_);
        cpu.add_poller(lwkt::Class::net, q);
    });
    return true;
}

void FloodNetif::detach()
{
    if (set_ != nullptr) {
        set_->configure([this](lwkt::Cpu& cpu) { cpu.remove_poller(lwkt::Class::net, queues_[cpu.id()]); });
        set_ = nullptr;
    }
}

void FloodNetif::transmit(netmsg::Packet& p)
{
    Queue& q = queues_[base::current_cpu];
    count(q.counters->out_packets);
    count(q.counters->out_bytes, p.total());
    if (q.turns == 0) { // nothing floods in yet
        q.answer(p);
    }
    p.free();
}

void FloodNetif::offer(unsigned flood_kinds, double packets_per_s_and_cpu)
{
    set_->call_all([&](lwkt::Cpu& cpu) {
        queues_[cpu.id()].rate_per_us.store(packets_per_s_and_cpu / 1e6, std::memory_order_relaxed);
        queues_[cpu.id()].kinds.store(packets_per_s_and_cpu > 0 ? flood_kinds : 0, std::memory_order_release);
    });
}

std::uint64_t FloodNetif::lost() const
{
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < set_->size(); ++i) {
        sum += queues_[i].lost.load(std::memory_order_relaxed);
    }
    return sum;
}

std::uint64_t FloodNetif::taken() const
{
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < set_->size(); ++i) {
        sum += queues_[i].taken.load(std::memory_order_relaxed);
    }
    return sum;
}

bool FloodNetif::connected(base::CpuId cpu) const
{
    return queues_[cpu].connected.load(std::memory_order_acquire);
}

} // namespace bench
