// See wrap_capture.hpp.
#include "drivers/wrap_capture.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/ownership.hpp"

namespace drivers {
namespace {

constexpr std::uint32_t link_ethernet = 1;
constexpr std::uint32_t link_raw_ip = 101;

struct FileHeader {
    std::uint32_t magic = 0xa1b2c3d4; // microseconds, in the byte order of this host
    std::uint16_t major = 2;
    std::uint16_t minor = 4;
    std::uint32_t reserved[2] = {0, 0};
    std::uint32_t snap_bytes = 0;
    std::uint32_t link_type = 0;
};
static_assert(sizeof(FileHeader) == 24);

struct RecordHeader {
    std::uint32_t seconds;
    std::uint32_t micros;
    std::uint32_t captured_bytes;
    std::uint32_t packet_bytes;
};
static_assert(sizeof(RecordHeader) == 16);

} // namespace

struct alignas(base::apart) WrapCapture::Buffer final : lwkt::Poller { // everything: o, except where marked
    const WrapCaptureOptions* options = nullptr;                       // c
    lwkt::Cpu* cpu = nullptr;                                          // c
    int fd = -1;                                                       // c
    std::vector<std::byte> bytes;                                      // never longer than its reserve
    std::uint64_t packets = 0;                                         // in bytes
    base::Instant oldest = base::never;
    std::atomic<bool>* torn = nullptr;    // c
    std::atomic<std::uint64_t> missed{0}; // s

    void capture(const netmsg::Packet& p);
    void flush();
    std::uint32_t poll(std::uint32_t budget) override;
    bool pending() const override { return false; } // deadline() tells
    base::Instant deadline() const override { return bytes.empty() ? base::never : oldest + options->flush_interval; }
};

void WrapCapture::Buffer::capture(const netmsg::Packet& p)
{
    std::uint32_t n = std::min(p.total(), options->snap_bytes);
    std::size_t at = bytes.size();
    if (at + sizeof(RecordHeader) + n > options->buffer_bytes) {
        base::count(missed);
        return;
    }
    auto stamp = (cpu->now().time_since_epoch() + options->wall_clock_offset).count();
    RecordHeader h{
        static_cast<std::uint32_t>(stamp / 1'000'000), static_cast<std::uint32_t>(stamp % 1'000'000), n, p.total()};
    bytes.resize(at + sizeof h + n); // within the reserve
    std::memcpy(bytes.data() + at, &h, sizeof h);
    p.copy_out(0, bytes.data() + at + sizeof h, n);
    oldest = packets == 0 ? cpu->now() : oldest;
    ++packets;
}

void WrapCapture::Buffer::flush()
{
    ssize_t n = -1;
    if (!bytes.empty() && !torn->load(std::memory_order_relaxed)) {
        n = write(fd, bytes.data(), bytes.size());
    }
    if (n != static_cast<ssize_t>(bytes.size())) { // the disk is full: the capture suffers, the stack does not
        base::count(missed, packets);
    }
    if (n > 0 && n != static_cast<ssize_t>(bytes.size())) {
        torn->store(true, std::memory_order_relaxed);
    }
    bytes.clear();
    packets = 0;
}

std::uint32_t WrapCapture::Buffer::poll(std::uint32_t)
{
    if (bytes.empty() || (cpu->now() < deadline() && bytes.size() < options->buffer_bytes / 4)) {
        return 0;
    }
    flush();
    return 1;
}

WrapCapture::WrapCapture(std::unique_ptr<netmsg::Netif> inner, WrapCaptureOptions options)
    : Netif(inner->info()), inner_(std::move(inner)), options_(std::move(options))
{
    info_.in_memory = false; // it writes a file
}

WrapCapture::~WrapCapture()
{
    detach();
}

bool WrapCapture::open_file(std::string& error)
{
    torn_ = false;
    fd_ = open(options_.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    FileHeader h;
    h.snap_bytes = options_.snap_bytes;
    h.link_type = info_.ethernet ? link_ethernet : link_raw_ip;
    if (fd_ < 0 || write(fd_, &h, sizeof h) != static_cast<ssize_t>(sizeof h)) {
        error = options_.path + ": " + strerror(errno);
        return false;
    }
    return true;
}

bool WrapCapture::attach(
    lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error)
{
    if (fd_ >= 0 || !open_file(error)) {
        return false;
    }
    counters_ = std::make_unique<netmsg::NetifCounters[]>(set.size());
    buffers_ = std::make_unique<Buffer[]>(set.size());
    input_ = input;
    context_ = context;
    set.configure([this](lwkt::Cpu& cpu) {
        Buffer& b = buffers_[cpu.id()];
        b.options = &options_;
        b.cpu = &cpu;
        b.fd = fd_;
        b.torn = &torn_;
        b.bytes.reserve(options_.buffer_bytes);
        cpu.add_poller(lwkt::Class::bio, b);
    });
    set_ = &set;
    if (!inner_->attach(set, pool, &WrapCapture::on_input, this, error)) {
        detach();
        return false;
    }
    std::uint32_t index = info_.index;
    info_ = inner_->info(); // the device may have chosen its name
    info_.in_memory = false;
    info_.index = index;
    return true;
}

void WrapCapture::detach()
{
    inner_->detach();
    if (set_ != nullptr) {
        set_->configure([this](lwkt::Cpu& cpu) {
            cpu.remove_poller(lwkt::Class::bio, buffers_[cpu.id()]);
            buffers_[cpu.id()].flush();
        });
        set_ = nullptr;
    }
    if (fd_ >= 0) {
        close(fd_);
        fd_ = -1;
    }
}

void WrapCapture::on_input(void* context, netmsg::Packet& p)
{
    auto& self = *static_cast<WrapCapture*>(context);
    netmsg::NetifCounters& counters = self.counters_[base::current_cpu];
    base::count(counters.in_packets);
    base::count(counters.in_bytes, p.total());
    self.buffers_[base::current_cpu].capture(p);
    p.netif = &self;
    self.input_(self.context_, p);
}

void WrapCapture::transmit(netmsg::Packet& p)
{
    netmsg::NetifCounters& counters = counters_[base::current_cpu];
    base::count(counters.out_packets);
    base::count(counters.out_bytes, p.total());
    buffers_[base::current_cpu].capture(p);
    inner_->transmit(p);
}

std::string WrapCapture::describe() const
{
    return inner_->describe() + ", captured to " + options_.path;
}

std::uint64_t WrapCapture::missed(base::CpuId cpu) const
{
    return buffers_[cpu].missed.load(std::memory_order_relaxed);
}

} // namespace drivers
