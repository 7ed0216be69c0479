// sockaddr to and from the 16-byte addresses of the ABI. Internal to client/. Pure.
#pragma once

#include <sys/socket.h>

#include "base/net_addr.hpp"

namespace client {

// For a socket of `family`; 0, -EINVAL (too short) or -EAFNOSUPPORT. An AF_INET6 socket takes mapped and plain IPv4.
// A scope id is an interface index of netd's.
int parse_sockaddr(const sockaddr* addr, socklen_t len, int family, base::Endpoint& out);

// The same of what is sent to: there AF_UNSPEC is as good as AF_INET for a socket of that, as on Linux; for one of
// AF_INET6 it names nobody (names_nobody).
int parse_destination(const sockaddr* addr, socklen_t len, int family, base::Endpoint& out);
bool names_nobody(const sockaddr* addr, socklen_t len, int family);

// As getsockname(2): cut to *len, *len becomes the full size. Nothing when addr or len is null.
void write_sockaddr(int family, const unsigned char addr16[16], std::uint16_t port, sockaddr* addr, socklen_t* len);
// A length that Linux, where it is an int, refuses (EINVAL).
inline bool is_below_zero(const socklen_t* len)
{
    return len != nullptr && static_cast<std::int32_t>(*len) < 0;
}

} // namespace client
