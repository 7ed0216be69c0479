// A socket as the protocols see it: validated private copies of what the application published, the rings, the options,
// and the way back to whoever holds it (a SocketUser: the gateway, or a test).
//
// Socket: owner = the CPU of `domain`; fixed when the flow is known (connect, accept) and before that the slot's home
// CPU. Handing over happens only inside a bind/listen/connect message, which is the sole reference meanwhile. All
// fields o unless marked.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/error.hpp"
#include "base/net_addr.hpp"
#include "base/units.hpp"
#include "protocols/multicast/source_filter.hpp"
#include "sockbuf/abi.hpp"
#include "sockbuf/ring_view.hpp"

namespace protocols {

struct Domain;
struct Socket;
struct Tcb;            // protocols/tcp
struct UdpPcb;         // protocols/udp
struct Listener;       // protocols/tcp
struct IdleConnection; // protocols/tcp

// Events of a socket, told to its user; several may be merged.
inline constexpr std::uint32_t so_readable = 1;  // data, EOF or a connection to accept
inline constexpr std::uint32_t so_writable = 2;  // send space was freed (and wanted)
inline constexpr std::uint32_t so_connected = 4; // connect finished or failed
inline constexpr std::uint32_t so_error_event = 8;
inline constexpr std::uint32_t so_closed = 16; // the connection is over

// What a socket hangs on. Called on the socket's owner CPU; must not call back into the protocols synchronously except
// where noted.
class SocketUser {
public:
    virtual ~SocketUser() = default;
    // Something happened; collected until the roll-up, where waiters are woken.
    virtual void socket_event(Socket& so, std::uint32_t events) = 0;
    // Gives the socket the rings it has not (stream: before SYN or SYN-ACK, and for text when it lost them while it
    // slept; datagram: at bind or connect, a send ring only) according to so.options sizes; fills so.snd_ring,
    // so.rcv_ring. False: no memory; the operation fails with no_buffers, text is dropped. Sizes are set all the same.
    virtual bool socket_rings(Socket& so) = 0;
    // Datagram: the ring of lane `lane`: the number of the CPU that runs, which may be any CPU (only c fields of `so`
    // may be touched), or that of CPUs, the error queue, on the socket's owner. Publishes its place in so.lanes[lane]
    // and a CPU's bit in so.slot. `bytes`: SO_RCVBUF, 0 = the user's default. Not valid: no memory, the datagram is
    // dropped.
    virtual sockbuf::RingView socket_lane(Socket& so, std::uint32_t lane, std::uint32_t bytes)
    {
        (void)so;
        (void)lane;
        (void)bytes;
        return {};
    }
    // Bytes of a stream's receive ring when nobody asked for a size: what a SYN-ACK may offer.
    virtual std::uint32_t socket_ring_default() const { return 65535; }
    // The same CPU needs the ring no more (the close walk, or a bind that failed elsewhere).
    virtual void socket_lane_gone(Socket&, std::uint32_t, const sockbuf::RingView&) {}
    // May one more connection wait in this CPU's shard of a listener? Asked when a SYN comes.
    virtual bool socket_has_place(const Listener&) { return true; }
    // A connection of listener shard `l` is complete on this CPU: a new socket of the same user with slot and rings;
    // null: no slot, no memory or the accept lane is full; the final ACK is dropped and the peer retries.
    virtual Socket* socket_accepted(Listener& l, const base::FourTuple& flow) = 0;
    // The child is set up (tcb attached, state published): put it into this CPU's accept lane of `l`.
    virtual void socket_ready(Listener& l, Socket& child) = 0;
    // May `active`, which connects to an address of this host, become one end of a joined pair? `l` null: asked where
    // it connects, before anything is known of a listener; else on l's CPU, with `active` in transit.
    virtual bool socket_may_join(Socket& active, const Listener* l)
    {
        (void)active;
        (void)l;
        return false;
    }
    // The two are the ends of one connection from now on: each one's send ring becomes the other's receive ring. Before
    // either application hears of it.
    virtual void socket_joined(Socket& active, Socket& passive)
    {
        (void)active;
        (void)passive;
    }
    // The owner is about to change inside a message: whatever of it hangs on this CPU is taken off, rings of an earlier
    // connection too.
    virtual void socket_leaves(Socket&) {}
    // The owner changed inside a message (domain already is the new one; runs on the new owner).
    virtual void socket_moved(Socket& so) = 0;
    // The protocols have let go of the socket (after disconnect or abort, once its rings are not needed any more): the
    // user frees it, its slot and its rings. Runs exactly once per socket.
    virtual void socket_detached(Socket& so) = 0;
    // A connection that the user let fall asleep (tcp_sleep) wakes: a fresh socket with the user's fields set, as from
    // socket_accepted; null: no memory, it sleeps on. Users that let none sleep need none.
    virtual Socket* socket_wakes(void* user_ref, std::uint32_t slot_id);
};

inline constexpr std::uint64_t pacing_unlimited = ~std::uint64_t{0};

// Options with the defaults that Linux has.
struct SocketOptions {
    std::uint32_t send_ring_bytes = 0;    // 0 = the user's default; SO_SNDBUF rounds up to a power of two
    std::uint32_t receive_ring_bytes = 0; // SO_RCVBUF
    bool reuse_addr = false;
    bool reuse_port = false;
    bool keepalive = false;
    bool broadcast = false;
    bool oob_inline = false;
    bool linger = false;
    bool no_delay = false;  // TCP_NODELAY
    bool cork = false;      // TCP_CORK
    bool quick_ack = false; // TCP_QUICKACK
    bool ip_pktinfo = false;
    bool ip_recvttl = false;
    bool ip_recvtos = false;
    bool ipv6_recvpktinfo = false;
    bool ipv6_recvhoplimit = false;
    bool ipv6_recvtclass = false;
    bool recv_error = false;                // IP_RECVERR
    bool recv_error6 = false;               // IPV6_RECVERR
    bool transparent_df = false;            // IP_MTU_DISCOVER = PROBE/DO for datagrams
    bool bind_no_port = false;              // IP_BIND_ADDRESS_NO_PORT
    bool dont_route = false;                // SO_DONTROUTE; remembered only
    bool v6_only = false;                   // IPV6_V6ONLY
    bool multicast_loop = true;             // IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP
    bool multicast_all = true;              // IP_MULTICAST_ALL
    bool multicast_all6 = true;             // IPV6_MULTICAST_ALL
    std::uint8_t mtu_discover = 1;          // IP_MTU_DISCOVER as set: IP_PMTUDISC_WANT
    std::uint32_t priority = 0;             // SO_PRIORITY; remembered only
    std::uint32_t mark = 0;                 // SO_MARK; remembered only
    std::uint32_t multicast_v4 = 0;         // IP_MULTICAST_IF: the address that it named
    std::uint32_t multicast_interface = 0;  // IP_MULTICAST_IF: index, 0 = by route
    std::uint32_t multicast_interface6 = 0; // IPV6_MULTICAST_IF
    std::uint32_t sticky_interface = 0;     // IPV6_PKTINFO, index, 0 = by route
    base::IpAddr sticky_source;             // IPV6_PKTINFO, "::" = the socket's
    std::uint16_t linger_s = 0;
    std::uint16_t max_segment = 0;   // TCP_MAXSEG, 0 = from the path
    std::uint8_t ttl = 64;           // IP_TTL: towards IPv4 peers, whatever family the socket is of
    std::uint8_t hop_limit = 64;     // IPV6_UNICAST_HOPS
    std::uint8_t multicast_ttl = 1;  // IP_MULTICAST_TTL
    std::uint8_t multicast_hops = 1; // IPV6_MULTICAST_HOPS
    std::uint8_t tos = 0;
    std::uint8_t keep_count = 9; // TCP_KEEPCNT
    std::uint8_t syn_count = 6;  // TCP_SYNCNT
    std::uint8_t congestion = 0; // TCP_CONGESTION: 1 + index of tcp::congestion_by_name, 0 = the stack's
    std::uint64_t max_pacing_rate = pacing_unlimited; // SO_MAX_PACING_RATE, octets per second
    std::uint32_t keep_idle_s = 7200;
    std::uint32_t keep_interval_s = 75;
    std::uint32_t user_timeout_ms = 0; // TCP_USER_TIMEOUT, 0 = from retransmission count
    std::uint32_t defer_accept_s = 0;  // TCP_DEFER_ACCEPT
    std::int32_t linger2_s = 60;       // TCP_LINGER2: FIN_WAIT_2 lifetime after close
    std::uint32_t not_sent_lowat = 0;  // TCP_NOTSENT_LOWAT
    std::uint32_t fastopen_queue = 0;  // TCP_FASTOPEN: half-open connections with text at most, 0 = none
    bool fastopen_connect = false;     // TCP_FASTOPEN_CONNECT
    bool fastopen_no_cookie = false;   // TCP_FASTOPEN_NO_COOKIE
    std::uint8_t fastopen_keys = 0;    // TCP_FASTOPEN_KEY: how many, 0 = the stack's own
    std::array<unsigned char, 32> fastopen_key{};

