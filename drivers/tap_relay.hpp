// Two TAP devices, each in a network namespace of its own, joined by the simulated link in real time: what one kernel
// sends out of its device goes through the link's impairments and comes in at the other's. For tests and benchmarks
// with a kernel as the peer. One protocol thread; made, started and ended by one control thread.
#pragma once

#include <memory>
#include <string>

#include "drivers/sim_link.hpp"
#include "drivers/tap.hpp"
#include "lwkt/clock.hpp"
#include "lwkt/cpu_set.hpp"

namespace drivers {

// Where a device is made: the namespace's path under /proc or /run.
struct TapPlace {
    std::string name_space;
    std::string device;
};

class TapRelay {
public:
    // `link`: as it is to be, impairments included. Space for its held frames is made.
    TapRelay(const SimLinkOptions& link, TapPlace a, TapPlace b);
    ~TapRelay();
    TapRelay(const TapRelay&) = delete;
    TapRelay& operator=(const TapRelay&) = delete;

    // False with `error` set: no such namespace, no device to be had.
    bool start(std::string& error);
    // Frames dropped although no impairment says so.
    std::uint64_t refused() const;
    SimLinkCounters counters(unsigned side) const { return link_.counters(side); }

private:
    lwkt::RealClock clock_;
    lwkt::CpuSet set_;
    netmsg::PacketPool pool_;
    TapPlace places_[2];
    std::unique_ptr<Tap> taps_[2];
    SimLink link_;
    bool attached_ = false;
};

} // namespace drivers
