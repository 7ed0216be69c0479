// A host on a quiet link for the cases of neighbour discovery, what it sent, and the messages of its neighbours.
#pragma once

#include "protocols/ipv6.hpp"
#include "protocols/neighbor.hpp"
#include "tests/protocols/frames6.hpp"
#include "tests/protocols/host.hpp"

namespace test {

// fd00::1 on an Ethernet link, quiet: its groups are joined.
struct Link {
    explicit Link(const HostOptions& o = {.address6 = "fd00::1"}) : h(world.add(slot, o))
    {
        world.advance(base::seconds(12));
        h.link->sent.clear();
    }
    void in(const Bytes& frame, base::CpuId cpu = 0)
    {
        h.link->inject(frame, cpu);
        world.settle();
    }
    // ND messages of a type that were sent.
    std::vector<wire::NdMessage> sent(std::uint8_t type)
    {
        std::vector<wire::NdMessage> found;
        for (const Bytes& f : h.link->sent) {
            auto m = f.size() > 54 && f[20] == wire::protocol_icmp6
                         ? wire::parse_nd(f.data() + 54, static_cast<std::uint32_t>(f.size() - 54))
                         : std::nullopt;
            if (m && m->type == type) {
                found.push_back(*m);
            }
        }
        return found;
    }
    const protocols::NeighborEntry* neighbor(const char* address, base::CpuId cpu = 0)
    {
        return protocols::neighbor_find(h.domain(cpu), 1, ip6(address).in_zone(1));
    }
    bool has_address(const base::IpAddr& a, base::CpuId cpu = 0)
    {
        bool has = false;
        h.on(cpu, [&](protocols::Domain& d) { has = protocols::ipv6_is_local(d, a); });
        return has;
    }
    base::IpAddr autoconfigured(const char* prefix, base::CpuId cpu = 0)
    {
        for (const auto& a : h.domain(cpu).ipv6->addresses) {
            if (a.autoconf && base::Prefix{ip6(prefix), 64}.contains(a.addr) && !a.duplicate) {
                return a.addr;
            }
        }
        return {};
    }
    bool route(const char* destination, protocols::Route& r, base::CpuId cpu = 0)
    {
        bool found = false;
        h.on(cpu, [&](protocols::Domain& d) { found = protocols::route_lookup(d, ip6(destination), r); });
        return found;
    }
    World world;
    std::unique_ptr<Host> slot;
    Host& h;
};

inline Ip6Fields to_us(const char* source = "fd00::2")
{
    Ip6Fields f;
    f.source = ip6(source);
    return f;
}

inline Bytes solicit(
    const char* target, const char* source = "fd00::2", bool with_mac = true, std::uint8_t hop_limit = 255)
{
    wire::NdMessage m;
    m.type = wire::nd_neighbor_solicitation;
    m.target = ip6(target);
    if (with_mac) {
        m.mac = mac(2);
    }
    Ip6Fields f = to_us(source);
    f.destination = wire::solicited_node(m.target);
    f.to = wire::multicast_mac_v6(f.destination);
    return nd_frame(f, m, hop_limit);
}

inline Bytes advertise(const char* target, unsigned char mac_last, bool solicited, bool override_known,
    bool router = false, bool with_mac = true)
{
    wire::NdMessage m;
    m.type = wire::nd_neighbor_advertisement;
    m.target = ip6(target);
    m.solicited = solicited;
    m.override_known = override_known;
    m.router = router;
    if (with_mac) {
        m.mac = mac(mac_last);
    }
    Ip6Fields f = to_us(target == std::string_view("fd00::1") ? "fe80::7" : target);
    if (!solicited) {
        f.destination = wire::all_nodes();
        f.to = wire::multicast_mac_v6(f.destination);
    }
    return nd_frame(f, m);
}

inline Bytes redirect(const char* destination, const char* target, const char* from = "fe80::99")
{
    Bytes b(40);
    b[0] = wire::nd_redirect;
    std::memcpy(b.data() + 8, ip6(target).bytes(), 16);
    std::memcpy(b.data() + 24, ip6(destination).bytes(), 16);
    Ip6Fields f = from_router();
    f.source = ip6(from);
    return ip6_frame(f, with_checksum6(f, wire::protocol_icmp6, b, 2));
}

} // namespace test
