// A report that waits for its time. Private to protocols/multicast.
#pragma once

#include "lwkt/timer_wheel.hpp"
#include "protocols/multicast/groups.hpp"

namespace protocols {

inline constexpr std::size_t reports_max = 1024;

struct GroupState::Report : lwkt::Timer {
    Report(Domain& d, const GroupKey& of, bool six);

    Domain& domain; // c
    GroupKey key;   // c: an answer: group "::" = all of the interface's
    bool v6;        // c
    bool answers = false;
    bool whole = false;              // a change: says the whole state
    unsigned left = 1;               // a change: how often yet
    SourceFilter before;             // a change: what routers know
    std::vector<base::IpAddr> asked; // an answer: about these sources only
};

} // namespace protocols
