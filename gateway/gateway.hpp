// The gateway: the one place that turns untrusted shared memory into trusted messages, and socket events into wakeups.
// One per stack; serves any number of families (Clients). Per-CPU parts run on their protocol thread in class serial
// (requests, marks), wakeups at its roll-up. The members below are called by one control thread (netd's admission loop,
// or the embedding process), never by a protocol thread; they work by CpuSet::call and so may be used with running or
// stepped sets.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gateway/segment.hpp"
#include "protocols/stack.hpp"

namespace gateway {

struct GatewayOptions {
    SegmentOptions segment;
    std::uint32_t clients_max = 64;
    unsigned send_ring_shift = 21; // log2 of the default stream send ring: 2 MiB
    unsigned receive_ring_shift = 21;
    unsigned datagram_ring_shift = 18; // 256 KiB
    // Connections in which nothing happened for this long (to twice this long) are put to sleep; 0 = never.
    base::Micros idle_after = base::seconds(2);
    bool join_pairs = false; // connections between sockets of one family become joined pairs
    // Requests of a CPU that are on their way to the CPU that they are for; a family has a quarter at most.
    std::uint32_t forwarded_max = 1024;
};

struct Client; // gateway/client_record.hpp

// Of one CPU, over all families. s: it counts, any thread reads.
struct GatewayCounters {
    std::atomic<std::uint64_t> faults{0};  // what no honest program writes: requests, offsets, indices
    std::atomic<std::uint64_t> refused{0}; // requests for which there was no memory, or no message
};

// One line of netctl ss.
struct SocketReport {
    std::uint32_t client = 0;
    std::uint32_t slot = 0;
    base::CpuId cpu = 0;
    bool stream = true;
    std::string state; // RFC 9293 name, LISTEN, or UNCONN
    base::FourTuple flow;
    std::uint64_t recv_queue = 0; // bytes readable; listener: connections waiting
    std::uint64_t send_queue = 0; // bytes not acknowledged; listener: backlog
    std::uint64_t holders = 0;
    bool app_closed = false;
    bool joined = false; // an end of a joined pair
};

class Gateway {
public:
    Gateway(protocols::Stack& stack, const GatewayOptions& options);
    ~Gateway(); // detaches what is left
    Gateway(const Gateway&) = delete;
    Gateway& operator=(const Gateway&) = delete;

    // What the following families are told of netd's networks (which destinations are its own).
    void set_announced(std::vector<Announced> prefixes);
    // A new family with one process (index 0) of user `uid`: only sockets of one user share a port by SO_REUSEPORT.
    // Null with `error` set: too many clients, no memory.
    Client* attach(std::uint32_t pid, std::string& error, std::uint32_t uid = 0);
    const Segment& segment(const Client& c) const;
    std::uint32_t id(const Client& c) const;

    // A process index for a forked child; false when all are in use.
    bool add_process(Client& c, std::uint32_t pid, std::uint32_t& process);
    // A process ended (its admission connection closed): its locks are released, lane claims requeued, its holder bits
    // cleared, and sockets that nobody holds any more are closed as exit(2) would (published bytes are sent, then FIN).
    // True when it was the family's last process: the caller detaches.
    bool process_gone(Client& c, std::uint32_t process);

    // A waiter whose pipe's write end is `write_fd` (taken over; may be -1 when `wake` is set by set_wake).
    bool add_waiter(Client& c, std::uint32_t process, sockbuf::WaiterKind kind, int write_fd, std::uint32_t& waiter);
    void drop_waiter(Client& c, std::uint32_t process, std::uint32_t waiter);
    // A descriptor by which another process of the family can open the pipe of a waiter, without holding it open: the
    // sleeper's end of file must mean netd's death alone. -1: no such waiter. The caller closes it.
    int open_waker(Client& c, std::uint32_t waiter, std::uint32_t& generation);
    // For embedding without pipes (virtual time): called on the protocol thread instead of writing to a pipe.
    void set_wake(std::function<void(std::uint32_t client, std::uint32_t waiter)> wake);

    // For embedding where calls run the stack (giant, striped), on the CPU itself: what a mark or a request would lead
    // to, without the way through shared memory. A CPU that does not own the slot passes it on.
    void look(Client& c, std::uint32_t slot);
    void request(Client& c, const sockbuf::Request& r);

    // Closes every socket and frees the segment once the protocols have let go of the last one (they may keep sending):
    // now, or in a reap(). `c` is not the caller's any more.
    void detach(Client& c);
    // Frees what became free since; true while some still linger, to be called again in a while. Of those there are no
    // more than of attached ones: then the oldest of the user who has most is aborted.
    bool reap();
    // The client's memory faulted (SIGBUS, EFAULT): treated as dead, sockets aborted.
    void poison(Client& c);
    bool poison(std::uint32_t id); // also of one that was detached and lingers; false: there is none any more

    // Before the end of all: what follows happens behind the back of the programs. Their memory stays as it is now, so
    // they find what they would after a crash (open descriptors that fail), and not closed sockets. False, with errno:
    // a family's does not.
    bool part();

    std::vector<SocketReport> sockets(); // a snapshot, family by family and some slots at a time
    std::size_t clients() const;
    std::size_t sockets_held(); // socket records that exist, of all clients, closing ones included
    std::uint64_t ring_bytes_in_use();
    const GatewayCounters& counters(base::CpuId cpu) const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace gateway
