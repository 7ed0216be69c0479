// Ephemeral ports that keep a flow on the CPU that chooses them: of a connection to this host both
// ends, so that none of its packets crosses CPUs. On the choosing CPU; pure.
#pragma once

#include <algorithm>
#include <cstdint>

#include "protocols/stack.hpp"

namespace protocols {

// Ports to look at for one that keeps both ends at home: CPUs squared on average. Then any other will do. With one CPU
// each does; with very many (shards under locks) there hardly is one.
inline std::uint32_t home_port_tries(const Domain& d)
{
    auto cpus = static_cast<std::uint32_t>(d.stack.cpus());
    return cpus == 1 || cpus > 32 ? 0 : std::min(8 * cpus * cpus, 1024U);
}

// Is the flow as a peer on this host sees it steered to this CPU?
inline bool peer_end_at_home(const Domain& d, const base::FourTuple& flow)
{
    return d.stack.steering().cpu_of({flow.peer, flow.local}) == d.id();
}

} // namespace protocols
