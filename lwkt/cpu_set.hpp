// All CPUs of one stack, either with a pinned thread each (start/stop) or stepped by hand on the caller's thread with a
// virtual or real clock (step). Works with one CPU and with more CPUs than the machine has.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "base/random.hpp"
#include "lwkt/cpu.hpp"
#include "lwkt/discipline.hpp"
#include "lwkt/snapshot.hpp"

namespace lwkt {

// What a protocol thread sleeps in. probe: io_uring, and epoll where it is refused.
enum class WaiterKind : std::uint8_t { probe, io_uring, epoll };

struct CpuSetOptions {
    // One entry per protocol thread: the OS CPU it is pinned to, -1 = not pinned. Its size is the number of CPUs (>=
    // 1); in giant and striped the number of service threads.
    std::vector<int> pin;
    Discipline discipline = Discipline::message;
    // giant and striped:
    LockKind lock = LockKind::mutex;
    std::uint32_t shards = 64; // striped; giant has one
    // 3: an operation on a socket takes, inside its shard's lock, a lock for each of the socket's two buffers.
    unsigned locks_per_operation = 1;
    // Where the sleep words live, one cache line (64 bytes) apart; null = in private memory. netd puts them in a page
    // that clients map read-only.
    std::atomic<std::uint32_t>* sleep_words = nullptr;
    // Longest adaptive poll before sleeping; the loop shortens it by itself when polling does not pay and yields the
    // CPU between looks. 0 = sleep at once.
    base::Micros spin_max{50};
    // Depth per target at which try_send sheds; a multiple of 4, see Shed.
    std::uint32_t packets_queued_max = 4096;
    // Ring slots per ordered CPU pair (power of two).
    std::uint32_t ring_slots = 1024;
    // Budget of one class per round, in items and time.
    std::uint32_t class_items = 256;
    base::Micros class_time{200};
    std::string thread_name = "netd"; // threads are named NAME/ID
    WaiterKind waiter = WaiterKind::probe;

    // How many CPUs (domains, shards) the set has.
    std::size_t cpus() const
    {
        return discipline == Discipline::striped ? shards : discipline == Discipline::giant ? 1 : pin.size();
    }
};

class CpuSet {
public:
    CpuSet(Clock& clock, const CpuSetOptions& options);
    ~CpuSet(); // stops the threads first
    CpuSet(const CpuSet&) = delete;
    CpuSet& operator=(const CpuSet&) = delete;

    std::size_t size() const;
    Discipline discipline() const;
    Cpu& cpu(CpuId id);
    Clock& clock() const;
    int pin_of(CpuId id) const; // the OS CPU asked for, -1 = none

    // Thread mode. start() returns once every thread runs its loop; stop() once all have ended. What sleeps uses:
    // "io_uring" or "epoll", chosen by a probe at start; waiter_name() tells which.
    void start();
    void stop();
    bool running() const;
    std::string waiter_name() const;
    // CPUs whose thread could not be bound to its OS CPU (and runs unbound). Empty when all is well.
    std::vector<CpuId> unbound() const;

    // Stepped mode, caller's thread only: one round of every CPU (in an order drawn from `order` when given). True if
    // any CPU did work. With a virtual clock the caller advances to next_deadline() when false.
    bool step(base::Random* order = nullptr);
    // One round of one CPU.
    bool step_one(CpuId id);
    Instant next_deadline() const;
    // Puts one CPU to sleep as its thread would (not of a set with locks). True: its sleep word stays set, and the
    // caller gives it its next round once somebody has rung it (the word is 0) or `until` has come. False: there is
    // something to do.
    bool sleep_one(CpuId id, Instant& until);
    // Of one that sleeps: what its pollers have to do. True without its having been rung: a doorbell was lost.
    bool work_waits(CpuId id) const;

    // From any thread that is not one of this set's protocol threads: queue `m` on a CPU (multi-producer, lock-free)
    // and ring it if it sleeps.
    void post(CpuId to, Message& m);
    // Runs `f` on the CPU and waits for it; stepped sets step until it ran. From a foreign thread only. For control
    // work (start, stop, attach, statistics), not for data.
    void call(CpuId to, const std::function<void(Cpu&)>& f);
    // call() on every CPU in turn.
    void call_all(const std::function<void(Cpu&)>& f);
    // giant and striped, while they run, on a thread that is no protocol thread: takes the CPU's lock, runs f(Cpu&)
    // there and whatever is queued, releases the lock, and then runs what came of it elsewhere. `socket` names the
    // socket that it is about, where operations take three locks. False, and nothing done, inside another such call (a
    // signal handler that interrupted it).
    template <typename F>
    bool try_enter(CpuId to, F&& f, std::uint32_t socket = UINT32_MAX)
    {
        auto call_it = [](void* argument, Cpu& cpu) { (*static_cast<std::remove_reference_t<F>*>(argument))(cpu); };
        return try_enter(to, call_it, std::addressof(f), socket);
    }

    // The counters of one CPU, and of all together. Any thread.
    Snapshot snapshot(CpuId id) const;
    Snapshot snapshot() const;

    // Set-up and tear-down of what hangs on every CPU: call_all() while running, else f at once on the caller's thread.
    void configure(const std::function<void(Cpu&)>& f);

private:
    bool try_enter(CpuId to, void (*f)(void*, Cpu&), void* argument, std::uint32_t socket);

    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace lwkt
