#include "client/sockaddr.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace client {

int parse_sockaddr(const sockaddr* addr, socklen_t len, int family, base::Endpoint& out)
{
    if (addr == nullptr || len < sizeof(sa_family_t)) {
        return -EINVAL;
    }
    sa_family_t given;
    std::memcpy(&given, addr, sizeof given);
    if (given == AF_INET6 && family == AF_INET6) {
        sockaddr_in6 in6{};
        if (len < offsetof(sockaddr_in6, sin6_scope_id)) {
            return -EINVAL;
        }
        std::memcpy(&in6, addr, std::min<std::size_t>(len, sizeof in6));
        out = {base::IpAddr::v6(&in6.sin6_addr).in_zone(in6.sin6_scope_id), ntohs(in6.sin6_port)};
        return 0;
    }
    sockaddr_in in;
    if (len < sizeof in) {
        return -EINVAL;
    }
    std::memcpy(&in, addr, sizeof in);
    // ip(7), Linux: bind to AF_UNSPEC with INADDR_ANY means AF_INET.
    bool unspecified_any = given == AF_UNSPEC && in.sin_addr.s_addr == INADDR_ANY;
    if (given != AF_INET && !unspecified_any) {
        return -EAFNOSUPPORT;
    }
    out = {base::IpAddr::v4(ntohl(in.sin_addr.s_addr)), ntohs(in.sin_port)};
    return 0;
}

int parse_destination(const sockaddr* addr, socklen_t len, int family, base::Endpoint& out)
{
    sockaddr_in in;
    if (family != AF_INET || addr == nullptr || len < sizeof in || addr->sa_family != AF_UNSPEC) {
        return parse_sockaddr(addr, len, family, out);
    }
    std::memcpy(&in, addr, sizeof in);
    out = {base::IpAddr::v4(ntohl(in.sin_addr.s_addr)), ntohs(in.sin_port)};
    return 0;
}

bool names_nobody(const sockaddr* addr, socklen_t len, int family)
{
    return addr == nullptr || len == 0 ||
           (family == AF_INET6 && len >= sizeof(sa_family_t) && addr->sa_family == AF_UNSPEC);
}

void write_sockaddr(int family, const unsigned char addr16[16], std::uint16_t port, sockaddr* addr, socklen_t* len)
{
    if (addr == nullptr || len == nullptr) {
        return;
    }
    if (family == AF_INET6) {
        sockaddr_in6 in6{};
        in6.sin6_family = AF_INET6;
        in6.sin6_port = htons(port);
        base::IpAddr a = base::IpAddr::v6(addr16);
        std::memcpy(&in6.sin6_addr, a.on_wire().bytes(), 16);
        in6.sin6_scope_id = a.zone();
        std::memcpy(addr, &in6, std::min<std::size_t>(*len, sizeof in6));
        *len = sizeof in6;
        return;
    }
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    std::memcpy(&in.sin_addr, addr16 + 12, 4);
    if (*len >= sizeof in) [[likely]] { // of a known size it is two stores
        std::memcpy(addr, &in, sizeof in);
    } else {
        std::memcpy(addr, &in, *len);
    }
    *len = sizeof in;
}

} // namespace client
