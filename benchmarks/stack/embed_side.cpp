#include "benchmarks/stack/embed_side.hpp"

#include <algorithm>
#include <bit>

#include "drivers/loopback.hpp"

namespace bench {

EmbedSide::EmbedSide(const Plan& plan)
{
    embed::StackConfig config;
    config.pin = plan.cpus;
    std::uint32_t sockets = 2 * plan.concurrency + plan.concurrency / 2 + 256; // both ends, and some that still close
    config.gateway.segment.sockets = std::max(4096U, std::bit_ceil(sockets));
    stack_ = std::make_unique<embed::Stack>(config);
    drivers::LoopbackOptions wire;
    if (plan.mss != 0) {
        wire.mtu = plan.mss + 40; // IP and TCP headers; timestamps are taken from the text
        wire.checksums = true;
        wire.super_segments = false;
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

nlohmann::json EmbedSide::totals()
{
    nlohmann::json sum = nlohmann::json::object();
    auto add = [&sum](const char* key, const std::atomic<std::uint64_t>& value) {
        sum[key] = sum.value(key, std::uint64_t{0}) + value.load(std::memory_order_relaxed);
    };
    for (std::size_t i = 0; i < stack_->cpus().size(); ++i) {
        const lwkt::CpuCounters& c = stack_->cpus().cpu(static_cast<base::CpuId>(i)).counters();
        add("rounds", c.rounds);
        add("sleeps", c.sleeps);
        add("messages_between_cpus", c.messages_out);
        add("messages_from_threads", c.messages_in);
        add("doorbells_sent", c.doorbells_sent);
        add("doorbells_suppressed", c.doorbells_suppressed);
        add("busy_us_net", c.busy_us[static_cast<unsigned>(lwkt::Class::net)]);
        add("busy_us_serial", c.busy_us[static_cast<unsigned>(lwkt::Class::serial)]);
        add("packets", stack_->protocols().loopback()->netif->counters(static_cast<base::CpuId>(i)).in_packets);
    }
    return sum;
}

void EmbedSide::start_counting()
{
    before_ = totals();
}

nlohmann::json EmbedSide::counters()
{
    nlohmann::json now = totals();
    for (auto& [key, value] : now.items()) {
        value = value.get<std::uint64_t>() - before_[key].get<std::uint64_t>();
    }
    return now;
}

} // namespace bench
