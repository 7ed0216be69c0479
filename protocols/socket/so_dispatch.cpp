// See so_dispatch.hpp. Every socket message enters here on the socket's owner and leaves by lwkt::reply().
#include "base/check.hpp"
#include "protocols/socket/so_message.hpp"

namespace protocols {

namespace {

void abort_faulty(Domain& d, Socket& so)
{
    so_publish_broken(so);
    if (is_stream(so) && so.tcb != nullptr) {
        so_publish_error(so, base::Error::connection_aborted);
        tcp_usr_abort(d, so);
    }
}

// More than a ring can hold: what is published meanwhile is not waited for.
constexpr std::uint32_t send_batches_max = (std::uint32_t{1} << sockbuf::ring_shift_max) / 1024;

constexpr Walk option_walk{so_update_visit, nullptr, [](Domain&, SocketMsg& m) { lwkt::reply(m); }};

base::Error listener_visit(Domain& d, SocketMsg& m)
{
    tcp_listener_options_here(d, *m.socket);
    return base::Error::none;
}

constexpr Walk listener_walk{listener_visit, nullptr, [](Domain&, SocketMsg& m) { lwkt::reply(m); }};

void set_option(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    if (so_sends_first(d, m)) { // with the options that it was written under
        return;
    }
    std::size_t joined = so.groups.size();
    base::Error error = so_set_option(d, so, m.level, m.name, m.option, m.size);
    bool told = so.bound_port || joined != 0 || !so.groups.empty();
    if (error == base::Error::none && !is_stream(so) && told) {
        return so_walk(d, m, option_walk);
    }
    if (error == base::Error::none && so.listening) { // as Linux: children take what holds when they are made
        return so_walk(d, m, listener_walk);
    }
    so_complete(m, error);
}

void get_option(Domain& d, SocketMsg& m)
{
    so_complete(m, so_get_option(d, *m.socket, m.level, m.name, m.option, m.size));
}

void run(lwkt::Message& msg)
{
    SocketMsg& m = as_socket_msg(msg);
    Domain& d = owner_domain(m);
    switch (m.op) {
    case SocketOp::bind:
        return so_bind(d, m);
    case SocketOp::listen:
        return so_listen(d, m);
    case SocketOp::connect:
        return so_connect(d, m);
    case SocketOp::send:
        so_look_send(d, *m.socket);
        return so_complete(m, base::Error::none);
    case SocketOp::rcvd:
        so_look_rcvd(d, *m.socket);
        return so_complete(m, base::Error::none);
    case SocketOp::shutdown:
        return so_shutdown(d, m);
    case SocketOp::disconnect:
    case SocketOp::abort:
        return so_close(d, m);
    case SocketOp::set_option:
        return set_option(d, m);
    case SocketOp::get_option:
        return get_option(d, m);
    case SocketOp::unconnect:
        return so_unconnect(d, m);
    case SocketOp::may_send:
        return so_may_send(d, m);
    }
    constexpr bool operation_outside_the_catalogue = true;
    INVARIANT(!operation_outside_the_catalogue);
}

} // namespace

void so_post(Domain& d, SocketMsg& m)
{
    base::assert_on(d.cpu.owner());
    INVARIANT(m.socket != nullptr && m.socket->domain == &d && m.reply_port != nullptr);
    m.tries = 0;
    so_send(d, d.id(), m, run);
}

void so_look_send(Domain& d, Socket& so)
{
    if (so.app_closed) {
        return;
    }
    if (!so_take_send(so)) {
        abort_faulty(d, so);
    } else if (!is_stream(so)) {
        udp_usr_send(d, so);
    } else if (so.tcb != nullptr) {
        tcp_usr_send(d, so);
    }
}

// A batch, then the message again: no handler is open-ended (decision 0009), and a ring may hold many small records.
bool so_sends_first(Domain& d, SocketMsg& m)
{
    Socket& so = *m.socket;
    if (is_stream(so)) {
        return false;
    }
    if (m.tries == 0) {
        so_look_send(d, so);
    } else if (so.udp != nullptr) {
        udp_usr_send(d, so);
    }
    bool more = so.udp != nullptr && so.snd_acked < so.snd_limit && m.tries < send_batches_max;
    m.tries = more ? m.tries + 1 : 0;
    if (more) {
        so_send(d, d.id(), m, run);
    }
    return more;
}

void so_look_rcvd(Domain& d, Socket& so)
{
    if (so.app_closed || !is_stream(so)) { // each CPU looks at its datagram lane when that seems full (udp_input.cpp)
        return;
    }
    if (!so_take_consumed(so)) {
        abort_faulty(d, so);
    } else if (so.tcb != nullptr) {
        tcp_usr_rcvd(d, so);
    }
}

} // namespace protocols
