// What the machine looks like, from hwloc. Loaded once, read by any thread afterwards.
#pragma once

#include <string>
#include <vector>

namespace lwkt {

// The OS CPUs that the process may run on, by core, then by hyperthread.
std::vector<int> usable_cpus();
// "0-3,6", or "all". Empty on a syntax error or a CPU that does not exist or may not be used; `error` says which.
std::vector<int> parse_cpu_list(const std::string& text, std::string& error);

// Binds the calling thread to an OS CPU; false when that is refused.
bool bind_this_thread(int os_cpu);

} // namespace lwkt
