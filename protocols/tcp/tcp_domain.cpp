// Construction and destruction of a domain's TCP. Keys are drawn from the domain's randomness once.
#include "protocols/tcp/tcp_domain.hpp"

#include <algorithm>

#include "protocols/tcp/tcp_var.hpp"

namespace protocols {

namespace {

base::SipKey draw_key(Domain& d)
{
    std::uint64_t k0 = d.random.next();
    return {k0, d.random.next()};
}

} // namespace

TcpState::TcpState(Domain& d)
    : domain(d), isn_key(draw_key(d)), timestamp_key(draw_key(d)), cookie_key(draw_key(d)), flows(d.table_key),
      tcbs(memory, d.stack.options().connections_per_cpu), bbrs(memory, d.stack.options().connections_per_cpu),
      joined_ends(memory, d.stack.options().connections_per_cpu), listener_slab(memory, tcp::listeners_max),
      syn_cache(memory, d.stack.options().syn_cache_per_cpu),
      time_wait(d, memory, std::max(1U, d.stack.options().time_wait_per_cpu)),
      idle_slab(memory, d.stack.options().connections_per_cpu),
      shared_options_slab(memory, d.stack.options().connections_per_cpu),
      idle_timer_slab(memory, d.stack.options().connections_per_cpu),
      fastopen((d.stack.options().fastopen & tcp::fastopen_client) != 0)
{
    d.cpu.add_rollup(*this);
}

// Connections that still live are dropped in silence; their sockets belong to users that are gone or will not ask.
TcpState::~TcpState()
{
    domain.cpu.remove_rollup(*this);
    while (Tcb* t = all.pop_front()) {
        if (t->pending_link.linked()) {
            t->pending_link.unlink();
        }
        tcbs.destroy(*t);
    }
    while (tcp::IdleTimer* t = idle_timers.pop_front()) {
        idle_timer_slab.destroy(*t); // leaves the wheel
    }
    while (tcp::SynEntry* e = syn_cache.entries.pop_front()) {
        syn_cache.slab.destroy(*e);
    }
}

namespace tcp {

const char* state_name(State s)
{
    static constexpr const char* names[state_count] = {"CLOSED", "LISTEN", "SYN-SENT", "SYN-RECEIVED", "ESTABLISHED",
        "FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT"};
    return names[static_cast<unsigned>(s)];
}

} // namespace tcp
} // namespace protocols
