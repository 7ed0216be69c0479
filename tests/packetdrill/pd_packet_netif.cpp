// See packet_netif.hpp.
#include <algorithm>
#include <cstring>

#include "tests/packetdrill/packet_netif.hpp"

namespace packetdrill {

struct PacketNetif::Queue final : lwkt::Poller {
    Queue(PacketNetif& of, lwkt::CpuSet& all, netmsg::PacketPool& p, netmsg::InputFn f, void* c)
        : netif(of), set(all), cpu(all.cpu(0)), pool(p), input(f), context(c)
    {
    }
    std::uint32_t poll(std::uint32_t budget) override
    {
        std::uint32_t done = 0;
        for (; done < budget; ++done) {
            Bytes packet;
            {
                std::lock_guard lock(netif.mutex_);
                if (netif.in_.empty()) {
                    break;
                }
                packet = std::move(netif.in_.front());
                netif.in_.pop_front();
            }
            receive(packet);
        }
        return done;
    }
    bool pending() const override
    {
        std::lock_guard lock(netif.mutex_);
        return !netif.in_.empty();
    }
    base::Instant deadline() const override { return pending() ? cpu.now() : base::never; }

    // Inbound packets may be longer than any frame: the rest goes to a large buffer, as a super-frame's would.
    void receive(const Bytes& packet)
    {
        netmsg::Packet* p = pool.allocate();
        if (p == nullptr) {
            return;
        }
        std::size_t linear = std::min<std::size_t>(packet.size(), p->tailroom());
        std::memcpy(p->put(static_cast<std::uint32_t>(linear)), packet.data(), linear);
        if (linear < packet.size()) {
            if (!pool.add_large(*p)) {
                p->free();
                return;
            }
            std::memcpy(p->large->bytes, packet.data() + linear, packet.size() - linear);
            p->add_piece(p->large->bytes, packet.size() - linear);
        }
        p->netif = &netif;
        p->stamp = cpu.now();
        p->csum = netmsg::Csum::unknown;
        input(context, *p);
    }

    PacketNetif& netif;
    lwkt::CpuSet& set;
    lwkt::Cpu& cpu;
    netmsg::PacketPool& pool;
    netmsg::InputFn input;
    void* context;
};

PacketNetif::PacketNetif(std::uint32_t mtu, std::function<std::int64_t()> clock_us)
    : Netif([mtu] {
          netmsg::NetifInfo info;
          info.name = "pd0";
          info.mtu = mtu;
          info.ethernet = false;
          return info;
      }()),
      clock_us_(std::move(clock_us))
{
}

PacketNetif::~PacketNetif()
{
    detach();
}

bool PacketNetif::attach(
    lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error)
{
    if (set.size() != 1) {
        error = "one CPU is what packets by hand can have";
        return false;
    }
    counters_ = std::make_unique<netmsg::NetifCounters[]>(set.size());
    queue_ = std::make_unique<Queue>(*this, set, pool, input, context);
    set.configure([this](lwkt::Cpu& cpu) { cpu.add_poller(lwkt::Class::net, *queue_); });
    return true;
}

void PacketNetif::detach()
{
    if (queue_ != nullptr) {
        queue_->set.configure([this](lwkt::Cpu& cpu) { cpu.remove_poller(lwkt::Class::net, *queue_); });
        queue_.reset();
    }
}

void PacketNetif::transmit(netmsg::Packet& p)
{
    Emitted e{Bytes(p.total()), clock_us_()};
    p.copy_out(0, e.packet.data(), p.total());
    p.free();
    std::lock_guard lock(mutex_);
    out_.push_back(std::move(e));
    emitted_.notify_all();
}

void PacketNetif::inject(const void* packet, std::size_t bytes)
{
    const auto* at = static_cast<const std::byte*>(packet);
    {
        std::lock_guard lock(mutex_);
        in_.emplace_back(at, at + bytes);
    }
    if (queue_->set.running()) {
        queue_->cpu.ring();
    }
}

bool PacketNetif::take(Emitted& out, std::chrono::milliseconds patience)
{
    std::unique_lock lock(mutex_);
    if (!emitted_.wait_for(lock, patience, [this] { return !out_.empty(); })) {
        return false;
    }
    out = std::move(out_.front());
    out_.pop_front();
    return true;
}

} // namespace packetdrill
