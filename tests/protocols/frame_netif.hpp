// A network interface for tests: what the stack transmits is kept as bytes and, when a peer is set, arrives there on a
// CPU that the test chooses; what the test injects arrives as a received frame. No checksum or segmentation offload,
// unless asked for. Stepped sets on one thread only.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lwkt/cpu_set.hpp"
#include "netmsg/netif.hpp"

namespace test {

using Bytes = std::vector<unsigned char>;

class FrameNetif final : public netmsg::Netif {
public:
    explicit FrameNetif(netmsg::NetifInfo info) : Netif(std::move(info)) {}

    bool attach(
        lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string&) override
    {
        pool_ = &pool;
        input_ = input;
        context_ = context;
        counters_ = std::make_unique<netmsg::NetifCounters[]>(set.size());
        for (std::size_t i = 0; i < set.size(); ++i) {
            queues_.push_back(std::make_unique<Queue>(*this, set.cpu(static_cast<base::CpuId>(i))));
        }
        return true;
    }
    void detach() override { queues_.clear(); }
    std::string describe() const override { return "frames in memory"; }

    void transmit(netmsg::Packet& p) override
    {
        Bytes bytes(p.total());
        p.copy_out(0, bytes.data(), p.total());
        bool loops = info_.loopback;
        p.free();
        if (loops) {
            inject(bytes, base::current_cpu);
        } else if (peer != nullptr && (!filter || filter(bytes))) {
            peer->inject(bytes, peer->arrival(bytes));
        }
        sent.push_back(std::move(bytes));
    }
    void inject(const Bytes& frame, base::CpuId cpu) { queues_[cpu]->frames.push_back(frame); }

    FrameNetif* peer = nullptr;
    std::vector<Bytes> sent;
    std::function<bool(const Bytes&)> filter;            // false = lost on the wire
    std::function<base::CpuId(const Bytes&)> choose_cpu; // where it arrives; default 0

private:
    base::CpuId arrival(const Bytes& frame) const { return choose_cpu ? choose_cpu(frame) : base::CpuId{0}; }

    struct Queue final : lwkt::Poller {
        Queue(FrameNetif& of, lwkt::Cpu& on) : netif(of), cpu(on) { cpu.add_poller(lwkt::Class::net, *this); }
        ~Queue() override { cpu.remove_poller(lwkt::Class::net, *this); }
        std::uint32_t poll(std::uint32_t budget) override
        {
            std::uint32_t n = 0;
            for (; n < budget && !frames.empty(); ++n) {
                Bytes frame = std::move(frames.front());
                frames.pop_front();
                netif.receive(cpu, frame);
            }
            return n;
        }
        bool pending() const override { return !frames.empty(); }

        FrameNetif& netif;
        lwkt::Cpu& cpu;
        std::deque<Bytes> frames;
    };

    void receive(lwkt::Cpu& cpu, const Bytes& frame)
    {
        netmsg::Packet* p = pool_->allocate();
        if (p == nullptr) {
            return;
        }
        std::size_t linear = std::min<std::size_t>(frame.size(), p->tailroom());
        std::memcpy(p->put(static_cast<std::uint32_t>(linear)), frame.data(), linear);
        if (linear < frame.size()) {
            if (!pool_->add_large(*p)) {
                p->free();
                return;
            }
            std::memcpy(p->large->bytes, frame.data() + linear, frame.size() - linear);
            p->add_piece(p->large->bytes, frame.size() - linear);
        }
        p->netif = this;
        p->stamp = cpu.now();
        p->csum = info_.loopback ? netmsg::Csum::valid : netmsg::Csum::unknown;
        input_(context_, *p);
    }

    netmsg::PacketPool* pool_ = nullptr;
    netmsg::InputFn input_ = nullptr;
    void* context_ = nullptr;
    std::vector<std::unique_ptr<Queue>> queues_;
};

} // namespace test
