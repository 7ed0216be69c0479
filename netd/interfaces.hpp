// From configuration to drivers, and what clients are told about it. Main thread, before the CPUs run.
#pragma once

#include <memory>
#include <vector>

#include "gateway/segment.hpp"
#include "netd/config.hpp"
#include "netmsg/netif.hpp"
#include "protocols/stack.hpp"

namespace netd {

// The driver of an interface; opened when the stack attaches it. `random` draws a MAC address where none is configured.
std::unique_ptr<netmsg::Netif> make_netif(
    const InterfaceConfig& config, const protocols::Stack& stack, base::Random& random);
// The loopback every stack has: as configured, or 127.0.0.1/8 with the driver's defaults.
InterfaceConfig loopback_config(const Config& config);
// What stands in the way of a TAP before a driver is asked; throws StartFailure with advice.
void check_tap(const std::string& name);
// What the driver's refusal means for the user: advice and exit code.
[[noreturn]] void explain_refusal(const InterfaceConfig& config, const std::string& error);

// Which destinations are netd's: own addresses, their networks, the destinations of routes; 127.0.0.0/8 and ::1 if
// configured.
std::vector<gateway::Announced> announced_prefixes(const Config& config);

} // namespace netd
