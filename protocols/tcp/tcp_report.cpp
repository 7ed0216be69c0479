#include "protocols/tcp/tcp_report.hpp"

#include "protocols/tcp/listener.hpp"
#include "protocols/tcp/tcb.hpp"

namespace protocols {

Socket& listener_socket(const Listener& l)
{
    return *l.so;
}

const SocketOptions& listener_options(const Listener& l)
{
    return l.options;
}

const char* tcp_state_text(const Socket& so)
{
    if (so.listening) {
        return "LISTEN";
    }
    return so.tcb != nullptr ? tcp::state_name(so.tcb->state) : "CLOSED";
}

} // namespace protocols
