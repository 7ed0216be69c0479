// The simulated link between two namespaces: what one kernel sends on its TAP gp0 goes through the link's impairments
// in real time and comes out of the other's. One protocol thread.
#pragma once

#include <memory>
#include <string>

#include "benchmarks/goodput/goodput_cell.hpp"
#include "drivers/tap.hpp"
#include "lwkt/cpu_set.hpp"

namespace bench {

// The namespace of the calling thread becomes that of the path, until the result is destroyed.
class InNamespace {
public:
    explicit InNamespace(const std::string& path);
    ~InNamespace();
    InNamespace(const InNamespace&) = delete;
    InNamespace& operator=(const InNamespace&) = delete;

private:
    int before_ = -1;
};

class GoodputRelay {
public:
    GoodputRelay(const GoodputCell& cell, const std::string& near, const std::string& far); // started
    ~GoodputRelay();
    // What was dropped although no impairment says so.
    std::uint32_t refused() const;
    std::string counters() const;

private:
    lwkt::RealClock clock_;
    lwkt::CpuSet set_;
    netmsg::PacketPool pool_;
    std::unique_ptr<drivers::Tap> taps_[2];
    drivers::SimLink link_;
};

// Ends the program.
[[noreturn]] void goodput_failed(const std::string& why);

} // namespace bench
