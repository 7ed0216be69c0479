// Wraps any interface and writes what passes to a file in libpcap's format (draft-ietf-opsawg-pcap). Protocol threads
// only copy into a buffer of their CPU; the file is written in class bio, a buffer at a time, so records of different
// CPUs may stand out of order by the flush interval.
//
// Threads: those of the wrapped interface; each CPU has a buffer of its own.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "netmsg/netif.hpp"

namespace drivers {

struct WrapCaptureOptions {
    std::string path;
    std::uint32_t snap_bytes = 65550;      // of each packet
    std::uint32_t buffer_bytes = 4U << 20; // per CPU; what comes on top is not captured, and counted
    base::Micros flush_interval{100'000};  //
    base::Micros wall_clock_offset{0};     // added to the stack's clock for the stamps
};

class WrapCapture final : public netmsg::Netif {
public:
    WrapCapture(std::unique_ptr<netmsg::Netif> inner, WrapCaptureOptions options);
    ~WrapCapture() override;

    bool attach(
        lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error) override;
    void detach() override; // writes what is buffered
    void transmit(netmsg::Packet& p) override;
    std::string describe() const override;

    // Packets that found the buffer full or could not be written. Nothing follows what was written in part.
    std::uint64_t missed(base::CpuId cpu) const;

private:
    struct Buffer;
    static void on_input(void* context, netmsg::Packet& p);
    bool open_file(std::string& error);

    std::unique_ptr<netmsg::Netif> inner_; // c
    WrapCaptureOptions options_;           // c
    lwkt::CpuSet* set_ = nullptr;          // c after attach
    netmsg::InputFn input_ = nullptr;      // c after attach
    void* context_ = nullptr;              // c after attach
    int fd_ = -1;                          // c after attach; appended to by all CPUs
    std::atomic<bool> torn_{false};        // any CPU: the file ends in a part of a record
    std::unique_ptr<Buffer[]> buffers_;    // element i: owner = CPU i
};

} // namespace drivers
