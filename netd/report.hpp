// What netctl shows: sockets and counters as lines of JSON, gathered through CpuSet::call and relaxed reads. Control
// thread. A line of `ss` is one socket; a line of `stat` is {"name", "value"} and, for values that every CPU has,
// "cpu"; "highest" marks those that are not to be added up.
#pragma once

#include <string>
#include <vector>

#include "gateway/gateway.hpp"
#include "sockbuf/admission.hpp"

namespace netd {

class Report {
public:
    Report(gateway::Gateway& gateway, protocols::Stack& stack, std::size_t packet_max)
        : gateway_(gateway), stack_(stack), packet_max_(packet_max)
    {
    }
    // Whole lines in packets of at most packet_max bytes; empty for a kind that is not known.
    std::vector<std::string> text(sockbuf::ControlKind kind);

private:
    std::vector<std::string> sockets();
    std::vector<std::string> counters();
    std::vector<std::string> addresses();
    void leases(std::vector<std::string>& lines);
    void line(std::vector<std::string>& packets, const std::string& text) const;

    gateway::Gateway& gateway_;
    protocols::Stack& stack_;
    std::size_t packet_max_;
};

} // namespace netd
