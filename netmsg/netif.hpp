// The driver contract. A Netif is an interface of the stack with one queue per CPU. Drivers know nothing of protocols:
// they give received packets to the input function and take packets to transmit.
//
// Threads: transmit() and everything of queue i is called on CPU i only. Statistics are s-keyed per CPU. Configuration
// (mtu, mac, capabilities) is c.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "base/net_addr.hpp"
#include "lwkt/cpu_set.hpp"
#include "netmsg/packet.hpp"
#include "netmsg/packet_pool.hpp"

namespace netmsg {

struct alignas(base::apart) NetifCounters { // s, one per CPU
    std::atomic<std::uint64_t> in_packets{0};
    std::atomic<std::uint64_t> in_bytes{0};
    std::atomic<std::uint64_t> in_dropped{0}; // no packet memory
    std::atomic<std::uint64_t> out_packets{0};
    std::atomic<std::uint64_t> out_bytes{0};
    std::atomic<std::uint64_t> out_dropped{0}; // device full
    std::atomic<std::uint64_t> errors{0};      // malformed device headers, failed system calls
};

class Netif;

struct NetifInfo {
    std::string name;
    std::uint32_t index = 0;  // set by the stack
    std::uint32_t mtu = 1500; // bytes of IP packet
    base::MacAddr mac;
    bool ethernet = true;            // false: packets are bare IP (loopback, packetdrill)
    bool loopback = false;           // packets come back to this stack; checksums need not be computed or verified
    std::uint32_t tso_max_bytes = 0; // largest TCP super-segment (IP packet bytes) the driver takes; 0 = no TSO
    std::uint32_t uso_max_bytes = 0; // the same of UDP (UDP_SEGMENT, both families)
    std::uint32_t gso_max_bytes = 0; // without TSO: largest one that is cut in front of the driver; 0 = TCP makes each
    bool gro = false;                // received segments of a flow are joined (protocols/gro.hpp)
    bool tx_csum = false;            // the driver takes Csum::partial
    Netif* vlan_parent = nullptr;    // this is a VLAN of that interface,
    std::uint16_t vlan_id = 0;       // with this tag; 0 = it is none
    bool in_memory = false;          // makes no system calls: may run under the lock of a shard
};

// The longest packet with this segmentation to come that may be handed down to the interface.
inline std::uint32_t super_max(const NetifInfo& info, Gso gso)
{
    return gso == Gso::udp ? info.uso_max_bytes : std::max(info.tso_max_bytes, info.gso_max_bytes);
}
// Whether it is cut before the driver gets it.
inline bool cut_in_software(const NetifInfo& info, Gso gso)
{
    return info.tso_max_bytes == 0 && (gso == Gso::tcp4 || gso == Gso::tcp6);
}

// Called on the CPU where the packet arrived, which becomes the holder. p.netif and p.stamp are set; data is the
// outermost header.
using InputFn = void (*)(void* context, Packet& p);

class Netif {
public:
    explicit Netif(NetifInfo info) : info_(std::move(info)) {}
    virtual ~Netif() = default;
    Netif(const Netif&) = delete;
    Netif& operator=(const Netif&) = delete;

    const NetifInfo& info() const { return info_; }
    void set_index(std::uint32_t index) { info_.index = index; } // before attach

    // Adds pollers and roll-ups to the CPUs; received packets go to input(context, p). Before start(), or through
    // CpuSet::call. False with `error` set when the device cannot be opened.
    virtual bool attach(lwkt::CpuSet& set, PacketPool& pool, InputFn input, void* context, std::string& error) = 0;
    virtual void detach() = 0;
    // Takes the packet over; sent at the latest at this CPU's next roll-up. Never blocks; what the device does not take
    // is dropped and counted.
    virtual void transmit(Packet& p) = 0;
    // One line for the log: what the driver found and uses ("tap nd0: 2 queues, vnet header, TSO, steering by eBPF").
    virtual std::string describe() const = 0;

    const NetifCounters& counters(base::CpuId cpu) const { return counters_[cpu]; }
    // On that CPU: a frame that came in on another interface is this one's. A VLAN has no queue to count at.
    void count_input(base::CpuId cpu, std::uint64_t bytes)
    {
        base::count(counters_[cpu].in_packets);
        base::count(counters_[cpu].in_bytes, bytes);
    }

protected:
    NetifInfo info_;                            // c after attach
    std::unique_ptr<NetifCounters[]> counters_; // s; allocated by attach, one per CPU
};

} // namespace netmsg
