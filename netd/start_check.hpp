// What can be told of a start without the system's help: CPUs, limits and counts that must fit together. Asked before
// netd starts and by --check-config alike. Main thread.
#pragma once

#include <string>
#include <vector>

#include "netd/config.hpp"

namespace netd {

// Why netd does not run: a line for the user and what to exit with.
struct StartFailure {
    std::string text;
    int exit_code;
};

// The CPUs of the protocol threads; throws StartFailure.
std::vector<int> check_start(const Config& config);

} // namespace netd
