// Operating errors of the stack, as an enum whose values are Linux errno numbers, so the API edge maps by a cast.
// A malformed packet is never an Error (it is a counted drop), and a broken invariant breaks an INVARIANT.
#pragma once

#include <cerrno>
#include <cstdint>

namespace base {

enum class Error : std::int32_t {
    none = 0,
    permission = EPERM,
    interrupted = EINTR,
    access = EACCES,
    no_device = ENODEV,
    invalid = EINVAL,
    broken_pipe = EPIPE,
    destination_required = EDESTADDRREQ,
    message_size = EMSGSIZE,
    protocol = EPROTO,
    no_protocol_option = ENOPROTOOPT,
    not_supported = EOPNOTSUPP,
    address_in_use = EADDRINUSE,
    address_not_available = EADDRNOTAVAIL,
    network_unreachable = ENETUNREACH,
    connection_aborted = ECONNABORTED,
    connection_reset = ECONNRESET,
    no_buffers = ENOBUFS,
    is_connected = EISCONN,
    not_connected = ENOTCONN,
    timed_out = ETIMEDOUT,
    connection_refused = ECONNREFUSED,
    host_unreachable = EHOSTUNREACH,
    host_down = EHOSTDOWN,
    host_isolated = ENONET,
    already = EALREADY,
    in_progress = EINPROGRESS,
};

constexpr int to_errno(Error e)
{
    return static_cast<int>(e);
}

} // namespace base
