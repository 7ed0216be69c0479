// Messages. A message has exactly one holder at any time:
//   before send     the sender; every field may be written
//   sent            nobody but the ring or queue that carries it; the sender must not touch it again
//   dispatched      the target CPU's protocol thread, until it replies, forwards, or lets it go home
//   replied         whoever owns the reply port
// Messages are embedded in what they are about (a packet, a request), never allocated by send.
#pragma once

#include <cstdint>

#include "base/ownership.hpp"

namespace lwkt {

using base::CpuId;

// Run-loop classes in order of precedence: clock > net == serial > bio > gen; a round of the loop: lwkt/cpu.hpp.
enum class Class : std::uint8_t {
    clock,  // timer wheels
    net,    // packets
    serial, // socket messages
    bio,    // bulk copies, capture and log writes, state hand-over
    gen,    // frees, statistics, table growth
};
inline constexpr unsigned class_count = 5;

class Port;

struct Message {
    using Dispatch = void (*)(Message&);

    Message* next = nullptr;     // m: link of whatever queue holds it
    Dispatch dispatch = nullptr; // m: runs on the target CPU and takes over as holder
    Port* reply_port = nullptr;  // m: where reply() delivers; null = nobody waits and reply() is an error
    std::int32_t result = 0;     // m: errno-style result of a call, set before reply()
    Class cls = Class::serial;   // m: class in which the target dispatches it
    CpuId home = base::no_cpu;   // c: CPU whose pool owns the memory; no_cpu = not pooled
};

// Hands the message to its reply port. The caller holds it no longer.
void reply(Message& m);

} // namespace lwkt
