// The dispatch functions of the socket messages (netmsg/socket_msg.hpp). so_post() sends a message to the CPU where it
// has to run first; each runs with the socket's owner as the current CPU (walking ones: with each CPU in turn),
// completes by lwkt::reply() with result set, and then no longer touches the message. protocols/socket/so_dispatch.cpp
#pragma once

#include "netmsg/socket_msg.hpp"
#include "protocols/domain.hpp"
#include "protocols/socket/socket.hpp"
#include "protocols/stack.hpp"

namespace protocols {

// Sets dispatch by m.op and sends; from the owner CPU of m.socket. m.reply_port must be set. Disconnect and abort reply
// after socket_detached may have been called: the socket's memory must outlive both.
void so_post(Domain& d, netmsg::SocketMsg& m);

// Direct calls on the owner, without a message (the owner has work for the socket at hand): marks.
void so_look_send(Domain& d, Socket& so); // snd_produced or snd_end moved
void so_look_rcvd(Domain& d, Socket& so); // rcv_consumed of a stream moved

// ---- The stream protocol's side (protocols/tcp/tcp_usrreq.cpp) ------------------------------------------------------

// What the owner of a flow has looked up for a connect.
struct ConnectWay {
    Route route;
    std::uint64_t flow_hash = 0;     // in its flow table
    std::uint32_t steering_hash = 0; // of what comes back
};
// On the owner of the flow; in_progress = started. Without `way` it looks by itself.
base::Error tcp_connect(Domain& d, Socket& so, const base::Endpoint& peer, const ConnectWay* way = nullptr);
// A connect to a listener of this host may become a joined pair (protocols/tcp/joined_end.hpp): begin on the owner of
// the flow, accept on the owner of the reverse flow, done or undo back on the first. False = connect in the ordinary
// way.
bool tcp_join_begin(Domain& d, Socket& so, const base::Endpoint& peer);
bool tcp_join_accept(Domain& d, Socket& active);
void tcp_join_done(Domain& d, Socket& so);
void tcp_join_undo(Domain& d, Socket& so);
void tcp_joined_look(Domain& d, Socket& so); // a mark of a joined socket
// The CPU that must own a connect from so to peer (chooses the ephemeral port so that the answer is `d` when so is not
// bound; sets so.flow.local), and the way, if it is `d`. address_not_available when every port is taken.
base::Error tcp_connect_owner(Domain& d, Socket& so, const base::Endpoint& peer, base::CpuId& owner, ConnectWay& way);
// Does a connection or TIME-WAIT record of this CPU use the local port? (bind without SO_REUSEADDR, man 7 socket)
bool tcp_port_in_use(Domain& d, std::uint16_t port);
base::Error tcp_listen_here(Domain& d, Socket& so, int backlog); // this CPU's listener entry
void tcp_listener_options_here(Domain& d, const Socket& so);     // setsockopt of a listener
void tcp_unlisten_here(Domain& d, Socket& so);                   // connections not accepted yet are reset
void tcp_usr_send(Domain& d, Socket& so);                        // snd_limit or snd_end moved: output
void tcp_usr_rcvd(Domain& d, Socket& so);                        // rcv_consumed moved: window update if due
void tcp_usr_disconnect(
    Domain& d, Socket& so);                // close(): FIN after snd_end, RST if unread data; ends in socket_detached
void tcp_usr_abort(Domain& d, Socket& so); // RST now; ends in socket_detached
// As new: after a connect that failed, or (`any`: connect() to AF_UNSPEC) whatever became of the connection.
base::Error tcp_unconnect(Domain& d, Socket& so, bool any);
void tcp_connect_refused(Socket& so); // what the connect chose is taken back
bool tcp_drop_published(Socket& so);  // none of it is sent on the next connection; false: an impossible offset
base::Error tcp_usr_shutdown(Domain& d, Socket& so, int how);
base::Error tcp_set_option(Domain& d, Socket& so, int level, int name, const void* value, std::uint32_t size);
base::Error tcp_get_option(Domain& d, Socket& so, int level, int name, void* value, std::uint32_t& size);

// ---- Idle connections (protocols/tcp/tcp_idle.cpp, decision 0011) ---------------------------------------------------

// What it sends next is to wait for what went, or must fit a path that is narrow: time alone ends that.
bool tcp_sleeps_later(const Socket& so);
// Could it sleep now, as far as private state tells?
bool tcp_may_sleep(const Socket& so);
// Puts an established connection to sleep of which everything is acknowledged and read: so has no connection any more
// and is the caller's to free, rings included; `user_ref` comes back in socket_wakes. Null: something is under way.
IdleConnection* tcp_sleep(Domain& d, Socket& so, void* user_ref);
// The connection again, with the socket that its user made for it and rings as far as there are; null: no memory, it
// sleeps on.
Tcb* tcp_wake(Domain& d, IdleConnection& i);
const base::FourTuple& tcp_idle_flow(const IdleConnection& i);

// ---- The datagram protocol's side (protocols/udp/udp_usrreq.cpp) ----------------------------------------------------

base::Error udp_attach_here(Domain& d, Socket& so); // this CPU's table entry for a bound socket
void udp_update_here(Domain& d, const Socket& so);  // after connect, shutdown or setsockopt
void udp_detach_here(Domain& d, Socket& so);
base::Error udp_connect(Domain& d, Socket& so, const base::Endpoint& peer);
base::Error udp_unconnect(Domain& d, Socket& so);
void udp_forget_way(Socket& so);          // something of the socket changes by which its datagrams' way was decided
void udp_usr_send(Domain& d, Socket& so); // records in the send ring: output
// What a record would be refused with now; `question` is a sockbuf::DatagramQuestion.
base::Error udp_may_send(Domain& d, const Socket& so, const void* question);
base::Error udp_usr_shutdown(Domain& d, Socket& so, int how);
void udp_usr_close(Domain& d, Socket& so); // flushes what was published, ends in socket_detached

} // namespace protocols
