// Listeners: every CPU has its own entry for a listening socket, so a SYN is served where it lands. The entry
// is this CPU's copy of what it needs from the socket, which another CPU may own. Owner: the CPU of `domain`.
#pragma once

#include <array>
#include <cstdint>

#include "base/list.hpp"
#include "base/net_addr.hpp"
#include "protocols/socket/socket.hpp"
#include "protocols/tcp/fastopen.hpp"

namespace protocols {

struct Listener {
    Domain* domain = nullptr;        // c
    Socket* so = nullptr;            // c: identity, and what is c in it; nothing else on a foreign CPU
    SocketUser* user = nullptr;      // c
    base::Endpoint local;            // c: addr may be unspecified
    SocketOptions options;           // o: of the socket as last set; inherited by children
    std::uint64_t reuse_key = 0;     // c: SO_REUSEPORT (protocols/reuse_group.hpp)
    std::uint32_t half_open_max = 1; // o: this CPU's share of the backlog of the last listen()
    std::uint32_t pending = 0;       // o: SYN cache entries and connections whose handshake is not complete
    std::uint32_t fast_pending = 0;  // o: of these, connections with Fast Open
    tcp::FastOpenResets fast_resets; // o
    base::ListLink link;             // o
};

namespace tcp {

class ListenerTable {
public:
    ListenerTable();
    void insert(Listener& l) { bucket(l.local.port).push_back(l); }
    Listener* of_socket(const Socket& so, std::uint16_t port);
    // The most specific address wins; among several (SO_REUSEPORT) the flow's hash chooses.
    Listener* find(const base::Endpoint& local, std::uint64_t flow_hash);
    bool any_on_port(std::uint16_t port);

private:
    using Bucket = base::List<Listener, &Listener::link>;
    Bucket& bucket(std::uint16_t port) { return buckets_[port % buckets_.size()]; }
    std::array<Bucket, 256> buckets_; // o
};

} // namespace tcp
} // namespace protocols
