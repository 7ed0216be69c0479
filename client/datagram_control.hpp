// Control messages of datagrams (ip(7), ipv6(7), udp(7)): what a send asks for, and the writer of what a read is told.
// Internal to client/. Pure but for the caller's buffers.
#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "sockbuf/abi.hpp"

namespace client {

// Appends control messages as put_cmsg() of Linux: the last one needs no padding, what does not fit is cut
// (MSG_CTRUNC), for less than a header nothing is written.
class ControlWriter {
public:
    explicit ControlWriter(msghdr& m) : m_(m), room_(m.msg_control != nullptr ? m.msg_controllen : 0) {}
    ~ControlWriter() { m_.msg_controllen = used_; }
    ControlWriter(const ControlWriter&) = delete;
    ControlWriter& operator=(const ControlWriter&) = delete;

    template <typename T>
    void add(int level, int type, const T& value)
    {
        std::size_t left = room_ - used_;
        if (left < CMSG_LEN(sizeof value)) {
            m_.msg_flags |= MSG_CTRUNC;
        }
        if (left < sizeof(cmsghdr)) {
            return;
        }
        cmsghdr head{};
        head.cmsg_level = level;
        head.cmsg_type = type;
        head.cmsg_len = std::min(CMSG_LEN(sizeof value), left);
        auto* at = static_cast<std::byte*>(m_.msg_control) + used_;
        std::memcpy(at, &head, sizeof head);
        std::memcpy(at + CMSG_LEN(0), &value, head.cmsg_len - CMSG_LEN(0));
        used_ += std::min(CMSG_SPACE(sizeof value), left);
    }

private:
    msghdr& m_;
    std::size_t room_;
    std::size_t used_ = 0;
};

// What the control messages of a send ask of netd, into the record's header; `source6` gets the source of IPV6_PKTINFO.
// `family`: the socket's. 0, or what the send fails with.
int read_control(const msghdr& m, int family, sockbuf::DatagramHeader& h, unsigned char source6[16]);

} // namespace client
