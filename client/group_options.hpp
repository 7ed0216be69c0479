// The protocol-independent options about groups (RFC 3678), whose structures are too long for a request, in the form in
// which netd takes them. Internal to client/. Pure.
#pragma once

#include <sys/socket.h>

#include "sockbuf/abi.hpp"

namespace client {

bool is_group_request(int level, int name);
// 0, or what setsockopt fails with.
int read_group_request(int name, const void* value, socklen_t len, sockbuf::GroupRequest& out);

} // namespace client
