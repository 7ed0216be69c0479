#include "client/group_options.hpp"

#include <netinet/in.h>

#include <cerrno>
#include <cstring>

#include "base/net_addr.hpp"

namespace client {

namespace {

bool copy_address(const sockaddr_storage& from, unsigned char to[16])
{
    base::IpAddr a;
    if (from.ss_family == AF_INET) {
        sockaddr_in in;
        std::memcpy(&in, &from, sizeof in);
        a = base::IpAddr::v4(ntohl(in.sin_addr.s_addr));
    } else if (from.ss_family == AF_INET6) {
        sockaddr_in6 in6;
        std::memcpy(&in6, &from, sizeof in6);
        a = base::IpAddr::v6(&in6.sin6_addr);
    } else {
        return false;
    }
    std::memcpy(to, a.bytes(), 16);
    return true;
}

} // namespace

bool is_group_request(int level, int name)
{
    switch (name) {
    case MCAST_JOIN_GROUP:
    case MCAST_LEAVE_GROUP:
    case MCAST_JOIN_SOURCE_GROUP:
    case MCAST_LEAVE_SOURCE_GROUP:
    case MCAST_BLOCK_SOURCE:
    case MCAST_UNBLOCK_SOURCE:
        return level == IPPROTO_IP || level == IPPROTO_IPV6;
    default:
        return false;
    }
}

int read_group_request(int name, const void* value, socklen_t len, sockbuf::GroupRequest& out)
{
    group_source_req request{};
    bool group_only = name == MCAST_JOIN_GROUP || name == MCAST_LEAVE_GROUP;
    std::size_t needed = group_only ? sizeof(group_req) : sizeof request;
    static_assert(offsetof(group_req, gr_group) == offsetof(group_source_req, gsr_group));
    if (len < needed) {
        return -EINVAL;
    }
    std::memcpy(static_cast<void*>(&request), value, needed);
    out.interface = request.gsr_interface;
    bool good =
        copy_address(request.gsr_group, out.group) && (group_only || copy_address(request.gsr_source, out.source));
    return good ? 0 : -EADDRNOTAVAIL;
}

} // namespace client
