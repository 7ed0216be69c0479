// A TAP device of the kernel: Ethernet frames with vnet header, checksum, TCP and UDP segmentation offload both ways,
// one queue per CPU, flows steered to their owner's queue by an eBPF program where that is permitted. Opened in the
// network namespace of the thread that attaches.
//
// Threads: queue i is CPU i's alone; attach and detach on a control thread; a deleted device that came back is taken
// again by CPU 0.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "drivers/frame_queue.hpp"
#include "drivers/steering_bpf.hpp"
#include "netmsg/netif.hpp"
#include "netmsg/steering.hpp"

namespace drivers {

struct TapOptions {
    std::string name = "nd%d"; // an existing device, or the name of a new one
    std::uint32_t mtu = 1500;
    base::MacAddr mac;                           // ours, locally administered; the kernel's end has its own
    const netmsg::Steering* steering = nullptr;  // the stack's; null or one CPU = no program
    bool bring_up = true;                        // set IFF_UP and the MTU, which needs CAP_NET_ADMIN unless they are
    std::function<void(const std::string&)> log; // told when the device fails and comes back; any protocol thread
};

class Tap final : public netmsg::Netif, private FrameDevice {
public:
    explicit Tap(TapOptions options);
    ~Tap() override;

    bool attach(
        lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error) override;
    void detach() override;
    void transmit(netmsg::Packet& p) override;
    std::string describe() const override;

private:
    bool open_queues(std::size_t count, std::string& error);
    bool set_up(std::string& error);
    std::string steer(); // returns what it came to, for describe()
    void close_queues();
    bool reopen();
    bool take_again(std::string& error);
    void log(const std::string& text) const;
    void queue_failed(base::CpuId cpu, const char* what, int error) override;
    void queue_works(base::CpuId cpu) override;
    bool recover(base::CpuId cpu) override;

    TapOptions options_;                       // c
    lwkt::CpuSet* set_ = nullptr;              // c after attach
    std::vector<int> fds_;                     // c after attach; element i is queue i
    std::unique_ptr<FrameQueue[]> queues_;     // element i: owner = CPU i
    std::unique_ptr<SteeringProgram> program_; // c after attach
    std::string steering_text_;                // c after attach
    bool udp_segments_ = false;                // c after attach
    std::atomic<bool> reopening_{false};       // CPU 0's: queues may be taken already, the rest is not set up
    std::string refusal_;                      // o, CPU 0: of the last attempt, told once
};

// A random locally administered unicast address.
base::MacAddr random_mac(base::Random& random);

} // namespace drivers
