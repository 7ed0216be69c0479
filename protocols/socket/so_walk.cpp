// The walk over all CPUs that bind, listen, connect of a datagram socket and close make. The message visits one CPU
// after the other, so nothing is shared and no CPU waits; each hop is a message in class serial.
#include "base/check.hpp"
#include "protocols/multicast/groups.hpp"
#include "protocols/socket/so_message.hpp"

namespace protocols {

namespace {

// Which walk a message makes is kept in its `walk` field.
void walk_done(lwkt::Message& msg)
{
    SocketMsg& m = as_socket_msg(msg);
    static_cast<const Walk*>(m.walk)->done(owner_domain(m), m);
}

void walk_undo(lwkt::Message& msg)
{
    SocketMsg& m = as_socket_msg(msg);
    Domain& d = domain_here(m);
    static_cast<const Walk*>(m.walk)->undo(d, m);
    ++m.walk_left;
    std::size_t cpus = d.stack.cpus();
    if (m.walk_left == cpus) {
        so_send(d, m.origin, m, walk_done);
    } else {
        so_send(d, static_cast<base::CpuId>((d.id() + cpus - 1) % cpus), m, walk_undo);
    }
}

void walk_visit(lwkt::Message& msg)
{
    SocketMsg& m = as_socket_msg(msg);
    Domain& d = domain_here(m);
    std::size_t cpus = d.stack.cpus();
    const auto& walk = *static_cast<const Walk*>(m.walk);
    base::Error error = walk.visit(d, m);
    if (error != base::Error::none) {
        INVARIANT(walk.undo != nullptr);
        m.result = base::to_errno(error);
        if (m.walk_left == cpus) { // refused at the first
            so_send(d, m.origin, m, walk_done);
        } else {
            so_send(d, static_cast<base::CpuId>((d.id() + cpus - 1) % cpus), m, walk_undo);
        }
        return;
    }
    --m.walk_left;
    if (m.walk_left == 0) {
        so_send(d, m.origin, m, walk_done);
    } else {
        so_send(d, static_cast<base::CpuId>((d.id() + 1) % cpus), m, walk_visit);
    }
}

} // namespace

base::Error so_update_visit(Domain& d, SocketMsg& m)
{
    udp_update_here(d, *m.socket);
    if (m.op == SocketOp::set_option) {
        groups_update_here(d, *m.socket, m.socket->groups);
    }
    return base::Error::none;
}

void so_send(Domain& d, base::CpuId to, SocketMsg& m, lwkt::Message::Dispatch next)
{
    m.dispatch = next;
    d.cpu.send(to, m);
}

void so_complete(SocketMsg& m, base::Error result)
{
    m.result = base::to_errno(result);
    lwkt::reply(m);
}

void so_walk(Domain& d, SocketMsg& m, const Walk& walk)
{
    std::size_t cpus = d.stack.cpus();
    m.walk = &walk;
    m.walk_left = static_cast<std::uint16_t>(cpus);
    m.origin = d.id();
    m.result = 0;
    std::uint16_t port = m.socket->flow.local.port; // none: a walk about groups, which may begin anywhere
    so_send(d, port != 0 ? static_cast<base::CpuId>(port % cpus) : d.id(), m, walk_visit);
}

} // namespace protocols
