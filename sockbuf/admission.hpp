// The admission protocol: what a process and netd say to each other over the UNIX socket (SOCK_SEQPACKET), one packet a
// message. The connection lives as long as the process: its end is how netd learns of a death. Part of the ABI.
#pragma once

#include <cstdint>

#include "sockbuf/abi.hpp"

namespace sockbuf {

enum class Hello : std::uint32_t {
    attach = 1, // a new family -> AttachReply + [segment memfd, sleep page memfd, doorbell eventfd x cpus]
    waiter = 2, // value = WaiterKind -> WaiterReply + [pipe read end]
    fork = 3, // before fork(): -> ForkReply + [the child's admission connection]; holder bits are the caller's to copy
    drop_waiter = 4, // value = waiter index (an epoll set was closed, a thread ended); no reply
    control = 5,     // netctl: value = ControlKind -> text replies, the last one control_end (own connection)
    waker = 6,       // value = waiter index -> WakerReply + [O_PATH descriptor of its pipe, to be opened for a wake]
    share = 7,       // ShareRequest: as attach, but into the family of this user that has the name, if there is one
};
enum class ControlKind : std::int32_t { ss = 1, stat = 2, addr = 3 };
inline constexpr char control_end[] = "."; // without the 0; the others hold lines of JSON

struct AdmissionRequest {
    std::uint32_t magic;   // abi_magic
    std::uint32_t version; // abi_version
    std::uint32_t hello;   // Hello
    std::int32_t value;
};

inline constexpr std::uint32_t share_name_max = 31;
struct ShareRequest {
    AdmissionRequest request;
    char name[share_name_max + 1]; // ends with a 0
};

struct AttachReply {
    std::int32_t error; // errno; 0 = attached
    std::uint32_t version;
    std::uint64_t segment_bytes;
    std::uint32_t page_bytes;
    std::uint32_t process; // index of the calling process
    std::uint32_t cpus;
    std::uint32_t reserved;
};
struct WaiterReply {
    std::int32_t error; // ENOSPC: all waiters in use
    std::uint32_t waiter;
};
struct WakerReply {
    std::int32_t error;       // ENOENT: no such waiter (any more)
    std::uint32_t generation; // of the waiter whose pipe this is
};
struct ForkReply {
    std::int32_t error;    // ENOSPC: all process indices in use
    std::uint32_t process; // index of the child
};

} // namespace sockbuf
