// IPv6 (RFC 8200) and what one CPU knows for it: the addresses of this host and their life (RFC 4862), prefixes,
// routers and redirects (RFC 4861 5.1, RFC 4191 3.1). Every CPU has its own copy: what changes them (router
// advertisements, redirects, a duplicate address) is told to every CPU, and each applies it, so no CPU asks another one
// on the data path. Ipv6State: owner = its domain's CPU; everything o. Addresses above the wire carry their zone
// (base/net_addr.hpp).
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <vector>

#include "lwkt/timer_wheel.hpp"
#include "netmsg/packet.hpp"
#include "protocols/stack.hpp"
#include "protocols/token_bucket.hpp"
#include "protocols/wire/icmp6.hpp"
#include "protocols/wire/ipv6.hpp"
#include "protocols/wire/nd.hpp"

namespace protocols {

inline constexpr unsigned addresses_per_interface_max = 16; // RFC 4862 leaves it open; a flood of prefixes must end
inline constexpr unsigned prefixes_max = 64;
inline constexpr unsigned routers_max = 16;           // default ones,
inline constexpr unsigned advertised_routes_max = 64; // and routes to prefixes
inline constexpr unsigned announced_max = 64;         // prefixes, each by each router
inline constexpr unsigned redirect_slots = 256;
inline constexpr unsigned id6_slots = 256; // identification counters, chosen by a hash of the address pair
inline constexpr std::uint8_t default_hop_limit = 64;

// RFC 4291 2.7: how far a group reaches.
inline constexpr unsigned reserved_scope = 0; // such groups have no members
inline constexpr unsigned interface_scope = 1;
inline unsigned group_scope(const base::IpAddr& group)
{
    return group.bytes()[1] & 0xfU;
}

// An address of this host. Whether it may be used follows from the clock, so nobody need be told.
struct Ipv6Address {
    base::IpAddr addr;
    std::uint8_t length = 128;
    std::uint32_t interface = 0;
    bool autoconf = false;                       // made from a router's prefix, or link-local
    bool duplicate = false;                      // another host has it: never used again
    std::uint8_t attempt = 0;                    // DAD_Counter of RFC 7217 5
    base::Instant usable_at{};                   // tentative until then (RFC 4862 5.4)
    base::Instant preferred_until = base::never; // deprecated afterwards
    base::Instant valid_until = base::never;

    bool usable(base::Instant now) const { return !duplicate && now >= usable_at && now < valid_until; }
    bool tentative(base::Instant now) const { return !duplicate && now < usable_at; }
};

struct OnLinkPrefix {
    base::Prefix prefix;
    std::uint32_t interface = 0;
    base::Instant until{};
};

// That a router is a default router, or leads to a prefix (RFC 4191).
struct AdvertisedRoute {
    base::IpAddr addr; // the router's, link-local
    std::uint32_t interface = 0;
    base::Instant until{};
    base::Prefix destination;   // "::/0": a default router
    std::int8_t preference = 0; // 1 high, 0 medium, -1 low
};

// Who advertised a prefix, on link or for addresses (RFC 6724 5, rule 5.5; RFC 8028).
struct AnnouncedPrefix {
    base::Prefix prefix;
    base::IpAddr router;
    std::uint32_t interface = 0;
    base::Instant until{};
};

// RFC 4861 8, RFC 8028 3.4: what goes to the destination by the router goes to the next hop instead.
struct RedirectEntry {
    base::IpAddr destination;
    base::IpAddr next_hop;
    base::IpAddr router;
    std::uint32_t interface = 0; // 0 = unused
    friend bool operator==(const RedirectEntry&, const RedirectEntry&) = default;
};

// What an interface's routers said (RFC 4861 6.3.2); defaults until then.
struct Ipv6Link {
    bool router_seen = false;
    std::uint8_t hop_limit = default_hop_limit;
    std::uint32_t mtu = 0; // 0 = the interface's
    base::Micros reachable = base::seconds(30);
    base::Micros retransmit = base::seconds(1);
};

// At the next moment at which something that is known here begins or ceases to hold (ipv6_lifetimes.cpp).
struct Ipv6Turn : lwkt::Timer {
    explicit Ipv6Turn(Domain& d);
    Domain& domain; // c
};

struct alignas(base::apart) Ipv6State {
    explicit Ipv6State(Domain& d);
    ~Ipv6State();

    Ipv6Link& link(std::uint32_t interface) { return links[interface - 1]; }

