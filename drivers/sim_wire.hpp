// Inside of sim_link: what the two sides share, a queue per CPU, and the impairments. Private to drivers/.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "base/random.hpp"
#include "drivers/sim_lane.hpp"
#include "drivers/sim_link.hpp"

namespace drivers {

class SimQueue;

struct SimWire {
    struct Side {
        lwkt::CpuSet* set = nullptr;        // control, under `control`
        std::atomic<bool> up{false};        // control; queues acquire
        std::unique_ptr<SimQueue[]> queues; // element i: owner = CPU i of the side
        std::size_t cpus = 0;               // c after attach
        // What this side sends, made when both sides are attached: lanes[i * cpus of the other side + j]; or lanes[j],
        // when the senders share them.
        std::vector<std::unique_ptr<SimLane>> lanes;
        alignas(64) std::atomic<std::int64_t> busy_until_ns{
            0}; // when the last accepted frame has left; any sending CPU
    };

    explicit SimWire(const SimLinkOptions& o) : options(o) {}
    SimLane& lane(unsigned from, std::size_t i, std::size_t j)
    {
        return *sides[from].lanes[(shared_lanes ? 0 : i * sides[1 - from].cpus) + j];
    }
    // How many lanes lead to each CPU of a side.
    std::size_t lanes_to(unsigned side) const { return shared_lanes ? 1 : sides[1 - side].cpus; }
    std::uint32_t link_header_bytes() const { return options.ethernet ? 14 : 0; }
    const Impairments& impairments(unsigned from) const { return from == 0 ? options.a.send : options.b.send; }
    bool lanes_made() const { return made.load(std::memory_order_acquire); }
    void make_lanes();

    SimLinkOptions options; // c, but for the impairments: control, while the side is stepped or stopped
    std::mutex control;     // attach and detach of the two sides
    Side sides[2];
    std::atomic<bool> made{false}; // control; queues acquire
    // c once made: with shards (hundreds, on either side) lanes for all pairs would be too many to fill and to look at.
    bool shared_lanes = false;
};

// Owner: its CPU, everything (o) unless marked.
class alignas(base::apart) SimQueue final : public lwkt::Poller, public lwkt::Rollup {
public:
    void attach(SimWire& wire, unsigned side, lwkt::Cpu& cpu, netmsg::Netif& netif, netmsg::PacketPool& pool,
        netmsg::InputFn input, void* context, netmsg::NetifCounters& counters);
    void detach(); // the peer no longer sends
    void transmit(netmsg::Packet& p);
    void count_into(SimLinkCounters& sum) const;

    std::uint32_t poll(std::uint32_t budget) override;
    bool pending() const override;
    base::Instant deadline() const override;
    void rollup() override;

private:
    struct Held {
        base::Instant due;
        std::uint64_t order;
        netmsg::Packet* packet;
        bool operator<(const Held& o) const
        {
            return due != o.due ? due > o.due : order > o.order;
        } // heap: earliest first
    };
    struct Losses { // s
        std::atomic<std::uint64_t> marked{0}, lost{0}, corrupted{0}, duplicated{0}, reordered{0}, queue_full{0},
            held_full{0};
    };

    void segment(netmsg::Packet& p);
    void submit(netmsg::Packet& p);
    netmsg::Packet* corrupt(netmsg::Packet& p);
    bool leave(std::uint32_t bytes, base::Instant& when);
    void place(netmsg::Packet& p);
    void hold(netmsg::Packet& p, base::Instant due);
    bool hand_over(const netmsg::Packet& p);
    std::uint32_t release_due();
    void refuse(netmsg::Packet& p, std::atomic<std::uint64_t>* why);
    bool peer_up() const { return wire_->sides[1 - side_].up.load(std::memory_order_acquire); }

    SimWire* wire_ = nullptr;                    // c
    unsigned side_ = 0;                          // c
    lwkt::Cpu* cpu_ = nullptr;                   // c
    netmsg::Netif* netif_ = nullptr;             // c
    netmsg::PacketPool* pool_ = nullptr;         // c
    netmsg::InputFn input_ = nullptr;            // c
    void* context_ = nullptr;                    // c
    netmsg::NetifCounters* counters_ = nullptr;  // s
    const netmsg::Steering* steering_ = nullptr; // c: the receiver's
    base::Random random_{0};
    std::vector<Held> held_;         // a heap
    std::uint64_t held_order_ = 0;   //
    bool blocked_ = false;           // the earliest held frame is due and finds no posted packet
    bool short_of_memory_ = false;   // a lane could not be refilled
    std::vector<base::CpuId> dirty_; // receivers to which this batch sent
    Losses losses_;
};

} // namespace drivers
