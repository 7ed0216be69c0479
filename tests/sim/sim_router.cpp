// Routers of IPv6 links: one end's stack says at times what the other is to believe (RFC 4861 4.2): default routes that
// come, move and go, prefixes whose addresses appear and run out under living connections. In the drain everything is
// promised for ever, so what was begun must come to its end.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/endian.hpp"
#include "protocols/ipv6.hpp"
#include "tests/sim/sim_world.hpp"

namespace sim {

namespace {

namespace wire = protocols::wire;

constexpr std::uint32_t header_bytes_ra = 16;
constexpr std::uint32_t link_option_bytes = 8;
constexpr std::uint32_t prefix_option_bytes = 32;
constexpr std::uint8_t hop_limit = 255;
constexpr base::Micros promised_every = base::seconds(10);

// RFC 4861 4.2, 4.6.1, 4.6.2.
void emit(std::byte* to, const Advertisement& a, const base::MacAddr& mac)
{
    std::uint32_t n = header_bytes_ra + link_option_bytes + prefix_option_bytes;
    std::memset(to, 0, n);
    to[0] = std::byte{wire::nd_router_advertisement};
    base::store_be16(to + 6, a.router_life_s);
    std::byte* link = to + header_bytes_ra;
    link[0] = link[1] = std::byte{1};
    std::memcpy(link + 2, mac.bytes.data(), mac.bytes.size());
    std::byte* prefix = link + link_option_bytes;
    prefix[0] = std::byte{3};
    prefix[1] = std::byte{prefix_option_bytes / 8};
    prefix[2] = std::byte{64};
    prefix[3] = std::byte{0xc0}; // on link, autonomous
    base::store_be32(prefix + 4, a.valid_s);
    base::store_be32(prefix + 8, a.preferred_s);
    std::memcpy(prefix + 16, a.prefix.bytes(), 16);
}

void send(protocols::Domain& d, std::uint32_t interface, const Advertisement& a)
{
    protocols::Interface& out = *d.stack.interfaces()[interface - 1];
    base::IpAddr source = protocols::ipv6_link_source(d, out);
    netmsg::Packet* p = source.is_any() ? nullptr : d.stack.pool().allocate();
    if (p == nullptr) {
        return;
    }
    emit(p->put(header_bytes_ra + link_option_bytes + prefix_option_bytes), a, out.netif->info().mac);
    protocols::ipv6_send_on_link(d, out, source, wire::all_nodes(), nullptr, hop_limit, 0, *p);
}

} // namespace

// The router's address of a prefix that it advertises ends in 1.
base::IpAddr advertised_prefix(std::size_t link, unsigned number)
{
    unsigned char bytes[16] = {0xfd};
    bytes[3] = static_cast<unsigned char>(link + 1);
    bytes[5] = static_cast<unsigned char>(number + 1);
    return base::IpAddr::v6(bytes);
}

base::IpAddr router_address(std::size_t link, unsigned number)
{
    unsigned char bytes[16];
    std::memcpy(bytes, advertised_prefix(link, number).bytes(), sizeof bytes);
    bytes[15] = 1;
    return base::IpAddr::v6(bytes);
}

// Of a node, and on none of its links: reached through a router.
base::IpAddr address_behind(unsigned node)
{
    unsigned char bytes[16] = {0xfd, 0, 0xff, 0xff};
    bytes[15] = static_cast<unsigned char>(node + 1);
    return base::IpAddr::v6(bytes);
}

void World::advertise(const Link& l, const Advertisement& a)
{
    Node& router = *nodes_[l.config.ends[l.config.router]];
    auto cpu = static_cast<base::CpuId>(random_.below(static_cast<std::uint32_t>(router.size())));
    std::uint32_t interface = l.index_at[l.config.router];
    note("advertise", router.index, interface, a.valid_s);
    router.post(cpu, [&router, cpu, interface, a](lwkt::Cpu&) { send(router.stack->domain(cpu), interface, a); });
}

void World::advertise_something()
{
    static constexpr std::uint32_t lives_s[] = {0, 1, 2, 8, 86400};
    auto which = random_.below(static_cast<std::uint32_t>(links_.size()));
    if (!links_[which]->config.advertises) {
        return;
    }
    Advertisement a;
    a.prefix = advertised_prefix(which, random_.below(prefixes_advertised));
    a.router_life_s = static_cast<std::uint16_t>(random_.chance(0.5) ? 0 : 1 + random_.below(9000));
    a.valid_s = lives_s[random_.below(5)];
    a.preferred_s = random_.chance(0.3) ? 0 : a.valid_s;
    advertise(*links_[which], a);
}

void World::advertise_all()
{
    for (std::size_t i = 0; i < links_.size(); ++i) {
        for (unsigned number = 0; links_[i]->config.advertises && number < prefixes_advertised; ++number) {
            advertise(*links_[i], {advertised_prefix(i, number), 9000, wire::nd_forever, wire::nd_forever});
        }
    }
}

// Now and then again, as routers do (RFC 4861 6.2.4): a CPU that had no memory for its copy missed what was said.
void World::keep_promises()
{
    if (now() >= promise_at_) {
        promise_at_ = now() + promised_every;
        advertise_all();
    }
}

// The CPUs of a stack have heard the same and know the same: addresses and default routers.
void World::check_agreement()
{
    auto known = [this](const Node& n, std::size_t cpu) {
        const protocols::Ipv6State& state = *n.stack->domain(static_cast<base::CpuId>(cpu)).ipv6;
        std::vector<std::pair<base::IpAddr, std::uint32_t>> all;
        for (const protocols::Ipv6Address& a : state.addresses) {
            if (a.usable(now())) {
                all.emplace_back(a.addr, a.interface);
            }
        }
        for (const protocols::AdvertisedRoute& r : state.advertised) {
            if (r.until > now()) {
                all.emplace_back(r.addr, r.interface);
            }
        }
        std::sort(all.begin(), all.end());
        return all;
    };
    for (auto& n : nodes_) {
        for (std::size_t cpu = 1; cpu < n->size(); ++cpu) {
            if (known(*n, cpu) != known(*n, 0)) {
                violation(fmt::format("node {}: CPU {} knows other addresses or routers than CPU 0", n->index, cpu));
            }
        }
    }
}

// Which of several default routers leads to an address, no host knows (RFC 8028 1).
bool World::only_router(unsigned router, unsigned host) const
{
    return std::none_of(links_.begin(), links_.end(), [&](const auto& l) {
        const LinkConfig& c = l->config;
        return c.advertises && c.ends[1 - c.router] == host && c.ends[c.router] != router;
    });
}

// Addresses that one end of a link has by advertisement, as its first CPU knows them.
void World::advertised_addresses(const Link& l, unsigned side, std::vector<base::IpAddr>& out) const
{
    if (!l.config.advertises) {
        return;
    }
    auto link = static_cast<std::size_t>(l.number);
    if (side == l.config.router) {
        for (unsigned number = 0; number < prefixes_advertised; ++number) {
            out.push_back(router_address(link, number));
        }
        if (only_router(l.config.ends[side], l.config.ends[1 - side])) {
            out.push_back(address_behind(l.config.ends[side]));
        }
        return;
    }
    protocols::Domain& d = nodes_[l.config.ends[side]]->stack->domain(0);
    for (const protocols::Ipv6Address& a : d.ipv6->addresses) {
        if (a.autoconf && a.interface == l.index_at[side] && !a.addr.is_link_local_v6() && a.usable(now())) {
            out.push_back(a.addr);
        }
    }
}

} // namespace sim
