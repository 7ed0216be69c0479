// What netd and netctl end with: the names and numbers of sysexits(3), so that scripts can tell the reasons apart.
#pragma once

namespace netd {

inline constexpr int exit_ok = 0;
inline constexpr int exit_usage = 64;       // EX_USAGE: bad arguments
inline constexpr int exit_unavailable = 69; // EX_UNAVAILABLE: netd not running, or running already; no TUN device
inline constexpr int exit_software = 70;    // EX_SOFTWARE: memory, descriptors, what should not happen
inline constexpr int exit_os = 71;          // EX_OSERR: the system refused (name or socket path in use by others)
inline constexpr int exit_io = 74;          // EX_IOERR: standard output cannot be written
inline constexpr int exit_permission = 77;  // EX_NOPERM
inline constexpr int exit_config = 78;      // EX_CONFIG

} // namespace netd
