#include "client/datagram_control.hpp"

#include <netinet/in.h>
#include <netinet/udp.h>

#include <algorithm>
#include <cerrno>

#include "base/net_addr.hpp"

namespace client {

namespace {

template <typename T>
bool value_of(const cmsghdr& c, T& out)
{
    if (c.cmsg_len != CMSG_LEN(sizeof out)) {
        return false;
    }
    std::memcpy(&out, CMSG_DATA(&c), sizeof out);
    return true;
}

bool number_of(const cmsghdr& c, bool byte_too, int& out)
{
    unsigned char byte = 0;
    if (byte_too && value_of(c, byte)) {
        out = byte;
        return true;
    }
    return value_of(c, out);
}

bool interface_of(unsigned index, sockbuf::DatagramHeader& h)
{
    h.interface = static_cast<std::uint16_t>(std::min(index, 0xffffU));
    return true;
}

bool set_class(int value, sockbuf::DatagramHeader& h)
{
    h.tos = static_cast<std::uint8_t>(value);
    h.flags |= sockbuf::datagram_has_tos;
    return value >= 0 && value <= 255;
}

// False: EINVAL, as Linux says to each message that it does not know or cannot read.
bool read_ip(const cmsghdr& c, sockbuf::DatagramHeader& h)
{
    int value = 0;
    in_pktinfo info{};
    switch (c.cmsg_type) {
    case IP_TTL:
        h.ttl = number_of(c, false, value) ? static_cast<std::uint8_t>(value) : std::uint8_t{0};
        return value >= 1 && value <= 255;
    case IP_TOS:
        return number_of(c, true, value) && set_class(value, h);
    case IP_PKTINFO:
        h.local_v4 = value_of(c, info) ? ntohl(info.ipi_spec_dst.s_addr) : 0;
        return c.cmsg_len == CMSG_LEN(sizeof info) && interface_of(static_cast<unsigned>(info.ipi_ifindex), h);
    default:
        return false;
    }
}

bool set_source6(const in6_pktinfo& info, sockbuf::DatagramHeader& h, unsigned char source6[16])
{
    base::IpAddr source = base::IpAddr::v6(&info.ipi6_addr);
    if (source.is_v4()) {
        h.local_v4 = source.v4();
    } else if (!source.is_any()) {
        std::memcpy(source6, source.bytes(), 16);
        h.flags |= sockbuf::datagram_has_source;
    }
    return interface_of(info.ipi6_ifindex, h);
}

bool read_ipv6(const cmsghdr& c, sockbuf::DatagramHeader& h, unsigned char source6[16])
{
    int value = 0;
    in6_pktinfo info{};
    switch (c.cmsg_type) {
    case IPV6_HOPLIMIT:
        if (!number_of(c, false, value) || value < -1 || value > 255) {
            return false;
        }
        h.ttl = static_cast<std::uint8_t>(std::max(value, 0)); // -1: the socket's own
        return true;
    case IPV6_TCLASS:
        return number_of(c, false, value) && (value == -1 || set_class(value, h));
    case IPV6_PKTINFO:
        return value_of(c, info) && set_source6(info, h, source6);
    default:
        return false;
    }
}

bool read_udp(const cmsghdr& c, sockbuf::DatagramHeader& h)
{
    return c.cmsg_type == UDP_SEGMENT && value_of(c, h.segment);
}

} // namespace

int read_control(const msghdr& m, int family, sockbuf::DatagramHeader& h, unsigned char source6[16])
{
    auto* all = const_cast<msghdr*>(&m);
    for (cmsghdr* c = m.msg_controllen != 0 ? CMSG_FIRSTHDR(all) : nullptr; c != nullptr; c = CMSG_NXTHDR(all, c)) {
        bool good = true;
        if (c->cmsg_level == IPPROTO_IP) {
            good = read_ip(*c, h);
        } else if (c->cmsg_level == IPPROTO_IPV6 && family == AF_INET6) {
            good = read_ipv6(*c, h, source6);
        } else if (c->cmsg_level == IPPROTO_UDP) {
            good = read_udp(*c, h);
        }
        if (!good) {
            return -EINVAL;
        }
    }
    return 0;
}

} // namespace client
