// shutdown, disconnect and abort. A close releases the port on every CPU, in the order in which a bind reserves it,
// before the protocol is told: so a bind that follows is ordered behind it.
#include <sys/socket.h>

#include "protocols/multicast/groups.hpp"
#include "protocols/socket/so_message.hpp"

namespace protocols {

namespace {

base::Error unlisten_visit(Domain& d, SocketMsg& m)
{
    tcp_unlisten_here(d, *m.socket);
    d.tcp_ports->clear_listening(m.socket);
    return base::Error::none;
}

void unlisten_done(Domain&, SocketMsg& m)
{
    Socket& so = *m.socket;
    so.listening = false;
    so_publish_as_new(so);                  // as Linux: it may listen again, or connect
    so.user->socket_event(so, so_readable); // wakes who waits in accept()
    so_complete(m, base::Error::none);
}

constexpr Walk unlisten_walk{unlisten_visit, nullptr, unlisten_done};

base::Error close_visit(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    if (so.listening) {
        tcp_unlisten_here(d, so);
    }
    if (!is_stream(so)) {
        udp_detach_here(d, so);
        if (!so.groups.empty()) {
            groups_update_here(d, so, {});
        }
    }
    ports_of(d, so).release(&so);
    return base::Error::none;
}

void close_done(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    so.listening = false;
    so.bound_port = false;
    if (!is_stream(so)) {
        udp_usr_close(d, so);
    } else if (so.tcb == nullptr) {
        so.user->socket_detached(so);
    } else if (m.op == SocketOp::abort) {
        tcp_usr_abort(d, so);
    } else {
        tcp_usr_disconnect(d, so);
    }
    so_complete(m, base::Error::none);
}

constexpr Walk close_walk{close_visit, nullptr, close_done};

// No CPU appends any more: where its lanes end is the end.
void shutdown_done(Domain&, SocketMsg& m)
{
    so_publish_end(*m.socket);
    bool connected = m.socket->flow.peer.port != 0;
    so_complete(m, connected ? base::Error::none : base::Error::not_connected); // udp_usr_shutdown
}

constexpr Walk shutdown_walk{so_update_visit, nullptr, shutdown_done};

} // namespace

void so_shutdown(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    if (!is_stream(so)) {
        base::Error error = udp_usr_shutdown(d, so, m.value);
        if (so.rcv_shut) {
            return so_walk(d, m, shutdown_walk);
        }
        return so_complete(m, error);
    }
    if (so.listening) {
        if (m.value == SHUT_WR) {
            return so_complete(m, base::Error::none); // as Linux
        }
        return so_unlisten(d, m);
    }
    so_complete(m, so.tcb != nullptr ? tcp_usr_shutdown(d, so, m.value) : base::Error::not_connected);
}

void so_unlisten(Domain& d, SocketMsg& m)
{
    so_walk(d, m, unlisten_walk);
}

void so_close(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    if (so.app_closed && (!is_stream(so) || so.tcb == nullptr)) {
        return so_complete(m, base::Error::none); // an abort behind a disconnect that has ended: detached already
    }
    if (m.op == SocketOp::disconnect && so_sends_first(d, m)) {
        return;
    }
    so.app_closed = true;
    if (so.bound_port || !so.groups.empty()) {
        so_walk(d, m, close_walk);
    } else {
        close_done(d, m);
    }
}

} // namespace protocols
