// This CPU's share of a listening socket (rule 11): its entry in the listener table. Owner: the domain's CPU.
#include "protocols/tcp/tcp_var.hpp"

namespace protocols {

namespace tcp {

ListenerTable::ListenerTable() = default;

Listener* ListenerTable::of_socket(const Socket& so, std::uint16_t port)
{
    Bucket& b = bucket(port);
    for (Listener* l = b.front(); l != nullptr; l = b.next(*l)) {
        if (l->so == &so) {
            return l;
        }
    }
    return nullptr;
}

Listener* ListenerTable::find(const base::Endpoint& local, std::uint64_t flow_hash)
{
    Bucket& b = bucket(local.port);
    for (bool exact : {true, false}) {
        std::uint64_t matches = 0;
        Listener* chosen = nullptr;
        for (Listener* l = b.front(); l != nullptr; l = b.next(*l)) {
            bool fits = exact ? l->local.addr == local.addr : l->local.addr.is_any();
            // Rendezvous of the flow with the members of a SO_REUSEPORT group: the k-th replaces with probability 1/k.
            if (fits && l->local.port == local.port && (flow_hash >> 8) % ++matches == 0) {
                chosen = l;
            }
        }
        if (chosen != nullptr) {
            return chosen;
        }
    }
    return nullptr;
}

bool ListenerTable::any_on_port(std::uint16_t port)
{
    Bucket& b = bucket(port);
    for (Listener* l = b.front(); l != nullptr; l = b.next(*l)) {
        if (l->local.port == port) {
            return true;
        }
    }
    return false;
}

namespace {

// Half-open connections of a listener that goes away: forgotten, and a later ACK finds nobody and is reset (RFC
// 9293 3.10.4).
void drop_half_open(Domain& d, const Listener& l)
{
    auto& entries = d.tcp->syn_cache.entries;
    for (SynEntry* e = entries.front(); e != nullptr;) {
        SynEntry* after = entries.next(*e);
        if (&e->listener == &l) {
            syn_cache_remove(*e);
        }
        e = after;
    }
    auto& all = d.tcp->all;
    for (Tcb* t = all.front(); t != nullptr;) {
        Tcb* after = all.next(*t);
        if (t->listener == &l) {
            abort(*t, base::Error::connection_aborted);
        }
        t = after;
    }
}

} // namespace
} // namespace tcp

base::Error tcp_listen_here(Domain& d, Socket& so, int backlog)
{
    base::assert_on(d.cpu.owner());
    Listener* l = d.tcp->listeners.of_socket(so, so.flow.local.port);
    if (l == nullptr) {
        l = d.tcp->listener_slab.make();
        if (l == nullptr) {
            return base::Error::no_buffers;
        }
        l->domain = &d;
        l->so = &so;
        l->user = so.user;
        l->local = so.flow.local;
        d.tcp->listeners.insert(*l);
    }
    l->options = so.options;
    l->backlog = static_cast<std::uint32_t>(std::max(backlog, 1));
    return base::Error::none;
}

void tcp_unlisten_here(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    Listener* l = d.tcp->listeners.of_socket(so, so.flow.local.port);
    if (l == nullptr) {
        return;
    }
    tcp::drop_half_open(d, *l);
    l->link.unlink();
    d.tcp->listener_slab.destroy(*l);
}

} // namespace protocols
