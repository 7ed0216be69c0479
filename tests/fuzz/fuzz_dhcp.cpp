// libFuzzer target over DHCP messages: the input is what a server says. What is accepted keeps its promises, and what
// is made of it parses again to the same.
#include "base/check.hpp"
#include "protocols/wire/dhcp.hpp"

namespace wire = protocols::wire;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    auto m = wire::parse_dhcp(data, static_cast<std::uint32_t>(size));
    if (!m) {
        return 0;
    }
    INVARIANT(m->type >= wire::DhcpType::discover && m->type <= wire::DhcpType::inform);
    INVARIANT(m->routers.count <= wire::dhcp_addresses_max && m->dns.count <= wire::dhcp_addresses_max);
    INVARIANT(m->routes.count <= wire::dhcp_routes_max && m->routes.given == (m->routes.count != 0));
    unsigned char bytes[wire::dhcp_emit_max];
    std::uint32_t made = wire::emit_dhcp(bytes, *m);
    INVARIANT(made <= sizeof bytes);
    auto again = wire::parse_dhcp(bytes, made);
    INVARIANT(again && again->type == m->type && again->xid == m->xid && again->yours == m->yours);
    INVARIANT(again->lease_s == m->lease_s && again->mask == m->mask && again->server == m->server);
    INVARIANT(again->routers.count == m->routers.count && again->dns.count == m->dns.count && again->mtu == m->mtu);
    INVARIANT(again->routes.count == m->routes.count);
    for (unsigned i = 0; i < m->routes.count; ++i) {
        const auto& r = m->routes.at[i];
        const auto& s = again->routes.at[i];
        INVARIANT(r.destination == s.destination && r.router == s.router && r.length == s.length && r.length <= 32);
    }
    return 0;
}
