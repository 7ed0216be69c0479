// What the dispatch functions of socket messages share. Private to protocols/socket. The message's holder is the only
// one that changes the socket's place while it walks.
#pragma once

#include "netmsg/socket_msg.hpp"
#include "protocols/port_table.hpp"
#include "protocols/socket/so_dispatch.hpp"
#include "protocols/stack.hpp"

namespace protocols {

using netmsg::SocketMsg;
using netmsg::SocketOp;

inline SocketMsg& as_socket_msg(lwkt::Message& m)
{
    return static_cast<SocketMsg&>(m);
}

// The domain of the CPU that runs: the owner's, or during a walk any other.
inline Domain& domain_here(const SocketMsg& m)
{
    return m.socket->domain->stack.domain(base::current_cpu);
}

// The domain of a message that runs on its socket's owner.
inline Domain& owner_domain(const SocketMsg& m)
{
    base::assert_on(m.socket->domain->cpu.owner());
    return *m.socket->domain;
}

inline bool is_stream(const Socket& so)
{
    return so.kind == sockbuf::SlotKind::stream;
}

inline PortTable& ports_of(Domain& d, const Socket& so)
{
    return is_stream(so) ? *d.tcp_ports : *d.udp_ports;
}

void so_send(Domain& d, base::CpuId to, SocketMsg& m, lwkt::Message::Dispatch next);
void so_complete(SocketMsg& m, base::Error result);

// ---- Walks (so_walk.cpp): every CPU once, beginning at the one that the port selects, always in the same order; then
// back to the owner. So two walks about one port cannot pass each other.
struct Walk {
    base::Error (*visit)(Domain& d, SocketMsg& m);
    void (*undo)(Domain& d, SocketMsg& m); // where visit succeeded before another CPU refused; null = cannot fail
    void (*done)(Domain& d, SocketMsg& m); // on the owner; m.result says how it went
};
void so_walk(Domain& d, SocketMsg& m, const Walk& walk);

// The visit of walks after which every CPU's entry of a bound datagram socket is as its owner says (so_walk.cpp).
base::Error so_update_visit(Domain& d, SocketMsg& m);

// Whether the socket's family, IPV6_V6ONLY and bound address let it talk to `peer` (so_connect.cpp).
base::Error so_check_family(const Socket& so, const base::IpAddr& peer);
// What a destination means: "::" and 0.0.0.0 are this host, as on Linux (so_connect.cpp).
base::IpAddr so_destination(const Socket& so, const base::IpAddr& a);

// A datagram socket sends what its application has published before the message is carried out. True: not all of it is
// sent yet, and the message is on its way here again (so_dispatch.cpp).
bool so_sends_first(Domain& d, SocketMsg& m);

// Chooses a port and reserves it everywhere for a socket that is not bound; goes on by m.op (so_bind.cpp).
void so_auto_bind(Domain& d, SocketMsg& m);

// The operations, on the owner.
void so_bind(Domain& d, SocketMsg& m);
void so_listen(Domain& d, SocketMsg& m);
void so_listen_bound(Domain& d, SocketMsg& m);
void so_connect(Domain& d, SocketMsg& m);
void so_connect_bound(Domain& d, SocketMsg& m); // a datagram socket
void so_unconnect(Domain& d, SocketMsg& m);
void so_may_send(Domain& d, SocketMsg& m);
void so_may_send_bound(Domain& d, SocketMsg& m);
void so_shutdown(Domain& d, SocketMsg& m);
void so_unlisten(Domain& d, SocketMsg& m); // a listener, which is as new afterwards
void so_close(Domain& d, SocketMsg& m);
base::Error so_set_option(Domain& d, Socket& so, int level, int name, const void* value, std::uint32_t size);
base::Error so_get_option(Domain& d, Socket& so, int level, int name, void* value, std::uint32_t& size);

} // namespace protocols
