// UNIX SOCK_SEQPACKET sockets: netd's listening one, packets with descriptors, netctl's way in. Any thread; nothing
// here blocks but connect_to() and receive_packet() on a blocking socket.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "netd/unique_fd.hpp"

namespace netd {

// What is wrong with it as a socket's; empty = nothing.
std::string check_socket_path(const std::string& path);
// Listens on `path`, non-blocking. A socket file that nobody serves is replaced; one that a live netd serves is not.
// `mode` is the file's. On failure no descriptor, `error` set and `exit_code` of exit_codes.hpp.
UniqueFd listen_on(const std::string& path, unsigned mode, std::string& error, int& exit_code);
// 0 with `out` set, or a positive errno. Blocking socket.
int connect_to(const std::string& path, UniqueFd& out);

// One packet with descriptors, never blocks, no SIGPIPE. 0 or a positive errno.
int send_packet(int fd, std::string_view bytes, std::span<const int> fds = {});
// Bytes received (cut to `size`; `whole` tells), 0 = end, negative errno. Descriptors a peer may have sent are closed
// by the kernel, as there is no room for them.
long receive_packet(int fd, void* data, std::size_t size, int flags, bool& whole);

} // namespace netd
