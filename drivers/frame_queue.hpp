// One queue of a device that is a file descriptor with one frame per read and write, each behind a vnet header: TAP
// now, packet sockets later. A queue belongs to one CPU; everything is o unless marked.
//
// Receive reads into the packet's own buffer and, behind it, a spare large buffer that stays here unless a super-frame
// needed it. Transmit is queued and written at the roll-up; pieces are referenced until then. A descriptor that fails
// is no longer watched and is looked at again once per second, so that a deleted device costs nothing.
#pragma once

#include <cstdint>

#include "lwkt/cpu.hpp"
#include "netmsg/netif.hpp"

namespace drivers {

// What a queue asks of its device when the descriptor fails. Called on the queue's CPU.
class FrameDevice {
public:
    virtual ~FrameDevice() = default;
    virtual void queue_failed(base::CpuId cpu, const char* what, int error) = 0; // told once per failure
    virtual void queue_works(base::CpuId cpu) = 0;                               // told once after a failure
    virtual bool recover(base::CpuId cpu) = 0; // true: the descriptor may be used again
};

struct FrameQueueSetup {
    netmsg::Netif* netif = nullptr;
    FrameDevice* device = nullptr;
    lwkt::Cpu* cpu = nullptr;
    netmsg::PacketPool* pool = nullptr;
    netmsg::InputFn input = nullptr;
    void* context = nullptr;
    netmsg::NetifCounters* counters = nullptr;
    int fd = -1; // non-blocking; the device owns it
    std::uint32_t link_header_bytes = 14;
};

class alignas(base::apart) FrameQueue final : public lwkt::Poller, public lwkt::Rollup {
public:
    FrameQueue() = default;
    FrameQueue(const FrameQueue&) = delete;
    FrameQueue& operator=(const FrameQueue&) = delete;

    void attach(const FrameQueueSetup& setup); // adds itself to its CPU
    void detach();                             // leaves its CPU and frees what it holds
    void transmit(netmsg::Packet& p);          // takes p over

    std::uint32_t poll(std::uint32_t budget) override;
    // Nothing to look at before sleep: the descriptor is watched and transmits left at the roll-up.
    bool pending() const override { return false; }
    base::Instant deadline() const override { return retry_at_; }
    int wait_fd() const override { return failed_ ? -1 : s_.fd; }
    void rollup() override;

private:
    enum class Read : std::uint8_t { frame, nothing };
    bool prepare();
    Read receive();
    Read discard();
    void deliver(std::uint32_t frame_bytes, const void* header);
    void send(netmsg::Packet& p);
    void send_refused(int error);
    void fail(const char* what, int error);

    FrameQueueSetup s_;                          // c after attach
    netmsg::PacketQueue tx_;                     //
    std::uint32_t tx_bytes_ = 0;                 // in tx_, and what was written since the roll-up
    netmsg::Packet* spare_ = nullptr;            // an empty packet for the next read
    netmsg::LargeBuffer* spare_large_ = nullptr; // behind it
    bool failed_ = false;                        // the descriptor is not usable
    bool refusing_ = false;                      // writes fail and this was told
    base::Instant retry_at_ = base::never;       // when failed
};

} // namespace drivers