    std::vector<Ipv6Address> addresses;
    std::vector<OnLinkPrefix> prefixes;
    std::vector<AdvertisedRoute> advertised;
    std::vector<AnnouncedPrefix> announced;
    std::array<RedirectEntry, redirect_slots> redirects;
    unsigned redirect_count = 0; // slots ever used
    std::vector<Ipv6Link> links; // by interface index - 1
    std::array<std::uint32_t, id6_slots> next_id;
    base::SipKey label_key; // flow labels (RFC 6437)
    struct Job;             // ipv6_jobs.cpp: what this CPU sends by the clock: probes, solicitations
    std::list<Job> jobs;
    Ipv6Turn turn;
};

// ---- Addresses and routes: ipv6_addresses.cpp, ipv6_route.cpp

// Before the CPUs run: the interface's addresses, and link-local ones on links.
void ipv6_attach(Domain& d, const Interface& in);
// Of any interface and usable; loopback addresses too.
bool ipv6_is_local(Domain& d, const base::IpAddr& a);
const Ipv6Address* ipv6_find_address(Domain& d, const base::IpAddr& a, std::uint32_t interface); // usable or not
// The address to send from (RFC 6724), of the interface's or, for a next hop, others that reach; unspecified = none.
base::IpAddr ipv6_source(
    Domain& d, const Interface& out, const base::IpAddr& destination, const base::IpAddr& next_hop = {});
// An address that may be used on the link before any other: its usable link-local one, or "::".
base::IpAddr ipv6_link_source(Domain& d, const Interface& out);
// While there is none: when there will be; never = nothing says that there will.
base::Instant ipv6_link_source_at(Domain& d, const Interface& out);
// `source`: as for route_lookup.
bool ipv6_route_lookup(Domain& d, const base::IpAddr& destination, Route& out, const base::IpAddr& source = {});
bool ipv6_route_by(
    Domain& d, const base::IpAddr& destination, Interface& by, Route& out, const base::IpAddr& source = {});
// Whether the router advertised the address's prefix, on link or for addresses.
bool ipv6_announced_by(Domain& d, const base::IpAddr& address, const base::IpAddr& router);
// What is known holds from then on, or until then: kept routes are decided again.
void ipv6_turns_at(Domain& d, base::Instant at);
// A prefix that an advertisement brought (RFC 4861 6.3.4, RFC 4862 5.5.3).
void ipv6_take_prefix(Domain& d, const Interface& in, const base::IpAddr& router, const wire::NdPrefix& p);
void ipv6_duplicate(Domain& d, Interface& in, const base::IpAddr& a); // tells the other CPUs too
// Tells them; false: some could not be told, and it has to be said again, which harms nobody who has heard it.
bool ipv6_tell_duplicate(Domain& d, Interface& in, const base::IpAddr& a);
std::uint32_t ipv6_flow_label(const Domain& d, const base::FourTuple& flow);

// ---- Packets: ipv6_input.cpp, ipv6_output.cpp

// From the link layer, on the CPU where the packet arrived; data at the IP header. Takes the packet.
void ipv6_input(Domain& d, Interface& in, netmsg::Packet& p);
void ipv6_loop(Domain& d, const Route& route, const netmsg::Packet& p); // as ipv4_loop
// The IpIn of a packet whose l3 is a header that was validated before.
IpIn ipv6_describe(Domain& d, const netmsg::Packet& p, std::uint8_t protocol);
// Behind ip_output: the same for IPv6.
base::Error ipv6_output(Domain& d, const Route& route, const IpOut& ip, netmsg::Packet& p);
// Sends an IP packet that is complete (header at data) to the route's neighbour. Takes it.
void ipv6_transmit(Domain& d, const Route& route, netmsg::Packet& p);

// ---- ICMPv6: icmp6_input.cpp, icmp6_output.cpp

void icmp6_input(Domain& d, const IpIn& ip, netmsg::Packet& p); // data at the ICMPv6 header; takes the packet
// Sends an error about a received packet (p.l3 set, not freed). `rest`: the second word of its header.
void icmp6_send_error(
    Domain& d, const IpIn& ip, const netmsg::Packet& p, std::uint8_t type, std::uint8_t code, std::uint32_t rest);

// ---- Neighbour discovery and MLD: nd_input.cpp, nd_router.cpp, ipv6_jobs.cpp

void nd_input(Domain& d, const IpIn& ip, netmsg::Packet& p);  // data at the ICMPv6 header, checksum verified; takes it
void mld_input(Domain& d, const IpIn& ip, netmsg::Packet& p); // the same
// A router's message: router advertisements and redirects, which every CPU hears (nd_router.cpp).
void nd_router_message(Domain& d, Interface& in, const base::IpAddr& from, const wire::NdMessage& m);
bool nd_redirect_believable(Domain& d, Interface& in, const base::IpAddr& from, const wire::NdMessage& m);
void ipv6_take_redirect(Domain& d, Interface& in, const base::IpAddr& from, const wire::NdMessage& m);
// The neighbour is no router any more: its routes leave the list, redirects through it go (RFC 4861 7.2.5).
void nd_router_lost(Domain& d, std::uint32_t interface, const base::IpAddr& address);
// A route is new, lives again or is preferred otherwise: what redirects said of destinations behind it was said of
// another.
void nd_route_changed(Domain& d, const base::Prefix& destination);
// The route's lifetime is over, or its router says so: it leaves the list, redirects through the router go.
void nd_route_over(Domain& d, const AdvertisedRoute& route);
// Nobody answers there: what redirects led to it goes by the routers again (RFC 4861 7.3.3).
void ipv6_next_hop_failed(Domain& d, std::uint32_t interface, const base::IpAddr& address);
// `to`: null = whom the destination says, who is asked for first if need be.
void nd_send(Domain& d, Interface& out, const base::IpAddr& source, const base::IpAddr& destination,
    const base::MacAddr* to, const wire::NdMessage& m);
// When the address may be used: what duplicate detection takes, the same on every CPU. Starts it if this CPU is the one
// that does it for the address.
base::Instant ipv6_start_detection(Domain& d, const Interface& in, const base::IpAddr& a);
void ipv6_stop_detection(Domain& d, const base::IpAddr& a);
// Soon, and again until every CPU has been told.
void ipv6_tell_duplicate_later(Domain& d, const Interface& in, const base::IpAddr& a);
void ipv6_start_solicitation(Domain& d, const Interface& in); // for routers, where this CPU is the interface's
// The solicited-node groups of the interface's addresses, as they are on the wire.
std::vector<base::IpAddr> ipv6_solicited_groups(Domain& d, const Interface& in);
// Sends an ICMPv6 message (behind `extension_bytes` of extension header) with its checksum and an IPv6 header; `to` as
// for nd_send.
void ipv6_send_on_link(Domain& d, Interface& out, const base::IpAddr& source, const base::IpAddr& destination,
    const base::MacAddr* to, std::uint8_t hop_limit, std::uint32_t extension_bytes, netmsg::Packet& p);

} // namespace protocols
