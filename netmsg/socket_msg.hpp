// The catalogue of messages that sockets send to protocol threads (the pru_* roles of BSD). One message type with
// arguments by value: what is copied early (address, option value) lies in it, what comes late (result, option value)
// is stored in it before reply(). The gateway makes them from validated requests; the dispatch functions are
// protocols/socket/so_dispatch.
//
//   bind        walks all CPUs: every one reserves the port before it completes
//   listen      walks all CPUs: every one gets a listener entry
//   connect     runs on the CPU that owns the flow; a socket bound first is handed over on the way
//   send, rcvd  "look at the socket": offsets in shared memory moved; may be merged, dropped, reordered
//   may_send    what a datagram would be refused with; binds a socket that is not bound, by the same walk
//   shutdown, disconnect, abort, ctloutput (setsockopt, getsockopt), control: run on the owner
// attach happens on the home CPU when the first request for a granted slot arrives; accept needs no message (lanes);
// sockaddr and peeraddr are read from the slot.
#pragma once

#include <cstdint>

#include "base/error.hpp"
#include "base/net_addr.hpp"
#include "lwkt/message.hpp"

namespace protocols {
struct Socket;
}

namespace netmsg {

enum class SocketOp : std::uint8_t {
    bind,
    listen,
    connect,
    send,
    rcvd,
    shutdown,
    disconnect,
    abort,
    set_option,
    get_option,
    unconnect,
    may_send
};

inline constexpr unsigned option_bytes_max = 308; // the longest getsockopt value (sockbuf::reply_data_max)

struct SocketMsg : lwkt::Message {
    SocketOp op{};                       // m
    protocols::Socket* socket = nullptr; // m: its owner changes only inside bind, listen, connect of this message
    base::Endpoint address;              // m: bind, connect
    std::int32_t value = 0;              // m: backlog, SHUT_*; connect: sockbuf::FastConnect
    std::int32_t level = 0;              // m: options
    std::int32_t name = 0;               // m
    std::uint32_t size = 0;              // m: bytes of option, in and out; may_send: option is a DatagramQuestion
    std::uint16_t walk_left = 0;         // m: CPUs still to visit (bind, listen, close of a listener)
    base::CpuId origin = base::no_cpu;   // m: CPU to return to after a walk
    std::uint32_t tries = 0;             // m: ports or retries used by a bind so far
    const void* walk = nullptr;          // m: which walk it makes (protocols/socket/so_message.hpp)
    std::uint32_t sequence = 0;          // m: the application's request number
    std::uint32_t process = 0;           // m: ... and the process whose request it was
    alignas(8) unsigned char option[option_bytes_max]; // m
    // result (Message::result): 0 or a positive errno
};

} // namespace netmsg
