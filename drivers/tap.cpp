// See tap.hpp. The queues themselves are frame_queue.hpp's.
#include "drivers/tap.hpp"

#include <unistd.h>

#include <cstring>

#include "drivers/tap_device.hpp"

namespace drivers {
namespace {

constexpr std::uint32_t ethernet_header_bytes = 14;
constexpr std::chrono::milliseconds let_go_max{1000};

} // namespace

Tap::Tap(TapOptions options)
    : Netif([&options] {
          netmsg::NetifInfo info;
          info.name = options.name;
          info.mtu = options.mtu;
          info.mac = options.mac;
          info.tso_max_bytes = 65535;
          info.tx_csum = true;
          return info;
      }()),
      options_(std::move(options))
{
}

Tap::~Tap()
{
    detach();
}

bool Tap::open_queues(std::size_t count, std::string& error)
{
    for (std::size_t i = 0; i < count; ++i) {
        int fd = tap_device::open_control(error);
        if (fd < 0) {
            return false;
        }
        fds_.push_back(fd);
        if (!tap_device::take_queue(fd, info_.name, count > 1, udp_segments_, error, let_go_max)) {
            return false;
        }
        info_.uso_max_bytes = udp_segments_ ? 65535 : 0; // Linux 6.2 and later
    }
    return true;
}

bool Tap::set_up(std::string& error)
{
    base::MacAddr kernels;
    if (!tap_device::hardware_address(info_.name, kernels, error)) {
        return false;
    }
    if (kernels == info_.mac) {
        error = info_.name + ": our address " + base::to_string(info_.mac) + " is the kernel's; give another one";
        return false;
    }
    return !options_.bring_up ||
           (tap_device::set_mtu(info_.name, info_.mtu, error) && tap_device::bring_up(info_.name, error));
}

// Without the program the kernel returns a flow on the queue that sent last, so only first packets are forwarded.
std::string Tap::steer()
{
    if (fds_.size() == 1 || options_.steering == nullptr) {
        return "no steering";
    }
    std::string why;
    if (program_ == nullptr) {
        program_ = SteeringProgram::load(*options_.steering, why);
    }
    if (program_ != nullptr && tap_device::set_steering(fds_[0], program_->fd(), why)) {
        return "steering by eBPF";
    }
    return "the kernel's own steering (" + why + ")";
}

bool Tap::attach(lwkt::CpuSet& set, netmsg::PacketPool& pool, netmsg::InputFn input, void* context, std::string& error)
{
    if (set_ != nullptr) {
        error = info_.name + ": attached already";
        return false;
    }
    if (options_.steering != nullptr && options_.steering->cpus() != set.size()) {
        error = info_.name + ": steering is for another number of CPUs";
        return false;
    }
    if (!open_queues(set.size(), error) || !set_up(error)) {
        close_queues();
        return false;
    }
    steering_text_ = steer();
    set_ = &set;
    counters_ = std::make_unique<netmsg::NetifCounters[]>(set.size());
    queues_ = std::make_unique<FrameQueue[]>(set.size());
    set.configure([&](lwkt::Cpu& cpu) {
        FrameQueueSetup setup;
        setup.netif = this;
        setup.device = this;
        setup.cpu = &cpu;
        setup.pool = &pool;
        setup.input = input;
        setup.context = context;
        setup.counters = &counters_[cpu.id()];
        setup.fd = fds_[cpu.id()];
        setup.link_header_bytes = ethernet_header_bytes;
        queues_[cpu.id()].attach(setup);
    });
    return true;
}

void Tap::detach()
{
    if (set_ == nullptr) {
        return;
    }
    set_->configure([this](lwkt::Cpu& cpu) { queues_[cpu.id()].detach(); });
    set_ = nullptr;
    close_queues();
}

void Tap::close_queues()
{
    for (int fd : fds_) {
        close(fd);
    }
    fds_.clear();
}

void Tap::transmit(netmsg::Packet& p)
{
    queues_[base::current_cpu].transmit(p);
}

std::string Tap::describe() const
{
    return "tap " + info_.name + ": " + std::to_string(fds_.size()) + (fds_.size() == 1 ? " queue" : " queues") +
           ", vnet header, TSO" + (udp_segments_ ? ", USO" : "") + " and checksums both ways, " + steering_text_;
}

void Tap::log(const std::string& text) const
{
    if (options_.log) {
        options_.log("tap " + info_.name + ": " + text);
    }
}

void Tap::queue_failed(base::CpuId cpu, const char* what, int error)
{
    log("queue " + std::to_string(cpu) + ": " + what + ": " + strerror(error) + "; looked at again every second");
}

void Tap::queue_works(base::CpuId cpu)
{
    log("queue " + std::to_string(cpu) + " works again");
}

// A queue works when its descriptor is one. CPU 0 takes all descriptors again, in order, because the order is what
// gives a queue its number.
bool Tap::recover(base::CpuId cpu)
{
    if (tap_device::is_queue(fds_[cpu]) && !reopening_) {
        return true;
    }
    return cpu == 0 && reopen();
}

bool Tap::reopen()
{
    if (!tap_device::exists(info_.name)) {
        return false; // whoever deleted it meant it
    }
    reopening_ = true; // until all of it succeeds, in as many attempts as it takes
    std::string error;
    if (!take_again(error)) {
        if (error != refusal_) {
            log("cannot be taken again: " + error);
            refusal_ = error;
        }
        return false;
    }
    refusal_.clear();
    steer();
    reopening_ = false;
    return true;
}

bool Tap::take_again(std::string& error)
{
    for (int fd : fds_) {
        if (!tap_device::is_queue(fd) &&
            !tap_device::take_queue(fd, info_.name, fds_.size() > 1, udp_segments_, error)) {
            return false;
        }
    }
    return set_up(error);
}

base::MacAddr random_mac(base::Random& random)
{
    base::MacAddr mac;
    std::uint64_t bits = random.next();
    std::memcpy(mac.bytes.data(), &bits, mac.bytes.size());
    mac.bytes[0] = static_cast<unsigned char>((mac.bytes[0] & 0xfcU) | 0x02U);
    return mac;
}

} // namespace drivers
