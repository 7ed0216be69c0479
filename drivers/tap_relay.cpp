// See tap_relay.hpp.
#include "drivers/tap_relay.hpp"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.hpp"

namespace drivers {

namespace {

constexpr base::MacAddr relay_mac{{0x02, 0, 0, 0, 0x77, 0x01}}; // of nobody: frames only pass

lwkt::CpuSetOptions one_thread()
{
    lwkt::CpuSetOptions o;
    o.pin = {-1};
    o.spin_max = base::Micros{0}; // others need the CPUs
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

// Runs `f` with the calling thread in the namespace; false with `error` set.
template <typename F>
bool inside(const std::string& path, std::string& error, F f)
{
    int before = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    int there = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    bool entered = before >= 0 && there >= 0 && setns(there, CLONE_NEWNET) == 0;
    if (!entered) {
        error = path + ": " + std::strerror(errno);
    }
    bool done = entered && f();
    INVARIANT(!entered || setns(before, CLONE_NEWNET) == 0);
    for (int fd : {before, there}) {
        if (fd >= 0) {
            close(fd);
        }
    }
    return done;
}

} // namespace

TapRelay::TapRelay(const SimLinkOptions& link, TapPlace a, TapPlace b)
    : set_(clock_, one_thread()), pool_(set_, {3 * link.held_frames_max, 512}), places_{std::move(a), std::move(b)},
      link_(make_sim_link(link))
{
}

bool TapRelay::start(std::string& error)
{
    netmsg::Netif* ends[2] = {link_.a.get(), link_.b.get()};
    for (unsigned i = 0; i < 2; ++i) {
        TapOptions o;
        o.name = places_[i].device;
        o.mac = relay_mac;
        o.bring_up = false;
        taps_[i] = std::make_unique<Tap>(o);
        auto attach = [&] { return taps_[i]->attach(set_, pool_, to_link, ends[i], error); };
        if (!inside(places_[i].name_space, error, attach)) {
            return false;
        }
    }
    for (unsigned i = 0; i < 2; ++i) {
        if (!ends[i]->attach(set_, pool_, to_tap, taps_[i].get(), error)) {
            return false;
        }
    }
    attached_ = true;
    set_.start();
    return true;
}

TapRelay::~TapRelay()
{
    set_.stop();
    if (attached_) {
        link_.a->detach();
        link_.b->detach();
        taps_[0]->detach();
        taps_[1]->detach();
    }
}

std::uint64_t TapRelay::refused() const
{
    std::uint64_t sum = pool_.exhausted(0);
    for (const auto& tap : taps_) {
        const netmsg::NetifCounters& c = tap->counters(0);
        sum += c.in_dropped + c.out_dropped + c.errors;
    }
    return sum + link_.counters(0).held_full + link_.counters(1).held_full;
}

} // namespace drivers
