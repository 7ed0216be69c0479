// Control messages of datagrams (ip(7), ipv6(7), udp(7)): what a send asks for, and the writer of what a read is told.
// Internal to client/. Pure but for the caller's buffers.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstring>

#include "sockbuf/abi.hpp"

namespace client {

// Appends one control message, or says that it did not fit (MSG_CTRUNC).
class ControlWriter {
public:
    explicit ControlWriter(msghdr& m) : m_(m), room_(m.msg_control != nullptr ? m.msg_controllen : 0) {}
    ~ControlWriter() { m_.msg_controllen = used_; }
    ControlWriter(const ControlWriter&) = delete;
    ControlWriter& operator=(const ControlWriter&) = delete;

    template <typename T>
    void add(int level, int type, const T& value)
    {
        if (room_ - used_ < CMSG_SPACE(sizeof value)) {
            m_.msg_flags |= MSG_CTRUNC;
            return;
        }
        cmsghdr head{};
        head.cmsg_level = level;
        head.cmsg_type = type;
        head.cmsg_len = CMSG_LEN(sizeof value);
        auto* at = static_cast<std::byte*>(m_.msg_control) + used_;
        std::memcpy(at, &head, sizeof head);
        std::memcpy(at + CMSG_LEN(0), &value, sizeof value);
        used_ += CMSG_SPACE(sizeof value);
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
