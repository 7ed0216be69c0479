// Where a program looks for netd's socket: what the environment names, else a user's own netd, else the system's. Any
// thread that may read the environment. Not where netd listens: that is netd/config.hpp's, and looks at no file.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <string>

namespace sockbuf {

inline std::string client_socket_path()
{
    if (const char* path = std::getenv("NETD_SOCKET"); path != nullptr && *path != '\0') {
        return path;
    }
    const char* runtime = std::getenv("XDG_RUNTIME_DIR");
    if (geteuid() != 0 && runtime != nullptr && *runtime != '\0') {
        std::string own = std::string(runtime) + "/netd.sock";
        if (access(own.c_str(), F_OK) == 0) {
            return own;
        }
    }
    return "/run/netd.sock";
}

} // namespace sockbuf