    std::uint8_t ttl_towards(const base::IpAddr& peer) const { return peer.is_v4() ? ttl : hop_limit; }
    std::uint8_t ttl_of_group(const base::IpAddr& group) const
    {
        return group.is_v4() ? multicast_ttl : multicast_hops;
    }
    std::uint32_t multicast_interface_to(const base::IpAddr& group) const
    {
        return group.is_v4() ? multicast_interface : multicast_interface6;
    }
    bool operator==(const SocketOptions&) const = default;
};

// What listen(fd, backlog) means, as on Linux: negative is as many as allowed (net.core.somaxconn).
inline constexpr std::uint32_t listen_backlog_max = 4096;
constexpr std::uint32_t listen_backlog(std::int32_t asked)
{
    auto wanted = static_cast<std::uint32_t>(asked);
    return wanted < listen_backlog_max ? wanted : listen_backlog_max;
}

struct Socket {
    Domain* domain = nullptr;            // see above
    SocketUser* user = nullptr;          // c
    void* user_ref = nullptr;            // the user's own record of the socket
    sockbuf::SocketSlot* slot = nullptr; // c: published fields; in shared memory, so written only (never trusted)
    sockbuf::DatagramLane* lanes =
        nullptr;               // c: datagram: element i = CPU i's, then the error queue; in shared memory too
    std::uint32_t slot_id = 0; // c
    sockbuf::SlotKind kind = sockbuf::SlotKind::none; // c
    std::uint8_t family = 0;                          // c: AF_INET, AF_INET6
    std::uint32_t user_id = 0;                        // c: who may share its port (SO_REUSEPORT)

