// Lines on stderr: what --why says about sockets, and trouble that must not pass in silence. No stdio: the program may
// be in the middle of its own, and its stderr may be a stream of ours.
#pragma once

#include "base/net_addr.hpp"

namespace preload {

__attribute__((format(printf, 1, 2))) void report(const char* format, ...);

// `netrun: fd 7 tcp connect 10.0.0.1:80 -> netd`; `reason` is null for netd.
void report_decision(int fd, int type, const char* call, const base::Endpoint& at, const char* reason);

} // namespace preload
