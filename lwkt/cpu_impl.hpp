// What is behind a Cpu. Owner: its protocol thread, except for the members marked p, q or s.
//
// Going to sleep and sending are two sides of one protocol (the "doorbell protocol", modelled in
// tests/lwkt/test_doorbell_model.cpp):
//   sleeper   sleep_word = 1; fence; look at every source of work; sleep only if there is none
//   sender    publish; fence; look at sleep_word; if 1, exchange it for 0, and who got the 1 writes the eventfd
// The fence of a ring is a read-modify-write of one word that only the two sides touch: whichever comes second sees
// everything that the other did before. It stays in the sender's cache until the target goes to sleep.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "base/patience.hpp"
#include "lwkt/cpu.hpp"
#include "lwkt/cpu_set.hpp"
#include "lwkt/ipiq.hpp"
#include "lwkt/waiter.hpp"

namespace lwkt {

using MessageQueue = base::Queue<Message, &Message::next>;

// A message under way, with its class in the low bits of its address: its target knows the queue before the message's
// line has come, and looks through the classes ahead of it meanwhile (docs/performance/messages.md).
class Sent {
public:
    Sent() = default;
    explicit Sent(Message& m) : bits_(reinterpret_cast<std::uintptr_t>(&m) | static_cast<std::uintptr_t>(m.cls)) {}
    Message& message() const { return *reinterpret_cast<Message*>(bits_ & ~class_mask); }
    unsigned cls() const { return static_cast<unsigned>(bits_ & class_mask); }

private:
    static constexpr std::uintptr_t class_mask = 7;
    static_assert(alignof(Message) > class_mask && class_count <= class_mask + 1);

    std::uintptr_t bits_;
};

// The way from one CPU to another.
struct CpuRing {
    explicit CpuRing(std::uint32_t slots) : ring(slots) {}
    void fence() { fence_word.fetch_add(1, std::memory_order_seq_cst); }

    Ipiq<Sent> ring;
    alignas(base::apart) std::atomic<std::uint32_t> fence_word{0};
    // p sets before it sleeps on a spill; q exchanges for 0
    alignas(base::apart) std::atomic<std::uint32_t> want_space{0};
};

struct Shard;
struct SocketLocks;
class Service;
using Operation = void (*)(void* argument, Cpu& cpu);
inline constexpr std::uint32_t no_socket = UINT32_MAX;

struct alignas(base::apart) CpuImpl {
    struct Outgoing {
        CpuRing* ring = nullptr; // c; null for this CPU itself
        Cpu* target = nullptr;   // c
        MessageQueue spill;      // o: what found the ring full, in order
        bool dirty = false;      // o: sent to since the last look at the target's sleep word
    };
    struct ClassState {
        MessageQueue queue;           // o
        std::vector<Poller*> pollers; // o: null = removed during a round
        std::uint32_t age = 0;        // o: rounds in which it was held back (bio and gen)
    };

    // With a shard: the CPU is run by whoever holds the shard's lock (lwkt/shard.hpp) and has no doorbell.
    CpuImpl(Cpu& cpu, const CpuSetOptions& options, std::unique_ptr<Shard> shard);
    ~CpuImpl();

    // cpu.cpp
    void queue_to(CpuId to, Message& m, bool passive);
    void mark_dirty(Outgoing& out);
    void ring_doorbells();
    void ring_one(Cpu& target);
    bool flush_spills();
    void assert_may_configure() const;
    static CpuImpl& of(Cpu& cpu) { return *cpu.impl_; }

    // cpu_loop.cpp
    bool round();
    bool take_in();
    std::uint64_t take_posted();
    void publish_backlog();
    void take(Message& m) { classes[static_cast<unsigned>(m.cls)].queue.push(m); }
    std::uint32_t run_batch(Class cls, std::uint32_t items);
    void count_lateness(std::int64_t late_us);
    void recheck_clock(Instant& looked_at);
    bool run_packets_and_sockets(bool& pressed);
    bool run_low(Class cls, bool pressed);
    void run_rollups();
    void compact();
    bool queues_empty() const;
    bool drain_messages();
    Instant next_deadline() const;

    // cpu_sleep.cpp
    void run();
    void idle();
    bool something_arrived() const;
    bool pollers_pending() const;
    void yield();
    void sleep();
    bool nothing_to_do();
    bool settle(Instant& next);
    void watch_pollers();
    void add_poller_fds(std::vector<int>& fds) const;
    void set_sleep_word(std::uint32_t value) { cpu.sleep_word_->store(value, std::memory_order_seq_cst); }
    void count_sleep();

    // cpu_visit.cpp: shards
    bool enter(Operation f, void* argument, std::uint32_t socket = no_socket);
    void queue_to_shard(CpuId to, Message& m, bool passive);
    void push_posted(Message& m);
    void ring_shard();
    void leave_to_service();
    void visit_and_release(Operation f, void* argument, SocketLocks* side);
    bool visit(Operation f, void* argument);
    std::uint64_t work_done() const;
    void call_on();
    static void settle();

    Cpu& cpu;                     // c
    const CpuSetOptions& options; // c
    std::unique_ptr<Shard> shard; // c: null in message and inline
    int doorbell_fd;              // c: -1 with a shard
    int doorbells_fd;             // c: epoll of those given to others; -1 in other disciplines than message

    std::array<ClassState, class_count> classes;
    std::vector<Outgoing> outgoing; // o: by target
    std::vector<CpuRing*> incoming; // c: by source; null for this CPU itself
    std::vector<Outgoing*> dirty;   // o: those whose `dirty` is set
    std::size_t spilled = 0;        // o: messages in all spills
    std::vector<Rollup*> rollups;   // o: null = removed during a round
    bool removed = false;           // o: some null above
    std::unique_ptr<Waiter> waiter; // o; null in stepped mode
    std::vector<int> wanted_fds;    // o: scratch of watch_pollers

    base::Patience patience;       // o: how long to poll before a sleep
    Instant idle_since{};          // o
    bool idling = false;           // o
    bool others_ran = false;       // o: the last yield gave the CPU away
    std::uint32_t idle_rounds = 0; // o: rounds without work since idle_since
    bool fresh = false;            // o: now() was read by idle() a moment ago
    bool timing = true;            // o: batches are timed; those of a shard only now and then

    alignas(base::apart) std::atomic<Message*> posted{nullptr}; // p: any thread pushes; q: the owner takes all
    std::atomic<bool> stop{false};
    std::mutex seat; // inline: held by the thread that is the protocol thread (lwkt/adopt.hpp)
    alignas(base::apart) std::atomic<std::uint32_t> backlog{0}; // s: messages in the class queues
};

// Makes the calling thread the CPU's protocol thread for a scope.
class OnCpu {
public:
    explicit OnCpu(Cpu& cpu);
    ~OnCpu();
    OnCpu(const OnCpu&) = delete;
    OnCpu& operator=(const OnCpu&) = delete;

private:
    Cpu* cpu_before_;
    CpuId id_before_;
};

// As base::count(), of a maximum.
inline void raise_to(std::atomic<std::uint64_t>& counter, std::int64_t value)
{
    if (value > 0 && static_cast<std::uint64_t>(value) > counter.load(std::memory_order_relaxed)) {
        counter.store(static_cast<std::uint64_t>(value), std::memory_order_relaxed);
    }
}

} // namespace lwkt