    base::FourTuple flow;        // local and peer as far as bound and connected; port 0 = not
    std::uint64_t reuse_key = 0; // SO_REUSEPORT: its name in a group (protocols/reuse_group.hpp), drawn at bind
    bool bound_port = false;     // an explicit bind holds a reservation on every CPU
    bool listening = false;
    bool rcv_shut = false;               // datagram: shutdown(SHUT_RD), on its way to every CPU's entry
    bool local_by_route = false;         // connect, not bind, chose the local address
    bool connect_failed = false;         // stream: over before it was connected; tcp_unconnect makes it as new
    sockbuf::FastConnect fast_connect{}; // stream: of the connect under way
    bool more = false;       // stream: the last write announced more (MSG_MORE): what is no full segment waits
    bool app_closed = false; // the application has let go (disconnect, abort); no more events wanted
    SocketOptions options;
    std::vector<Membership> groups; // datagram

    // Validated copies (receive: stream only; a datagram socket's are in its entries, one per CPU). Send: [snd_acked,
    // snd_limit) is what the application published and the peer has not acknowledged. Receive: [rcv_consumed,
    // rcv_produced) is readable; beyond rcv_produced up to rcv_consumed + ring size out-of-order data may already lie
    // in place.
    sockbuf::RingView snd_ring;
    sockbuf::RingView rcv_ring;
    std::uint64_t snd_acked = 0;
    std::uint64_t snd_limit = 0;
    std::uint64_t snd_end = sockbuf::no_offset; // FIN follows this offset once fixed
    std::uint64_t snd_urgent = 0;               // stream: offset behind the urgent octet; urgent while above snd_acked
    std::uint32_t snd_urgent_seen = 0;          // as the application said it last
    std::uint64_t rcv_produced = 0;
    std::uint64_t rcv_consumed = 0;

    union {
        Tcb* tcb = nullptr; // stream, connecting or later
        UdpPcb* udp;        // datagram
    };
    Listener* listener = nullptr; // home CPU's listener shard when listening

    explicit Socket() = default;
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
};

// Of a new socket. As Linux: one of IPv6 hears of IPv4's groups only those that it joined itself, unless
// IP_MULTICAST_ALL says otherwise.
inline void so_set_family(Socket& so, std::uint8_t family)
{
    so.family = family;
    so.options.multicast_all = family == AF_INET;
}

// Does a socket bound to `bound`, a wildcard, take what comes to `to`? "::" takes IPv4 too unless IPV6_V6ONLY is set.
inline bool wildcard_takes(const base::IpAddr& bound, bool v6_only, const base::IpAddr& to)
{
    if (bound == base::IpAddr::any_v4()) {
        return to.is_v4();
    }
    return bound == base::IpAddr{} && !(v6_only && to.is_v4());
}

// Publishing to the slot (release stores); the only places that write it from the protocols. socket_publish.cpp
void so_publish_state(Socket& so, sockbuf::SlotState state);
void so_publish_addresses(Socket& so);
void so_publish_acked(Socket& so); // snd_acked; tells so_writable when the application wants space and a third is free
void so_publish_received(Socket& so); // rcv_produced; tells so_readable
void so_publish_end(Socket& so);      // EOF (or error) stands at rcv_produced; tells so_readable
void so_publish_fin(Socket& so);      // as that, by the peer's FIN: an error behind it is not the reader's
void so_publish_error(Socket& so, base::Error error);      // so_error; tells so_error_event
void so_publish_broken(Socket& so);                        // nothing more can be sent
void so_publish_as_new(Socket& so);                        // a connect that failed, a listener that was shut down
void so_publish_ring_at(Socket& so, std::uint64_t offset); // tell me when rcv_consumed reaches it

// Reads what the application moved, once, validated against the private copies: an impossible offset is the client's
// fault: returns false and the caller aborts that socket. Called on a mark, after it was cleared.
bool so_take_send(Socket& so);     // snd_limit, snd_end
bool so_take_consumed(Socket& so); // rcv_consumed
// The empty receive ring begins again: what comes next has this offset, and as many bytes of it are known to come.
void so_restart_receive(Socket& so, std::uint64_t offset, std::uint64_t bytes);

} // namespace protocols
