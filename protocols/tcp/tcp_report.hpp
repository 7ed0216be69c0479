// What others may ask about TCP sockets without knowing a Tcb: the gateway and netctl.
#pragma once

#include "protocols/socket/socket.hpp"

namespace protocols {

// The socket that a listener entry stands for. On a CPU that is not its owner only its c-fields may be read. Any CPU.
Socket& listener_socket(const Listener& l);
// Its options as this CPU knows them, which a connection that it accepts starts with (as Linux). The CPU of `l`.
const SocketOptions& listener_options(const Listener& l);

// RFC 9293 state name of a stream socket ("ESTABLISHED", "LISTEN", "CLOSED", ...). Owner of so.
const char* tcp_state_text(const Socket& so);

} // namespace protocols
