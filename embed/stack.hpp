// A whole TCP/IP stack inside this process: its CPUs, interfaces and sockets. With protocol threads of its own, or in
// virtual time as part of a Simulation. Build it on one thread: interfaces, routes, start(); from then on any thread
// may use its session (in a simulation: the one thread there is). Destroyed after the last socket call has returned.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "client/session.hpp"
#include "embed/simulation.hpp"
#include "gateway/gateway.hpp"
#include "lwkt/adopt.hpp"
#include "netmsg/netif.hpp"
#include "protocols/stack.hpp"

namespace embed {

struct StackConfig {
    // One protocol thread per entry, 64 at most: the OS CPU it is pinned to, -1 = unpinned. In a simulation only the
    // count matters.
    std::vector<int> pin = {-1};
    // Who serialises the stack (lwkt/discipline.hpp). giant and striped: socket calls run the stack in their callers,
    // under a lock; `pin` then is of the threads that run timers. Their interfaces must be in memory (loopback, sim
    // link).
    lwkt::Discipline discipline = lwkt::Discipline::message;
    lwkt::LockKind lock = lwkt::LockKind::mutex; // giant, striped
    unsigned locks_per_operation = 1;            // or 3: inside the shard's, one for each of the socket's buffers
    std::uint32_t shards = 64;                   // striped: 1 to 64
    // striped: a thread on an OS CPU of `pin` takes its sockets from the shards whose timers run there; false: from
    // all.
    bool near_shards = true;
    Simulation* simulation = nullptr;                  // null = protocol threads and real time
    std::string name = "embed";                        // of the protocol threads
    std::uint64_t seed = 0;                            // 0 = from the system's randomness; a simulation names its own
    base::Micros spin_max{50};                         // how long an idle protocol thread polls before it sleeps
    lwkt::WaiterKind waiter = lwkt::WaiterKind::probe; // what an idle protocol thread sleeps in
    base::Micros application_spin{6};                  // how long a blocked call looks before it sleeps, at most
    gateway::GatewayOptions gateway{};
    protocols::StackOptions protocols{}; // its seed is the one above
};

class Stack {
public:
    explicit Stack(const StackConfig& config);
    ~Stack(); // open connections are reset
    Stack(const Stack&) = delete;
    Stack& operator=(const Stack&) = delete;

    // Before start(). Addresses as "10.0.0.1/24" and "fd00::1/64". `slaac`: IPv6 addresses and routers as the link's
    // routers advertise them. `dhcp`: an IPv4 address and routes as a server of the link gives them (RFC 2131), from
    // start() on; Socket::local() of a connected socket tells it. False with `error` set.
    bool add_interface(std::unique_ptr<netmsg::Netif> netif, const std::vector<std::string>& addresses,
        std::string& error, bool slaac = false, bool dhcp = false);
    bool add_route(std::string_view destination, std::string_view gateway, std::string& error);
    // Makes the loopback interface if none was added, the gateway and the session; starts the threads.
    bool start(std::string& error);

    // What the calls of client/socket_calls.hpp take; after start().
    client::Session& session();
    // A snapshot, as netctl ss shows it.
    std::vector<gateway::SocketReport> sockets();
    // Discipline inline, after start(): the calling thread becomes the protocol thread of CPU `cpu` until the result is
    // destroyed, on the same thread and before the stack. Its sockets are made on that CPU. Calls that wait run the
    // CPU; a thread that never waits calls lwkt::run_adopted() now and then. Every CPU needs a thread.
    std::unique_ptr<lwkt::Adopted> adopt(base::CpuId cpu);
    // What the CPUs (or shards) did so far, summed up. Any thread, any time; approximate while they run.
    lwkt::Snapshot counters() const;

    lwkt::CpuSet& cpus() { return *set_; }
    protocols::Stack& protocols() { return *stack_; }

private:
    struct SleepLine;
    struct Impl;
    std::unique_ptr<SleepLine[]> sleep_lines_; // read by application threads, written by protocol threads
    StackConfig config_;                       // c
    lwkt::RealClock real_clock_;
    std::unique_ptr<lwkt::CpuSet> set_;
    std::unique_ptr<protocols::Stack> stack_;
    std::unique_ptr<Impl> impl_; // after start()
};

} // namespace embed
