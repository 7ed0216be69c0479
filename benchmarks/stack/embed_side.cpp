#include "benchmarks/stack/embed_side.hpp"

#include <algorithm>
#include <bit>

#include "drivers/loopback.hpp"

namespace bench {

namespace {

lwkt::Discipline discipline_of(const std::string& name)
{
    return name == "inline"    ? lwkt::Discipline::inline_
           : name == "giant"   ? lwkt::Discipline::giant
           : name == "striped" ? lwkt::Discipline::striped
                               : lwkt::Discipline::message;
}

lwkt::LockKind lock_of(const std::string& name)
{
    return name == "spin" ? lwkt::LockKind::spin : name == "queue" ? lwkt::LockKind::queue : lwkt::LockKind::mutex;
}

lwkt::WaiterKind waiter_of(const std::string& name)
{
    return name == "epoll"      ? lwkt::WaiterKind::epoll
           : name == "io_uring" ? lwkt::WaiterKind::io_uring
                                : lwkt::WaiterKind::probe;
}

} // namespace

EmbedSide::EmbedSide(const Plan& plan)
{
    embed::StackConfig config;
    config.pin = plan.cpus;
    config.discipline = discipline_of(plan.discipline);
    config.lock = lock_of(plan.lock);
    config.locks_per_operation = plan.locks_per_operation;
    config.shards = plan.shards;
    config.near_shards = plan.near;
    config.waiter = waiter_of(plan.waiter);
    inline_ = config.discipline == lwkt::Discipline::inline_;
    std::uint32_t sockets = 2 * plan.concurrency + plan.concurrency / 2 + 256; // both ends, and some that still close
    config.gateway.segment.sockets = std::max(4096U, std::bit_ceil(sockets));
    // Address space for two rings an end; their pages are taken when touched, and an idle ring has none. With many
    // thousands of connections smaller ones, since valgrind has 128 GiB in all.
    constexpr std::uint64_t ring_space_max = std::uint64_t{1} << 35;
    unsigned shift = plan.mss != 0 ? 19 : config.gateway.receive_ring_shift; // 512 KiB, as lwIP's window
    std::uint64_t rings = 2 * std::uint64_t{config.gateway.segment.sockets};
    while (rings << shift > ring_space_max) {
        --shift;
    }
    config.gateway.receive_ring_shift = config.gateway.send_ring_shift = shift;
    config.gateway.segment.ring_memory = std::max(config.gateway.segment.ring_memory, rings << shift);
    stack_ = std::make_unique<embed::Stack>(config);
    drivers::LoopbackOptions wire;
    if (plan.mss != 0) {
        wire.mtu = plan.mss + 40; // IP and TCP headers; timestamps are taken from the text
        wire.checksums = true;
        wire.super_segments = false;
        wire.gso = plan.gso;
        wire.gro = plan.gro;
    }
    std::string error;
    if (!stack_->add_interface(std::make_unique<drivers::Loopback>(wire), {"127.0.0.1/8"}, error) ||
        !stack_->start(error)) {
        std::fprintf(stderr, "bench-stack: %s\n", error.c_str());
        std::exit(1);
    }
}

EmbedSide::Socket EmbedSide::open_server(int type, unsigned worker)
{
    Socket s = open(type);
    must(s.s.bind({base::IpAddr::any_v4(), port_of(worker)}), "bind");
    if (type == SOCK_STREAM) {
        must(s.s.listen(4096), "listen");
    }
    return s;
}

std::unique_ptr<lwkt::Adopted> EmbedSide::enter(unsigned worker)
{
    return inline_ ? stack_->adopt(static_cast<base::CpuId>(worker)) : nullptr;
}

std::uint64_t EmbedSide::packets() const
{
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < stack_->cpus().size(); ++i) {
        const auto& counters = stack_->protocols().loopback()->netif->counters(static_cast<base::CpuId>(i));
        sum += counters.in_packets.load(std::memory_order_relaxed);
    }
    return sum;
}

void EmbedSide::start_counting()
{
    before_ = stack_->counters();
    packets_before_ = packets();
}

nlohmann::json EmbedSide::counters()
{
    nlohmann::json shown = {{"packets", packets() - packets_before_}};
    stack_->counters().since(before_).each([&shown](const char* key, std::uint64_t value) { shown[key] = value; });
    return shown;
}

} // namespace bench
