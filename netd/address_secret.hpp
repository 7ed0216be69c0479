// What an interface's stable addresses are made from: a word of the configuration, or this machine's id. Main thread.
#pragma once

#include <cstdint>
#include <string>

namespace netd {

inline constexpr const char* machine_id_path = "/etc/machine-id";

// The same secret gives the same addresses after a restart (RFC 7217 5). False, and nothing set: there is neither, or
// an id that other machines have too (machine-id(5): images say "uninitialized"); addresses then change.
bool address_secret(const std::string& configured, const std::string& id_path, std::uint64_t (&secret)[2]);

} // namespace netd
