// The simulated link between two namespaces: what one kernel sends on its TAP gp0 goes through the cell's impairments
// in real time and comes out of the other's (drivers/tap_relay.hpp).
#pragma once

#include <string>

#include "benchmarks/goodput/goodput_cell.hpp"
#include "drivers/tap_relay.hpp"

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
    // What was dropped although no impairment says so.
    std::uint32_t refused() const { return static_cast<std::uint32_t>(relay_.refused()); }
    std::string counters() const;

private:
    drivers::TapRelay relay_;
};

// Ends the program.
[[noreturn]] void goodput_failed(const std::string& why);

} // namespace bench
