// Where the socket calls sleep when the stack is in the same process: a futex word per waiter (threads), or the world
// stepped until the waiter is woken (virtual time). Internal to embed/.
#pragma once

#include <atomic>
#include <mutex>

#include "client/session.hpp"
#include "embed/simulation.hpp"
#include "gateway/gateway.hpp"

namespace embed {

// Shared by both: waiters from the gateway, whose control calls take turns. make_waiter and drop_waiter: any
// application thread; wake: protocol threads.
class Host : public client::Host {
public:
    Host(gateway::Gateway& gateway, lwkt::CpuSet& set) : gateway_(gateway), set_(set) {}

    void join(gateway::Client& family) { family_ = &family; }
    // Before the gateway goes: threads that end from now on no longer give their waiters back to it.
    void leave() { retire(); }
    virtual void wake(std::uint32_t waiter) = 0;
    // The gateway has one control thread at a time: whoever holds this. Taking it runs the CPUs that the thread has
    // adopted meanwhile, for which the holder may be waiting.
    std::unique_lock<std::mutex> control();

    int make_waiter(sockbuf::WaiterKind kind, client::WaiterHandle& out) override;
    void drop_waiter(const client::WaiterHandle& w) override;
    bool alive() override { return true; } // the stack outlives the calls
    bool look(std::uint32_t cpu, std::uint32_t slot) override;
    bool request(std::uint32_t cpu, const sockbuf::Request& r) override;
    void let_others_run() final;

protected:
    // Tells our waiters from "none" (-1), which callers pass to nap.
    static constexpr int own_waiter = -2;
    static bool is_waiter(const client::WaiterHandle& w) { return w.fd == own_waiter; }

    gateway::Gateway& gateway_;         // c
    lwkt::CpuSet& set_;                 // c
    gateway::Client* family_ = nullptr; // c after join
    std::mutex control_;
};

class ThreadHost : public Host {
public:
    using Host::Host;
    ~ThreadHost() override { retire(); }
    void wake(std::uint32_t waiter) override;
    bool can_wake(std::uint32_t) override { return true; }
    bool wake_waiter(std::uint32_t waiter) override
    {
        wake(waiter);
        return true;
    }
    void ring(std::uint32_t cpu) override { set_.cpu(static_cast<base::CpuId>(cpu)).ring(); }
    int sleep(const client::WaiterHandle& w, base::Instant deadline) override;
    base::Instant now() override { return lwkt::RealClock{}.now(); }

protected:
    struct alignas(64) Word {
        std::atomic<std::uint32_t> woken{0};      // p: protocol threads store 1; q: the sleeper exchanges for 0
        std::atomic<lwkt::Cpu*> sleeper{nullptr}; // inline: rung to wake it, q stores; null = it sleeps on the futex
        std::atomic<std::uint32_t> on_futex{0};   // inline: q stores
    };
    Word words_[sockbuf::max_waiters];
};

// Discipline inline: who waits runs the CPU it has adopted, and sleeps where that CPU sleeps. A thread without a CPU
// sleeps as others do.
class InlineHost final : public ThreadHost {
public:
    using ThreadHost::ThreadHost;
    ~InlineHost() override { retire(); }
    void wake(std::uint32_t waiter) override;
    int sleep(const client::WaiterHandle& w, base::Instant deadline) override;
    bool look(std::uint32_t cpu, std::uint32_t slot) override;
    bool request(std::uint32_t cpu, const sockbuf::Request& r) override;
    std::uint32_t home() override;
};

// Discipline striped: a thread on the OS CPU of a service thread takes its sockets from the shards of that one, in
// turn, so that two CPUs whose threads share no socket share no shard either. On any other CPU: from all shards in
// turn.
class StripedHost final : public ThreadHost {
public:
    // `pins`: the OS CPUs of the service threads.
    StripedHost(gateway::Gateway& gateway, lwkt::CpuSet& set, const std::vector<int>& pins);
    ~StripedHost() override { retire(); }
    std::uint32_t home() override;

private:
    std::uint32_t services_;                // c: shard i is of service i modulo this
    std::vector<std::uint16_t> service_on_; // c: client::threads_near of the services
};

// -EDEADLK from sleep(): nothing in this world can ever wake the caller.
class SimulationHost final : public Host {
public:
    SimulationHost(gateway::Gateway& gateway, lwkt::CpuSet& set, Simulation& world) : Host(gateway, set), world_(world)
    {
    }
    ~SimulationHost() override { retire(); }
    void wake(std::uint32_t waiter) override { woken_[waiter] = true; }
    void ring(std::uint32_t) override {} // stepped CPUs do not sleep
    int sleep(const client::WaiterHandle& w, base::Instant deadline) override;
    base::Instant now() override { return world_.now(); }

private:
    Simulation& world_;
    bool woken_[sockbuf::max_waiters] = {};
};

} // namespace embed
