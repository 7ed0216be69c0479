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
    bad_descriptor = EBADF,
    would_block = EAGAIN,
    no_memory = ENOMEM,
    access = EACCES,
    fault = EFAULT,
    no_device = ENODEV,
    invalid = EINVAL,
    broken_pipe = EPIPE,
    not_socket = ENOTSOCK,
    destination_required = EDESTADDRREQ,
    message_size = EMSGSIZE,
    protocol = EPROTO,
    protocol_type = EPROTOTYPE,
    no_protocol_option = ENOPROTOOPT,
    protocol_not_supported = EPROTONOSUPPORT,
    not_supported = EOPNOTSUPP,
    family_not_supported = EAFNOSUPPORT,
    address_in_use = EADDRINUSE,
    address_not_available = EADDRNOTAVAIL,
    network_down = ENETDOWN,
    network_unreachable = ENETUNREACH,
    connection_aborted = ECONNABORTED,
    connection_reset = ECONNRESET,
    no_buffers = ENOBUFS,
    is_connected = EISCONN,
    not_connected = ENOTCONN,
    shut_down = ESHUTDOWN,
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
