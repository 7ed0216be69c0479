// sockaddr to and from the 16-byte addresses of the ABI. Internal to client/. Pure.
#pragma once

#include <sys/socket.h>

#include "base/net_addr.hpp"

namespace client {

// For a socket of `family`; 0, -EINVAL (too short) or -EAFNOSUPPORT. An AF_INET6 socket takes mapped and plain IPv4.
// A scope id is an interface index of netd's.
int parse_sockaddr(const sockaddr* addr, socklen_t len, int family, base::Endpoint& out);

// As getsockname(2): cut to *len, *len becomes the full size. Nothing when addr or len is null.
void write_sockaddr(int family, const unsigned char addr16[16], std::uint16_t port, sockaddr* addr, socklen_t* len);

} // namespace client
