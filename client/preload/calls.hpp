// What the files of interposed calls share: turning the client's results into libc's.
#pragma once

#include <cerrno>

#include "client/preload/fd_table.hpp"
#include "client/preload/process.hpp"
#include "client/preload/real.hpp"

#define PRELOAD_CALL extern "C" __attribute__((visibility("default")))

namespace preload {

// >= 0, or -1 and errno.
template <typename T>
T outcome(T result)
{
    if (result < 0) {
        errno = static_cast<int>(-result);
        return -1;
    }
    return result;
}

inline client::Session& session_of_netd()
{
    return *session_if_attached(); // there is a netd socket, so the process attached
}

// Whether a call decided for netd what was undecided before; waits for one that is at it. Not in the hot paths.
inline bool became_netd(const Entry& e)
{
    TableLock lock;
    return e.state.load(std::memory_order_acquire) == EntryState::netd;
}

enum class Whose { kernel, netd, nobody }; // nobody: refused, errno set

// Decides an undecided socket, or says how it was decided meanwhile.
Whose settle(int fd, Entry& e, const char* call, const sockaddr* addr, socklen_t len, Use use);

} // namespace preload
