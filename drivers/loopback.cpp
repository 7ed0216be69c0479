// See loopback.hpp. A packet whose bytes are all its own is turned round as it is. What lies in a send ring is copied,
// because the ring may be reused once transmit() has returned: into the packet itself where it has room, else into
// another.
#include "drivers/loopback.hpp"

#include "base/ownership.hpp"

namespace drivers {

struct alignas(base::apart) Loopback::Queue final : lwkt::Poller { // everything: o, except where marked
    Loopback* netif = nullptr;                                     // c
    lwkt::Cpu* cpu = nullptr;                                      // c
    netmsg::PacketPool* pool = nullptr;                            // c
    netmsg::InputFn input = nullptr;                               // c
    void* context = nullptr;                                       // c
    netmsg::NetifCounters* counters = nullptr;
    netmsg::PacketQueue packets;

    void fetch_next() const;
    std::uint32_t poll(std::uint32_t budget) override;
    bool pending() const override { return !packets.empty(); }
    // A stepped set asks this before it moves its virtual clock.
    base::Instant deadline() const override { return packets.empty() ? base::never : cpu->now(); }
};

// The headers of the packet behind the one that is taken, whose own lines were fetched a step before, and the lines of
// the packet behind that: many were built since, and these are not in L1 any more.
void Loopback::Queue::fetch_next() const
{
    const auto* next = static_cast<const netmsg::Packet*>(packets.front());
    if (next == nullptr) {
        return;
    }
    __builtin_prefetch(next->data);
    __builtin_prefetch(next->data + 64);
    if (next->next != nullptr) {
        const auto* lines = reinterpret_cast<const std::byte*>(next->next);
        __builtin_prefetch(lines, 1);
        __builtin_prefetch(lines + 64, 1);
    }
}

// Takes at most what is there now: what input() transmits in turn waits for the next poll.
std::uint32_t Loopback::Queue::poll(std::uint32_t budget)
{
    std::uint32_t done = 0;
    for (auto there = packets.size(); done < budget && there != 0; --there, ++done) {
        auto& p = static_cast<netmsg::Packet&>(*packets.pop());
        fetch_next();
        p.stamp = cpu->now();
        base::count(counters->in_packets);
        base::count(counters->in_bytes, p.total());
        input(context, p);
    }
    return done;
}

Loopback::Loopback(const LoopbackOptions& options)
    : Netif([&options] {
          netmsg::NetifInfo info;
          info.name = options.name;
          info.mtu = options.mtu;
          info.ethernet = false;
          info.loopback = true;
          info.tso_max_bytes = options.super_segments ? 65535 : 0;
          info.uso_max_bytes = info.tso_max_bytes;
          info.gso_max_bytes = !options.super_segments && options.gso ? 65535 : 0;
          info.gro = !options.super_segments && options.gro;
          info.tx_csum = !options.checksums;
          info.in_memory = true;
          return info;
      }()),
      queue_packets_max_(options.queue_packets_max),
      received_(options.checksums ? netmsg::Csum::unknown : netmsg::Csum::valid)
{
}

Loopback::~Loopback()
{
    detach();
}

bool Loopback::attach(
    lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error)
{
    if (set_ != nullptr) {
        error = info_.name + ": attached already";
        return false;
    }
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
        cpu.add_poller(lwkt::Class::net, q);
    });
    return true;
}

void Loopback::detach()
{
    if (set_ == nullptr) {
        return;
    }
    set_->configure([this](lwkt::Cpu& cpu) {
        Queue& q = queues_[cpu.id()];
        cpu.remove_poller(lwkt::Class::net, q);
        while (lwkt::Message* m = q.packets.pop()) {
            static_cast<netmsg::Packet*>(m)->free();
        }
    });
    set_ = nullptr;
}

void Loopback::transmit(netmsg::Packet& p)
{
    Queue& q = queues_[base::current_cpu];
    netmsg::Packet* mine = &p;
    if (q.packets.size() >= queue_packets_max_) {
        mine = nullptr;
    } else if (!netmsg::owns_bytes(p) && !p.pullup(p.total())) {
        mine = q.pool->clone(p);
    }
    if (mine == nullptr) {
        base::count(q.counters->out_dropped);
        p.free();
        return;
    }
    if (mine != &p) {
        p.free();
    }
    base::count(q.counters->out_packets);
    base::count(q.counters->out_bytes, mine->total());
    mine->netif = this;
    mine->csum = received_;
    mine->hops = 0;
    mine->l3 = nullptr;
    mine->flow_hash = 0;
    mine->broadcast = false;
    q.packets.push(*mine);
}

std::string Loopback::describe() const
{
    return "loopback " + info_.name + ": " + std::to_string(set_ == nullptr ? 0 : set_->size()) + " queues, mtu " +
           std::to_string(info_.mtu) + (info_.tx_csum ? ", no checksums" : ", checksums") +
           (info_.tso_max_bytes != 0 ? ", super-segments" : "");
}

} // namespace drivers
