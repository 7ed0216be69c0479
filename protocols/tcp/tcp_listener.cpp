// This CPU's share of a listening socket: its entry in the listener table. Owner: the domain's CPU.
#include "base/plant.hpp"
#include "protocols/reuse_group.hpp"
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

namespace {

enum class Fit : std::uint8_t {
    exact,     // bound to the address
    of_family, // to all of its family
    dual,      // to "::", and IPv4 is taken
    none,
};

Fit fit(const Listener& l, const base::IpAddr& to)
{
    bool v6_only = l.options.v6_only || base::planted(base::Plant::mapped_not_taken);
    if (l.local.addr == to) {
        return Fit::exact;
    }
    if (!wildcard_takes(l.local.addr, v6_only, to)) {
        return Fit::none;
    }
    return l.local.addr.is_v4() == to.is_v4() ? Fit::of_family : Fit::dual;
}

// The last process has closed it, and the message that ends it is on its way here.
bool let_go(const Listener& l)
{
    return l.so->slot->share.holders.load(std::memory_order_relaxed) == 0;
}

} // namespace

Listener* ListenerTable::find(const base::Endpoint& local, std::uint64_t flow_hash)
{
    Bucket& b = bucket(local.port);
    Listener* chosen = nullptr;
    Fit best = Fit::none; // as compute_score of Linux
    std::uint64_t chosen_weight = 0;
    for (Listener* l = b.front(); l != nullptr; l = b.next(*l)) {
        Fit its = l->local.port == local.port ? fit(*l, local.addr) : Fit::none;
        if (its == Fit::none || its > best || let_go(*l)) {
            continue;
        }
        std::uint64_t weight = reuse_weight(flow_hash, l->reuse_key);
        if (its < best || weight > chosen_weight) {
            chosen = l;
            best = its;
            chosen_weight = weight;
        }
    }
    return chosen;
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

// Half-open connections of a listener that goes away and is out of the table: who listens beside it (SO_REUSEPORT)
// takes them, as Linux does where net.ipv4.tcp_migrate_req is set, so that a server which hands its port to a new
// process resets nobody. Else they are forgotten, and a later ACK finds nobody and is reset (RFC 9293 3.10.4).
void hand_over_half_open(Domain& d, const Listener& l)
{
    auto& entries = d.tcp->syn_cache.entries;
    for (SynEntry* e = entries.front(); e != nullptr;) {
        SynEntry* after = entries.next(*e);
        Listener* heir = e->listener == &l ? d.tcp->listeners.find(e->flow.local, e->hash) : nullptr;
        // The SYN-ACK has told a window, which is never taken back (RFC 9293 3.8.6).
        if (heir != nullptr && first_window(*heir) == first_window(l)) {
            e->listener = heir;
            ++heir->pending;
        } else if (e->listener == &l) {
            syn_cache_remove(*e);
        }
        e = after;
    }
    // What has a socket of its listener's program already cannot become another's.
    auto& all = d.tcp->all;
    for (Tcb* t = all.front(); t != nullptr;) {
        Tcb* after = all.next(*t);
        if (t->listener == &l && t->fast_passive) { // its application has it, or its user resets it
            t->listener = nullptr;
        } else if (t->listener == &l) {
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
        l->reuse_key = so.reuse_key;
        d.tcp->listeners.insert(*l);
    }
    l->options = so.options;
    // Flows hash evenly, so a fixed share each is close to one bound on all of them, without a counter that every SYN
    // of a flood would write; a SYN above it is answered with a cookie.
    auto cpus = static_cast<std::uint32_t>(d.stack.cpus());
    l->half_open_max = std::max((listen_backlog(backlog) + cpus - 1) / cpus, 1U);
    return base::Error::none;
}

void tcp_listener_options_here(Domain& d, const Socket& so)
{
    base::assert_on(d.cpu.owner());
    if (Listener* l = d.tcp->listeners.of_socket(so, so.flow.local.port); l != nullptr) {
        l->options = so.options;
    }
}

void tcp_unlisten_here(Domain& d, Socket& so)
{
    base::assert_on(d.cpu.owner());
    Listener* l = d.tcp->listeners.of_socket(so, so.flow.local.port);
    if (l == nullptr) {
        return;
    }
    l->link.unlink();
    tcp::hand_over_half_open(d, *l);
    d.tcp->listener_slab.destroy(*l);
}

} // namespace protocols
