// One stack of the world: its CPUs, which the scheduler steps and puts to sleep one by one, its gateway, and the
// families of applications on it. Everything on the one OS thread of the simulation.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/session.hpp"
#include "gateway/gateway.hpp"
#include "tests/sim/sim_config.hpp"

namespace sim {

class World;
struct Node;
struct App;

// Where the applications of a family sleep: their fibers pause until the waiter is woken.
class SimHost final : public client::Host {
public:
    SimHost(World& world, Node& node) : world_(world), node_(node) {}
    ~SimHost() override { retire(); }

    void join(gateway::Client& family) { family_ = &family; }
    void die() { alive_ = false; }
    bool woken(std::uint32_t waiter) const { return woken_[waiter]; }
    void wake(std::uint32_t waiter) { woken_[waiter] = true; }

    void ring(std::uint32_t cpu) override;
    int make_waiter(sockbuf::WaiterKind kind, client::WaiterHandle& out) override;
    void drop_waiter(const client::WaiterHandle& w) override;
    int sleep(const client::WaiterHandle& w, base::Instant deadline) override;
    bool can_wake(std::uint32_t) override;
    bool wake_waiter(std::uint32_t waiter) override;
    base::Instant now() override;
    bool alive() override { return alive_; }

private:
    static constexpr int own_waiter = -2; // tells ours from "none"

    World& world_;
    Node& node_;
    gateway::Client* family_ = nullptr;
    bool alive_ = true;
    bool woken_[sockbuf::max_waiters] = {};
};

// A process: its sockets go when it dies.
struct Family {
    Node* node = nullptr;
    unsigned index = 0;
    gateway::Client* client = nullptr;
    std::uint32_t client_id = 0;
    std::unique_ptr<SimHost> host; // null while it is dead
    client::Session session;
    std::uint32_t lane_turn = 0;
    std::vector<client::WaiterHandle> spare_waiters;
    std::vector<std::uint32_t> last_number; // by slot: the generation under which it was given out last
    base::Instant reborn_at{};              // while it is dead
    bool alive() const { return host != nullptr; }
};

struct CpuState {
    bool asleep = false;
    base::Instant until{};        // its next deadline, while it is asleep
    base::Instant paused_until{}; // not scheduled before
    base::Instant paused_since{}; // then
    std::uint32_t weight = 1;
    unsigned overdue_rounds = 0;
    std::uint64_t rounds_seen = 0;      // by World::look_at_rounds
    std::vector<netmsg::Packet*> hoard; // packets withheld from the stack: a shortage
    base::Instant hoard_until{};
};

struct Node {
    Node(World& world, const NodeConfig& config, unsigned index);
    ~Node();
    void start(std::string& error);
    void attach(Family& f);
    // As after the death of the process: the gateway is told, the memory goes once the stack lets go.
    void detach(Family& f);

    std::size_t size() const { return set->size(); }
    bool awake(base::CpuId cpu) const { return !cpus[cpu].asleep || sleep_word(cpu).load() == 0; }
    std::atomic<std::uint32_t>& sleep_word(base::CpuId cpu) const { return sleep_lines[cpu].word; }
    void wake_all();
    bool sent_cookies() const;
    std::uint64_t gave_up() const; // connections whose timers expired too often
    // Sends a burst of numbered messages from one CPU to another, which must come in this order behind earlier bursts.
    void send_couriers(base::CpuId from, base::CpuId to, unsigned burst);
    // Runs `f` on the CPU in one of its next rounds.
    void post(base::CpuId cpu, std::function<void(lwkt::Cpu&)> f);

    struct alignas(64) SleepLine {
        std::atomic<std::uint32_t> word{0};
    };
    struct Poke;
    struct Courier;

    World& world;
    NodeConfig config;
    unsigned index;
    std::unique_ptr<SleepLine[]> sleep_lines;
    std::unique_ptr<lwkt::CpuSet> set;
    std::unique_ptr<protocols::Stack> stack;
    std::unique_ptr<gateway::Gateway> gateway;
    std::vector<base::IpAddr> addresses; // of its links
    std::vector<std::unique_ptr<Family>> families;
    std::vector<CpuState> cpus;
    std::vector<std::size_t> packets_at_start; // in use on each CPU once everything is set up
    std::vector<std::size_t> large_at_start;
    std::deque<std::unique_ptr<Poke>> pokes;
    std::deque<std::unique_ptr<Courier>> couriers;
    std::vector<std::uint64_t> couriers_sent;    // by from * CPUs + to
    std::vector<std::uint64_t> couriers_arrived; // likewise
};

} // namespace sim
