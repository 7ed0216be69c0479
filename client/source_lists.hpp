// IP_MSFILTER and MCAST_MSFILTER (RFC 3678 4.1.3, 5.1.3; ip(7)): the sources of a group, all at once, with the
// structures and errors of Linux. To netd they go in pieces, within one turn at the slot. Internal to client/.
#pragma once

#include "client/slot_access.hpp"

namespace client {

bool is_source_list(int family, int level, int name);
// As sock_setsockopt and sock_getsockopt; what is asked about stands in `value`.
int set_source_list(Session& s, SocketSlot& slot, Sock k, int level, int name, const void* value, socklen_t len);
int get_source_list(Session& s, SocketSlot& slot, Sock k, int level, int name, void* value, socklen_t* len);

} // namespace client
