// See goodput_relay.hpp.
#include "benchmarks/goodput/goodput_relay.hpp"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bench {
namespace {

constexpr base::MacAddr relay_mac{{0x02, 0, 0, 0, 0x77, 0x01}}; // of nobody: frames only pass

lwkt::CpuSetOptions one_thread()
{
    lwkt::CpuSetOptions o;
    o.pin = {-1};
    o.spin_max = base::Micros{0}; // other links share the CPUs
    o.thread_name = "relay";
    return o;
}

void to_tap(void* tap, netmsg::Packet& p)
{
    static_cast<netmsg::Netif*>(tap)->transmit(p);
}

// A TAP's frame counts as verified, its checksum unfinished: whoever sends it on finishes it.
void to_link(void* side, netmsg::Packet& p)
{
    if (p.csum_start != 0) {
        p.csum = netmsg::Csum::partial;
    }
    static_cast<netmsg::Netif*>(side)->transmit(p);
}

} // namespace

void goodput_failed(const std::string& why)
{
    std::fprintf(stderr, "bench-goodput: %s\n", why.c_str());
    std::exit(1);
}

InNamespace::InNamespace(const std::string& path) : before_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC))
{
    int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (before_ < 0 || fd < 0 || setns(fd, CLONE_NEWNET) != 0) {
        goodput_failed(path + ": " + std::strerror(errno));
    }
    close(fd);
}

InNamespace::~InNamespace()
{
    if (setns(before_, CLONE_NEWNET) != 0) {
        goodput_failed(std::string("the way back: ") + std::strerror(errno));
    }
    close(before_);
}

GoodputRelay::GoodputRelay(const GoodputCell& cell, const std::string& near, const std::string& far)
    : set_(clock_, one_thread()), pool_(set_, {3 * held_frames_max, 512}),
      link_(drivers::make_sim_link(goodput_link(cell)))
{
    netmsg::Netif* ends[2] = {link_.a.get(), link_.b.get()};
    const std::string* names[2] = {&near, &far};
    std::string error;
    for (unsigned i = 0; i < 2; ++i) {
        drivers::TapOptions o;
        o.name = "gp0";
        o.mac = relay_mac;
        o.bring_up = false;
        taps_[i] = std::make_unique<drivers::Tap>(o);
        InNamespace here(*names[i]);
        if (!taps_[i]->attach(set_, pool_, to_link, ends[i], error)) {
            goodput_failed(error);
        }
    }
    for (unsigned i = 0; i < 2; ++i) {
        if (!ends[i]->attach(set_, pool_, to_tap, taps_[i].get(), error)) {
            goodput_failed(error);
        }
    }
    set_.start();
}

GoodputRelay::~GoodputRelay()
{
    set_.stop();
    link_.a->detach();
    link_.b->detach();
    taps_[0]->detach();
    taps_[1]->detach();
}

std::uint32_t GoodputRelay::refused() const
{
    std::uint64_t sum = pool_.exhausted(0);
    for (const auto& tap : taps_) {
        const netmsg::NetifCounters& c = tap->counters(0);
        sum += c.in_dropped + c.out_dropped + c.errors;
    }
    return static_cast<std::uint32_t>(sum + link_.counters(0).held_full + link_.counters(1).held_full);
}

std::string GoodputRelay::counters() const
{
    drivers::SimLinkCounters c = link_.counters(0);
    return "\"lost\": " + std::to_string(c.lost) + ", \"queue_full\": " + std::to_string(c.queue_full);
}

} // namespace bench
