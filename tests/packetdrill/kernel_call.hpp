// System calls by number, with a negative errno for failures: the C library's functions of these names may be the
// preload library's, which would come back to the stack.
#pragma once

#include <unistd.h>

#include <cerrno>

namespace packetdrill {

template <typename... Arguments>
long kernel_call(long number, Arguments... arguments)
{
    long result = ::syscall(number, arguments...);
    return result < 0 ? -errno : result;
}

} // namespace packetdrill
